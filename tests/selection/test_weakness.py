"""Weakness of poles, against the formulas written out slowly."""

import math
from statistics import fmean, variance

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from mnskills_viz.errors import InputError
from mnskills_viz.selection import pole_weakness, reference_errors


def probe(m=200, k=4, seed=0, slope=1.5):
    """Errors that grow along axis 1 and know nothing of the others."""
    draw = np.random.default_rng(seed)
    z = draw.normal(size=(m, k))
    error = 1 / (1 + np.exp(-slope * z[:, 1] - draw.normal(size=m)))
    return z, error


def slow_weakness(z, error):
    """method.md's formulas, one number at a time."""
    m, k = len(z), len(z[0])
    mean_error = sum(error) / m
    poles = []
    for axis in range(k):
        for sign in (1, -1):
            mu = [max(0.0, sign * z[i][axis]) for i in range(m)]
            support = sum(mu)
            w = sum(mu[i] * error[i] for i in range(m)) / support
            se2 = sum(mu[i] ** 2 * (error[i] - w) ** 2 for i in range(m)) / support**2
            poles.append([axis, sign, w, se2, support])
    tau2 = max(0.0, variance(p[2] for p in poles) - fmean(p[3] for p in poles))
    rows = []
    for axis, sign, w, se2, support in poles:
        shrunk = mean_error + (w - mean_error) * tau2 / (tau2 + se2)
        half = 1.96 * math.sqrt(tau2 * se2 / (tau2 + se2))
        mass = max(0.0, shrunk - mean_error) * support
        rows.append((axis, sign, w, shrunk, shrunk - half, shrunk + half, support, mass))
    return rows


@pytest.mark.parametrize("slope", [0.0, 0.3, 1.5])
def test_weakness_is_the_formula(slope):
    z, error = probe(slope=slope)
    table = pole_weakness(z, error)
    columns = ["axis", "pole", "weakness", "shrunk", "low", "high", "support", "mass"]
    expected = np.array(slow_weakness(z.tolist(), error.tolist()))
    np.testing.assert_allclose(table[columns].to_numpy(float), expected, atol=1e-5)
    np.testing.assert_allclose(table["shrunk"], expected[:, 3], rtol=1e-10)
    assert table.attrs["mean_error"] == pytest.approx(error.mean())


def test_the_pole_where_errors_gather_is_the_weakest():
    table = pole_weakness(*probe())
    weakest = table.loc[table["shrunk"].idxmax()]
    assert (weakest["axis"], weakest["pole"]) == (1, 1)
    assert weakest["low"] > table.attrs["mean_error"]
    assert table.loc[table["ridge"].idxmax(), ["axis", "pole"]].tolist() == [1, 1]


def test_shrinkage_lies_between_the_mean_error_and_the_raw_weakness():
    table = pole_weakness(*probe())
    mean = table.attrs["mean_error"]
    between = (table["shrunk"] - mean) * (table["weakness"] - table["shrunk"])
    assert (between >= -1e-12).all()


def test_noise_alone_has_no_mass():
    # Poles whose weaknesses spread less than their own errors do: tau is 0, all pulled to the mean.
    z = np.concatenate([np.eye(3), -np.eye(3)] * 20)
    error = np.repeat(np.tile([0.0, 1.0], 10), 6)
    table = pole_weakness(z, error)
    assert (table["mass"] == 0).all()
    np.testing.assert_allclose(table["shrunk"], 0.5)


def test_a_pole_of_one_example_or_none_is_pulled_to_the_mean():
    z, error = probe(k=2)
    z = np.column_stack([z, np.zeros(len(z))])
    z[7, 2], error[7] = 9.0, 1.0
    table = pole_weakness(z, error).set_index(["axis", "pole"])
    assert table.loc[(2, 1), "weakness"] == 1.0
    assert math.isnan(table.loc[(2, -1), "weakness"])
    np.testing.assert_allclose(table.loc[[(2, 1), (2, -1)], "shrunk"], error.mean())
    np.testing.assert_allclose(table.loc[[(2, 1), (2, -1)], "mass"], 0)


def test_ridge_is_a_ridge_regression_and_signed_by_the_pole():
    z, error = probe()
    table = pole_weakness(z, error)
    ours = table.loc[table["pole"] == 1, "ridge"].to_numpy()
    np.testing.assert_array_equal(table.loc[table["pole"] == -1, "ridge"], -ours)
    penalties = len(z) * np.logspace(-3, 3, 25)
    theirs = [Ridge(alpha=penalty).fit(z, error).coef_ for penalty in penalties]
    assert min(np.abs(coefficients - ours).max() for coefficients in theirs) < 1e-10


def test_ridge_tells_a_cause_from_its_companion():
    draw = np.random.default_rng(1)
    cause = draw.normal(size=1000)
    companion = 0.8 * cause + 0.6 * draw.normal(size=1000)
    error = 1 / (1 + np.exp(-2 * cause))
    table = pole_weakness(np.column_stack([cause, companion]), error)
    table = table.set_index(["axis", "pole"])
    assert table.loc[(1, 1), "shrunk"] > 0.6
    assert abs(table.loc[(1, 1), "ridge"]) < 0.05 * table.loc[(0, 1), "ridge"]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), m=st.integers(2, 40), k=st.integers(1, 5))
def test_any_probe_gives_finite_numbers_and_does_not_mind_its_order(seed, m, k):
    draw = np.random.default_rng(seed)
    z, error = draw.normal(size=(m, k)), draw.random(m)
    table = pole_weakness(z, error)
    assert np.isfinite(table.drop(columns="weakness")).all(axis=None)
    assert (table["mass"] >= 0).all()
    assert table["shrunk"].between(0, 1).all()
    order = draw.permutation(m)
    np.testing.assert_allclose(pole_weakness(z[order], error[order]), table, atol=1e-9)


@pytest.mark.parametrize(
    ("z", "error", "says"),
    [
        (np.ones((3, 2)), [0.5, 0.5, 0.5], "log-probability"),
        (np.ones((3, 2)), [0.5, 0.5], "shape"),
        (np.ones((3, 2)), [0.5, 0.5, 1.5], "reference_errors"),
        (np.ones((3, 2)), [0.5, 0.5, np.nan], "NaN"),
        (np.full((3, 2), np.inf), [0.5, 0.5, 0.6], "infinite"),
        (np.ones((0, 2)), [], "shape"),
    ],
)
def test_what_cannot_be_weighed_is_said(z, error, says):
    with pytest.raises(InputError, match=says) as caught:
        pole_weakness(z, error)
    assert "\n" not in str(caught.value)


def test_reference_errors_are_mid_ranks():
    np.testing.assert_allclose(reference_errors([3, 1, 1, 9]), [0.625, 0.25, 0.25, 0.875])
    assert reference_errors(np.random.default_rng(0).random(50)).mean() == pytest.approx(0.5)


def test_a_better_model_has_smaller_errors_on_the_frozen_baseline():
    baseline = [4.0, 2.0, 3.0, 1.0]
    np.testing.assert_allclose(reference_errors([0.5, 2.0, 2.5, 5.0], baseline), [0, 3 / 8, 0.5, 1])


@pytest.mark.parametrize("losses", [[1.0, np.nan], [np.inf], [], [[1.0]]])
def test_losses_that_are_no_numbers_are_refused(losses):
    with pytest.raises(InputError, match="losses"):
        reference_errors(losses)


def test_three_that_fail_alike_are_not_trusted_without_limit():
    """Sparse axes, and errors that have nothing to do with them."""
    weak = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        z = np.where(rng.random((400, 32)) < 3 / 400, rng.exponential(3, (400, 32)), 0.0)
        error = (rng.random(400) < 0.8).astype(float)
        table = pole_weakness(z, error)
        width = table["high"] - table["low"]
        assert not ((table["shrunk"] > 0.99) & (width < 0.01)).any()
        weak += int((table["mass"] > 0).any())
    assert weak <= 20  # 39 before the variance of all errors bounded theirs
