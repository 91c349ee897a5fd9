"""The training of a TopK sparse autoencoder: tensors in, weights out.

Rows come centred and scaled to a mean square length of 1, so that losses are shares of variance
and one learning rate suits all data. Of `m` latents only `k` are active in a row: all products
but the encoder's own run over the active ones alone.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own name for it

Metrics = dict[str, float]
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


class Weights(NamedTuple):
    """The autoencoder of scaled rows."""

    encoder: torch.Tensor
    """[m, d] one row a latent."""
    bias: torch.Tensor
    """[m] of the encoder."""
    decoder: torch.Tensor
    """[m, d] rows of unit length."""

    def copy(self) -> "Weights":
        """The same numbers, apart from later steps."""
        return Weights(*(tensor.detach().clone() for tensor in self))


class Codes(NamedTuple):
    """The active latents of rows."""

    latents: torch.Tensor
    """[n, k] int64."""
    values: torch.Tensor
    """[n, k], 0 or more."""


def train(
    rows: torch.Tensor,
    held_out: torch.Tensor,
    n_latents: int,
    k: int,
    schedule: Schedule,
    generator: torch.Generator,
    progress: Progress | None,
) -> tuple[Weights, list[Metrics]]:
    """Train on `rows` and keep the epoch that was best on `held_out`.

    Parameters
    ----------
    rows, held_out : Tensor [n, d], [v, d] float32
        Centred, mean square length 1.
    n_latents, k : int
        Latents, and how many may be active in a row.
    schedule : Schedule
        How long and how fast.
    generator : torch.Generator
        Where all chance comes from.
    progress : callable or None
        Receives the epoch from 1, `max_epochs` and the epoch's metrics.

    Returns
    -------
    Weights
        Those of the best epoch.
    list of dict
        Per epoch: `epoch`; `train_fvu`, over the epoch's steps, and `val_fvu`, at its end (shares
        of the rows' mean square); `l0`, active latents a held-out row; `dead_share`, in [0, 1].
    """
    with torch.enable_grad():  # whatever the caller has switched off
        return _train(rows, held_out, n_latents, k, schedule, generator, progress)


def top_codes(preactivations: torch.Tensor, k: int) -> Codes:
    """The `k` largest preactivations [n, m] of each row, those below 0 as 0."""
    largest = preactivations.topk(k, dim=1)
    return Codes(largest.indices, largest.values.relu())


def _train(
    rows: torch.Tensor,
    held_out: torch.Tensor,
    n_latents: int,
    k: int,
    schedule: Schedule,
    generator: torch.Generator,
    progress: Progress | None,
) -> tuple[Weights, list[Metrics]]:
    weights = _start(rows, n_latents, generator)
    optimizer = torch.optim.Adam(weights, lr=schedule.learning_rate, fused=True)
    steps = schedule.max_epochs * math.ceil(len(rows) / schedule.batch_size)
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min(1.0, 2 * (1 - s / steps)))
    silent_epochs = rows.new_zeros(n_latents, dtype=torch.int64)
    train_square = float(rows.square().sum())
    best, best_loss, epochs_since = weights.copy(), math.inf, 0
    history: list[Metrics] = []

    for epoch in range(1, schedule.max_epochs + 1):
        dead = (silent_epochs >= DEAD_AFTER).nonzero()[:, 0]
        fired = torch.zeros_like(silent_epochs, dtype=torch.bool)
        square_error = 0.0
        for batch in _batches(rows, schedule.batch_size, generator):
            codes, residual = _step(batch, weights, k, dead, optimizer)
            falling.step()
            fired[codes.latents[codes.values > 0]] = True
            square_error += float(residual.square().sum())
        silent_epochs = torch.where(fired, 0, silent_epochs + 1)

        val_fvu, l0 = _validate(held_out, weights, k)
        metrics = {
            "epoch": float(epoch),
            "train_fvu": square_error / train_square,
            "val_fvu": val_fvu,
            "l0": l0,
            "dead_share": float((silent_epochs >= DEAD_AFTER).float().mean()),
        }
        history.append(metrics)
        if progress is not None:
            progress(epoch, schedule.max_epochs, metrics)
        if val_fvu < best_loss * (1 - MIN_GAIN):
            best, best_loss, epochs_since = weights.copy(), val_fvu, 0
        else:
            epochs_since += 1
            if epochs_since == schedule.patience:
                break
    return best, history


def _start(rows: torch.Tensor, n_latents: int, generator: torch.Generator) -> Weights:
    """Encoder and decoder alike, at noisy rows: few latents start dead, even when rows are few."""
    picked = rows[torch.randint(len(rows), (n_latents,), generator=generator, device=rows.device)]
    noise = F.normalize(torch.randn(picked.shape, generator=generator, device=rows.device), dim=1)
    lengths = picked.norm(dim=1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
    decoder = F.normalize(picked / lengths + START_NOISE * noise, dim=1)
    bias = rows.new_zeros(n_latents)
    return Weights(*(part.requires_grad_() for part in (decoder.clone(), bias, decoder)))


def _batches(rows: torch.Tensor, size: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    order = torch.randperm(len(rows), generator=generator, device=rows.device)
    for start in range(0, len(rows), size):
        yield rows[order[start : start + size]]


def _step(
    batch: torch.Tensor,
    weights: Weights,
    k: int,
    dead: torch.Tensor,
    optimizer: torch.optim.Optimizer,
) -> tuple[Codes, torch.Tensor]:
    """One step of Adam; the batch's codes and residual [b, d] before it."""
    with torch.no_grad():
        preactivations = torch.addmm(weights.bias, batch, weights.encoder.T)
    codes = _differentiable_codes(batch, weights, preactivations, None, k)
    residual = batch - _decode(codes, weights.decoder)
    loss = residual.square().sum(dim=1).mean()
    if len(dead):
        # The dead latents learn to explain what the live ones leave, as a share of it.
        left = residual.detach()
        revived = _differentiable_codes(
            batch, weights, preactivations, dead, min(AUX_ACTIVE * k, len(dead))
        )
        error = (left - _decode(revived, weights.decoder)).square().sum()
        loss = loss + AUX_WEIGHT * error / left.square().sum().clamp_min(1e-12)
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    _keep_unit_length(weights.decoder, optimizer)
    return codes, residual.detach()


def _keep_unit_length(decoder: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Step with the decoder's gradient along the sphere, then back onto the sphere."""
    with torch.no_grad():
        if decoder.grad is not None:
            radial = (decoder.grad * decoder).sum(dim=1, keepdim=True)
            decoder.grad.addcmul_(radial, decoder, value=-1)
        optimizer.step()
        decoder.div_(decoder.norm(dim=1, keepdim=True))


def _validate(held_out: torch.Tensor, weights: Weights, k: int) -> tuple[float, float]:
    """FVU and active latents a row."""
    with torch.no_grad():
        codes = top_codes(torch.addmm(weights.bias, held_out, weights.encoder.T), k)
        error = (held_out - _decode(codes, weights.decoder)).square().sum()
        fvu = error / held_out.square().sum().clamp_min(1e-12)
        l0 = (codes.values > 0).sum() / len(held_out)
    return float(fvu), float(l0)


def _decode(codes: Codes, decoder: torch.Tensor) -> torch.Tensor:
    """Sum of the active decoder rows, [n, d]."""
    return F.embedding_bag(codes.latents, decoder, per_sample_weights=codes.values, mode="sum")


def _differentiable_codes(
    batch: torch.Tensor,
    weights: Weights,
    preactivations: torch.Tensor,
    among: torch.Tensor | None,
    k: int,
) -> Codes:
    """`top_codes` of all latents or `among` some, that pass gradients on to the encoder."""
    with torch.no_grad():
        if among is None:
            latents = preactivations.topk(k, dim=1).indices
        else:
            latents = among[preactivations[:, among].topk(k, dim=1).indices]
        chosen = preactivations.gather(1, latents)
    values = _ActiveValues.apply(  # type: ignore[no-untyped-call]
        batch, weights.encoder, weights.bias, latents, chosen
    )
    return Codes(latents, values)


class _ActiveValues(torch.autograd.Function):
    """`relu` of chosen preactivations, with the encoder's gradient from the chosen ones alone.

    The ordinary way back through the product would multiply a matrix [n, m] of which all but k
    numbers a row are zero: at 16 of 2,304 that is four fifths of the whole step.
    """

    @staticmethod
    def forward(
        ctx: Any,
        batch: torch.Tensor,
        encoder: torch.Tensor,
        bias: torch.Tensor,
        latents: torch.Tensor,
        chosen: torch.Tensor,
    ) -> torch.Tensor:
        values = chosen.relu()
        ctx.save_for_backward(batch, latents, values)
        ctx.n_latents = len(encoder)
        return values

    @staticmethod
    def backward(
        ctx: Any, *gradients: torch.Tensor
    ) -> tuple[None, torch.Tensor, torch.Tensor, None, None]:
        batch, latents, values = ctx.saved_tensors
        flowing = (gradients[0] * (values > 0)).reshape(-1)
        # For each latent the sum over its rows: a bag of rows a latent, sorted by latent.
        flat = latents.reshape(-1)
        order = flat.argsort(stable=True)
        counts = torch.bincount(flat, minlength=ctx.n_latents)
        encoder_gradient = F.embedding_bag(
            order // latents.shape[1],
            batch,
            offsets=counts.cumsum(0) - counts,
            per_sample_weights=flowing[order],
            mode="sum",
        )
        bias_gradient = batch.new_zeros(ctx.n_latents).index_add_(0, flat, flowing)
        return None, encoder_gradient, bias_gradient, None, None
