"""A skill as a path: which axes make up a category, a described skill, or one response."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import InputError

Reals = NDArray[np.float64]

LEVEL = 0.05
"""Chance that at least one axis of a skill without any is called sure."""


def skill_of_rows(
    z: NDArray[np.floating[Any]],
    rows: Sequence[int] | NDArray[np.integer[Any]],
    against: Sequence[int] | NDArray[np.integer[Any]] | None = None,
) -> pd.DataFrame:
    """Take a skill apart into axes: the mean coordinates of the rows that show it.

    Parameters
    ----------
    z : ndarray, [n_rows, n_axes]
        Coordinates of all rows in standard deviations of their axis.
    rows : sequence of int
        Rows that show the skill, each once: a category's, or a single response.
    against : sequence of int, optional
        Rows that do not show it: then all is about the difference of the two means. Default: 0,
        the mean of the rows that the basis was fitted on.

    Returns
    -------
    DataFrame
        One row an axis, the largest |mean| first:

        - ``axis``;
        - ``mean``, in standard deviations of the axis;
        - ``low``, ``high``: 95 % interval of the mean, each axis by itself (Student's t; Welch's
          with `against`). A bootstrap would be far too sure of the few rows that a skill often
          has, and of many rows it says the same;
        - ``share``: ``mean^2`` over its sum over axes, the part of the skill's direction that the
          axis makes up: the squares of the unit vector along the means;
        - ``p``: of the same t, corrected for the number of axes after Holm (Scand. J. Statist. 6,
          1979, 65);
        - ``sure``: whether ``p`` is at most 0.05: of a skill without any axis, one time in twenty
          one is called sure. Stricter than an interval that leaves 0.

        Of one row (on either side) there is no interval: NaN, and nothing is sure.
        ``attrs["n"]`` is the number of `rows`.

    Raises
    ------
    InputError
        No rows, or rows that are not there.
    """
    chosen = _of_rows(z, rows, "rows")
    mean, squared_error, freedom = _mean_and_error(chosen)
    if against is not None:
        base, base_error, base_freedom = _mean_and_error(_of_rows(z, against, "against"))
        mean = mean - base
        freedom = _welch(squared_error, freedom, base_error, base_freedom)
        squared_error = squared_error + base_error
    half, p = _student(mean, np.sqrt(squared_error), freedom)
    p = _holm(p)
    total = np.square(mean).sum()
    table = pd.DataFrame(
        {
            "axis": np.arange(len(mean)),
            "mean": mean,
            "low": mean - half,
            "high": mean + half,
            "share": np.square(mean) / (total if total > 0 else 1.0),
            "p": p,
            "sure": p <= LEVEL,
        }
    )
    order = np.argsort(-np.abs(mean), kind="stable")
    table = table.iloc[order].reset_index(drop=True)
    table.attrs["n"] = len(chosen)
    return table


def path(running: NDArray[np.floating[Any]], axes: Sequence[int]) -> pd.DataFrame:
    """How a text moves along axes while it is read, tidy for a figure.

    Parameters
    ----------
    running : ndarray, [n_tokens, n_axes]
        Coordinates of the text up to each token; see `Heat`. In any unit: as a rule divided by
        the scales of the axes.
    axes : sequence of int
        Those to follow.

    Returns
    -------
    DataFrame
        ``token axis coordinate``, axis by axis in the order given and tokens in theirs. Tokens
        before the first that counts have no coordinate and are left out.

    Raises
    ------
    InputError
        An axis that is not there.
    """
    n_tokens, n_axes = running.shape
    followed = np.asarray(axes, dtype=np.int64)
    if np.any((followed < 0) | (followed >= n_axes)):
        raise InputError(f"axes are 0 to {n_axes - 1}, not all of {followed.tolist()} are there")
    table = pd.DataFrame(
        {
            "token": np.tile(np.arange(n_tokens), len(followed)),
            "axis": np.repeat(followed, n_tokens),
            "coordinate": running[:, followed].T.ravel(),
        }
    )
    return table.dropna(ignore_index=True)


def _of_rows(
    z: NDArray[np.floating[Any]], rows: Sequence[int] | NDArray[np.integer[Any]], name: str
) -> Reals:
    chosen = np.asarray(rows, dtype=np.int64)
    if len(chosen) == 0:
        raise InputError(f"{name} is empty: a skill needs at least one row that shows it")
    if chosen.min() < 0 or chosen.max() >= len(z):
        raise InputError(f"{name} must lie in 0 to {len(z) - 1}; not all do")
    return z[chosen].astype(np.float64)


def _mean_and_error(z: Reals) -> tuple[Reals, Reals, Reals]:
    """Mean, squared standard error of the mean, and degrees of freedom, of each axis [n_axes]."""
    n, n_axes = z.shape
    mean = z.mean(axis=0)
    if n < 2:
        unknown = np.full(n_axes, np.nan)
        return mean, unknown, unknown
    return mean, z.var(axis=0, ddof=1) / n, np.full(n_axes, n - 1.0)


def _welch(error: Reals, freedom: Reals, base_error: Reals, base_freedom: Reals) -> Reals:
    """Degrees of freedom of a difference of means (Welch, Biometrika 34, 1947, 28)."""
    parts = error**2 / freedom + base_error**2 / base_freedom
    # Rows that do not vary at all have an exact mean: the freedom does not matter then.
    return np.divide((error + base_error) ** 2, parts, out=np.ones_like(parts), where=parts != 0)


def _student(mean: Reals, error: Reals, freedom: Reals) -> tuple[Reals, Reals]:
    """Half width of the 95 % interval, and two-sided p of a mean of 0; NaN where unknown."""
    from scipy import special

    half: Reals = special.stdtrit(freedom, 0.975) * error
    # An exact mean is 0 or it is not.
    exact = np.where(mean == 0, 0.0, np.inf)
    t = np.divide(np.abs(mean), error, out=exact, where=error != 0)
    p: Reals = 2 * special.stdtr(freedom, -t)
    return half, p


def _holm(p: Reals) -> Reals:
    """Adjusted p, so that `p <= LEVEL` errs anywhere with chance `LEVEL` at most; NaN stays."""
    order = np.argsort(p, kind="stable")
    steps = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted
