"""How well chosen rows cover a space of skills."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError

FloatArray = NDArray[np.floating[Any]]
Float64Array = NDArray[np.float64]

BINNED_AXES = 6
PAIRS_AT_ONCE = 1 << 23
"""Distances computed in one go: 32 MB in float32."""


class Coverage(NamedTuple):
    """How well chosen rows cover others; distances in standard deviations where z is whitened."""

    radius: float
    """Largest distance of a row to the nearest chosen one: the covering radius."""
    radius_95: float
    """95 % quantile of these distances."""
    mean_distance: float
    """Their mean."""
    log_det: float
    """``log det (ridge I + sum z z')`` over the chosen rows, nats: what D-optimal maximises."""
    ridge: float
    """The ridge in it."""
    empty_bins: float
    """Share of the bins with rows to be covered that have no chosen row; see `coverage`."""
    bins: int
    """Bins with rows to be covered."""
    participation: float
    """Directions that the chosen rows' spread is shared by, 1 to k: ``(tr S)^2 / tr S^2`` of
    ``S = sum z z'``; 0 where all are zero."""
    rows: int
    """Rows that were to be covered."""


def coverage(
    z: ArrayLike,
    chosen: ArrayLike,
    held_out: ArrayLike | None = None,
    *,
    ridge: float | None = None,
    binned_axes: int = BINNED_AXES,
) -> Coverage:
    """How well the chosen rows of a pool cover all of it, or held-out rows.

    Bins are the cells that the pool's medians on its first axes cut: rows are in one bin if they
    lie on the same side of all of them. Nothing is fitted at random, and of each axis half of the
    pool lies on either side.

    Parameters
    ----------
    z : array_like, [n, k]
        Coordinates of the pool, divided by their scale.
    chosen : array_like of int, [m]
        Rows of it.
    held_out : array_like, [h, k], optional
        Coordinates to be covered, on the same axes; default: all rows of the pool.
    ridge : float, optional
        Of the log determinant; default ``m / k``. Compare selections of different sizes at one.
    binned_axes : int
        How many of the first axes cut bins.

    Returns
    -------
    Coverage

    Raises
    ------
    InputError
        Nothing chosen or nothing to cover, rows beyond the pool, or coordinates that are not
        finite or not on the same axes.
    """
    z = _coordinates(z, "z")
    targets = z if held_out is None else _coordinates(held_out, "held_out")
    if targets.shape[1] != z.shape[1]:
        raise InputError(
            f"held_out has {targets.shape[1]} columns and z {z.shape[1]}; both must be coordinates "
            "on the same axes"
        )
    rows = np.asarray(chosen)
    if rows.ndim != 1 or not len(rows) or not np.issubdtype(rows.dtype, np.integer):
        raise InputError("chosen must be a list of rows of the pool, not empty")
    if rows.min() < 0 or rows.max() >= len(z):
        raise InputError(f"chosen names rows beyond the pool's {len(z)}")
    picked = z[rows]
    ridge = len(picked) / z.shape[1] if ridge is None else ridge
    if not ridge > 0:
        raise InputError(f"ridge must be above 0, not {ridge:g}")
    distances = nearest_distances(targets, picked)
    medians = np.median(z[:, :binned_axes], axis=0)
    wanted, filled = _bins(targets, medians), _bins(picked, medians)
    exact = picked.astype(np.float64)
    moments = exact.T @ exact
    return Coverage(
        radius=float(distances.max()),
        radius_95=float(np.quantile(distances, 0.95)),
        mean_distance=float(distances.mean()),
        log_det=float(np.linalg.slogdet(moments + ridge * np.eye(len(moments)))[1]),
        ridge=float(ridge),
        empty_bins=len(wanted - filled) / len(wanted),
        bins=len(wanted),
        participation=_participation(moments),
        rows=len(targets),
    )


def nearest_distances(targets: FloatArray, chosen: FloatArray) -> Float64Array:
    """Euclidean distance of each row of `targets` [h, k] to the nearest of `chosen` [m, k].

    Squares are expanded and computed in blocks, in float32, to find those that rounding leaves in
    question; the distances to these are then computed as they stand, in float64. [h]
    """
    shift = chosen.mean(axis=0, dtype=np.float64)
    moved = (chosen - shift).astype(np.float32)
    # |a - b|^2 = |a|^2 + (-2 a b' + |b|^2): the bracket is one product with a column of ones.
    lengths = np.einsum("ij,ij->i", moved, moved)
    factors = np.ascontiguousarray(np.concatenate([-2 * moved, lengths[:, None]], axis=1).T)
    rounding = 4 * len(factors) * float(np.finfo(np.float32).eps)
    squares = np.full(len(targets), np.inf)
    step = max(1, PAIRS_AT_ONCE // max(len(chosen), chosen.shape[1]))
    pairs = max(1, PAIRS_AT_ONCE // chosen.shape[1])
    for start in range(0, len(targets), step):
        block = targets[start : start + step].astype(np.float64)
        ones = np.ones((len(block), 1), dtype=np.float32)
        rows = np.concatenate([(block - shift).astype(np.float32), ones], axis=1)
        expanded = rows @ factors
        # The product's terms are as large as |b|^2 + 2 |a| |b| at most.
        sizes = lengths.max() + 2 * np.sqrt(lengths.max() * np.einsum("ij,ij->i", rows, rows))
        bound = expanded.min(axis=1) + rounding * sizes
        row, near = np.nonzero(~(expanded > bound[:, None]))  # what is not a number stays in
        for part in range(0, len(row), pairs):
            here = slice(part, part + pairs)
            apart = block[row[here]] - chosen[near[here]]
            np.minimum.at(squares, start + row[here], np.einsum("ij,ij->i", apart, apart))
    return np.asarray(np.sqrt(squares))


def _bins(z: FloatArray, medians: FloatArray) -> set[bytes]:
    """The bins that rows lie in."""
    above = np.packbits(z[:, : len(medians)] > medians, axis=1)
    return {row.tobytes() for row in np.unique(above, axis=0)}


def _participation(moments: Float64Array) -> float:
    squared = float((moments**2).sum())
    return float(np.trace(moments)) ** 2 / squared if squared else 0.0


def _coordinates(values: ArrayLike, name: str) -> NDArray[Any]:
    array = np.asarray(values)
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float64)
    if array.ndim != 2 or not array.size:
        raise InputError(f"{name} has shape {array.shape}; expected [rows, axes], not empty")
    if not np.isfinite(array).all():
        raise InputError(f"{name} holds NaN or infinite coordinates")
    return array
