"""Passes over a matrix too large to copy: block by block, on all cores.

What depends on the order of the rows takes an `order`: the rows are then read in that order, so
that sums and hashes come out the same however the caller's rows stand.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.int64]
Columns = Mapping[int, FloatArray]
Result = TypeVar("Result")

BLOCK_BYTES = 2**21
"""What a block of rows holds: little enough to stay in a core's cache."""

COLUMN_BLOCK = 2**22
"""Numbers in a block that is read by columns."""

CORES = min(8, os.cpu_count() or 1)


def blocks(matrix: NDArray[Any], order: IntArray | None = None) -> Iterator[NDArray[Any]]:
    """Consecutive rows of a matrix, or of ``matrix[order]``; a few thousand at a time."""
    for part in _row_blocks(matrix):
        yield matrix[part] if order is None else matrix[order[part]]


def each_block(
    of: Callable[[NDArray[Any]], Result], matrix: NDArray[Any], order: IntArray | None = None
) -> list[Result]:
    """``of(block)`` for all blocks of rows, worked out on all cores, in order."""
    return _on_all_cores(
        lambda part: of(matrix[part] if order is None else matrix[order[part]]),
        _row_blocks(matrix),
    )


def each_column_block(
    of: Callable[[Columns, int], Result], matrix: NDArray[Any], axes: Sequence[int]
) -> list[Result]:
    """``of(columns, first row)`` for all blocks of rows, worked out on all cores, in order.

    `columns` has the block's columns by axis; `axes` are ascending.
    """

    def at(part: slice) -> Result:
        block = matrix[part] if len(axes) == matrix.shape[1] else matrix[part, axes]
        turned = np.empty((len(axes), len(block)), block.dtype)
        for start in range(0, len(block), 1024):  # stays in the cache while it is turned
            here = slice(start, start + 1024)
            turned[:, here] = block[here].T
        return of(dict(zip(axes, turned, strict=True)), part.start)

    return _on_all_cores(at, _parts(len(matrix), max(1024, COLUMN_BLOCK // max(1, len(axes)))))


def _on_all_cores(of: Callable[[slice], Result], parts: list[slice]) -> list[Result]:
    if len(parts) == 1:
        return [of(parts[0])]
    with ThreadPoolExecutor(CORES) as threads:
        return list(threads.map(of, parts))


def _row_blocks(matrix: NDArray[Any]) -> list[slice]:
    row_bytes = max(1, matrix[:1].nbytes)
    return _parts(len(matrix), max(1, BLOCK_BYTES // row_bytes))


def _parts(n: int, step: int) -> list[slice]:
    return [slice(start, start + step) for start in range(0, max(1, n), step)]


def mean_and_spread(
    matrix: FloatArray, order: IntArray | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each column in float64, [k] and [k]; NaN where a value is.

    Blocks are merged by Chan, Golub & LeVeque's formula (1983). All is summed about the first row,
    so that a column of one value has no spread at all, not one of rounding.
    """
    first = matrix[0 if order is None else order[0]].astype(np.float64)

    def moments(block: FloatArray) -> tuple[int, FloatArray, FloatArray]:
        with np.errstate(invalid="ignore", over="ignore"):
            x = block - first
            mean = x.mean(axis=0)
            x -= mean
            return len(x), mean, np.einsum("ij,ij->j", x, x)

    count, mean, squares = 0, np.zeros(matrix.shape[1]), np.zeros(matrix.shape[1])
    with np.errstate(invalid="ignore", over="ignore"):
        for rows, block_mean, block_squares in each_block(moments, matrix, order):
            apart = block_mean - mean
            squares += block_squares + apart**2 * (count * rows / (count + rows))
            mean += apart * (rows / (count + rows))
            count += rows
        return first + mean, np.sqrt(squares / count)


def scale_of(matrix: FloatArray, order: IntArray | None = None) -> tuple[FloatArray, FloatArray]:
    """Mean of each column, and its standard deviation as a scale, [k] and [k], in float64.

    A column that is constant but for rounding has no scale of its own: 1.
    """
    mean, spread = mean_and_spread(matrix, order)
    rounding = 10 * np.finfo(matrix.dtype).eps * np.hypot(mean, spread)
    return mean, np.where(spread > rounding, spread, np.where(np.isnan(spread), spread, 1.0))


def sha256(array: NDArray[Any], order: IntArray | None = None) -> str:
    """SHA-256 of an array's type, shape and bytes, little endian, rows in the order given."""
    little = array.dtype.newbyteorder("<")
    digest = hashlib.sha256(f"{little.str}{array.shape}".encode())
    for block in blocks(array, order):
        digest.update(np.ascontiguousarray(block, dtype=little).data)
    return digest.hexdigest()
