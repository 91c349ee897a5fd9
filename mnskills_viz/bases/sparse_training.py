"""The training of a sparse autoencoder: rows in, weights out.

Rows are centred and scaled to a mean square length of 1 on their way in, so that losses are
shares of variance and one learning rate suits all data. Gradients are written out: each is a
product over the active latents alone (`sparse_kernels`).
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own name for it

from ..devices import fast_dtype
from ..errors import InputError
from . import sparse_kernels as kernels
from .sparse_kernels import Codes
from .sparse_state import Checkpoint, Metrics, State, Weights

Progress = Callable[[int, int, Metrics], object]

# Weight of the dead latents' loss (Gao et al. 2024, "Scaling and evaluating sparse autoencoders").
AUX_WEIGHT = 1 / 32

# Dead latents asked to explain a row's residual, in units of k.
AUX_ACTIVE = 4

# An epoch shows every row: a latent silent through one whole epoch fires nowhere.
DEAD_AFTER = 1

# Length of the noise mixed into rows at the start, relative to the row: latents that start at the
# same row (there may be more latents than rows) have to part.
START_NOISE = 0.5

# An epoch counts as better when it takes this share off the best validation loss.
MIN_GAIN = 1e-3

# Shares of the dictionary that have to explain rows by themselves, in a Matryoshka dictionary.
NESTED_SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)

# Held-out rows that the threshold of a BatchTopK dictionary is found on after each epoch.
THRESHOLD_ROWS = 4096

# Training rows that the length of the encoder at the start is found on.
START_ROWS = 1024

# Rows encoded at a time: their scores take 40 MB at 2,304 latents.
BLOCK = 4096


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to train.

    Attributes
    ----------
    max_epochs : int
        Most passes over the training rows.
    patience : int
        Epochs without a better validation loss after which training stops.
    batch_size : int
        Rows a step.
    learning_rate : float
        Of Adam: constant for the first half of `max_epochs`, then falling to 0 in a line.
    """

    max_epochs: int
    patience: int
    batch_size: int
    learning_rate: float

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of one of `steps` steps, from 0."""
        return self.learning_rate * min(1.0, 2 * (1 - step / steps))


@dataclass(frozen=True, slots=True)
class Dictionary:
    """What is trained.

    Attributes
    ----------
    n_latents, k : int
        Latents, and how many are active in a row: at most, or on average over a batch.
    variant : {"topk", "batchtopk", "matryoshka"}
        See `SparseAutoencoder`.
    """

    n_latents: int
    k: int
    variant: str

    @property
    def ends(self) -> list[int]:
        """Where the nested parts of the dictionary end; one part unless it is Matryoshka."""
        if self.variant != "matryoshka":
            return [self.n_latents]
        return sorted({max(1, round(share * self.n_latents)) for share in NESTED_SHARES})


class Rows(NamedTuple):
    """Rows as they are stored, and how they are centred and scaled on the way in."""

    stored: torch.Tensor
    """[n, d], any floating type; may be mapped from a file."""
    mean: torch.Tensor
    """[d], of the type of the stored."""
    scale: float
    learned: torch.Tensor
    """[t] int64: rows to learn from."""
    held_out: torch.Tensor
    """[v] int64: rows that tell when to stop."""

    def at(self, indices: torch.Tensor) -> torch.Tensor:
        """Some rows centred and scaled, [len(indices), d] float32."""
        return ((self.stored[indices] - self.mean) / self.scale).float()

    def blocks(self, indices: torch.Tensor) -> Iterator[torch.Tensor]:
        """The same, `BLOCK` at a time."""
        return (self.at(part) for part in torch.split(indices, BLOCK))


def train(
    rows: Rows,
    dictionary: Dictionary,
    schedule: Schedule,
    generator: torch.Generator,
    progress: Progress | None,
    checkpoint: Checkpoint | None,
) -> State:
    """Train on ``rows.learned`` and remember the epoch that was best on ``rows.held_out``.

    Parameters
    ----------
    rows : Rows
    dictionary : Dictionary
    schedule : Schedule
    generator : torch.Generator
        Where all chance comes from; on the CPU, so that every device sees the same.
    progress : callable or None
        Receives the epoch from 1, `max_epochs` and the epoch's metrics.
    checkpoint : Checkpoint or None
        Where the state is kept now and then, and where to go on from.

    Returns
    -------
    State
        Its ``best`` and ``threshold`` are those of the best epoch. Its ``history`` has per epoch:
        ``epoch``; ``train_fvu``, over the epoch's steps, and ``val_fvu``, at its end (shares of
        the rows' mean square); ``l0``, active latents a held-out row; ``dead_share``, in [0, 1].
    """
    state = checkpoint.read(generator, rows.mean.device) if checkpoint else None
    if state is None:
        state = State.begin(_start(rows, dictionary, generator))
    weights = state.weights
    optimizer = state.optimizer(schedule.learning_rate)
    steps_an_epoch = math.ceil(len(rows.learned) / schedule.batch_size)
    train_square = sum(float(block.square().sum()) for block in rows.blocks(rows.learned))
    written = time.monotonic()

    while state.epochs_since < schedule.patience and len(state.history) < schedule.max_epochs:
        epoch = len(state.history)
        dead = (state.silent_epochs >= DEAD_AFTER).nonzero()[:, 0]
        fired = torch.zeros_like(state.silent_epochs, dtype=torch.bool)
        square_error = torch.zeros((), dtype=torch.float32, device=rows.mean.device)
        order = torch.randperm(len(rows.learned), generator=generator, device="cpu").to(
            rows.mean.device
        )
        for i, part in enumerate(torch.split(order, schedule.batch_size)):
            rate = schedule.rate(epoch * steps_an_epoch + i, schedule.max_epochs * steps_an_epoch)
            optimizer.param_groups[0]["lr"] = rate
            batch = rows.at(rows.learned[part])
            codes, residual = _set_gradients(batch, weights, dictionary, dead)
            _step_on_sphere(weights.decoder, optimizer)
            fired[codes.latents[codes.values > 0]] = True
            square_error += residual.square().sum()
        state.silent_epochs = torch.where(fired, 0, state.silent_epochs + 1)

        threshold = _threshold(rows, weights, dictionary)
        val_fvu, l0 = _validate(rows, weights, dictionary.k, threshold)
        if not math.isfinite(val_fvu):
            raise InputError(
                f"training came apart in epoch {epoch + 1} (FVU {val_fvu}); try a learning_rate "
                f"below {schedule.learning_rate:g}"
            )
        metrics = {
            "epoch": float(epoch + 1),
            "train_fvu": float(square_error) / train_square,
            "val_fvu": val_fvu,
            "l0": l0,
            "dead_share": float((state.silent_epochs >= DEAD_AFTER).float().mean()),
        }
        state.note(metrics, threshold, val_fvu < state.best_loss * (1 - MIN_GAIN))
        if checkpoint and time.monotonic() - written >= checkpoint.seconds:
            checkpoint.write(state, optimizer, generator)
            written = time.monotonic()
        if progress is not None:
            progress(epoch + 1, schedule.max_epochs, metrics)
    return state


def scores(rows: torch.Tensor, weights: Weights) -> torch.Tensor:
    """What each latent makes of each row before the few are chosen: [n, m] float32.

    Computed in bfloat16 where that is faster. It only has to tell which latents are largest: the
    values of the chosen are computed again in float32.
    """
    dtype = fast_dtype(rows.device)
    if dtype == torch.float32:
        return torch.addmm(weights.bias, rows, weights.encoder.T)
    found = torch.addmm(weights.bias.to(dtype), rows.to(dtype), weights.encoder.to(dtype).T)
    return found.float()


def active(found: torch.Tensor, dictionary: Dictionary) -> Codes:
    """The active latents of a batch by their `scores` [b, m]."""
    if dictionary.variant == "topk":
        return kernels.top_of_each_row(found, dictionary.k)
    return kernels.top_of_all_rows(found, dictionary.k * len(found))


def _start(rows: Rows, dictionary: Dictionary, generator: torch.Generator) -> Weights:
    """Encoder and decoder alike, at noisy rows: few latents start dead, even when rows are few.

    Directions of rows that resemble each other add up to far more than the row: the encoder is
    shorter, by the factor that reconstructs best.
    """
    n_latents = dictionary.n_latents
    picked = torch.randint(len(rows.learned), (n_latents,), generator=generator, device="cpu")
    shape = (n_latents, len(rows.mean))
    noise = torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")
    noise = noise.to(rows.mean.device)
    directions = rows.at(rows.learned[picked.to(rows.mean.device)])
    decoder = F.normalize(F.normalize(directions, dim=1) + START_NOISE * F.normalize(noise, dim=1))
    weights = Weights(decoder.clone(), decoder.new_zeros(n_latents), decoder)
    some = rows.at(rows.learned[:: math.ceil(len(rows.learned) / START_ROWS)])
    rebuilt = kernels.decode(
        _exact(active(scores(some, weights), dictionary), some, weights), decoder
    )
    factor = float((some * rebuilt).sum() / rebuilt.square().sum().clamp_min(1e-12))
    weights.encoder.mul_(factor)
    return weights


def _set_gradients(
    batch: torch.Tensor, weights: Weights, dictionary: Dictionary, dead: torch.Tensor
) -> tuple[Codes, torch.Tensor]:
    """Put the loss's gradients where Adam looks; the batch's codes and residual [b, d].

    The loss is the mean square length of what the dictionary leaves of a row (for a Matryoshka
    dictionary the mean over its nested parts), and for the dead latents the share that they leave
    of that.
    """
    found = scores(batch, weights)
    codes = _exact(active(found, dictionary), batch, weights)
    ends = torch.tensor(dictionary.ends, device=batch.device)
    grouped = kernels.by_group(codes, ends) if len(ends) > 1 else codes
    parts = kernels.decode(grouped, weights.decoder).view(len(ends), *batch.shape)
    residuals = batch - parts.cumsum(dim=0)  # after each nested part
    # A latent has a share in the residual of its own part and of all that hold it.
    pulls = residuals.flip(0).cumsum(dim=0).flip(0) / len(ends)
    gradients = _gradients(
        grouped, pulls.flatten(0, 1), batch.repeat(len(ends), 1), weights, -2 / len(batch)
    )
    residual = residuals[-1]
    if len(dead):
        among = kernels.top_of_each_row(found[:, dead], min(AUX_ACTIVE * dictionary.k, len(dead)))
        revived = _exact(among._replace(latents=dead[among.latents]), batch, weights)
        left = residual - kernels.decode(revived, weights.decoder)
        share = -2 * AUX_WEIGHT / float(residual.square().sum().clamp_min(1e-12))
        more = _gradients(revived, left, batch, weights, share)
        gradients = Weights(*(a + b for a, b in zip(gradients, more, strict=True)))
    for part, gradient in zip(weights, gradients, strict=True):
        part.grad = gradient
    return codes, residual


def _exact(codes: Codes, batch: torch.Tensor, weights: Weights) -> Codes:
    """The same latents with their values in float32, those below 0 as 0."""
    values = kernels.products(codes, batch, weights.encoder) + weights.bias[codes.latents]
    return codes.with_values(values.relu())


def _gradients(
    codes: Codes, residual: torch.Tensor, batch: torch.Tensor, weights: Weights, factor: float
) -> Weights:
    """Gradients of ``-factor / 2 * |batch - decode(codes)|^2``, with `residual` the difference."""
    n_latents = len(weights.bias)
    flowing = factor * kernels.products(codes, residual, weights.decoder) * (codes.values > 0)
    into = codes.with_values(flowing)
    bias = torch.zeros_like(weights.bias).index_add_(0, codes.latents, flowing)
    return Weights(
        kernels.sum_by_latent(into, batch, n_latents),
        bias,
        kernels.sum_by_latent(codes, residual, n_latents) * factor,
    )


def _step_on_sphere(decoder: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Step with the decoder's gradient along the sphere, then back onto the sphere."""
    gradient = decoder.grad
    assert gradient is not None  # noqa: S101 - set just before
    radial = (gradient * decoder).sum(dim=1, keepdim=True)
    gradient.addcmul_(radial, decoder, value=-1)
    optimizer.step()
    decoder.div_(decoder.norm(dim=1, keepdim=True))


def _threshold(rows: Rows, weights: Weights, dictionary: Dictionary) -> float | None:
    """Score above which `k` latents a held-out row are active on average; None for TopK.

    A row's codes must not depend on the rows that it is encoded with. Bussmann et al. (2024,
    "BatchTopK sparse autoencoders") average the smallest active score over training instead. Of
    a thousand rows learned by heart that is too low: 26 to 47 latents of unseen ones were active
    where 16 were asked for.
    """
    if dictionary.variant == "topk":
        return None
    sample = rows.held_out[:: math.ceil(len(rows.held_out) / THRESHOLD_ROWS)]
    count = dictionary.k * len(sample)
    largest = weights.bias.new_empty(0)
    for block in rows.blocks(sample):
        found = torch.addmm(weights.bias, block, weights.encoder.T).reshape(-1)
        candidates = torch.cat([largest, found])
        kept = min(count + 1, len(candidates))
        largest = kernels.top_of_all_rows(candidates[None], kept).values
    return max(0.0, float(largest.min()))


def _validate(rows: Rows, weights: Weights, k: int, threshold: float | None) -> tuple[float, float]:
    """FVU and active latents a row, of the rows held out."""
    error = square = n_active = 0.0
    for block in rows.blocks(rows.held_out):
        found = torch.addmm(weights.bias, block, weights.encoder.T)
        codes = (
            kernels.top_of_each_row(found, k)
            if threshold is None
            else kernels.above(found, found.new_tensor(threshold))
        )
        codes = codes.with_values(codes.values.relu())
        error += float((block - kernels.decode(codes, weights.decoder)).square().sum())
        square += float(block.square().sum())
        n_active += float((codes.values > 0).sum())
    return error / max(square, 1e-12), n_active / len(rows.held_out)
