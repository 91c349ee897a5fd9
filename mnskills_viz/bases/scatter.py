"""Second moments of rows about their mean, and their principal axes.

Everything goes through the rows a block at a time: they may be mapped from a file larger than
memory, and no centred copy is made.
"""

import contextlib
import functools
import operator
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.sparse.linalg
from threadpoolctl import ThreadpoolController

from ..activations.moments import Moments
from ..errors import InputError

Array = npt.NDArray[np.floating[Any]]

# Of rows centred and multiplied at a time: as much as stays in a processor's cache.
BLOCK_BYTES = 4 * 2**20

# Shares of the blocks that are summed at once, and how wide products may be for that: each share
# has sums of its own.
SHARES = 2
WIDE = 2048

# Held while the threads of BLAS are limited.
_LIMITING = threading.RLock()

# Products of float32 rows are exact to about 3e-7 of the largest variance. An axis that holds
# less than this share of it is computed again in float64.
FLOAT32_RANGE = 1e-4

# Below this the squares of float32 lose digits.
FLOAT32_SMALLEST = 1e-25

# From this size on a few eigenvectors are found sooner by Lanczos iterations.
LANCZOS_SIZE = 1000
LANCZOS_SHARE = 1 / 8


class PrincipalAxes(NamedTuple):
    """Orthonormal axes in order of falling variance."""

    axes: Array
    """[r, d] float64; r is what was asked for, or the rank where that is less."""
    variances: Array
    """[r] float64: mean square (ddof=0) along each axis."""
    total_variance: float
    """Mean square length of the centred rows, over all directions."""
    mean: Array
    """[d] float64, of the rows."""


class Scatter(NamedTuple):
    """Mean, and second moments about it, of rows."""

    mean: Array
    """[d] float64."""
    products: Array
    """Float64, divided by the number of rows: the covariance [d, d] (ddof=0), or where there are
    fewer rows than columns the Gram matrix [n, n] of the centred rows."""


def blocks(n: int, width: int, itemsize: int) -> Iterator[slice]:
    """Slices of `n` things of `width` numbers each, `BLOCK_BYTES` at a time."""
    size = max(64, BLOCK_BYTES // (width * itemsize))
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def _wide_blocks(n: int, width: int, itemsize: int) -> Iterator[slice]:
    """`blocks` for products [width, width]: each of many rows, for the sum has its cost."""
    size = max(width // 2, BLOCK_BYTES // (width * itemsize))
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def sum_over(
    slices: Iterator[slice],
    work: Callable[[Iterator[slice]], tuple[Array, ...]],
    n_shares: int = SHARES,
) -> list[Array]:
    """Sums of what `work` makes of each share of the slices, the shares in threads.

    One thread that centres a block while another multiplies one is quicker than a product that
    takes all processors and then leaves them to wait: by a third at 50,000 x 576. The shares are
    the same whatever the number of threads.
    """
    every = list(slices)

    @np.errstate(over="ignore", invalid="ignore")  # what is no number is found in the sums
    def quietly(share: Iterator[slice]) -> tuple[Array, ...]:
        return work(share)

    with few_threads(n_shares) as workers, ThreadPoolExecutor(workers) as pool:
        shares = pool.map(quietly, (iter(every[i::n_shares]) for i in range(n_shares)))
        return [functools.reduce(operator.iadd, found) for found in zip(*shares, strict=True)]


@contextlib.contextmanager
def few_threads(workers: int | None = None) -> Iterator[int]:
    """Leave each of at most `workers` of us its part of the threads that BLAS has, or but one.

    The limit holds for the whole process: who comes second waits, or would take the limited
    number for the whole and leave it behind.
    """
    with _LIMITING:
        blas = _libraries().select(user_api="blas")
        threads = max([1, *(library.num_threads for library in blas.lib_controllers)])
        workers = min(workers or threads, threads)
        with blas.limit(limits=threads // workers):
            yield workers


@functools.cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


def mean_of(rows: Array) -> Array:
    """Mean of `rows` [n, d], as float64 [d]."""
    n, d = rows.shape
    shift = _near_mean(rows)

    def work(slices: Iterator[slice]) -> tuple[Array, ...]:
        total = np.zeros(d)
        for part in slices:
            block = rows[part] - shift
            total += np.ones(len(block), dtype=rows.dtype) @ block
        return (total,)

    (total,) = sum_over(blocks(n, d, rows.itemsize), work)
    found: Array = shift + total / n
    return found


def _near_mean(rows: Array) -> Array:
    """Mean of the first block in the rows' own type: sums about it keep their digits."""
    first = next(blocks(len(rows), rows.shape[1], rows.itemsize))
    found: Array = rows[first].mean(axis=0, dtype=np.float64).astype(rows.dtype)
    return found


def total_variance(rows: Array, mean: Array) -> float:
    """Mean squared distance of `rows` [n, d] from `mean`; 0 where it is rounding alone."""
    centre, squares = mean.astype(rows.dtype), np.zeros(rows.shape[1])
    for part in blocks(len(rows), rows.shape[1], rows.itemsize):
        centred = (rows[part] - centre).astype(np.float64, copy=False)
        squares += np.einsum("ij,ij->j", centred, centred)
    squares /= len(rows)
    rounding = (float(np.finfo(rows.dtype).eps) * mean) ** 2
    return float(squares[squares > rounding].sum())


def spreads(rows: Array, mean: Array, axes: Array) -> Array:
    """Standard deviation (ddof=0) of `rows` [n, d] along each of `axes` [r, d], float64 [r]."""
    centre, directions = mean.astype(rows.dtype), axes.T.astype(rows.dtype)
    squares = np.zeros(len(axes))
    for part in blocks(len(rows), rows.shape[1], rows.itemsize):
        coordinates = (rows[part] - centre) @ directions
        squares += np.einsum("ij,ij->j", coordinates, coordinates, dtype=np.float64)
    spreads: Array = np.sqrt(squares / len(rows))
    return spreads


def scatter(rows: Array, dtype: np.dtype[Any]) -> Scatter:
    """Mean and second moments of `rows` [n, d], with products in `dtype` and sums in float64.

    The products are of rows about the mean of the first block, and corrected by what the mean of
    all differs from it: one pass, and nothing is lost where the mean is far longer than the
    spread (T. F. Chan, G. H. Golub and R. J. LeVeque, The American Statistician 37, 1983).
    """
    n, d = rows.shape
    if d > n:
        return _gram(rows, dtype)
    first = next(_wide_blocks(n, d, dtype.itemsize))
    shift = _near_mean(rows).astype(dtype)

    def work(slices: Iterator[slice]) -> tuple[Array, ...]:
        total, products = np.zeros(d), np.zeros((d, d))
        centred = np.empty((first.stop, d), dtype=dtype)
        found = np.empty((d, d), dtype=dtype)
        for part in slices:
            block = np.subtract(rows[part], shift, out=centred[: part.stop - part.start])
            total += np.ones(len(block), dtype=dtype) @ block
            products += np.matmul(block.T, block, out=found)
        return total, products

    n_shares = SHARES if d <= WIDE else 1
    total, products = sum_over(_wide_blocks(n, d, dtype.itemsize), work, n_shares)
    offset = total / n
    products /= n
    with np.errstate(over="ignore", invalid="ignore"):
        products -= np.outer(offset, offset)
    return Scatter(shift + offset, products)


def _gram(rows: Array, dtype: np.dtype[Any]) -> Scatter:
    n, d = rows.shape
    mean = mean_of(rows)
    centre = mean.astype(dtype)

    def work(slices: Iterator[slice]) -> tuple[Array, ...]:
        products, found = np.zeros((n, n)), np.empty((n, n), dtype=dtype)
        for part in slices:
            block = rows[:, part] - centre[part]
            products += np.matmul(block, block.T, out=found)
        return (products,)

    n_shares = SHARES if n <= WIDE else 1
    (products,) = sum_over(_wide_blocks(d, n, dtype.itemsize), work, n_shares)
    # What rounding the means to `dtype` left: rows and columns of the products sum to 0.
    products -= products.mean(axis=0)
    products -= products.mean(axis=1, keepdims=True)
    products /= n
    return Scatter(mean, products)


def principal_axes(rows: Array, n_axes: int | float) -> PrincipalAxes:
    """The orthonormal directions along which rows vary most, of any sign.

    Parameters
    ----------
    rows : ndarray [n, d]
        float32 or float64. Products of float32 rows are formed in float32, and once more in
        float64 where an axis is too weak for that.
    n_axes : int or float
        Most axes to give back; a float is the share of the variance that they have to hold.

    Raises
    ------
    InputError
        All rows are equal, up to rounding.
    """
    if rows.dtype == np.float32:
        found = _principal_axes(rows, n_axes, np.dtype(np.float32))
        if found is not None:
            return found
    found = _principal_axes(rows, n_axes, np.dtype(np.float64))
    if found is None:
        raise _no_direction(len(rows))
    return found


def axes_of_moments(moments: Moments, n_axes: int | float) -> PrincipalAxes:
    """`principal_axes` of rows of which only the `Moments` are there.

    Raises
    ------
    InputError
        Fewer than two rows, or all rows are equal.
    """
    covariance = moments.covariance * ((moments.count - 1) / moments.count)
    total = _finite(float(np.trace(covariance)))
    variances, vectors = _spectrum(covariance, n_axes, total)
    # The moments are about 0: what is left about the mean carries the rounding of the whole.
    lengths = variances + np.square(vectors.T) @ moments.mean**2
    rank = int((variances > len(covariance) * np.finfo(np.float64).eps * lengths).sum())
    if rank == 0:
        raise _no_direction(moments.count)
    axes = np.ascontiguousarray(vectors[:, :rank].T)
    return PrincipalAxes(axes, variances[:rank], total, moments.mean)


def _principal_axes(rows: Array, n_axes: int | float, dtype: np.dtype[Any]) -> PrincipalAxes | None:
    """By products in `dtype`; None where these cannot tell the weakest axis from rounding."""
    n, d = rows.shape
    exact = dtype == np.float64
    mean, products = scatter(rows, dtype)
    total = float(np.trace(products))
    if not exact and not FLOAT32_SMALLEST < total < np.inf:
        return None
    variances, vectors = _spectrum(products, n_axes, _finite(total))
    least = float(np.finfo(np.float64).eps) * max(n, d) if exact else FLOAT32_RANGE
    kept = variances > least * variances[0]
    if not kept.any() or not (exact or kept.all()):
        return None
    variances, vectors = variances[kept], vectors[:, kept]
    if d > n:
        vectors = _from_gram(rows, mean, vectors / np.sqrt(n * variances), dtype)
    # What rounding of the rows as they were given can put on an axis.
    rounding = float(np.finfo(rows.dtype).eps) ** 2 * (np.square(vectors.T) @ mean**2)
    kept = variances > (1 if exact else 100) * rounding
    if not kept.any() or not (exact or kept.all()):
        return None
    axes = np.ascontiguousarray(vectors[:, kept].T)
    return PrincipalAxes(axes, variances[kept], total, mean)


def _finite(total: float) -> float:
    """`total`, if it is a number."""
    if not np.isfinite(total):
        raise InputError("the rows are too large for their squares; divide them by a number")
    return total


def _no_direction(n: int) -> InputError:
    return InputError(f"all {n} rows are equal: there is no direction along which they vary")


class _Spectrum(NamedTuple):
    variances: Array
    """[k] falling."""
    vectors: Array
    """[size, k] columns."""


def _spectrum(products: Array, n_axes: int | float, total: float) -> _Spectrum:
    """Largest eigenvalues and eigenvectors of a symmetric matrix of trace `total`."""
    size = len(products)
    wanted = size if isinstance(n_axes, float) else min(n_axes, size)
    if size >= LANCZOS_SIZE and wanted <= LANCZOS_SHARE * size:
        start = np.random.default_rng(0).standard_normal(size)
        try:
            variances, vectors = scipy.sparse.linalg.eigsh(products, wanted, v0=start)
            order = variances.argsort()[::-1]
            return _Spectrum(variances[order], vectors[:, order])
        except scipy.sparse.linalg.ArpackError:  # no gap to converge by
            pass
    # Not in threads: they gain little, and wait on the processors that the next product needs.
    with few_threads():
        variances, vectors = scipy.linalg.eigh(
            products, subset_by_index=[size - wanted, size - 1], check_finite=False
        )
    if isinstance(n_axes, float):
        held = np.cumsum(variances[::-1])
        wanted = min(int((held < n_axes * total).sum()) + 1, size)
    return _Spectrum(variances[::-1][:wanted], vectors[:, ::-1][:, :wanted])


def _from_gram(rows: Array, mean: Array, weights: Array, dtype: np.dtype[Any]) -> Array:
    """Axes as columns [d, r] out of the Gram matrix's eigenvectors over their lengths [n, r]."""
    n, d = rows.shape
    axes = np.empty((d, weights.shape[1]))
    weights = weights.astype(dtype)
    for part in blocks(d, n, dtype.itemsize):
        axes[part] = (rows[:, part] - mean[part].astype(dtype)).T @ weights
    # Weak axes come out of this product less than orthogonal to the strong ones.
    columns, triangle = np.linalg.qr(axes)
    return columns * np.where(np.diag(triangle) < 0, -1.0, 1.0)
