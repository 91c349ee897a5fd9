import pytest

from mnskills_viz.widgets import markup


@pytest.mark.parametrize(
    ("value", "text"), [(1.234, "+1.23"), (-0.5, "−0.50"), (-0.001, "+0.00"), (0.0, "+0.00")]
)
def test_signs_are_real_minus_signs_and_zero_has_none(value, text):
    assert markup.signed(value) == text


def test_tag_escapes_text_and_attributes_but_not_markup():
    made = markup.tag("p", "a < b", markup.Markup("<i>c</i>"), title='"', hidden=True, x=None)
    assert made == '<p title="&quot;" hidden="">a &lt; b<i>c</i></p>'


def test_shortened_text_ends_with_an_ellipsis():
    assert markup.shortened("one\n two", 20) == "one two"
    assert markup.shortened("x" * 100_000, 10) == "x" * 9 + "…"


def test_a_long_text_is_in_sight_folded_or_counted_as_cut():
    made = markup.folded_text("a" * 360 + "b" * 40 + "c" * 10, 400, "prompt")
    assert made.count("a" * 360) == 1
    assert "40 more characters" in made
    assert "Cut: 10 of 410 characters" in made
    assert "c" * 10 not in made


def test_facts_that_are_not_known_are_left_out():
    made = markup.fact_list({"layer": 3, "note": "", "seed": None, "0": 0})
    assert made.count("<dt>") == 2
