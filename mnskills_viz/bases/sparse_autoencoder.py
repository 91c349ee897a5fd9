"""A sparse autoencoder for a thousand to a million rows, as a scikit-learn transformer."""

import contextlib
import hashlib
import math
import warnings
from collections.abc import Iterator
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from tqdm.auto import tqdm

from ..devices import torch_device
from ..errors import InputError
from ..progress import tell
from . import sparse_kernels as kernels
from .basis import Array, check_count, checked_rows, plain
from .formats import Autoencoder, read_sae_lens, write_sae_lens
from .scatter import blocks, mean_of, total_variance
from .sparse_state import Checkpoint, Metrics
from .sparse_training import BLOCK, Dictionary, Progress, Rows, Schedule, train

VARIANTS = ("topk", "batchtopk", "matryoshka")

VALIDATION_SHARE = 0.1
FEWEST_ROWS = 4  # two to learn from, two to hold out

# Share of the rows' spread that rounding of their mean to float32 may take.
LARGEST_OFFSET = 0.01


class SparseAutoencoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A dictionary of directions, a few of which add up to each row.

    ``codes = active part of relu((x - mean) E + b)``, ``x ~ codes D + mean``, with unit rows in
    ``D``.

    Parameters
    ----------
    n_latents : int, default 2304
        Directions in the dictionary; may exceed the number of rows.
    k : int, default 16
        Latents active in a row.
    variant : {"topk", "batchtopk", "matryoshka"}, default "topk"
        Which latents are active. "topk": the `k` largest of each row (Gao et al. 2024, "Scaling
        and evaluating sparse autoencoders"). "batchtopk": the largest of a batch, `k` a row on
        average, so that a row may have more or fewer (Bussmann et al. 2024, "BatchTopK sparse
        autoencoders"); once trained, those above a threshold. "matryoshka": BatchTopK whose first
        sixteenth, eighth, quarter and half have to explain the rows by themselves, so that
        general latents come first and are not split up (Bussmann et al. 2025, "Learning
        multi-level features with Matryoshka sparse autoencoders"). A loaded one may also be
        "jumprelu", which is not trained here.
    max_epochs : int, default 50
        Most passes over the training rows.
    patience : int, default 5
        Epochs without a better validation loss after which training stops.
    batch_size : int, default 256
        Rows a step.
    learning_rate : float, default 1e-3
        Of Adam, for rows scaled to a mean square length of 1 (the scale is folded back in).
    device : str, default "auto"
        Where to train: a GPU if there is one, or the name of a torch device.
    random_state : int, default 0
        Seed of split, start and order of rows: the same seed gives the same arrays, on a GPU up
        to rounding, for there sums have no fixed order.

    Attributes
    ----------
    components_ : ndarray [n_latents, d] float32
        Decoder: directions of unit length (a loaded one may have others).
    encoder_ : ndarray [d, n_latents] float32
        Encoder, for rows in their own units.
    encoder_bias_ : ndarray [n_latents] float32
        Added to the encoder's products, in the units of the rows.
    mean_ : ndarray [d] float32
        Mean of all fitted rows: the decoder's bias.
    k_ : int or None
        The `k` that it was fitted with; None of a "jumprelu" one that was made elsewhere.
    threshold_ : ndarray [n_latents] float32 or None
        What a latent has to exceed to be active, in the units of the rows; None for "topk".
    validation_rows_ : ndarray [v] int64
        Fitted rows that were held out of training and told it when to stop, one in ten; none of a
        dictionary that was made elsewhere.
    history_ : list of dict
        Per epoch `epoch`, `train_fvu`, `val_fvu`, `l0`, `dead_share`; see `sparse_training.train`.
    n_iter_ : int
        Epochs run. The weights are those of the best on the held-out rows.
    n_features_in_ : int
        Width `d` of the rows.
    source_ : dict or None
        What made the rows, as given to `fit`.
    """

    def __init__(
        self,
        n_latents: int = 2304,
        k: int | None = 16,
        variant: str = "topk",
        max_epochs: int = 50,
        patience: int = 5,
        batch_size: int = 256,
        learning_rate: float = 1e-3,
        device: str = "auto",
        random_state: int = 0,
    ) -> None:
        self.n_latents = n_latents
        self.k = k
        self.variant = variant
        self.max_epochs = max_epochs
        self.patience = patience
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.device = device
        self.random_state = random_state

    def fit(
        self,
        X: npt.ArrayLike,
        y: None = None,
        source: dict[str, Any] | None = None,
        progress: bool | Progress = False,
        checkpoint: str | Path | None = None,
    ) -> Self:
        """Train the dictionary.

        Parameters
        ----------
        X : array-like [n, d]
            Rows, 4 or more; may be a file mapped to memory. Trained in float32; which latents
            are active is told in bfloat16 where that is faster.
        y : None
            Not used.
        source : dict, optional
            What made the rows; kept as `source_` and saved with the dictionary.
        progress : bool or callable, default False
            True shows a bar with FVU, L0 and the share of dead latents. A callable receives the
            epoch from 1, `max_epochs`, and the epoch's entry of `history_`.
        checkpoint : path, optional
            A file to leave between epochs, every 15 seconds at most, and to go on from: a
            training that was killed ends with the same arrays. Removed in the end.

        Returns
        -------
        SparseAutoencoder
            Itself.

        Raises
        ------
        InputError
            A parameter out of range, too few rows, NaN or inf, or all rows equal; a checkpoint of
            another training.
        """
        dictionary, schedule = self._checked_dictionary(), self._checked_schedule()
        device = torch_device(self.device)
        rows = checked_rows(self, X, fitting=True, least=FEWEST_ROWS)
        mean, n = mean_of(rows), len(rows)
        scale = math.sqrt(total_variance(rows, mean))
        if scale == 0:
            raise InputError(f"all {n} rows are equal: there is nothing to learn")
        if np.abs(mean).max() * np.finfo(np.float32).eps > LARGEST_OFFSET * scale:
            raise InputError(
                f"the rows lie {np.abs(mean).max() / scale:.0e} times their spread from 0, too far "
                "for float32; subtract their mean first"
            )

        generator = torch.Generator(device="cpu").manual_seed(int(self.random_state))
        held_out, learned = _split(n, generator)
        wanted = Rows(
            _as_tensor(rows).to(device),
            torch.from_numpy(mean.astype(rows.dtype)).to(device),
            scale,
            torch.from_numpy(learned).to(device),
            torch.from_numpy(held_out).to(device),
        )
        kept = None
        if checkpoint is not None:
            made_by = plain(self.get_params(), "a parameter") | {"rows": _told_by(rows)}
            kept = Checkpoint(Path(checkpoint), made_by)
        with torch.inference_mode(False), torch.no_grad(), _shown(progress) as show:
            state = train(wanted, dictionary, schedule, generator, show, kept)
        self.components_: Array = state.best.decoder.cpu().numpy()
        self.encoder_: Array = np.ascontiguousarray(state.best.encoder.cpu().numpy().T)
        self.encoder_bias_: Array = state.best.bias.cpu().numpy() * np.float32(scale)
        self.mean_: Array = mean.astype(np.float32)
        self.k_: int | None = self.k
        self.threshold_: Array | None = None
        if state.threshold is not None:
            self.threshold_ = np.full(self.n_latents, state.threshold * scale, dtype=np.float32)
        self.validation_rows_: npt.NDArray[np.int64] = held_out
        self.history_: list[Metrics] = state.history
        self.n_iter_ = len(state.history)
        self.source_ = source
        if kept is not None:
            kept.path.unlink(missing_ok=True)
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
            Positive numbers in the units of `X`: at most `k` a row for "topk", those above
            `threshold_` otherwise.

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
        found = []
        for start in range(0, len(rows), BLOCK):
            tell(start, len(rows))
            scores = torch.from_numpy((rows[start : start + BLOCK] - mean) @ encoder + bias)
            if self.threshold_ is None:
                codes = kernels.top_of_each_row(scores, self.k_ or self.n_latents)
            else:
                codes = kernels.above(scores, torch.from_numpy(self.threshold_).to(scores.dtype))
            parts = (codes.values.relu(), codes.latents, codes.offsets)
            found.append(
                scipy.sparse.csr_array(tuple(part.numpy() for part in parts), shape=scores.shape)
            )
        sparse = scipy.sparse.vstack(found, format="csr")
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

    def save(self, folder: str | Path, format: Literal["sae_lens"] = "sae_lens") -> None:  # noqa: A002 - the public surface calls it so
        """Write the dictionary as SAELens does: ``cfg.json`` and ``sae_weights.safetensors``.

        ``SAE.load_from_disk`` of SAELens reads it, and encodes rows the same; `load` gives back
        all of it. "batchtopk" and "matryoshka" become SAELens's "jumprelu".

        Parameters
        ----------
        folder : str or Path
            One there is replaced.
        format : {"sae_lens"}

        Raises
        ------
        InputError
            Unknown format, or the folder cannot be written.
        """
        check_is_fitted(self)
        if format != "sae_lens":
            raise InputError(f'format must be "sae_lens", not {format!r}')
        write_sae_lens(Path(folder), self._parts(), self._about())

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a dictionary that `save` or SAELens wrote.

        Parameters
        ----------
        folder : str or Path
            With ``cfg.json`` and ``sae_weights.safetensors``, of the architecture "topk",
            "jumprelu" or "standard".

        Raises
        ------
        InputError
            A file is missing or damaged, or the architecture is another.
        """
        parts, about = read_sae_lens(Path(folder))
        n_latents = len(parts.decoder)
        variant = "topk" if parts.threshold is None else "jumprelu"
        made_elsewhere = {"n_latents": n_latents, "k": parts.k, "variant": variant}
        try:
            loaded = cls(**about.get("params", made_elsewhere))
            loaded.history_ = about.get("history", [])
            loaded.source_ = about.get("source")
            held_out = about.get("validation_rows", [])
            loaded.validation_rows_ = np.array(held_out, dtype=np.int64)
        except (TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{folder}: cfg.json is damaged ({error})") from error
        loaded.components_, loaded.encoder_ = parts.decoder, parts.encoder
        loaded.encoder_bias_, loaded.mean_ = parts.encoder_bias, parts.mean
        loaded.threshold_ = parts.threshold
        loaded.k_ = parts.k if parts.threshold is None else loaded.k
        loaded.n_iter_ = len(loaded.history_)
        loaded.n_features_in_ = len(parts.mean)
        return loaded

    def _parts(self) -> Autoencoder:
        return Autoencoder(
            self.encoder_,
            self.encoder_bias_,
            self.components_,
            self.mean_,
            self.threshold_,
            self.k_ if self.threshold_ is None else None,
        )

    def _about(self) -> dict[str, Any]:
        """What `load` needs beside the weights, in JSON's types."""
        return {
            "params": self.get_params(),
            "history": self.history_,
            "validation_rows": self.validation_rows_.tolist(),
            "source": self.source_,
        }

    def _checked_dictionary(self) -> Dictionary:
        if self.variant not in VARIANTS:
            known = ", ".join(f'"{name}"' for name in VARIANTS)
            raise InputError(f"variant {self.variant!r} cannot be trained; available: {known}")
        n_latents, k = check_count("n_latents", self.n_latents), check_count("k", self.k)
        if k > n_latents:
            raise InputError(f"k={k} latents cannot be active out of n_latents={n_latents}")
        seed: Any = self.random_state
        if not isinstance(seed, Integral) or seed < 0:
            raise InputError(f"random_state must be an integer of 0 or more, got {seed!r}")
        return Dictionary(n_latents, k, self.variant)

    def _checked_schedule(self) -> Schedule:
        rate: Any = self.learning_rate
        if not isinstance(rate, Real) or not 0 < float(rate) < np.inf:
            raise InputError(f"learning_rate must be a number above 0, got {rate!r}")
        return Schedule(
            max_epochs=check_count("max_epochs", self.max_epochs),
            patience=check_count("patience", self.patience),
            batch_size=check_count("batch_size", self.batch_size),
            learning_rate=float(rate),
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
    error = np.square(rows - reconstruction, dtype=np.float64).sum() / len(rows)
    variance = total_variance(rows, mean_of(rows))
    return float(error / variance) if variance > 0 else float("nan")


def held_out_rows(n: int, random_state: int) -> npt.NDArray[np.int64]:
    """Which of `n` rows a training with that seed holds out, in order."""
    return _split(n, torch.Generator(device="cpu").manual_seed(int(random_state)))[0]


def _split(
    n: int, generator: torch.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows to hold out and rows to learn from, both in order."""
    order = torch.randperm(n, generator=generator, device="cpu").numpy()
    n_held_out = max(2, round(VALIDATION_SHARE * n))
    return np.sort(order[:n_held_out]), np.sort(order[n_held_out:])


def _as_tensor(rows: Array) -> torch.Tensor:
    """`rows`, as a rule without a copy; they may be read-only, and nothing writes to them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.ascontiguousarray(rows))


def _told_by(rows: Array) -> str:
    """Digest by which rows are known again."""
    digest = hashlib.blake2b(f"{rows.shape} {rows.dtype.str}".encode(), digest_size=8)
    for part in blocks(len(rows), rows.shape[1], rows.itemsize):
        digest.update(np.ascontiguousarray(rows[part]).data)
    return digest.hexdigest()


@contextlib.contextmanager
def _shown(progress: bool | Progress) -> Iterator[Progress | None]:
    """The progress that was asked for as a callable, or None."""
    if not isinstance(progress, bool):
        yield progress
        return
    if not progress:
        yield None
        return
    with tqdm(desc="sparse autoencoder", unit="epoch") as bar:

        def move(epoch: int, max_epochs: int, metrics: Metrics) -> None:
            bar.total = max_epochs
            shares = f"{metrics['val_fvu']:.3f}", f"{metrics['dead_share']:.1%}"
            bar.set_postfix(FVU=shares[0], L0=f"{metrics['l0']:.1f}", dead=shares[1])
            bar.update(epoch - bar.n)

        yield move
        bar.total = bar.n  # stopped early is not broken off, as a bar that is not full would say
