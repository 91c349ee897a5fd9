"""Second moments of rows about their mean, and their principal axes.

Everything goes through the rows a block at a time: they may be mapped from a file larger than
memory, and no centred copy is made.
"""

import functools
import operator
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.sparse.linalg
from threadpoolctl import ThreadpoolController

from ..activations.moments import Moments
from ..errors import InputError

Array = npt.NDArray[np.floating[Any]]

Part = TypeVar("Part")

# Of rows centred and multiplied at a time: as much as stays in a processor's cache.
BLOCK_BYTES = 4 * 2**20

# Blocks worked on at once, and how wide products may be for that: each has sums of its own.
MOST_WORKERS = 4
WIDE = 2048

# Products of float32 rows are exact to about 3e-7 of the largest variance. An axis that holds
# less than this share of it is computed again in float64.
FLOAT32_RANGE = 1e-4

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
    most_workers: int = MOST_WORKERS,
) -> list[Array]:
    """Sums of what `work` makes of its share of the slices, in threads.

    One thread that centres a block while another multiplies one is quicker than a product that
    takes all processors and then leaves them to wait: by a third at 50,000 x 576.
    """
    controller = _libraries()
    blas = controller.select(user_api="blas").lib_controllers
    threads = max([1, *(found.num_threads for found in blas)])
    workers = min(threads, most_workers)
    every = list(slices)
    with (
        controller.limit(limits=threads // workers, user_api="blas"),
        ThreadPoolExecutor(workers) as pool,
    ):
        shares = pool.map(work, (iter(every[i::workers]) for i in range(workers)))
        return [functools.reduce(operator.iadd, found) for found in zip(*shares, strict=True)]


@functools.cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


def mean_of(rows: Array) -> Array:
    """Mean of `rows` [n, d], as float64 [d]."""
    n, d = rows.shape

    def work(slices: Iterator[slice]) -> tuple[Array, ...]:
        total = np.zeros(d)
        for part in slices:
            block = rows[part] - rows[0]
            total += np.ones(len(block), dtype=rows.dtype) @ block
        return (total,)

    (total,) = sum_over(blocks(n, d, rows.itemsize), work)
    found: Array = rows[0] + total / n
    return found


def total_variance(rows: Array, mean: Array) -> float:
    """Mean squared distance of `rows` [n, d] from `mean`; 0 where it is rounding alone."""
    centre, total = mean.astype(rows.dtype), 0.0
    for part in blocks(len(rows), rows.shape[1], rows.itemsize):
        centred = rows[part] - centre
        total += float(np.einsum("ij,ij->", centred, centred, dtype=np.float64))
    rounding = float(np.finfo(rows.dtype).eps) ** 2 * float(mean @ mean)
    return total / len(rows) if total > rounding * len(rows) else 0.0


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
    shift = rows[first].mean(axis=0, dtype=np.float64).astype(dtype)

    def work(slices: Iterator[slice]) -> tuple[Array, ...]:
        total, products = np.zeros(d), np.zeros((d, d))
        centred = np.empty((first.stop, d), dtype=dtype)
        found = np.empty((d, d), dtype=dtype)
        for part in slices:
            block = np.subtract(rows[part], shift, out=centred[: part.stop - part.start])
            total += np.ones(len(block), dtype=dtype) @ block
            products += np.matmul(block.T, block, out=found)
        return total, products

    workers = MOST_WORKERS if d <= WIDE else 1
    total, products = sum_over(_wide_blocks(n, d, dtype.itemsize), work, workers)
    offset = total / n
    products /= n
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

    workers = MOST_WORKERS if n <= WIDE else 1
    (products,) = sum_over(_wide_blocks(d, n, dtype.itemsize), work, workers)
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
        raise InputError(
            f"all {len(rows)} rows are equal: there is no direction along which they vary"
        )
    return found


def axes_of_moments(moments: Moments, n_axes: int | float) -> PrincipalAxes:
    """`principal_axes` of rows of which only the `Moments` are there.

    Raises
    ------
    InputError
        Fewer than two rows, or all rows are equal.
    """
    covariance = moments.covariance * ((moments.count - 1) / moments.count)
    total = float(np.trace(covariance))
    variances, vectors = _spectrum(covariance, n_axes, total)
    # The moments are about 0: what is left about the mean carries the rounding of the whole.
    size = total + float(moments.mean @ moments.mean)
    rank = int((variances > len(covariance) * np.finfo(np.float64).eps * size).sum())
    if rank == 0:
        raise InputError(
            f"all {moments.count} rows are equal: there is no direction along which they vary"
        )
    axes = np.ascontiguousarray(vectors[:, :rank].T)
    return PrincipalAxes(axes, variances[:rank], total, moments.mean)


def _principal_axes(rows: Array, n_axes: int | float, dtype: np.dtype[Any]) -> PrincipalAxes | None:
    """By products in `dtype`; None where these cannot tell the weakest axis from rounding."""
    n, d = rows.shape
    mean, products = scatter(rows, dtype)
    total = float(np.trace(products))
    variances, vectors = _spectrum(products, n_axes, total)
    # What rounding of the rows as they were given can put on an axis.
    rounding = float(np.finfo(rows.dtype).eps) ** 2 * (total + float(mean @ mean))
    if dtype == np.float32:
        if variances[-1] < max(FLOAT32_RANGE * variances[0], 100 * rounding):
            return None
    else:
        rounding += float(np.finfo(dtype).eps) * max(n, d) * max(float(variances[0]), 0.0)
        rank = int((variances > rounding).sum())
        if rank == 0:
            return None
        vectors, variances = vectors[:, :rank], variances[:rank]
    if d > n:
        vectors = _from_gram(rows, mean, vectors / np.sqrt(n * variances), dtype)
    return PrincipalAxes(np.ascontiguousarray(vectors.T), variances, total, mean)


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
    with _libraries().limit(limits=1, user_api="blas"):
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
