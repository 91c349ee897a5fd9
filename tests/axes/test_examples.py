import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnskills_viz.axes.examples import (
    CategoryCounts,
    matched_pairs,
    overrepresented,
    poles,
    quantiles,
)
from mnskills_viz.errors import InputError

# Few different values: ties everywhere.
TIED = st.integers(-3, 3).map(float)
COORDINATES = st.lists(TIED | st.floats(-5, 5, width=32), min_size=1, max_size=60)
CATEGORIES = st.sampled_from(["a", "b", None])


@settings(deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=40), st.integers(1, 12))
def test_poles_are_the_ends_and_do_not_meet(values, n):
    z = np.array(values)
    ends = poles(z, n)
    assert not set(ends.positive) & set(ends.negative) or len(set(values)) < len(values)
    assert (
        sorted(z[ends.positive], reverse=True) == sorted(values, reverse=True)[: len(ends.positive)]
    )
    assert sorted(z[ends.negative]) == sorted(values)[: len(ends.negative)]


@settings(deadline=None)
@given(
    st.lists(TIED | st.floats(-5, 5, width=32) | st.just(math.nan), max_size=60),
    st.integers(1, 40),
    st.sampled_from([np.float32, np.float64]),
)
def test_poles_are_those_of_a_stable_sort(values, n, dtype):
    z = np.array(values, dtype=dtype)
    ends = poles(z, n)
    most = max(1, len(z) // 2)
    np.testing.assert_array_equal(ends.negative, np.argsort(z, kind="stable")[: min(n, most)])
    np.testing.assert_array_equal(ends.positive, np.argsort(-z, kind="stable")[: min(n, most)])
    assert ends.positive.dtype == ends.negative.dtype == np.int64


@settings(deadline=None)
@given(COORDINATES, st.integers(1, 20))
def test_quantiles_are_the_nearest_ranks_and_ties_go_to_the_earlier_row(values, n):
    z = np.array(values)
    rows = quantiles(z, n)
    assert len(set(rows.tolist())) == len(rows) == min(n, len(z))
    m = len(rows)
    exact = [i * (len(z) - 1) / (m - 1) for i in range(m)] if m > 1 else [(len(z) - 1) / 2]
    places = np.sort(z)
    for row, rank in zip(rows, exact, strict=True):
        assert z[row] in {places[math.floor(rank)], places[math.ceil(rank)]}
    for value in set(z[rows].tolist()):
        of_value = np.flatnonzero(z == value)
        chosen = rows[z[rows] == value]
        np.testing.assert_array_equal(chosen, of_value[: len(chosen)])


def test_quantiles_go_from_one_end_to_the_other():
    z = np.random.default_rng(0).permutation(1001).astype(np.float32)
    assert z[quantiles(z, 5)].tolist() == [0, 250, 500, 750, 1000]
    assert z[quantiles(z, 1)].tolist() == [500]
    exact = np.linspace(0, 1000, 8)
    assert np.abs(z[quantiles(z, 8)] - exact).max() <= 0.5
    assert quantiles(z[:0]).tolist() == []


@settings(deadline=None)
@given(
    st.lists(st.tuples(TIED, CATEGORIES, st.integers(0, 30)), min_size=1, max_size=25),
    st.integers(1, 8),
    st.sampled_from([0.0, 0.25, 1.0]),
)
# The row in the middle of the lengths is taken by the first pair: the second has to see it.
@example([(-3.0, "a", 12), (3.0, "a", 10), (5.0, "a", 8)], 3, 0.25)
@example([(-3.0, "a", 8), (3.0, "a", 10), (5.0, "a", 12)], 3, 0.25)
def test_matched_pairs_are_the_greedy_ones_of_all_pairs(rows, n, caliper):
    z, categories, lengths = (list(column) for column in zip(*rows, strict=True))
    logs = [np.log(max(length, 1)) for length in lengths]
    left, expected = set(range(len(rows))), []
    while len(expected) < n:
        pairs = [
            (z[low] - z[high], high, z[low], low)
            for low in left
            for high in left
            if z[high] > z[low]
            and categories[low] == categories[high]
            and abs(logs[low] - logs[high]) <= caliper
        ]
        if not pairs:
            break
        _, high, _, low = min(pairs)
        expected.append((low, high))
        left -= {low, high}
    found = matched_pairs(np.array(z), categories, lengths, n, caliper)
    assert found.dtype == np.int64
    assert [tuple(pair) for pair in found.tolist()] == expected


def test_matched_pairs_are_found_where_the_axis_follows_length():
    # The longest texts are all at one end, the shortest at the other: none of these pair.
    generator = np.random.default_rng(0)
    lengths = np.arange(10, 1010)
    z = np.log(lengths) + 0.1 * generator.standard_normal(1000)
    pairs = matched_pairs(z, ["a"] * 1000, lengths, n=8, caliper=0.1)
    assert len(pairs) == 8
    assert np.abs(np.diff(np.log(lengths)[pairs], axis=1)).max() <= 0.1
    gaps = np.diff(z[pairs], axis=1)[:, 0]
    assert (np.diff(gaps) <= 0).all()


def test_categories_that_stand_out():
    everywhere = ["a"] * 8 + ["b"] * 2
    assert overrepresented(everywhere, [8, 9]) == [("b", 1.0)]
    assert overrepresented(everywhere, range(10)) == []
    assert overrepresented([None, None], [0]) == []
    assert overrepresented(everywhere, []) == []


@settings(deadline=None)
@given(st.lists(st.sampled_from(["b", "a", "c", None]), min_size=1, max_size=30), st.data())
def test_categories_counted_once_say_the_same(categories, data):
    rows = data.draw(st.lists(st.integers(0, len(categories) - 1), min_size=1, unique=True))
    everywhere, here = Counter(categories), Counter(categories[row] for row in rows)
    excess = {
        c: here[c] / len(rows) - everywhere[c] / len(categories) for c in here if c is not None
    }
    ranked = sorted((c for c in excess if excess[c] > 0), key=lambda c: (-excess[c], c))
    expected = [(c, here[c] / len(rows)) for c in ranked[:2]]
    counted = CategoryCounts.of(categories)
    assert overrepresented(categories, rows) == overrepresented(counted, rows) == expected
    assert CategoryCounts.of(counted) is counted


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda z: poles(z, 0), "at least 1, not 0"),
        (lambda z: quantiles(z, 0), "at least 1, not 0"),
        (lambda z: matched_pairs(z, ["a"] * 3, [1] * 3, n=0), "at least 1, not 0"),
        (lambda z: matched_pairs(z, ["a"] * 3, [1] * 3, caliper=-0.1), "0 or more, not -0.1"),
        (lambda z: matched_pairs(z, ["a"] * 2, [1] * 3), "3 rows need .*not 2 and 3"),
    ],
)
def test_wrong_numbers_are_refused_in_one_line(wrong, message):
    with pytest.raises(InputError, match=message) as error:
        wrong(np.zeros(3))
    assert "\n" not in str(error.value)
