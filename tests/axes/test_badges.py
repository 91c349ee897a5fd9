import math

import pytest

from mnskills_viz.axes.badges import badges


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({}, []),
        ({"stability": 0.95}, ["stable"]),
        ({"stability": 0.8}, ["stable"]),
        ({"stability": 0.79}, ["fairly stable"]),
        ({"stability": 0.6}, ["fairly stable"]),
        ({"stability": 0.2}, ["unstable"]),
        ({"stability": 0.0}, ["unstable"]),
        ({"stability": math.nan}, []),
        ({"utility": 0.5, "special": True}, ["beats chance"]),
        ({"utility": 0.05, "special": False}, ["within chance"]),
        ({"utility": math.nan, "special": False}, []),
        ({"length_r2": 0.6}, ["follows length"]),
        ({"length_r2": 0.3}, []),
        ({"length_r2": math.nan}, []),
        ({"template_r2": 0.7}, ["follows template"]),
        ({"template_r2": 0.5, "token_r2": 0.9, "redundancy": 0.9}, []),
        ({"token_r2": 0.95}, ["follows words"]),
        ({"redundancy": 0.97}, ["near-duplicate"]),
        ({"gradient_share": 0.02, "gradient_share_null": 0.01}, ["uses the gradient"]),
        ({"gradient_share": 0.01, "gradient_share_null": 0.01}, []),
        ({"gradient_share": 0.02}, []),
        ({"mutual_information": 0.5, "mutual_information_null": 0.3}, ["follows categories"]),
        ({"mutual_information": 0.5, "mutual_information_null": math.nan}, []),
        ({"mutual_information": 0.5}, []),
        (
            {
                "token_r2": 0.95,
                "length_r2": 0.5,
                "redundancy": 1.0,
                "template_r2": 0.9,
                "mutual_information": 0.5,
                "mutual_information_null": 0.3,
                "gradient_share": 0.02,
                "gradient_share_null": 0.01,
                "utility": 0.1,
                "special": False,
                "stability": 0.9,
            },
            [
                "stable",
                "within chance",
                "uses the gradient",
                "follows categories",
                "near-duplicate",
                "follows length",
                "follows template",
                "follows words",
            ],
        ),
    ],
)
def test_badges_say_in_words_what_to_trust(row, words):
    assert [badge.text for badge in badges(row)] == words


@pytest.mark.parametrize(
    ("cosine", "chance", "word"),
    [
        (0.97, 0.95, "stable"),
        (0.94, 0.95, "fairly stable"),
        (0.7, 0.6, "fairly stable"),
        (0.7, 0.75, "unstable"),
        (0.97, math.nan, "stable"),
    ],
)
def test_an_axis_no_more_stable_than_rotations_is_one_step_less_so(cosine, chance, word):
    (badge,) = badges({"stability": cosine, "stability_null": chance})
    assert badge.text == word


def test_a_badge_gives_its_reason():
    stable, chance, length = badges(
        {"stability": 0.912, "utility": 0.5, "special": True, "length_r2": 0.42}
    )
    assert (stable.kind, chance.kind, length.kind) == ("good", "good", "warn")
    assert stable.explanation.endswith("halves: 0.91")
    assert "best of as many random directions" in chance.explanation
    assert "explains 42%" in length.explanation


def test_stability_gives_its_bootstrap_and_what_chance_reaches():
    (badge,) = badges({"stability": 0.912, "bootstrap_low": 0.846, "stability_null": 0.44})
    assert "halves: 0.91; on resampled rows at least 0.85 in 95 % of cases" in badge.explanation
    assert badge.explanation.endswith("rotated at random reach 0.44")


def test_numbers_of_chance_and_of_the_axis_stand_side_by_side():
    gradient, categories = badges(
        {
            "gradient_share": 0.021,
            "gradient_share_null": 0.01,
            "mutual_information": 0.5,
            "mutual_information_null": 0.25,
        }
    )
    assert "2.1%" in gradient.explanation
    assert gradient.explanation.endswith("holds 1.0%")
    assert "0.50 nats" in categories.explanation
    assert categories.explanation.endswith("tells 0.25")
