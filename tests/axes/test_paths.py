import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mnskills_viz.axes.paths import path, skill_of_rows
from mnskills_viz.errors import InputError


def planted(n=400, k=12, seed=0):
    """Standard normal rows, of which the first 30 lie high on axis 3 and low on axis 7."""
    z = np.random.default_rng(seed).standard_normal((n, k)).astype(np.float32)
    z[:30, 3] += 2.0
    z[:30, 7] -= 1.5
    return z


def by_axis(table):
    return table.sort_values("axis", ignore_index=True)


def holm(p):
    """Step by step, as Holm wrote it down."""
    adjusted, worst = np.empty(len(p)), 0.0
    for step, axis in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        worst = max(worst, (len(p) - step) * p[axis])
        adjusted[axis] = min(1.0, worst)
    return adjusted


def test_a_skill_is_on_the_axes_where_it_was_planted():
    table = skill_of_rows(planted(), range(30))
    assert table["axis"].tolist()[:2] == [3, 7]
    assert table.loc[table["sure"], "axis"].tolist() == [3, 7]
    assert table["mean"].abs().is_monotonic_decreasing
    assert table.attrs["n"] == 30


def test_intervals_and_tests_are_those_of_students_t():
    z = planted().astype(np.float64)
    table = by_axis(skill_of_rows(z, range(30)))
    found = stats.ttest_1samp(z[:30], 0)
    interval = found.confidence_interval(0.95)
    np.testing.assert_allclose(table["mean"], z[:30].mean(axis=0))
    np.testing.assert_allclose(table["low"], interval.low)
    np.testing.assert_allclose(table["high"], interval.high)
    np.testing.assert_allclose(table["p"], holm(found.pvalue))


def test_against_other_rows_they_are_those_of_welch():
    z = planted().astype(np.float64)
    rest = np.arange(30, 400)
    table = by_axis(skill_of_rows(z, range(30), against=rest))
    found = stats.ttest_ind(z[:30], z[rest], equal_var=False)
    interval = found.confidence_interval(0.95)
    np.testing.assert_allclose(table["mean"], z[:30].mean(axis=0) - z[rest].mean(axis=0))
    np.testing.assert_allclose(table["low"], interval.low)
    np.testing.assert_allclose(table["high"], interval.high)
    np.testing.assert_allclose(table["p"], holm(found.pvalue))


def test_of_rows_without_skill_one_axis_in_twenty_skills_is_called_sure():
    z = np.random.default_rng(0).standard_normal((4000, 16))
    sure = [skill_of_rows(z, range(i, i + 10))["sure"].any() for i in range(0, 4000, 10)]
    low, high = stats.binomtest(sum(sure), 400).proportion_ci(0.999)
    assert low < 0.05 < high


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.floats(0.1, 10))
def test_shares_are_the_squares_of_the_unit_vector_and_do_not_know_its_length(seed, n, factor):
    z = np.random.default_rng(seed).standard_normal((9, 5))
    table = by_axis(skill_of_rows(z, range(n)))
    unit = z[:n].mean(axis=0) / np.linalg.norm(z[:n].mean(axis=0))
    np.testing.assert_allclose(table["share"], unit**2)
    np.testing.assert_allclose(by_axis(skill_of_rows(factor * z, range(n)))["share"], unit**2)


def test_one_response_is_a_skill_without_intervals():
    z = planted()
    table = skill_of_rows(z, [5])
    np.testing.assert_array_equal(by_axis(table)["mean"], z[5])
    assert table[["low", "high", "p"]].isna().all(axis=None)
    assert not table["sure"].any()
    assert table["share"].sum() == pytest.approx(1.0)
    assert skill_of_rows(z, range(30), against=[40])[["low", "high", "p"]].isna().all(axis=None)


def test_rows_that_do_not_vary_leave_no_doubt():
    z = np.tile([1.0, 0.0, -2.0], (4, 1))
    table = by_axis(skill_of_rows(z, range(3)))
    assert table["p"].tolist() == [0.0, 1.0, 0.0]
    assert table["low"].tolist() == table["high"].tolist() == [1.0, 0.0, -2.0]
    against_themselves = skill_of_rows(z, range(2), against=[2, 3])
    assert against_themselves["share"].tolist() == [0.0] * 3
    assert against_themselves["p"].tolist() == [1.0] * 3


def test_a_path_has_a_point_for_each_token_that_has_a_coordinate():
    running = np.array([[np.nan, np.nan], [1.0, -1.0], [2.0, -3.0]], dtype=np.float32)
    table = path(running, [1, 0])
    assert table.columns.tolist() == ["token", "axis", "coordinate"]
    assert table.to_numpy().tolist() == [[1, 1, -1], [2, 1, -3], [1, 0, 1], [2, 0, 2]]
    assert path(running, []).empty


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda z: skill_of_rows(z, []), "rows is empty"),
        (lambda z: skill_of_rows(z, [4]), "rows must lie in 0 to 3"),
        (lambda z: skill_of_rows(z, [-1]), "rows must lie in 0 to 3"),
        (lambda z: skill_of_rows(z, [0], against=[]), "against is empty"),
        (lambda z: path(z, [2]), "axes are 0 to 1"),
    ],
)
def test_rows_and_axes_that_are_not_there_are_refused_in_one_line(wrong, message):
    with pytest.raises(InputError, match=message) as error:
        wrong(np.zeros((4, 2)))
    assert "\n" not in str(error.value)
