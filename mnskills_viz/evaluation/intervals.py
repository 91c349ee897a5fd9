"""Intervals of means over problems, by the bootstrap."""

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
NUMBERS_AT_ONCE = 4_000_000


def mean_interval(values: NDArray[np.float64], seed: int) -> tuple[float, float, float]:
    """Mean of a quantity over problems, and its 95 % percentile bootstrap interval.

    Problems are drawn with replacement, whole: samples of one problem are not independent. The
    difference of two models on the same problems, given problem by problem, makes this the paired
    bootstrap. A value that is the same for all problems has an interval without width: the
    bootstrap cannot see what did not occur.

    Parameters
    ----------
    values : ndarray, [n_problems]
        At least one.
    seed : int
        Equal seeds draw equal problems.

    Returns
    -------
    mean, low, high : float
    """
    mean = float(values.mean())
    n = len(values)
    generator = np.random.default_rng(seed)
    means = []
    at_once = max(1, NUMBERS_AT_ONCE // n)
    for start in range(0, RESAMPLES, at_once):
        drawn = generator.integers(n, size=(min(at_once, RESAMPLES - start), n))
        # About the mean, so that equal values give exactly that, whatever the rounding.
        means.append((values - mean)[drawn].mean(axis=1))
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return mean, mean + float(low), mean + float(high)
