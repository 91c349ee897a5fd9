"""Principal axes as a basis, and how many of them are more than chance."""

from collections.abc import Iterator
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import scipy.linalg

from ..activations.moments import Moments
from ..errors import InputError
from .basis import Array, Basis, check_count, checked_rows, warn_if_clipped
from .scatter import axes_of_moments, blocks, principal_axes, sum_over

# Below this a skewness is rounding: float32 coordinates give about 1e-6, while chance alone
# gives sqrt(6 / n), 2.4e-3 at a million rows.
NO_SKEWNESS = 1e-4

# A sign needs no more rows: where chance among so many can turn it, it means little.
SIGN_ROWS = 16_384

# Parallel analysis compares so many rows with themselves shuffled, so many times: 2 seconds at
# 576 columns. With fewer rows it finds fewer axes, never more.
PARALLEL_ROWS = 5000
PARALLEL_DRAWS = 20
PARALLEL_LEVEL = 0.95


class PCABasis(Basis):
    """Principal component analysis of centred rows: the axes along which they vary most.

    Parameters
    ----------
    n_axes : int, float or "auto", default 32
        Axes to keep; above the rank of the centred rows it is clipped with a warning. A float
        between 0 and 1 is a share of the variance: the fewest axes that hold it. ``"auto"``: as
        many as hold more than chance gives, see `parallel_analysis`.
    random_state : int, default 0
        Seed of ``"auto"``; nothing else is left to chance.

    Attributes
    ----------
    components_, mean_, scale_, explained_variance_ratio_, n_axes_, n_samples_, source_
        See `Basis`. Axes come in order of falling variance.

    Notes
    -----
    Exact, through the smaller of the covariance [d, d] and the Gram matrix [n, n], in float64.
    Rows may be a file mapped to memory and larger than it: they are read a block at a time, and
    no copy is made. Of wide rows that saves little: the Gram matrix of 4,000 rows of 17,280 takes
    half of what they do.

    An axis and its opposite hold the same variance. The sign kept is the one that skews the
    coordinates to the positive side; where they do not skew, or only moments are there, the one
    that makes the largest loading positive. Largest loading alone flips between halves of one
    data set far more often.

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.random.default_rng(0).standard_normal((100, 8))
    >>> PCABasis(n_axes=3).fit_transform(rows).shape
    (100, 3)
    """

    def __init__(self, n_axes: int | float | str = 32, random_state: int = 0) -> None:
        self.n_axes = n_axes
        self.random_state = random_state

    def fit(
        self,
        X: npt.ArrayLike | Moments,
        y: None = None,
        source: dict[str, Any] | None = None,
    ) -> Self:
        """Find the axes of rows.

        Parameters
        ----------
        X : array-like [n, d], or Moments
            Rows, 2 or more; or their sums, as `Activations.moments` and `collect_moments` give
            them, where the rows themselves are too many.
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
            `n_axes` out of range, fewer than 2 rows, NaN or inf, or all rows equal; moments with
            ``n_axes="auto"``, which needs rows.
        """
        asked = self._checked_n_axes()
        dtype: np.dtype[Any]
        if isinstance(X, Moments):
            if asked is None:
                raise InputError('n_axes="auto" shuffles rows, and moments have none; say a number')
            found, count, dtype = axes_of_moments(X, asked), X.count, np.dtype(np.float64)
            skews: Array = np.zeros(len(found.axes))
            self.n_features_in_ = len(X.total)
        else:
            rows = checked_rows(self, X, fitting=True, least=2)
            if asked is None:
                asked = parallel_analysis(rows, self.random_state).n_axes
            found, count, dtype = principal_axes(rows, asked), len(rows), rows.dtype
            skews = skewness(rows[:: -(-count // SIGN_ROWS)], found.axes)
        rank = len(found.axes)
        if isinstance(asked, int):
            warn_if_clipped(asked, rank, f"the rank of {count} centred rows is {rank}")
        axes = found.axes * signs(found.axes, skews)[:, None]
        scale = np.sqrt(found.variances)
        return self._settle(found.mean, axes, scale, found.total_variance, count, dtype, source)

    def _checked_n_axes(self) -> int | float | None:
        """A number of axes, a share of the variance, or None for "auto"."""
        if self.n_axes == "auto":
            return None
        if isinstance(self.n_axes, float) and 0 < self.n_axes < 1:
            return self.n_axes
        if isinstance(self.n_axes, float | str):
            raise InputError(
                "n_axes must be a whole number of axes, a share of the variance between 0 and 1, "
                f'or "auto", got {self.n_axes!r}'
            )
        return check_count("n_axes", self.n_axes)


class ParallelAnalysis(NamedTuple):
    """Variances along the principal axes of rows, and what chance gives; see `parallel_analysis`.

    Both fall, and are in the squared units of the rows.
    """

    variances: Array
    """[min(n, d)] of the rows. Their sum is the total variance."""
    chance: Array
    """[min(n, d)] the 95 % point of the variances of shuffled rows, axis by axis."""
    n_axes: int
    """How many axes, from the first on, hold more than chance gives; at least 1."""


def parallel_analysis(X: npt.ArrayLike, random_state: int = 0) -> ParallelAnalysis:
    """Variances of the principal axes beside those of chance, and how many axes are above it.

    The rows are compared with rows of which each column is shuffled by itself: the columns keep
    their spreads and lose what they have in common. The `i`-th axis counts while its variance is
    above the 95 % point of the `i`-th variance of 20 such shuffles (J. L. Horn, Psychometrika 30,
    1965; by permutation: A. Buja and N. Eyuboglu, Multivariate Behavioral Research 27, 1992).

    Parameters
    ----------
    X : array-like [n, d]
        Finite rows. Of more than 5,000 a seeded sample is compared.
    random_state : int, default 0
        Seed of sample and shuffles.
    """
    rows: Array = np.asarray(X)
    generator = np.random.default_rng(random_state)
    if len(rows) > PARALLEL_ROWS:
        rows = rows[np.sort(generator.choice(len(rows), PARALLEL_ROWS, replace=False))]
    centred = rows - rows.mean(axis=0)
    found = _variances(centred)
    drawn = [_variances(generator.permuted(centred, axis=0)) for _ in range(PARALLEL_DRAWS)]
    chance = np.quantile(drawn, PARALLEL_LEVEL, axis=0)
    # Centring costs one degree of freedom, and the last variance is rounding.
    within_chance = found <= chance
    count = max(1, int(within_chance.argmax()) if within_chance.any() else len(found))
    return ParallelAnalysis(found, chance, count)


def _variances(centred: Array) -> Array:
    """Variances along the principal axes, falling."""
    n, d = centred.shape
    products = centred.T @ centred if d <= n else centred @ centred.T
    found: Array = scipy.linalg.eigvalsh(products.astype(np.float64), check_finite=False)[::-1] / n
    return found


def skewness(rows: Array, axes: Array) -> Array:
    """Third standardised moment of the coordinates of `rows` [n, d] on `axes` [r, d]: [r].

    0 for an axis along which the rows do not vary.
    """
    n, d = rows.shape
    directions = axes.T.astype(rows.dtype)
    shift = rows[0] @ directions

    def work(slices: Iterator[slice]) -> tuple[Array, ...]:
        powers = np.zeros((3, len(axes)))
        for part in slices:
            z = (rows[part] @ directions - shift).astype(np.float64)
            square = z * z
            powers += [z.sum(axis=0), square.sum(axis=0), np.einsum("ij,ij->j", square, z)]
        return (powers,)

    (powers,) = sum_over(blocks(n, d, rows.itemsize), work)
    mean, second, third = powers / n
    variance = second - mean**2
    central = third - 3 * mean * second + 2 * mean**3
    usable = variance > np.finfo(np.float64).eps * second
    spread = np.where(usable, variance, 1.0) ** 1.5
    skew: Array = np.where(usable, central / spread, 0.0)
    return skew


def signs(axes: Array, skews: Array) -> Array:
    """1 or -1 for each axis: the one that makes its coordinates skew positive, float64 [r].

    Where the skewness is rounding alone, the largest loading becomes positive.
    """
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)[:, 0]
    signed = np.where(np.abs(skews) > NO_SKEWNESS, skews, largest)
    return np.where(signed < 0, -1.0, 1.0)
