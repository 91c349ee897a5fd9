"""The trace: one forward pass a batch, pooled inside, every layer at once."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..models import blocks, d_model, exclusive, torch_module
from .tokens import Tokens

if TYPE_CHECKING:
    import torch
    from nnsight.modeling.transformers import TransformersModel

SINK_RATIO = 4.0


def plan_batches(
    lengths: Sequence[int], token_budget: int, longest_shared: int | None = None
) -> list[list[int]]:
    """Group rows of like length into batches, the longest first.

    Parameters
    ----------
    lengths : sequence of int
        Tokens in each row.
    token_budget : int
        Most tokens in a batch, padding included; a longer row is a batch of its own.
    longest_shared : int, optional
        Rows above this length are batches of their own; see `models.longest_shared`.

    Returns
    -------
    list of list of int
        Indices of rows; each index once. Depends on `lengths` and `token_budget` only.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    plan: list[list[int]] = []
    for index in order:
        # Sorted by length, so the first row of a batch is its longest.
        longest = lengths[plan[-1][0]] if plan else 0
        shared = longest_shared is None or longest <= longest_shared
        if plan and shared and (len(plan[-1]) + 1) * longest <= token_budget:
            plan[-1].append(index)
        else:
            plan.append([index])
    return plan


class Pooled(NamedTuple):
    """What one batch leaves.

    Attributes
    ----------
    means : ndarray of float32, [n_layers, n_rows, d_model]
    sinks : list of list of list of int
        Positions of counted tokens that were left out for their norm: a list a layer, of a list a
        row.
    logprobs : ndarray of float32, [n_rows], or None
        Nats per response token; NaN where there is none.
    """

    means: NDArray[np.float32]
    sinks: list[list[list[int]]]
    logprobs: NDArray[np.float32] | None


def pool(
    model: "TransformersModel",
    rows: Sequence[Tokens],
    masks: Sequence[NDArray[np.bool_]],
    layers: Sequence[int],
    *,
    exclude_norms: bool,
    logprob: bool,
    remote: bool = False,
) -> Pooled:
    """Mean activations of one batch, pooled inside the trace.

    Rows are padded on the right: in a causal model no token then sees the padding, and positions
    are those of the row alone.

    Parameters
    ----------
    model : TransformersModel
    rows, masks
        Token ids, and which of them count.
    layers : sequence of int
        In ascending order; the pass stops after the last.
    exclude_norms : bool
        Leave out tokens whose norm exceeds 4 times the median norm of their sequence, a layer at
        a time.
    logprob : bool
        Run to the head for the log-probability of the response.
    remote : bool
        Passed on to nnsight: run on NDIF.

    Raises
    ------
    InputError
        The blocks do not return the residual stream.
    """
    import nnsight
    import torch

    device = "cpu" if remote else torch_module(model).device
    ids, counts, real = side_by_side(rows, masks, device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    where = {"remote": True} if remote else {}
    envoys, width = blocks(model), d_model(model)
    with (
        exclusive(model),
        torch.inference_mode(),
        model.trace(inputs, use_cache=False, **where) as tracer,
    ):
        means = nnsight.save([])
        used = nnsight.save([])
        logprobs = nnsight.save([])
        for layer in layers:
            hidden = residual(envoys[layer].output, ids, width)
            mean, kept = _pool_layer(hidden.float(), counts, real, exclude_norms)
            means.append(mean)
            used.append(kept)
        if logprob:
            logprobs.append(response_logprob(model.output.logits, ids, rows))
        else:
            tracer.stop()
    return Pooled(
        means=_stacked(means, len(rows)).cpu().numpy(),
        sinks=_positions(torch.stack([counts & ~kept for kept in used])) if layers else [],
        logprobs=logprobs[0].cpu().numpy() if logprob else None,
    )


def _stacked(means: "Iterable[torch.Tensor]", n_rows: int) -> "torch.Tensor":
    import torch

    found = list(means)
    return torch.stack(found) if found else torch.empty(0, n_rows, 0)


def residual(output: Any, ids: "torch.Tensor", width: int) -> "torch.Tensor":
    """The residual stream [n_rows, n_tokens, d_model] in what a block returns."""
    hidden = output[0] if isinstance(output, tuple | list) else output
    shape = tuple(getattr(hidden, "shape", ()))
    if shape != (*ids.shape, width):
        raise InputError(
            f"the model's blocks return {shape or type(hidden).__name__}, not the residual stream "
            f"[{ids.shape[0]} rows, {ids.shape[1]} tokens, {width}]; name the list of decoder "
            'blocks with load_model(..., blocks="model.layers")'
        )
    found: torch.Tensor = hidden
    return found


def _positions(marked: "torch.Tensor") -> list[list[list[int]]]:
    """Positions marked in [n_layers, n_rows, n_tokens]: a list a layer, of a list a row."""
    n_layers, n_rows, _ = marked.shape
    found: list[list[list[int]]] = [[[] for _ in range(n_rows)] for _ in range(n_layers)]
    for layer, row, position in marked.nonzero().tolist():
        found[layer][row].append(position)
    return found


def is_out_of_memory(error: BaseException) -> bool:
    """Whether PyTorch could not allocate, on a GPU or on the CPU."""
    import torch

    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def side_by_side(
    rows: Sequence[Tokens], masks: Sequence[NDArray[np.bool_]], device: "torch.device | str"
) -> tuple["torch.Tensor", "torch.Tensor", "torch.Tensor"]:
    """Token ids, which tokens count, and which are not padding: each [n_rows, n_tokens]."""
    import torch

    ids = torch.tensor(padded([row.ids for row in rows]), dtype=torch.long, device=device)
    counts = torch.tensor(padded(masks), device=device)
    real = torch.tensor(padded([np.ones(len(row), bool) for row in rows]), device=device)
    return ids, counts, real


def padded(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Rows side by side, padded on the right with zeros."""
    out = np.zeros((len(arrays), max(map(len, arrays))), dtype=arrays[0].dtype)
    for row, array in zip(out, arrays, strict=True):
        row[: len(array)] = array
    return out


def counted_at(
    hidden: "torch.Tensor", counts: "torch.Tensor", real: "torch.Tensor", exclude_norms: bool
) -> "torch.Tensor":
    """Which tokens count at a layer [b, t]: where sinks are left out, those of no great norm."""
    import torch

    if not exclude_norms:
        return counts
    norms = torch.linalg.vector_norm(hidden, dim=-1)
    median = norms.masked_fill(~real, torch.nan).nanmedian(dim=1, keepdim=True).values
    below = counts & (norms <= SINK_RATIO * median)
    # A row all of whose counted tokens stand out keeps them: there is nothing else to read.
    return torch.where(below.any(dim=1, keepdim=True), below, counts)


def _pool_layer(
    hidden: "torch.Tensor", counts: "torch.Tensor", real: "torch.Tensor", exclude_norms: bool
) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Mean of the counted tokens [b, d] and which they were [b, t]; `hidden` is float32."""
    import torch

    kept = counted_at(hidden, counts, real, exclude_norms)
    weights = kept / kept.sum(dim=1, keepdim=True)
    # Where padding is not finite, zero times it would not be zero.
    return torch.einsum(
        "bt,btd->bd", weights.float(), hidden.masked_fill(~real[..., None], 0.0)
    ), kept


def response_logprob(
    logits: "torch.Tensor", ids: "torch.Tensor", rows: Sequence[Tokens]
) -> "torch.Tensor":
    """Mean log-probability of each row's response tokens.

    Parameters
    ----------
    logits : Tensor, [n_rows, n_tokens, n_vocabulary]
    ids : Tensor of int64, [n_rows, n_tokens]
    rows : sequence of Tokens

    Returns
    -------
    Tensor of float32, [n_rows]
        Nats per token; NaN for a row without response.
    """
    import torch

    means = []
    for index, row in enumerate(rows):
        # The logits at a token predict the next one.
        first, last = max(row.response_start, 1), row.response_end
        if last <= first:
            means.append(torch.full((), torch.nan, device=logits.device))
            continue
        scores = logits[index, first - 1 : last - 1].float().log_softmax(dim=-1)
        means.append(scores.gather(1, ids[index, first:last, None]).mean())
    return torch.stack(means)
