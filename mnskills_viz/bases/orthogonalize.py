"""Orthonormal axes out of directions that are not."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .basis import Array, as_array

METHODS = ("lowdin", "qr")


def orthogonalize(directions: npt.ArrayLike, method: str = "lowdin") -> Array:
    """Orthonormal rows with the span of `directions`.

    Parameters
    ----------
    directions : array-like [k, d]
        Rows of any length. One that depends on earlier rows, or is zero, is dropped;
        `independent_rows` tells which stay.
    method : {"lowdin", "qr"}, default "lowdin"
        "lowdin" turns all rows at once and moves them the least in total:
        ``(A A')^-1/2 A``. "qr" keeps the first row's direction and takes from each later row
        what earlier ones hold (Gram-Schmidt), so that the order matters.

    Returns
    -------
    ndarray [r, d]
        Orthonormal to rounding, `r` the rank; row `i` belongs to the `i`-th row kept and has a
        positive product with it. float32 for float32 input, float64 for float64.

    Raises
    ------
    InputError
        Not a matrix, empty, NaN or inf, or an unknown method.

    Notes
    -----
    With ``A = U S V'`` Löwdin's formula is ``U V'``: P.-O. Löwdin, J. Chem. Phys. 18 (1950) 365;
    the least move: B. C. Carlson and J. M. Keller, Phys. Rev. 105 (1957) 102.
    """
    check_method(method)
    matrix = _checked(directions)
    independent = _gram_schmidt(matrix)
    if method == "qr":
        return independent.axes.astype(matrix.dtype)
    kept = matrix[independent.kept].astype(np.float64)
    if len(kept) == 0:
        return kept.astype(matrix.dtype)
    # One common factor changes nothing, and squares of very large or small numbers stay finite.
    left, _, right = np.linalg.svd(kept / np.abs(kept).max(), full_matrices=False)
    axes: Array = left @ right
    return axes.astype(matrix.dtype)


def independent_rows(directions: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Indices of the rows that `orthogonalize` keeps, in order.

    Parameters
    ----------
    directions : array-like [k, d]
        As for `orthogonalize`.

    Returns
    -------
    ndarray [r] int64
        Rows that do not depend on those before them.

    Raises
    ------
    InputError
        Not a matrix, empty, NaN or inf.
    """
    return _gram_schmidt(_checked(directions)).kept


def unit_rows(directions: Array) -> Array:
    """`directions` [k, d] at length 1, as float64; a row of zeros stays."""
    rows = directions.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Array = rows / np.where(lengths > 0, lengths, 1.0)
    return unit


def check_method(method: str) -> None:
    """Raise an `InputError` unless `method` is one that `orthogonalize` knows."""
    if method not in METHODS:
        known = ", ".join(f'"{name}"' for name in METHODS)
        raise InputError(f"unknown way to orthogonalize {method!r}; available: {known}")


class _Independent(NamedTuple):
    kept: npt.NDArray[np.int64]
    """[r] rows that do not depend on those before them."""
    axes: Array
    """[r, d] orthonormal, float64."""


def _gram_schmidt(matrix: Array) -> _Independent:
    """Gram-Schmidt in the given order, each row twice, which is enough (Kahan; Parlett 1980).

    A row depends on earlier ones when no more of its direction is left than rounding leaves:
    lengths do not matter, only directions.
    """
    k, d = matrix.shape
    tolerance = max(k, d) * float(np.finfo(matrix.dtype).eps)
    largest = np.abs(matrix).max(axis=1)
    axes = np.zeros((min(k, d), d))
    kept: list[int] = []
    for index in np.flatnonzero(largest > 0):
        if len(kept) == d:
            break
        row = matrix[index].astype(np.float64) / float(largest[index])
        row /= np.linalg.norm(row)
        found = axes[: len(kept)]
        left = row - (row @ found.T) @ found
        if np.linalg.norm(left) <= tolerance:
            continue
        left /= np.linalg.norm(left)
        left -= (left @ found.T) @ found
        axes[len(kept)] = left / np.linalg.norm(left)
        kept.append(int(index))
    return _Independent(np.array(kept, dtype=np.int64), axes[: len(kept)])


def _checked(directions: npt.ArrayLike) -> Array:
    matrix = np.asarray(as_array(directions))
    if matrix.ndim != 2 or matrix.size == 0:
        raise InputError(f"directions must be a matrix [k, d], got the shape {matrix.shape}")
    if matrix.dtype.kind not in "fiu":
        raise InputError(f"directions must be real numbers, got {matrix.dtype}")
    if matrix.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        matrix = matrix.astype(np.float32 if matrix.dtype == np.float16 else np.float64)
    bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
    if len(bad):
        raise InputError(
            f"directions have NaN or inf in {len(bad)} of {len(matrix)} rows, first in row {bad[0]}"
        )
    return matrix
