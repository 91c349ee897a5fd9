"""Whether a basis finds its axes again on other rows."""

import warnings
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.linalg
from scipy.optimize import linear_sum_assignment

from ..progress import tell
from .basis import Array, Basis
from .pca import PCABasis
from .random import random_frame

SPLITS = 10
"""Ways to halve the rows: with one alone an axis's score has a standard deviation of 0.08."""

RESAMPLES = 20
"""Bootstrap resamples."""

LOW = 0.05
"""Quantile of the bootstrap that is told."""

DRAWS = 19
"""Draws of a control. What none of 19 reaches, chance reaches once in 20: the 5 % level, exactly
(a Monte Carlo test: Barnard, J. R. Stat. Soc. B 25 (1963) 294)."""

SPAN = 8
"""Refits look for axes among this many times as many principal axes of all rows.

What is left out is weak and mixes little with the axes that are refitted. On 800 rows of width 576
with 32 axes no stability moves by more than 0.02 against refits in the whole space, and
`bootstrap_low` by less than 0.01 on average, in a third of the time.
"""

Indices = npt.NDArray[np.intp]


class Recurrence(NamedTuple):
    """How well each axis is found again; NaN where the basis is not refitted."""

    stability: Array
    """[k] in [0, 1], mean over `SPLITS`: the rows are halved, axes are fitted to each half, and
    those of one half assigned to the other's by largest |cosine| (Hungarian). Each axis of the
    basis takes the |cosine| of the half's axis assigned to it."""
    bootstrap_low: Array
    """[k] in [0, 1]: the 5 % point, over resamples of the rows with replacement, of the |cosine|
    between the axis and the refitted axis assigned to it."""
    stability_null: float
    """What the most stable axis scores when the axes of the basis and of every half are rotated
    at random within their own span: 5 % level. NaN for one axis, which cannot be rotated."""


def recurrence(basis: Basis, rows: Array, random_state: int) -> Recurrence:
    """Refit a PCA on halves and on bootstrap resamples of `rows` [n, d], and match the axes.

    NaN for other bases: a random basis would find itself again, and a dictionary is dear to
    train. NaN as well for fewer than 4 rows.
    """
    k = basis.n_axes_
    if not isinstance(basis, PCABasis) or len(rows) < 4:
        return Recurrence(np.full(k, np.nan), np.full(k, np.nan), float("nan"))
    generator = np.random.default_rng(random_state)
    axes, inside = _within_strongest(basis, rows)
    halves = [_halves(inside, k, generator) for _ in range(SPLITS)]
    return Recurrence(
        _mean_agreement(axes, halves),
        _bootstrap_low(axes, inside, generator),
        _largest_by_rotation(axes, halves, generator),
    )


def _within_strongest(basis: Basis, rows: Array) -> tuple[Array, Array]:
    """Axes [k, p] and centred rows [n, p] in the space of the `p` strongest principal axes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # fewer than asked: then it is all of them
        span = PCABasis(n_axes=SPAN * basis.n_axes_).fit(rows)
    axes: Array = basis.components_.astype(np.float64) @ span.components_.T.astype(np.float64)
    return axes, span.transform(rows).astype(np.float64)


def _refit(rows: Array, weights: Array, k: int) -> Array:
    """Strongest principal axes [<= k, p] of weighted rows, as many as they have a rank for."""
    tell()
    shares = (weights / weights.sum())[:, None]
    centred = rows - (shares * rows).sum(axis=0)
    size = rows.shape[1]
    variances, vectors = scipy.linalg.eigh(
        (centred * shares).T @ centred, subset_by_index=[max(0, size - k), size - 1]
    )
    rounding = size * float(np.finfo(np.float64).eps) * float(variances[-1])
    axes: Array = vectors[:, variances > rounding].T
    return axes


def _halves(rows: Array, k: int, generator: np.random.Generator) -> tuple[Array, Array]:
    first = generator.permutation(len(rows)) < len(rows) // 2
    return _refit(rows[first], np.ones(first.sum()), k), _refit(
        rows[~first], np.ones((~first).sum()), k
    )


def _mean_agreement(axes: Array, halves: list[tuple[Array, Array]]) -> Array:
    agreed: Array = np.mean([_agreement(axes, *pair) for pair in halves], axis=0)
    return agreed


def _agreement(axes: Array, first: Array, second: Array) -> Array:
    # Half against half: each half is a part of the whole fit, and flatters it.
    between = matched(first, second)
    found = np.zeros(len(axes))
    mine, theirs = _assignment(np.abs(axes @ first.T))
    found[mine] = between[theirs]
    return found


def _bootstrap_low(axes: Array, rows: Array, generator: np.random.Generator) -> Array:
    n = len(rows)
    counts = generator.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    cosines = [
        matched(axes, _refit(rows[drawn > 0], drawn[drawn > 0].astype(np.float64), len(axes)))
        for drawn in counts
    ]
    low: Array = np.quantile(cosines, LOW, axis=0)
    return low


def _largest_by_rotation(
    axes: Array, halves: list[tuple[Array, Array]], generator: np.random.Generator
) -> float:
    if len(axes) < 2:
        return float("nan")

    def turned(found: Array) -> Array:
        return random_frame(len(found), len(found), generator) @ found

    return max(
        float(_mean_agreement(turned(axes), [(turned(a), turned(b)) for a, b in halves]).max())
        for _ in range(DRAWS)
    )


def matched(axes: Array, others: Array) -> Array:
    """|Cosine| [k] of each axis with the other axis assigned to it, 0 without one.

    The assignment, of each axis to another one, is that of the largest total |cosine|.
    """
    cosines = np.abs(axes @ others.T)
    found = np.zeros(len(axes))
    mine, theirs = _assignment(cosines)
    found[mine] = np.minimum(cosines[mine, theirs], 1.0)
    return found


def _assignment(cosines: Array) -> tuple[Indices, Indices]:
    mine, theirs = linear_sum_assignment(cosines, maximize=True)
    return mine, theirs
