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
        (
            {"length_r2": 0.5, "utility": 0.1, "special": False, "stability": 0.9},
            ["stable", "within chance", "follows length"],
        ),
    ],
)
def test_badges_say_in_words_what_to_trust(row, words):
    assert [badge.text for badge in badges(row)] == words


def test_a_badge_gives_its_reason():
    stable, chance, length = badges(
        {"stability": 0.912, "utility": 0.5, "special": True, "length_r2": 0.42}
    )
    assert (stable.kind, chance.kind, length.kind) == ("good", "good", "warn")
    assert stable.explanation.endswith("halves: 0.91")
    assert "best of as many random directions" in chance.explanation
    assert "explains 42%" in length.explanation
