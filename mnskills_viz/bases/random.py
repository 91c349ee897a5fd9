"""A random orthonormal basis: what any axis has to beat."""

from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .basis import Array, Basis, check_count, checked_rows, warn_if_clipped
from .scatter import mean_of, spreads, total_variance


class RandomBasis(Basis):
    """Orthonormal directions drawn uniformly, blind to the rows: the control.

    Parameters
    ----------
    n_axes : int, default 32
        Axes to draw; above the largest rank that `n` centred rows of width `d` can have,
        ``min(d, n - 1)``, it is clipped with a warning, as a PCA of them would be.
    random_state : int, default 0
        Seed.

    Attributes
    ----------
    components_, mean_, scale_, explained_variance_ratio_, n_axes_, n_samples_, source_
        See `Basis`.

    Notes
    -----
    See `random_frame` for the distribution.
    """

    def __init__(self, n_axes: int = 32, random_state: int = 0) -> None:
        self.n_axes = n_axes
        self.random_state = random_state

    def fit(
        self,
        X: npt.ArrayLike,
        y: None = None,
        source: dict[str, Any] | None = None,
        within: Basis | None = None,
    ) -> Self:
        """Draw the axes; the rows give the mean and the scales.

        Parameters
        ----------
        X : array-like [n, d]
            Rows, 2 or more.
        y : None
            Not used.
        source : dict, optional
            What made the rows; kept as `source_` and saved with the basis.
        within : Basis, optional
            Draw in the span of its axes. As many as it has are its axes rotated at random among
            themselves: the control that tells an axis from the subspace that it lies in.

        Returns
        -------
        RandomBasis
            Itself.

        Raises
        ------
        InputError
            `n_axes` below 1, fewer than 2 rows, NaN or inf, all rows equal, or a basis of another
            width.
        """
        asked = check_count("n_axes", self.n_axes)
        rows = checked_rows(self, X, fitting=True, least=2)
        mean, (n, d) = mean_of(rows), rows.shape
        total = total_variance(rows, mean)
        if total == 0:
            raise InputError(f"all {n} rows are equal: a scale of 0 cannot be a unit")
        rank = min(asked, d, n - 1)
        warn_if_clipped(asked, rank, f"{n} centred rows of width {d} have no larger rank")
        generator = np.random.default_rng(self.random_state)
        if within is None:
            axes = random_frame(rank, d, generator)
        else:
            span = within.components_.astype(np.float64)
            if span.shape[1] != d:
                raise InputError(f"within has axes of width {span.shape[1]}, and rows have {d}")
            found = min(rank, len(span))
            warn_if_clipped(rank, found, f"the basis to draw within has {len(span)} axes")
            axes = random_frame(found, len(span), generator) @ span
        return self._settle(mean, axes, spreads(rows, mean, axes), total, n, rows.dtype, source)


def random_frame(k: int, d: int, generator: np.random.Generator) -> Array:
    """Orthonormal rows [k, d] float64, uniform over all such frames.

    QR of a Gaussian matrix with the diagonal of R made positive: Mezzadri, "How to generate random
    matrices from the classical compact groups", Notices of the AMS 54 (2007).
    """
    columns, triangle = np.linalg.qr(generator.standard_normal((d, k)))
    frame: Array = (columns * np.where(np.diag(triangle) < 0, -1.0, 1.0)).T
    return frame
