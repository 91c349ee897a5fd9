"""Principal axes, exact, through the smaller of covariance and Gram matrix."""

from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import scipy.linalg

from ..errors import InputError
from .basis import Array, Basis, centred_on_mean, check_count, checked_rows, warn_if_clipped

# Rows (or columns) turned to float64 at a time: the copy stays small beside the matrix itself.
BLOCK = 2048

# Below this a skewness is rounding: float32 coordinates give about 1e-6, while chance alone
# gives sqrt(6 / n), 2.4e-3 at a million rows.
NO_SKEWNESS = 1e-4


class PCABasis(Basis):
    """Principal component analysis of centred rows: the axes along which they vary most.

    Parameters
    ----------
    n_axes : int, default 32
        Axes to keep; above the rank of the centred rows it is clipped with a warning.

    Attributes
    ----------
    components_, mean_, scale_, explained_variance_ratio_, n_axes_, n_samples_, source_
        See `Basis`. Axes come in order of falling variance.

    Notes
    -----
    An axis and its opposite hold the same variance. The sign kept is the one that skews the
    coordinates to the positive side; where they do not skew, the one that makes the largest
    loading positive. Largest loading alone flips between halves of one data set far more often.

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.random.default_rng(0).standard_normal((100, 8))
    >>> PCABasis(n_axes=3).fit_transform(rows).shape
    (100, 3)
    """

    def __init__(self, n_axes: int = 32) -> None:
        self.n_axes = n_axes

    def fit(self, X: npt.ArrayLike, y: None = None, source: dict[str, Any] | None = None) -> Self:
        """Find the axes of rows.

        Parameters
        ----------
        X : array-like [n, d]
            Rows, 2 or more.
        y : None
            Not used.
        source : dict, optional
            What made the rows; kept as `source_` and saved with the basis.

        Returns
        -------
        PCABasis
            Itself.

        Raises
        ------
        InputError
            `n_axes` below 1, fewer than 2 rows, NaN or inf, or all rows equal.
        """
        asked = check_count("n_axes", self.n_axes)
        mean, centred = centred_on_mean(checked_rows(self, X, fitting=True, least=2))
        found = principal_axes(centred, mean, asked)
        rank = len(found.axes)
        warn_if_clipped(asked, rank, f"the rank of {len(centred)} centred rows is {rank}")
        coordinates: Array = centred @ found.axes.astype(centred.dtype).T
        signs = signs_by_skewness(coordinates, found.axes).astype(centred.dtype)
        axes = found.axes * signs[:, None]
        return self._settle(mean, axes, coordinates * signs, found.total_variance, source)


class PrincipalAxes(NamedTuple):
    """Orthonormal axes in order of falling variance."""

    axes: Array
    """[r, d] float64; r is what was asked for, or the rank where that is less."""
    variances: Array
    """[r] float64: mean square (ddof=0) along each axis."""
    total_variance: float
    """Mean square length of the rows, over all directions."""


def principal_axes(centred: Array, mean: Array, n_axes: int) -> PrincipalAxes:
    """The `n_axes` orthonormal directions of largest mean square, of any sign.

    Products are summed in float64: in float32 an axis with a thousandth of the first one's
    standard deviation would be lost in rounding.

    Parameters
    ----------
    centred : ndarray [n, d]
        Rows about `mean`, float32 or float64.
    mean : ndarray [d]
        What was subtracted: it sets how coarsely the rows were rounded before.
    n_axes : int
        Most axes to give back.

    Raises
    ------
    InputError
        All rows are equal, up to rounding.
    """
    n, d = centred.shape
    by_columns = d > n
    moments = np.zeros((min(n, d),) * 2)
    for start in range(0, max(n, d), BLOCK):
        part = _float64_block(centred, start, by_columns)
        moments += (part.T @ part) / n
    total = float(np.trace(moments))
    size = len(moments)
    wanted = min(n_axes, size)
    variances, vectors = scipy.linalg.eigh(
        moments, subset_by_index=[size - wanted, size - 1], check_finite=False
    )
    variances, vectors = variances[::-1], vectors[:, ::-1]

    # What rounding alone can put on an axis: that of the rows as given, then that of eigh.
    rounding = float(np.finfo(centred.dtype).eps) ** 2 * (total + float(mean @ mean))
    rounding += float(np.finfo(np.float64).eps) * max(n, d) * float(max(variances[0], 0))
    rank = int((variances > rounding).sum())
    if rank == 0:
        raise InputError(f"all {n} rows are equal: there is no direction along which they vary")
    vectors, variances = vectors[:, :rank], variances[:rank]

    if by_columns:
        axes = np.empty((rank, d))
        for start in range(0, d, BLOCK):
            axes[:, start : start + BLOCK] = (
                _float64_block(centred, start, by_columns) @ vectors
            ).T
        # Weak axes come out of this product less than orthogonal to the strong ones.
        vectors, triangle = np.linalg.qr((axes / np.sqrt(n * variances)[:, None]).T)
        vectors = vectors * np.where(np.diag(triangle) < 0, -1.0, 1.0)
    return PrincipalAxes(np.ascontiguousarray(vectors.T), variances, total)


def skewness(coordinates: Array) -> Array:
    """Third standardised moment of each column of `coordinates` [n, r], as float64 [r].

    0 for a column that does not vary.
    """
    centred = coordinates - coordinates.mean(axis=0, dtype=np.float64)
    squares = centred * centred
    cubed_spread = squares.mean(axis=0) ** 1.5
    third = np.einsum("ij,ij->j", squares, centred) / len(centred)
    skew: Array = np.divide(third, cubed_spread, out=np.zeros_like(third), where=cubed_spread > 0)
    return skew


def signs_by_skewness(coordinates: Array, axes: Array) -> Array:
    """1 or -1 for each axis, so that its coordinates skew positive.

    Parameters
    ----------
    coordinates : ndarray [n, r]
        Of the rows on the axes.
    axes : ndarray [r, d]
        Where the skewness is rounding alone, the largest loading becomes positive.

    Returns
    -------
    ndarray [r] float64
    """
    skew = skewness(coordinates)
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)[:, 0]
    signed = np.where(np.abs(skew) > NO_SKEWNESS, skew, largest)
    return np.where(signed < 0, -1.0, 1.0)


def _float64_block(matrix: Array, start: int, by_columns: bool) -> Array:
    """Some rows of `matrix`, or some columns laid as rows, in float64."""
    block = matrix[:, start : start + BLOCK].T if by_columns else matrix[start : start + BLOCK]
    return block.astype(np.float64)
