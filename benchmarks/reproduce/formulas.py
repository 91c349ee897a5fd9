"""The formulas of the comparison, each with its source."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from mnskills_viz.evaluation.intervals import NUMBERS_AT_ONCE, RESAMPLES

Array = NDArray[np.float64]

BOOTSTRAP_SEED = 0
"""All intervals draw the same problems."""


def residual_mean_square(means: ArrayLike) -> tuple[float, int]:
    """What is left of arms x seeds when each arm's and each seed's mean is taken off.

    ``MSE = sum (y[a, s] - y[a, .] - y[., s] + y[., .])^2 / ((A - 1) (S - 1))``: the residual mean
    square of the additive model of randomized blocks.

    Parameters
    ----------
    means : array_like, [n_arms, n_seeds]

    Returns
    -------
    mean_square, degrees_of_freedom
        NaN and 0 for one arm or one seed.
    """
    y = np.asarray(means, dtype=np.float64)
    df = (y.shape[0] - 1) * (y.shape[1] - 1)
    left = y - y.mean(axis=1, keepdims=True) - y.mean(axis=0, keepdims=True) + y.mean()
    return (float((left**2).sum()) / df if df else math.nan), df


def satterthwaite(*terms: tuple[float, float]) -> tuple[float, float]:
    """Standard error of a sum of variances, each with its degrees of freedom.

    ``SE^2 = sum v``, ``df = SE^4 / sum (v^2 / df_v)`` (Satterthwaite 1946).
    """
    whole = sum(variance for variance, _ in terms)
    if math.isnan(whole):
        return math.nan, math.nan
    parts = sum(variance**2 / df for variance, df in terms if variance > 0)
    return math.sqrt(whole), (whole**2 / parts if parts > 0 else math.inf)


def two_sided_p(value: float, se: float, df: float) -> float:
    """Chance of a t at least as far from zero; 1 for no difference without any spread."""
    if math.isnan(se) or math.isnan(value):
        return math.nan
    if se == 0:
        return 1.0 if value == 0 else 0.0
    return float(2 * stats.t.sf(abs(value) / se, df))


def holm(p: Sequence[float]) -> Array:
    """P-values adjusted for their number (Holm 1979); those that are unknown do not count.

    In ascending order, ``max over j <= i of min(1, (m - j) p[j])`` with j from 0.
    """
    values = np.asarray(p, dtype=np.float64)
    adjusted = np.full(len(values), np.nan)
    order = [i for i in np.argsort(values, kind="stable") if np.isfinite(values[i])]
    highest = 0.0
    for j, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - j) * float(values[i])))
        adjusted[i] = highest
    return adjusted


def ratio_interval(above: Array, below: Array) -> tuple[float, float, float]:
    """Ratio of two means over the same problems, with a 95 % percentile bootstrap interval.

    Both means are of the same drawn problems. All three are NaN where the 95 % interval of the
    mean below the line does not lie above zero: such a ratio has no bounds (Fieller 1954).

    Parameters
    ----------
    above, below : ndarray, [n_problems]
    """
    n = len(above)
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    drawn = np.empty((2, RESAMPLES))
    for i in range(RESAMPLES):
        rows = generator.integers(n, size=n)
        drawn[:, i] = above[rows].mean(), below[rows].mean()
    if np.quantile(drawn[1], 0.025) <= 1e-12:
        return math.nan, math.nan, math.nan
    low, high = np.quantile(drawn[0] / drawn[1], [0.025, 0.975])
    return float(above.mean() / below.mean()), float(low), float(high)


def standardized_interval(values: Array) -> tuple[float, float, float]:
    """Mean by standard deviation over problems, with a 95 % percentile bootstrap interval.

    All three are NaN of values that are all alike; a draw of problems that are all alike counts
    as 0.

    Parameters
    ----------
    values : ndarray, [n_problems]
    """
    n, spread = len(values), math.sqrt(variance(values))
    if not spread > 1e-12:
        return math.nan, math.nan, math.nan
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    ratios = []
    at_once = max(1, NUMBERS_AT_ONCE // n)
    for start in range(0, RESAMPLES, at_once):
        drawn = values[generator.integers(n, size=(min(at_once, RESAMPLES - start), n))]
        deviation = drawn.std(axis=1, ddof=1)
        known = deviation > 1e-12
        ratios.append(np.where(known, drawn.mean(axis=1) / np.where(known, deviation, 1), 0))
    low, high = np.quantile(np.concatenate(ratios), [0.025, 0.975])
    return float(values.mean()) / spread, float(low), float(high)


def variance_interval(value: float, df: float) -> tuple[float, float]:
    """95 % interval of a variance that was estimated on so many degrees of freedom (chi-square)."""
    upper, lower = stats.chi2.ppf([0.975, 0.025], df)
    return float(df * value / upper), float(df * value / lower)


def variance(values: Array) -> float:
    """Unbiased; NaN of fewer than two."""
    return float(values.var(ddof=1)) if len(values) > 1 else math.nan


def t_quantile(share: float, df: float) -> float:
    """Quantile of Student's t; NaN without degrees of freedom."""
    return float(stats.t.ppf(share, df)) if df > 0 else math.nan
