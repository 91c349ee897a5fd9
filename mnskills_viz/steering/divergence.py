"""How a model reads texts under two conditions: rows, likelihoods, next-token distributions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..activations.tokens import Tokens, counted
from ..activations.trace import padded, plan_batches, pool
from ..generation import Steering, steered
from ..models import longest_shared, torch_module

if TYPE_CHECKING:
    import torch
    from nnsight.modeling.transformers import TransformersModel

TOKEN_BUDGET = 1024  # logits of a batch are held twice: before, and after


class Span(NamedTuple):
    """A text, and the positions whose next-token distributions are compared."""

    ids: Sequence[int]
    start: int
    stop: int


def divergence(
    model: "TransformersModel",
    before: Sequence[Span],
    after: Sequence[Span],
    before_steering: Steering | None = None,
    after_steering: Steering | None = None,
) -> NDArray[np.float64]:
    """``KL(before || after)`` of next-token distributions, text by text.

    Parameters
    ----------
    model : TransformersModel
    before, after : sequence of Span
        The same number of texts, and of positions in each.
    before_steering, after_steering : SteeringVector, optional
        What the model is steered by while it reads the one and the other.

    Returns
    -------
    ndarray of float64, [n]
        Mean over each text's positions, nats per token. Distributions of a batch at a time are
        held.
    """
    found = np.empty(len(before))
    lengths = [max(len(b.ids), len(a.ids)) for b, a in zip(before, after, strict=True)]
    for batch in plan_batches(lengths, TOKEN_BUDGET, longest_shared(model)):
        first = _logits(model, [before[i].ids for i in batch], before_steering)
        second = _logits(model, [after[i].ids for i in batch], after_steering)
        for i, p_logits, q_logits in zip(batch, first, second, strict=True):
            log_p = p_logits[before[i].start : before[i].stop].float().log_softmax(dim=-1)
            log_q = q_logits[after[i].start : after[i].stop].float().log_softmax(dim=-1)
            kl = (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()
            found[i] = float(kl.clamp(min=0))  # rounding may leave it a hair below
    return found


def _logits(
    model: "TransformersModel", rows: Sequence[Sequence[int]], steering: Steering | None
) -> "torch.Tensor":
    """Logits [n, longest, n_vocabulary]; rows are padded on the right, where no token looks."""
    import torch

    module = torch_module(model)
    ids = torch.tensor(padded([np.asarray(row) for row in rows]), device=module.device)
    with steered(model, steering), torch.inference_mode():
        found: torch.Tensor = module(
            input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False
        ).logits
    return found


def pooled(
    model: "TransformersModel",
    rows: Sequence[Tokens],
    layers: Sequence[int],
    *,
    masks: Sequence[NDArray[np.bool_]] | None = None,
    logprob: bool = False,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean rows over the response's tokens, or over those of `masks`; sinks never count.

    Returns
    -------
    means : ndarray of float32, [n_layers, n, d_model]
    logprobs : ndarray of float32, [n]
        Nats per response token; NaN if not asked for.
    """
    which = [counted(row, "response") for row in rows] if masks is None else masks
    logprobs = np.full(len(rows), np.nan, dtype=np.float32)
    parts: list[NDArray[np.float32]] = []
    plan = plan_batches([len(row) for row in rows], TOKEN_BUDGET, longest_shared(model))
    for batch in plan:
        some = [rows[i] for i in batch], [which[i] for i in batch]
        found = pool(model, *some, layers, exclude_norms=True, logprob=logprob)
        parts.append(found.means)
        if found.logprobs is not None:
            logprobs[batch] = found.logprobs
    order = np.argsort([i for batch in plan for i in batch])
    return np.concatenate(parts, axis=1)[:, order], logprobs
