import itertools
from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mnskills_viz as mn
from mnskills_viz.evaluation.intervals import mean_interval
from mnskills_viz.evaluation.pass_at_k import pass_at_k


@given(st.data())
def test_it_is_the_closed_form(data):
    """1 - C(n - c, k) / C(n, k), in exact numbers."""
    n = data.draw(st.integers(1, 400))
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    expected = 1 - Fraction(comb(n - c, k), comb(n, k))
    assert pass_at_k(n, c, k) == pytest.approx(float(expected), abs=1e-12)


@given(st.integers(1, 6), st.data())
def test_it_is_the_share_of_draws_with_a_right_one(n, data):
    """Every way to take k of n samples, counted."""
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    draws = list(itertools.combinations([True] * c + [False] * (n - c), k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, draws)) / len(draws))


def test_it_is_unbiased():
    """Its mean over experiments of 10 samples is 1 - (1 - p)^k, which c / n is not for k > 1."""
    generator = np.random.default_rng(0)
    p, n, k = 0.15, 10, 4
    right = generator.binomial(n, p, size=200_000)
    found = pass_at_k(np.full_like(right, n), right, k)
    assert found.mean() == pytest.approx(1 - (1 - p) ** k, abs=4 * found.std() / 200_000**0.5)


def test_it_is_1_when_too_few_are_wrong_and_the_rate_for_k_of_1():
    assert pass_at_k(8, 1, 8) == 1.0
    assert pass_at_k(8, 5, 4) == 1.0
    assert pass_at_k(8, 0, 8) == 0.0
    np.testing.assert_allclose(pass_at_k(8, np.arange(9), 1), np.arange(9) / 8)


def test_arrays_go_problem_by_problem():
    n, c = np.array([[8, 4], [6, 5]]), np.array([[1, 0], [6, 2]])
    found = pass_at_k(n, c, 3)
    assert found.shape == (2, 2)
    for place in np.ndindex(2, 2):
        assert found[place] == pass_at_k(int(n[place]), int(c[place]), 3)
    assert pass_at_k([], [], 2).shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((4, 2, 5), "at least 5 samples a problem, found 4"),
        (([8, 4], [1, 1], 5), "at least 5 samples a problem, found 4"),
        ((4, 5, 1), "found c = 5 of n = 4"),
        ((4, -1, 1), "found c = -1 of n = 4"),
        ((4, 2, 0), "k must be a whole number of at least 1"),
        ((4, 2, 1.5), "k must be a whole number"),
        ((4, 1.5, 1), "c must be whole numbers"),
        ((4, "1", 1), "c must be whole numbers"),
        (([4, 4], [1, 1, 1], 1), "do not belong together"),
    ],
)
def test_wrong_numbers_say_so_in_one_line(arguments, said):
    with pytest.raises(mn.InputError, match=said) as caught:
        pass_at_k(*arguments)
    assert "\n" not in str(caught.value)


def test_intervals_cover_as_often_as_they_say():
    """Of means of 60 coin tosses; the percentile bootstrap is a little short of 95 %."""
    generator = np.random.default_rng(0)
    hits = 0
    for trial in range(300):
        tosses = (generator.random(60) < 0.3).astype(float)
        mean, low, high = mean_interval(tosses, trial)
        assert mean == tosses.mean()
        hits += low <= 0.3 <= high
    assert 0.90 <= hits / 300 <= 0.98


def test_intervals_have_the_width_of_the_standard_error():
    values = np.random.default_rng(0).standard_normal(5000)
    _, low, high = mean_interval(values, 0)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 5000**0.5, rel=0.06)
    assert mean_interval(values, 0) == mean_interval(values, 0)
    assert mean_interval(np.ones(7) / 3, 0) == (1 / 3, 1 / 3, 1 / 3)
