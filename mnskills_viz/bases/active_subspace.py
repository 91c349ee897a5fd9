"""Active subspace: the axes along which rows vary *and* on which a target depends."""

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .basis import Array, Basis, as_array, check_count, checked_rows, warn_if_clipped
from .orthogonalize import independent_rows, orthogonalize
from .pca import signs, skewness
from .scatter import blocks, mean_of, spreads, total_variance


class ActiveSubspaceBasis(Basis):
    """Directions that rows vary along and a model uses, from gradients of a target.

    Parameters
    ----------
    n_axes : int, default 32
        Axes to keep; above the rank of rows and gradients together it is clipped with a warning.
    random_state : int, default 0
        Seed of the split into the halves that cross-fitting compares.

    Attributes
    ----------
    components_, mean_, scale_, explained_variance_ratio_, n_axes_, n_samples_, source_
        See `Basis`. Axes come in order of falling eigenvalue. Their coordinates may be correlated.
    n_gradients_ : int
        Number of gradients.
    gradient_share_ : ndarray [n_axes_] float64
        Share of the mean squared gradient norm on each axis, in [0, 1], cross-fitted: axes from
        one half of the gradients, the share from the other half, both ways, averaged. The axes
        themselves come from all gradients, on which their share is higher. NaN for axes that
        half of the gradients is too few to give.
    utility_share_ : ndarray [n_axes_] float64
        The same in units of sigma: what each axis adds to the share of the mean ``g' S g`` that
        moves within the axes so far can reach, cross-fitted. ``g' S g`` is both the square of the
        steepest slope per standard deviation and the variance, over the rows, of the first-order
        target ``g' x``.
    gradient_share_total_ : float
        Sum of the known `gradient_share_`.
    gradient_share_chance_ : float
        What as many random directions hold: their number over `d`.

    Notes
    -----
    With `S` the covariance of the rows and `g` the gradients the whitened rows ``S^-1/2 x`` have
    the gradients ``S^1/2 g``. The active subspace of a target (Constantine, "Active Subspaces",
    SIAM 2015, section 3.1) in these coordinates is spanned by the eigenvectors `w` of
    ``S^1/2 E[g g'] S^1/2`` with the largest eigenvalues; ``q = S^1/2 w`` leads back to the rows.

    The `q` are not orthogonal. Gram-Schmidt in the order of falling eigenvalue makes them so: the
    first `k` axes span the `k` directions that matter most, for every `k`. The symmetric (Löwdin)
    way would keep only the span of all, and mix the strong directions, which resemble each
    other because all lean to where the rows vary most, with the weak.

    Few gradients give axes that also fit their noise: with 64 of width 576 the share on the fitted
    gradients is 1.6 times the cross-fitted one. Judge the axes by gradients that did not make them.

    The positive pole of an axis is where the mean gradient points: moving there raises the target.
    Where the mean gradient has no part along an axis but rounding, skewness decides as in PCA.

    Examples
    --------
    >>> import numpy as np
    >>> generator = np.random.default_rng(0)
    >>> rows, slopes = generator.standard_normal((100, 8)), generator.standard_normal((20, 8))
    >>> ActiveSubspaceBasis(n_axes=3).fit(rows, gradients=slopes).transform(rows).shape
    (100, 3)
    """

    _arrays: ClassVar[tuple[str, ...]] = (*Basis._arrays, "gradient_share_", "utility_share_")
    _facts: ClassVar[tuple[str, ...]] = (
        *Basis._facts,
        "n_gradients_",
        "gradient_share_total_",
        "gradient_share_chance_",
    )

    n_gradients_: int
    gradient_share_: Array
    utility_share_: Array
    gradient_share_total_: float
    gradient_share_chance_: float

    def __init__(self, n_axes: int = 32, random_state: int = 0) -> None:
        self.n_axes = n_axes
        self.random_state = random_state

    def fit(
        self,
        X: npt.ArrayLike,
        y: None = None,
        gradients: npt.ArrayLike | None = None,
        source: dict[str, Any] | None = None,
    ) -> Self:
        """Find the axes of rows that gradients use.

        Parameters
        ----------
        X : array-like [n, d]
            Rows, 2 or more.
        y : None
            Not used.
        gradients : array-like [m, d]
            Gradients of the target with respect to a row, one an example, of any common unit:
            ``mn.gradients(model, corpus).matrix(layer)``. The examples need not be those of `X`.
        source : dict, optional
            What made the rows; kept as `source_` and saved with the basis.

        Returns
        -------
        ActiveSubspaceBasis
            Itself.

        Raises
        ------
        InputError
            `n_axes` below 1, fewer than 2 rows, NaN or inf, all rows equal; gradients missing, of
            another width, all zero, or only along directions in which no row varies.
        """
        asked = check_count("n_axes", self.n_axes)
        rows = checked_rows(self, X, fitting=True, least=2)
        slopes = _checked_gradients(gradients, rows.shape[1])
        mean = mean_of(rows)
        total = total_variance(rows, mean)
        if total == 0:
            raise InputError(f"all {len(rows)} rows are equal: a scale of 0 cannot be a unit")

        axes = _active(rows, mean, slopes, asked).axes
        rank = len(axes)
        if rank == 0:
            raise InputError(
                f"none of the {len(slopes)} gradients has a part along which the {len(rows)} "
                "rows vary; take rows and gradients of one layer and one model"
            )
        warn_if_clipped(
            asked, rank, f"{len(rows)} rows and {len(slopes)} gradients have {rank} in common"
        )
        axes = axes * _signs(rows, axes, slopes)[:, None]
        self._learn_shares(rows, mean, slopes, rank)
        scale = spreads(rows, mean, axes)
        return self._settle(mean, axes, scale, total, len(rows), rows.dtype, source)

    def _learn_shares(self, rows: Array, mean: Array, slopes: Array, rank: int) -> None:
        shares = _cross_fitted(rows, mean, slopes, rank, self.random_state)
        known = ~np.isnan(shares.gradient)
        self.n_gradients_ = len(slopes)
        self.gradient_share_, self.utility_share_ = shares
        self.gradient_share_total_ = (
            float(shares.gradient[known].sum()) if known.any() else float("nan")
        )
        self.gradient_share_chance_ = int(known.sum()) / slopes.shape[1]


def gradient_share(axes: npt.ArrayLike, gradients: npt.ArrayLike) -> Array:
    """Share of the mean squared gradient norm along each axis.

    ``sum_i <g_i, q>^2 / sum_i |g_i|^2``. As many random directions hold ``1 / d`` each. Of axes
    that were fitted on gradients, measure it on others.

    Parameters
    ----------
    axes : array-like [k, d]
        Orthonormal rows, the `components_` of any basis.
    gradients : array-like [m, d]
        One an example, of any common unit.

    Returns
    -------
    ndarray [k] float64
        In [0, 1]; the sum is the share that the axes' span holds.

    Raises
    ------
    InputError
        Not matrices of one width, NaN or inf, or all gradients zero.
    """
    directions = np.asarray(axes, dtype=np.float64)
    if directions.ndim != 2:
        raise InputError(f"axes must be a matrix [k, d], got the shape {directions.shape}")
    return _shares(directions, _checked_gradients(gradients, directions.shape[1]))


class _Active(NamedTuple):
    """What rows and gradients have in common, in order of falling eigenvalue."""

    axes: Array
    """[r, d] orthonormal, float64."""
    whitened: Array
    """[n, r] the eigenvectors `w` as seen by the rows, orthonormal: ``X S^-1/2 w / sqrt(n)``."""


def _active(rows: Array, mean: Array, slopes: Array, n_axes: int) -> _Active:
    """At most `n_axes` active directions, none where nothing is in common.

    ``P = X G'`` [n, m] holds how much each row, as a move away from the mean, would raise each
    example's target. As ``P' P = n G S G'``, its singular vectors are all that is needed: with
    ``P = U s V'`` the eigenvectors are ``w = S^-1/2 X' u / sqrt(n)``, thus ``q = X' u / sqrt(n)``.
    No matrix [d, d] appears, nor a square root of one.
    """
    n, d = rows.shape
    # Gradients enter by G'G = R'R alone, and R has the fewer rows.
    factor: Array = np.linalg.qr(slopes)[1] if len(slopes) > d else slopes
    effects = _products(rows, mean, factor)
    left, values, _ = np.linalg.svd(effects, full_matrices=False)

    # What rounding alone can bring about: that of the rows as given, then that of the SVD.
    lengths = np.sqrt(sum(np.square(rows[part], dtype=np.float64).sum() for part in _parts(rows)))
    rounding = float(np.finfo(rows.dtype).eps) * lengths * float(np.linalg.norm(factor, 2))
    rounding += float(np.finfo(np.float64).eps) * max(effects.shape) * float(values[0])
    rank = min(n_axes, int((values > rounding).sum()))
    if rank == 0:
        return _Active(np.empty((0, d)), np.empty((n, 0)))

    directions = np.zeros((rank, d))
    for part, block in zip(_parts(rows), _centred(rows, mean), strict=True):
        directions += left[part, :rank].T @ block
    kept = independent_rows(directions)
    return _Active(orthogonalize(directions[kept], "qr"), left[:, kept])


def _products(rows: Array, mean: Array, vectors: Array) -> Array:
    """Products of each row about the mean with each vector, [n, m] float64."""
    return np.concatenate([block @ vectors.T for block in _centred(rows, mean)])


def _centred(rows: Array, mean: Array) -> Iterator[Array]:
    """Rows about their mean in float64, a block at a time: they may lie in a mapped file."""
    return (rows[part].astype(np.float64) - mean for part in _parts(rows))


def _parts(rows: Array) -> Iterator[slice]:
    n, d = rows.shape
    return blocks(n, d, np.dtype(np.float64).itemsize)


class _Shares(NamedTuple):
    """Cross-fitted shares of each axis, [n_axes] float64."""

    gradient: Array
    utility: Array


def _cross_fitted(rows: Array, mean: Array, slopes: Array, n_axes: int, seed: int) -> _Shares:
    """Axes from one half of the gradients, their shares from the other, both ways, averaged."""
    gradient, utility = np.full((2, n_axes), np.nan), np.full((2, n_axes), np.nan)
    order = np.random.default_rng(seed).permutation(len(slopes))
    halves = np.sort(order[: len(slopes) // 2]), np.sort(order[len(slopes) // 2 :])
    for way, (fitted, held_out) in enumerate((halves, halves[::-1])):
        if not (slopes[fitted].any() and slopes[held_out].any()):  # empty, for a single gradient
            continue
        found = _active(rows, mean, slopes[fitted], n_axes)
        gradient[way, : len(found.axes)] = _shares(found.axes, slopes[held_out])
        # |X g|^2 / n = g' S g, and the whitened directions are orthonormal among such vectors.
        effects = _products(rows, mean, slopes[held_out])
        utility[way, : len(found.axes)] = _shares(found.whitened.T, effects.T)
    return _Shares(gradient.mean(axis=0), utility.mean(axis=0))


def _shares(axes: Array, vectors: Array) -> Array:
    """Share of the square length of `vectors` [m, d] along each orthonormal row of `axes`."""
    whole = np.square(vectors).sum()
    if whole == 0:
        return np.full(len(axes), np.nan)
    shares: Array = np.square(vectors @ axes.T).sum(axis=0) / whole
    return shares


def _signs(rows: Array, axes: Array, slopes: Array) -> Array:
    """1 or -1 for each axis, so that the mean gradient points to the positive pole."""
    along = axes @ slopes.mean(axis=0)
    # Gradients come in float32, whatever holds them here.
    rounding = float(np.finfo(np.float32).eps) * np.sqrt(np.square(slopes).sum(axis=1).mean())
    by_skewness = signs(axes, skewness(rows, axes))
    return np.where(np.abs(along) > rounding, np.sign(along), by_skewness)


def _checked_gradients(gradients: npt.ArrayLike | None, width: int) -> Array:
    """Gradients [m, d] as finite float64, divided by the largest entry: no square overflows."""
    if gradients is None:
        raise InputError(
            "gradients are missing: compute them with mn.gradients(model, corpus) and give "
            "its .matrix(layer)"
        )
    try:
        slopes = np.asarray(as_array(gradients), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"gradients must be a matrix of numbers [m, {width}]: {error}") from error
    if slopes.ndim != 2 or slopes.shape[1] != width or len(slopes) == 0:
        raise InputError(
            f"gradients must be [m, {width}], one or more, as wide as the rows; got the shape "
            f"{slopes.shape}: take them at the layer of the rows"
        )
    bad = np.flatnonzero(~np.isfinite(slopes).all(axis=1))
    if len(bad):
        raise InputError(
            f"gradients have NaN or inf in {len(bad)} of {len(slopes)} rows, first in row "
            f"{bad[0]}; leave these examples out"
        )
    largest = float(np.abs(slopes).max())
    if largest == 0:
        raise InputError(
            f"all {len(slopes)} gradients are zero: the target does not depend on this layer; "
            "take another layer or target"
        )
    return slopes / largest
