import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import mnskills_viz as mn
from mnskills_viz.axes.badges import badges
from mnskills_viz.axes.examples import CategoryCounts
from mnskills_viz.widgets.cards import (
    axis_card,
    axis_list,
    example_in_full,
    histogram,
    rows_of_card,
    shortened,
)
from mnskills_viz.widgets.facts import BasisFacts, said_about
from mnskills_viz.widgets.state import FILTERS, SORTS, ExplorerState

BASIS = "pca-1"


@pytest.fixture
def study(tiny_study: mn.Study, tmp_path: Path) -> mn.Study:
    """A copy that may be labelled."""
    shutil.copytree(tiny_study.path, tmp_path / "study")
    return mn.Study.open(tmp_path / "study")


@pytest.fixture(scope="module")
def facts(tiny_study: mn.Study) -> BasisFacts:
    tiny_study.quality(BASIS)
    return BasisFacts(tiny_study, BASIS)


def at(axis: int, **looks) -> ExplorerState:
    return ExplorerState(BASIS, axis, **looks)


def listed(facts: BasisFacts, said=None, **looks) -> list[int]:
    return [e["axis"] for e in axis_list(facts, said or {}, ExplorerState(BASIS, **looks))]


# --------------------------------------------------------------------------------------- list


def test_the_list_says_of_every_axis_what_the_studys_table_says(tiny_study, facts):
    table = tiny_study.axes(BASIS)
    entries = axis_list(facts, {}, ExplorerState(BASIS))
    assert [e["axis"] for e in entries] == list(table["axis"])
    for entry, (_, row) in zip(entries, table.iterrows(), strict=True):
        assert entry["variance"] == pytest.approx(row["variance"])
        assert entry["stability"] == pytest.approx(row["stability"])
        assert entry["utility"]["value"] == pytest.approx(row["utility"])
        assert entry["utility"]["special"] == (abs(row["utility"]) > row["null_high"])
        assert entry["weakness"]["positive"] == pytest.approx(row["weakness_positive"])
        assert entry["weakness"]["negative"] == pytest.approx(row["weakness_negative"])
        assert [badge["text"] for badge in entry["badges"]] == [b.text for b in badges(row)]


def test_what_is_shown_is_json_without_nan(tiny_study, facts):
    for basis in tiny_study.basis_names:  # an autoencoder's axes have no stability, and no proxy
        known = facts if basis == BASIS else BasisFacts(tiny_study, basis)
        shown = [
            axis_list(known, {}, ExplorerState(basis)),
            axis_card(known, {}, ExplorerState(basis)),
        ]
        assert json.loads(json.dumps(shown, allow_nan=False)) == shown


@pytest.mark.parametrize("sort", SORTS)
def test_every_order_lists_all_axes_once(facts, sort):
    assert sorted(listed(facts, sort=sort)) == list(range(facts.n_axes))


def test_order_by_weakness_puts_the_weakest_pole_first(tiny_study, facts):
    table = tiny_study.axes(BASIS)
    worst = table[["weakness_positive", "weakness_negative"]].max(axis=1)
    assert worst[listed(facts, sort="weakness")].is_monotonic_decreasing


def test_order_by_utility_goes_by_its_size_beside_chance(tiny_study, facts):
    table = tiny_study.axes(BASIS)
    beside = table["utility"].abs() / table["null_high"]
    assert beside[listed(facts, sort="utility")].is_monotonic_decreasing


def test_named_and_unnamed_axes_part_the_list(facts):
    said = {2: {"positive": "adds", "negative": "", "notes": "", "state": ""}}
    assert listed(facts, said, only="named") == [2]
    assert listed(facts, said, only="unnamed") == [a for a in range(facts.n_axes) if a != 2]


@pytest.mark.parametrize("only", FILTERS)
def test_every_filter_keeps_a_part_of_the_list(facts, only):
    assert set(listed(facts, only=only)) <= set(range(facts.n_axes))


def test_search_looks_through_labels_whatever_their_case(facts):
    said = {3: {"positive": "", "negative": "Zebra crossings", "notes": "", "state": ""}}
    assert listed(facts, said, query=" zebra ") == [3]


def test_search_looks_through_the_examples_that_a_card_shows(facts):
    text = axis_card(facts, {}, at(4))["positive"]["examples"][0]["prompt"]
    assert 4 in listed(facts, query=text)
    assert listed(facts, query="nothing holds these words") == []


def test_an_unknown_order_or_filter_is_refused_by_name():
    with pytest.raises(mn.InputError, match="sorted by one of number"):
        ExplorerState(BASIS, sort="beauty")
    with pytest.raises(mn.InputError, match="one of all, beats chance"):
        ExplorerState(BASIS, only="best")


# --------------------------------------------------------------------------------------- card


def test_the_poles_show_the_most_extreme_rows_of_the_axis(tiny_study, facts):
    scale = tiny_study.basis(BASIS).scale_
    z = tiny_study.coordinates(BASIS)[:, 1] / scale[1]
    card = axis_card(facts, {}, at(1))
    n = len(card["positive"]["examples"])
    shown = {pole: [e["z"] for e in card[pole]["examples"]] for pole in ("positive", "negative")}
    np.testing.assert_allclose(shown["positive"], np.sort(z)[::-1][:n], atol=1e-3)
    np.testing.assert_allclose(shown["negative"], np.sort(z)[:n], atol=1e-3)


def test_an_example_of_a_card_is_the_corpuss_own(tiny_study, facts):
    for example in axis_card(facts, {}, at(0))["negative"]["examples"]:
        original = tiny_study.corpus[example["row"]]
        assert (example["id"], example["category"]) == (original.id, original.category)
        full = example_in_full(tiny_study, example["row"])
        assert (full["prompt"], full["response"]) == (original.prompt_text, original.response)
        assert example["cut"] or example["response"] == original.response


def test_labels_and_notes_reach_list_and_card(study, facts):
    study.annotations.set(BASIS, 5, "positive", "counts letters")
    study.annotations.set(BASIS, 5, "notes", "look again")
    study.annotations.set("another", 5, "negative", "not ours")
    said = said_about(study, BASIS)
    assert axis_list(facts, said, ExplorerState(BASIS))[5]["positive"]["label"] == "counts letters"
    card = axis_card(facts, said, at(5))
    assert (card["notes"], card["negative"]["label"]) == ("look again", "")


def test_a_confirmed_label_is_listed_as_such(study, facts):
    study.annotations.set(BASIS, 3, "state", "confirmed")
    said = said_about(study, BASIS)
    assert axis_list(facts, said, ExplorerState(BASIS, only="confirmed"))[0]["axis"] == 3
    assert axis_card(facts, said, at(3))["state"] == "confirmed"


def test_quantiles_run_from_the_lowest_row_to_the_highest(facts):
    card = axis_card(facts, {}, at(2, mode="quantiles"))
    z = [example["z"] for example in card["quantiles"]]
    assert z == sorted(z)
    lowest, highest = facts.z[:, 2].min(), facts.z[:, 2].max()
    np.testing.assert_allclose([z[0], z[-1]], [lowest, highest], atol=1e-3)
    assert rows_of_card(card) == [example["row"] for example in card["quantiles"]]


def test_matched_pairs_are_of_one_category_and_about_one_length(facts):
    card = axis_card(facts, {}, at(2, mode="matched"))
    lengths = facts.study.activations.n_counted
    assert card["pairs"]
    for low, high in card["pairs"]:
        assert low["category"] == high["category"]
        assert low["z"] < high["z"]
        assert 0.75 < lengths[low["row"]] / lengths[high["row"]] < 1.34


def test_an_axis_that_is_not_there_is_named(facts):
    with pytest.raises(mn.InputError, match="axes 0 to 7, not 8"):
        axis_card(facts, {}, at(8))


def test_the_histogram_counts_every_row_once_and_keeps_zero_in_the_middle():
    z = np.array([-20.0, -1.0, -0.01, 0.01, 1.0, 2.4, 20.0])
    found = histogram(z, CategoryCounts.of(["a", "a", None, "b", "b", "b", None]))
    total = np.array(found["total"])
    assert total.sum() == len(z)
    half = len(total) // 2
    assert (total[:half].sum(), total[half:].sum()) == ((z < 0).sum(), (z >= 0).sum())
    counts = {c["name"]: sum(c["counts"]) for c in found["categories"]}
    assert counts == {"b": 3, "a": 2}
    assert [c["name"] for c in found["categories"]] == ["b", "a"]
    assert len({c["colour"] for c in found["categories"]}) == 2


def test_the_histogram_agrees_with_numpys():
    z = np.random.default_rng(0).normal(size=5000)
    found = histogram(z, CategoryCounts.of([None] * len(z)))
    limit, bins = found["limit"], len(found["total"])
    expected, _ = np.histogram(z, bins=bins, range=(-limit, limit))
    assert np.abs(np.array(found["total"]) - expected).max() <= 1  # a row on an edge
    assert found["categories"] == []


def test_text_is_cut_at_a_word_and_says_so():
    assert shortened("short", 10) == ("short", False)
    assert shortened("several words that go on", 15) == ("several words …", True)
    assert shortened("x" * 30, 10) == ("x" * 10 + " …", True)
