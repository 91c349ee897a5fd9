import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnskills_viz.axes.quiz import questions, score
from mnskills_viz.errors import InputError

CENTRED = st.lists(st.floats(-3, 3).map(lambda v: round(v, 1)), min_size=3, max_size=60)


@settings(deadline=None)
@given(CENTRED, st.sets(st.integers(0, 59), max_size=20), st.integers(1, 12), st.integers(0, 99))
def test_questions_are_unseen_rows_of_both_outer_thirds_in_equal_numbers(values, shown, n, seed):
    z = np.array(values)
    third = len(z) // 3
    try:
        rows = questions(z, sorted(shown), n, seed)
    except InputError:
        rows = None
    order = np.sort(z)
    lowest, highest = order[third - 1], order[-third]
    left = [i for i in range(len(z)) if i not in shown]
    if rows is None:
        at_pole = [any(z[i] >= highest and z[i] > 0 for i in left)]
        at_pole += [any(z[i] <= lowest and z[i] < 0 for i in left)]
        assert not all(at_pole)
        return
    assert 1 <= len(rows) <= n
    assert len(set(rows.tolist())) == len(rows)
    assert not set(rows.tolist()) & shown
    positive = rows[z[rows] > 0]
    negative = rows[z[rows] < 0]
    assert len(positive) + len(negative) == len(rows)
    assert (z[positive] >= highest).all()
    assert (z[negative] <= lowest).all()
    assert abs(len(positive) - len(negative)) <= 1


def test_the_seed_says_which_rows_and_in_which_order():
    z = np.random.default_rng(0).standard_normal(300)
    rows = questions(z, range(10), 10, seed=3)
    np.testing.assert_array_equal(rows, questions(z, range(10), 10, seed=3))
    assert rows.tolist() != questions(z, range(10), 10, seed=4).tolist()
    # In no order that tells.
    signs = {tuple(np.sign(z[questions(z, [], 10, seed)])) for seed in range(20)}
    assert len(signs) > 10


def test_as_many_are_asked_as_there_are():
    z = np.array([-3.0, -2.0, -1.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0])
    assert sorted(questions(z, [], 10)) == [0, 1, 2, 6, 7, 8]
    assert len(questions(z, [], 5)) == 5
    # One is left at the negative pole: two more at the positive one would tell by their number.
    rows = questions(z, [0, 1], 10)
    assert 2 in rows
    assert len(rows) in {2, 3}
    assert {bool(questions(z, [], 1, seed)[0] > 4) for seed in range(20)} == {False, True}


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (7, 10), (10, 10), (0, 10), (50, 99)])
def test_the_interval_is_wilsons(right, n):
    found = score([1] * right + [-1] * (n - right), [1] * n)
    assert (found.right, found.n, found.share) == (right, n, right / n)
    # Wilson's limits are the shares that are just this far from what was seen, in their own
    # standard deviations.
    for limit in (found.low, found.high):
        if 0 < limit < 1:
            distance = abs(found.share - limit) / math.sqrt(limit * (1 - limit) / n)
            assert distance == pytest.approx(NormalDist().inv_cdf(0.975))
    assert 0 <= found.low <= found.share <= found.high <= 1
    assert found.low < found.high


def test_guessing_is_not_a_score():
    assert score([1, -1, 0, 1], [1, 1, 1, 1]).right == 2
    assert score([1] * 7 + [-1] * 3, [1] * 10).low < 0.5
    assert score([1] * 9 + [-1], [1] * 10).low > 0.5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda z: questions(z, [], 0), "at least 1, not 0"),
        (lambda z: questions(z, [2], 4), "no rows are left for a quiz"),
        (lambda z: questions(np.zeros(9), [], 4), "no rows are left for a quiz"),
        (lambda z: score([1], [1, 1]), "2 questions need as many answers, not 1"),
        (lambda z: score([], []), "nothing to score"),
    ],
)
def test_a_quiz_without_questions_or_answers_is_refused_in_one_line(wrong, message):
    with pytest.raises(InputError, match=message) as error:
        wrong(np.array([-1.0, 0.0, 1.0]))
    assert "\n" not in str(error.value)
