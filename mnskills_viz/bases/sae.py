"""A sparse autoencoder's strongest latents as an orthonormal basis."""

import warnings
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse
from sklearn.utils.validation import check_is_fitted

from ..errors import InputError
from .basis import Array, Basis, Tensors, check_count, checked_rows, warn_if_clipped
from .formats import write_dictionary
from .orthogonalize import check_method, orthogonalize, unit_rows
from .scatter import principal_axes, spreads
from .sparse_autoencoder import FEWEST_ROWS, SparseAutoencoder, held_out_rows, unexplained
from .sparse_training import Progress

__all__ = ["SAEBasis", "SparseAutoencoder"]

# A latent of which less than this length is left beside the chosen ones is a copy of them.
LEAST_LEFT = 1e-3


class SAEBasis(Basis):
    """Orthonormal axes from the latents of a sparse autoencoder.

    A dictionary is trained, latents are chosen one by one by the variance they explain per unit
    of what earlier ones leave of them, and the chosen are made orthonormal. The positive pole of
    an axis is where its latent is active; the negative pole is only its absence.

    Parameters
    ----------
    n_axes : int, default 32
        Latents to choose; above the rank of the rows, or the number of latents that are ever
        active, it is clipped with a warning.
    n_latents, k, variant, max_epochs, random_state
        Of the dictionary; see `SparseAutoencoder`.
    orthogonalize : {"lowdin", "qr"}, default "lowdin"
        "lowdin" keeps the axes closest to their latents in total, "qr" gives earlier choices
        their own direction and later ones the rest; see `orthogonalize`.

    Attributes
    ----------
    components_, mean_, scale_, explained_variance_ratio_, n_axes_, n_samples_, source_
        See `Basis`. Axes come in the order of choice.
    dictionary_ : SparseAutoencoder
        The trained dictionary.
    latents_ : ndarray [n_axes_] int64
        The latent behind each axis.
    source_cosine_ : ndarray [n_axes_]
        Cosine of each axis with its latent's direction, positive.
    dictionary_fvu_ : float
        Fraction of variance unexplained of the rows held out of training. They told training when
        to stop, which flatters it a little.
    pca_fvu_ : float
        The same of `k` principal axes of the training rows: as many active dimensions.
    dictionary_accepted_ : bool
        Whether the dictionary explains the held-out rows better than that PCA. Means over many
        tokens are dense, and it often does not: then its axes deserve no more trust than PCA's.
    """

    _arrays: ClassVar[tuple[str, ...]] = (*Basis._arrays, "latents_", "source_cosine_")
    _facts: ClassVar[tuple[str, ...]] = (
        *Basis._facts,
        "dictionary_fvu_",
        "pca_fvu_",
        "dictionary_accepted_",
    )

    def __init__(
        self,
        n_axes: int = 32,
        n_latents: int = 2304,
        k: int = 16,
        variant: str = "topk",
        orthogonalize: str = "lowdin",
        max_epochs: int = 50,
        random_state: int = 0,
    ) -> None:
        self.n_axes = n_axes
        self.n_latents = n_latents
        self.k = k
        self.variant = variant
        self.orthogonalize = orthogonalize
        self.max_epochs = max_epochs
        self.random_state = random_state

    def fit(
        self,
        X: npt.ArrayLike,
        y: None = None,
        source: dict[str, Any] | None = None,
        progress: bool | Progress = False,
        checkpoint: str | Path | None = None,
        dictionary: SparseAutoencoder | None = None,
    ) -> Self:
        """Train the dictionary and choose the axes.

        Parameters
        ----------
        X : array-like [n, d]
            Rows, 4 or more.
        y : None
            Not used.
        source : dict, optional
            What made the rows; kept as `source_` and saved with the basis.
        progress, checkpoint
            See `SparseAutoencoder.fit`.
        dictionary : SparseAutoencoder, optional
            A fitted or loaded one to choose the axes from, in place of training one; the
            parameters of the dictionary are not used then. Its FVU is told on a tenth of `X`,
            which flatters it if it was trained on these rows.

        Returns
        -------
        SAEBasis
            Itself.

        Raises
        ------
        InputError
            A parameter out of range, too few rows, NaN or inf, or all rows equal; a dictionary of
            another width.

        Warns
        -----
        UserWarning
            `n_axes` was clipped, or the dictionary was not accepted.
        """
        asked = check_count("n_axes", self.n_axes)
        check_method(self.orthogonalize)
        rows = checked_rows(self, X, fitting=True, least=FEWEST_ROWS)
        if dictionary is None:
            dictionary = self._untrained_dictionary().fit(rows, None, source, progress, checkpoint)
            held_out = dictionary.validation_rows_
        else:
            check_is_fitted(dictionary)
            held_out = held_out_rows(len(rows), self.random_state)
        if dictionary.n_features_in_ != rows.shape[1]:
            raise InputError(
                f"the dictionary is of width {dictionary.n_features_in_}, X of {rows.shape[1]}; "
                "give rows of the layer that it was trained on"
            )
        self.dictionary_ = dictionary
        codes = dictionary.encode(rows)
        self._compare_with_pca(rows, codes, held_out)

        spread = principal_axes(rows, min(rows.shape))
        active = np.flatnonzero(codes.sum(axis=0) > 0)
        chosen = strongest_directions(
            unit_rows(self.dictionary_.components_[active]),
            spread.axes * np.sqrt(spread.variances)[:, None],
            asked,
        )
        warn_if_clipped(
            asked,
            len(chosen),
            f"{len(active)} latents are ever active, and the rows' rank is {len(spread.axes)}",
        )
        self.latents_ = active[chosen]
        directions = unit_rows(self.dictionary_.components_[self.latents_])
        axes = orthogonalize(directions, self.orthogonalize)
        self.source_cosine_ = np.einsum("ij,ij->i", axes, directions).astype(rows.dtype)
        scale = spreads(rows, spread.mean, axes)
        total = spread.total_variance
        return self._settle(spread.mean, axes, scale, total, len(rows), rows.dtype, source)

    def _untrained_dictionary(self) -> SparseAutoencoder:
        return SparseAutoencoder(
            n_latents=self.n_latents,
            k=self.k,
            variant=self.variant,
            max_epochs=self.max_epochs,
            random_state=self.random_state,
        )

    def _compare_with_pca(
        self, rows: Array, codes: scipy.sparse.csr_array, held_out: npt.NDArray[np.int64]
    ) -> None:
        """Held-out FVU of the dictionary and of as many principal axes, from the same rows."""
        dictionary = self.dictionary_
        k = dictionary.k_ or max(1, round(codes.nnz / len(rows)))
        learned = np.setdiff1d(np.arange(len(rows)), held_out)
        pca = principal_axes(rows[learned], k)
        axes, mean = pca.axes.astype(rows.dtype), pca.mean.astype(rows.dtype)
        reconstruction = (rows[held_out] - mean) @ axes.T @ axes + mean
        self.dictionary_fvu_ = dictionary.fvu(rows[held_out])
        self.pca_fvu_ = unexplained(rows[held_out], reconstruction)
        self.dictionary_accepted_ = self.dictionary_fvu_ < self.pca_fvu_
        if not self.dictionary_accepted_:
            warnings.warn(
                f"the dictionary is not better than PCA: on held-out rows {k} latents leave "
                f"{self.dictionary_fvu_:.3f} of the variance, {k} principal axes leave "
                f"{self.pca_fvu_:.3f}; prefer PCABasis, or fit on more rows",
                UserWarning,
                stacklevel=3,
            )

    def _save_beside(self, folder: Path) -> None:
        write_dictionary(folder, self.dictionary_._parts(), self.dictionary_._about())

    def _restore(self, tensors: Tensors, diagnostics: dict[str, Any], folder: Path) -> None:
        super()._restore(tensors, diagnostics, folder)
        self.dictionary_ = SparseAutoencoder.load(folder)


def strongest_directions(directions: Array, spread: Array, n_axes: int) -> npt.NDArray[np.int64]:
    """Directions chosen one by one by variance explained per unit.

    With ``r`` what earlier choices leave of a direction and ``S`` the covariance, the next choice
    has the largest ``r' S r / r' r``.

    Parameters
    ----------
    directions : ndarray [m, d]
        Unit rows.
    spread : ndarray [s, d]
        A root of the covariance: ``spread' spread = S``.
    n_axes : int
        Most directions to choose; fewer when nothing varies along any that is left.

    Returns
    -------
    ndarray [<= n_axes] int64
        Indices in order of choice.

    Raises
    ------
    InputError
        There is no direction at all.
    """
    if len(directions) == 0:
        raise InputError("no latent is ever active: fit with more epochs or more rows")
    rows = directions.astype(np.float64)
    projections = spread @ rows.T  # [s, m]: its columns' squared lengths are r' S r
    squared_lengths = np.square(rows).sum(axis=1)
    rounding = np.finfo(np.float64).eps * float(np.square(spread).sum())
    found = np.empty((0, rows.shape[1]))
    chosen: list[int] = []
    while len(chosen) < min(n_axes, len(spread)):
        variances = np.einsum("ij,ij->j", projections, projections)
        usable = (squared_lengths > LEAST_LEFT**2) & (variances > rounding)
        if not usable.any():
            break
        per_unit = np.divide(variances, squared_lengths, out=np.zeros(len(rows)), where=usable)
        best = int(per_unit.argmax())
        left = rows[best] - (rows[best] @ found.T) @ found
        left -= (left @ found.T) @ found
        axis = left / np.linalg.norm(left)
        shares = rows @ axis
        projections -= np.outer(spread @ axis, shares)
        squared_lengths -= shares**2
        found = np.vstack([found, axis])
        chosen.append(best)
    return np.array(chosen, dtype=np.int64)
