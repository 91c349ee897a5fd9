"""A sparse autoencoder for a thousand to a million rows, as a scikit-learn transformer."""

from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ..errors import InputError
from .basis import Array, centred_on_mean, check_count, checked_rows
from .sparse_training import Metrics, Progress, Schedule, top_codes, train

VARIANTS = ("topk",)

VALIDATION_SHARE = 0.1
FEWEST_ROWS = 4  # two to learn from, two to hold out

# Rows encoded at a time: their preactivations take 40 MB at 2,304 latents.
BLOCK = 4096


class SparseAutoencoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A dictionary of directions, a few of which add up to each row.

    ``codes = top k of relu((x - mean) E + b)``, ``x ~ codes D + mean``, with unit rows in ``D``
    (TopK: Gao et al. 2024, "Scaling and evaluating sparse autoencoders").

    Parameters
    ----------
    n_latents : int, default 2304
        Directions in the dictionary; may exceed the number of rows.
    k : int, default 16
        Most latents active in a row.
    variant : {"topk"}, default "topk"
        Which latents are active: the `k` largest of each row.
    max_epochs : int, default 50
        Most passes over the training rows.
    patience : int, default 5
        Epochs without a better validation loss after which training stops.
    batch_size : int, default 256
        Rows a step.
    learning_rate : float, default 2e-3
        Of Adam, for rows scaled to a mean square length of 1 (the scale is folded back in).
    random_state : int, default 0
        Seed of split, start and order of rows: the same seed gives the same arrays.

    Attributes
    ----------
    components_ : ndarray [n_latents, d] float32
        Decoder: directions of unit length.
    encoder_ : ndarray [d, n_latents] float32
        Encoder, for rows in their own units.
    encoder_bias_ : ndarray [n_latents] float32
        Added to the encoder's products, in the units of the rows.
    mean_ : ndarray [d] float32
        Mean of all fitted rows: the decoder's bias.
    validation_rows_ : ndarray [v] int64
        Fitted rows that were held out of training and told it when to stop, one in ten.
    history_ : list of dict
        Per epoch `epoch`, `train_fvu`, `val_fvu`, `l0`, `dead_share`; see `sparse_training.train`.
    n_iter_ : int
        Epochs run. The weights are those of the best on the held-out rows.
    n_features_in_ : int
        Width `d` of the rows.
    """

    def __init__(
        self,
        n_latents: int = 2304,
        k: int = 16,
        variant: str = "topk",
        max_epochs: int = 50,
        patience: int = 5,
        batch_size: int = 256,
        learning_rate: float = 2e-3,
        random_state: int = 0,
    ) -> None:
        self.n_latents = n_latents
        self.k = k
        self.variant = variant
        self.max_epochs = max_epochs
        self.patience = patience
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.random_state = random_state

    def fit(self, X: npt.ArrayLike, y: None = None, progress: Progress | None = None) -> Self:
        """Train the dictionary.

        Parameters
        ----------
        X : array-like [n, d]
            Rows, 4 or more. Trained in float32, on the CPU.
        y : None
            Not used.
        progress : callable, optional
            Receives the epoch from 1, `max_epochs`, and the epoch's entry of `history_`.

        Returns
        -------
        SparseAutoencoder
            Itself.

        Raises
        ------
        InputError
            A parameter out of range, too few rows, NaN or inf, or all rows equal.
        """
        schedule = self._checked_schedule()
        rows = checked_rows(self, X, fitting=True, least=FEWEST_ROWS)
        mean, centred = centred_on_mean(rows)
        n = len(centred)
        scale = float(np.sqrt(np.einsum("ij,ij->", centred, centred, dtype=np.float64) / n))
        if scale == 0:
            raise InputError(f"all {n} rows are equal: there is nothing to learn")

        generator = torch.Generator(device="cpu").manual_seed(self.random_state)
        order = torch.randperm(n, generator=generator, device="cpu").numpy()
        held_out = np.sort(order[: max(2, round(VALIDATION_SHARE * n))])
        learned = np.setdiff1d(np.arange(n), held_out)
        scaled = torch.from_numpy((centred / scale).astype(np.float32))
        weights, history = train(
            scaled[torch.from_numpy(learned)],
            scaled[torch.from_numpy(held_out)],
            self.n_latents,
            self.k,
            schedule,
            generator,
            progress,
        )
        self.components_: Array = weights.decoder.numpy()
        self.encoder_: Array = np.ascontiguousarray(weights.encoder.numpy().T)
        self.encoder_bias_: Array = weights.bias.numpy() * np.float32(scale)
        self.mean_: Array = mean.astype(np.float32)
        self.validation_rows_: npt.NDArray[np.int64] = held_out.astype(np.int64)
        self.history_: list[Metrics] = history
        self.n_iter_ = len(history)
        return self

    def encode(self, X: npt.ArrayLike) -> scipy.sparse.csr_array:
        """Active latents of rows.

        Parameters
        ----------
        X : array-like [n, d]
            Rows; computed in their own floating type.

        Returns
        -------
        scipy.sparse.csr_array [n, n_latents]
            At most `k` positive numbers a row, in the units of `X`.

        Raises
        ------
        InputError
            `X` has another width than the fitted rows, or NaN or inf.
        """
        check_is_fitted(self)
        rows = checked_rows(self, X, fitting=False)
        encoder, bias, mean = (
            part.astype(rows.dtype, copy=False)
            for part in (self.encoder_, self.encoder_bias_, self.mean_)
        )
        values = np.empty((len(rows), self.k), dtype=rows.dtype)
        latents = np.empty((len(rows), self.k), dtype=np.int64)
        for start in range(0, len(rows), BLOCK):
            block = slice(start, start + BLOCK)
            preactivations = (rows[block] - mean) @ encoder + bias
            codes = top_codes(torch.from_numpy(preactivations), self.k)
            latents[block], values[block] = codes.latents.numpy(), codes.values.numpy()
        pointers = np.arange(0, values.size + 1, self.k)
        sparse = scipy.sparse.csr_array(
            (values.ravel(), latents.ravel(), pointers), shape=(len(rows), self.n_latents)
        )
        sparse.eliminate_zeros()
        sparse.sort_indices()
        return sparse

    def transform(self, X: npt.ArrayLike) -> scipy.sparse.csr_array:
        """Codes of rows, as `encode` gives them: what a scikit-learn pipeline asks for."""
        return self.encode(X)

    def decode(self, codes: Any) -> Array:
        """Rows that codes stand for.

        Parameters
        ----------
        codes : sparse or ndarray [n, n_latents]
            As `encode` gives them, or edited.

        Returns
        -------
        ndarray [n, d]
            In the codes' floating type.

        Raises
        ------
        InputError
            Codes of another width.
        """
        check_is_fitted(self)
        if not scipy.sparse.issparse(codes):
            codes = np.asarray(codes)
        if codes.ndim != 2 or codes.shape[1] != len(self.components_):
            raise InputError(f"codes must be [n, {len(self.components_)}], got {codes.shape}")
        dtype = codes.dtype if codes.dtype.kind == "f" else self.components_.dtype
        decoder, mean = self.components_.astype(dtype), self.mean_.astype(dtype)
        rows: Array = codes @ decoder + mean
        return rows

    def fvu(self, X: npt.ArrayLike) -> float:
        """Fraction of variance unexplained: ``|X - decode(encode(X))|^2 / |X - mean(X)|^2``.

        Parameters
        ----------
        X : array-like [n, d]
            Rows; the variance is about their own mean.

        Returns
        -------
        float
            0 for a perfect reconstruction, 1 for one no better than the mean; NaN where the rows
            do not vary.

        Raises
        ------
        InputError
            As `encode`.
        """
        return unexplained(checked_rows(self, X, fitting=False), self.decode(self.encode(X)))

    def _checked_schedule(self) -> Schedule:
        if self.variant not in VARIANTS:
            known = ", ".join(f'"{name}"' for name in VARIANTS)
            raise InputError(f"variant {self.variant!r} is not available; available: {known}")
        n_latents, k = check_count("n_latents", self.n_latents), check_count("k", self.k)
        if k > n_latents:
            raise InputError(f"k={k} latents cannot be active out of n_latents={n_latents}")
        if not self.learning_rate > 0:
            raise InputError(f"learning_rate must be above 0, got {self.learning_rate!r}")
        return Schedule(
            max_epochs=check_count("max_epochs", self.max_epochs),
            patience=check_count("patience", self.patience),
            batch_size=check_count("batch_size", self.batch_size),
            learning_rate=float(self.learning_rate),
        )

    @property
    def _n_features_out(self) -> int:
        return len(self.components_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def unexplained(rows: Array, reconstruction: Array) -> float:
    """``|rows - reconstruction|^2 / |rows - mean|^2``, summed in float64; NaN for equal rows."""
    error = np.square(rows - reconstruction).sum(dtype=np.float64)
    variance = np.square(rows - rows.mean(axis=0, dtype=np.float64)).sum(dtype=np.float64)
    return float(error / variance) if variance > 0 else float("nan")
