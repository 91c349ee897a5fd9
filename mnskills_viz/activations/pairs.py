"""Two texts that begin alike, read as one row: what they share is read once.

The second text's tail stands behind the first one's, at the positions that it would have alone,
and a mask hides the first tail from it. Of a contrast the response tokens that both texts share
cancel, so the head is needed at the tails only.
"""

import contextlib
import math
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..models import context_length, exclusive, longest_shared, torch_module
from .targets import Targets
from .tokens import Tokens
from .trace import is_out_of_memory, padded, plan_batches

if TYPE_CHECKING:
    import torch
    from nnsight.modeling.transformers import TransformersModel

# Where a configuration says that attention reaches back only so far.
WINDOWS = ("sliding_window", "attention_chunk_size", "attention_window_size", "window_size")

# Of a large vocabulary, so many logits in float32 still lie in the processor's cache.
TOKENS_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class PairRow:
    """One row that the model reads: a text, or two with what they share.

    Attributes
    ----------
    example : int
        Which target it belongs to.
    ids, positions : ndarray of int64, [n_tokens]
        Positions are those of the texts alone.
    shared, second : int
        Where the first text's own tail begins, and where the second's does; ``n_tokens`` if
        there is no second.
    is_prompt : ndarray of bool, [n_tokens]
        Tokens before their text's response.
    at, scored : ndarray of int64, [n_scored]
        Places whose logits are read, and the tokens that follow them in the texts.
    weights : ndarray of float32, [n_scored]
        What the log-probability of each counts: the target is their weighted sum.
    """

    example: int
    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    shared: int
    second: int
    is_prompt: NDArray[np.bool_]
    at: NDArray[np.int64]
    scored: NDArray[np.int64]
    weights: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def is_pair(self) -> bool:
        """Whether there are two texts in it."""
        return self.second < len(self.ids)


def pair_rows(model: "TransformersModel", found: Targets) -> list[PairRow]:
    """Rows whose weighted log-probabilities sum up to the targets.

    A pair is one row where the model takes that (`reads_pairs`) and the row is not longer than
    its attention reaches; else its texts are rows of their own.
    """
    if not found.wrong:
        return [_alone(i, right, right, 1.0, 0) for i, right in enumerate(found.right)]
    longest = _longest_pair(model) if reads_pairs(model) else 0
    rows = []
    for i, (right, wrong) in enumerate(zip(found.right, found.wrong, strict=True)):
        shared = n_shared(right, wrong)
        if len(right) + len(wrong) - shared <= longest:
            rows.append(_together(i, right, wrong, shared))
        else:
            rows += [
                _alone(i, right, right, 1.0, shared),
                _alone(i, wrong, right, -1.0, shared),
            ]
    return rows


def plan_rows(
    model: "TransformersModel", rows: Sequence[PairRow], token_budget: int
) -> list[list[int]]:
    """Batches of indices of rows, those of one text apart from those of two.

    A text alone is read under the model's own mask: it may be longer than attention reaches.
    """
    plan = []
    for is_pair in (True, False):
        chosen = [i for i, row in enumerate(rows) if row.is_pair == is_pair]
        lengths = [len(rows[i]) for i in chosen]
        batches = plan_batches(lengths, token_budget, longest_shared(model))
        plan += [[chosen[i] for i in batch] for batch in batches]
    return plan


def n_shared(first: Tokens, second: Tokens) -> int:
    """How many tokens two texts have in common before they part."""
    n = min(len(first), len(second))
    differ = np.flatnonzero(first.ids[:n] != second.ids[:n])
    return int(differ[0]) if len(differ) else n


def _alone(example: int, text: Tokens, right: Tokens, sign: float, shared: int) -> PairRow:
    """A text as a row of its own; of its response the tokens from `shared` on count."""
    scored = _scored(text, shared)
    return PairRow(
        example=example,
        ids=text.ids.astype(np.int64),
        positions=np.arange(len(text)),
        shared=len(text),
        second=len(text),
        is_prompt=np.arange(len(text)) < text.response_start,
        at=scored - 1,
        scored=text.ids[scored].astype(np.int64),
        weights=_weights(scored, sign, right),
    )


def _together(example: int, right: Tokens, wrong: Tokens, shared: int) -> PairRow:
    places = [_scored(right, shared), _scored(wrong, shared)]
    second = len(right)
    # The first token of a tail follows the last that is shared, whichever tail it is.
    behind = places[1] - 1 + np.where(places[1] > shared, second - shared, 0)
    rows = [(right, 0), (wrong, shared)]
    return PairRow(
        example=example,
        ids=np.concatenate([text.ids[start:] for text, start in rows]).astype(np.int64),
        positions=np.concatenate([np.arange(start, len(text)) for text, start in rows]),
        shared=shared,
        second=second,
        is_prompt=np.concatenate(
            [np.arange(start, len(text)) < text.response_start for text, start in rows]
        ),
        at=np.concatenate([places[0] - 1, behind]),
        scored=np.concatenate([right.ids[places[0]], wrong.ids[places[1]]]).astype(np.int64),
        weights=np.concatenate([_weights(places[0], 1.0, right), _weights(places[1], -1.0, right)]),
    )


def _scored(text: Tokens, shared: int) -> NDArray[np.int64]:
    """Places of the response's tokens that no other text shares; the first has no prediction."""
    return np.arange(max(text.response_start, shared, 1), text.response_end)


def _weights(places: NDArray[np.int64], sign: float, right: Tokens) -> NDArray[np.float32]:
    """Sums are compared, then divided by the reference's length: an answer may be longer."""
    n_response = right.response_end - max(right.response_start, 1)
    return np.full(len(places), sign / n_response, dtype=np.float32)


# ------------------------------------------------------------------------------------ reading


def values_of(model: "TransformersModel", rows: Sequence[PairRow]) -> "torch.Tensor":
    """What rows add to their targets, from one forward pass [n_rows] float32.

    Whoever calls holds the model (`models.exclusive`) and decides on gradients.
    """
    import torch

    found = logprobs(model, rows)
    weights = torch.from_numpy(np.concatenate([row.weights for row in rows])).to(found.device)
    parts = torch.split(found * weights, [len(row.weights) for row in rows])
    return torch.stack([part.sum() for part in parts])


def logprobs(
    model: "TransformersModel", rows: Sequence[PairRow], beginning: "Beginning | None" = None
) -> "torch.Tensor":
    """Log-probabilities of all scored tokens, row after row [n_scored] float32.

    With a `beginning` the rows are read from there on.
    """
    import torch

    module = torch_module(model)
    start = beginning.n_tokens if beginning is not None else 0
    given = inputs(model, rows, start)
    wanted = _Wanted(
        torch.from_numpy(_row_of(rows)).to(module.device),
        torch.from_numpy(np.concatenate([row.at for row in rows]) - start).to(module.device),
        tuple(given["input_ids"].shape),
    )
    memory: dict[str, Any] = {"use_cache": False}
    if beginning is not None:
        memory = {"use_cache": True, "past_key_values": beginning.cache}
    with wanted.alone_reach(module.get_output_embeddings()):
        logits = module(**given, **memory).logits
    scored = torch.from_numpy(np.concatenate([row.scored for row in rows])).to(logits.device)
    parts = torch.split(wanted.of(logits), TOKENS_AT_ONCE), torch.split(scored, TOKENS_AT_ONCE)
    return torch.cat([_picked(some.float(), tokens) for some, tokens in zip(*parts, strict=True)])


def _picked(logits: "torch.Tensor", tokens: "torch.Tensor") -> "torch.Tensor":
    """Log-probabilities of tokens [n] under logits [n, vocabulary]."""
    return logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(dim=-1)


def _row_of(rows: Sequence[PairRow]) -> NDArray[np.int64]:
    """Which row each scored token is of."""
    return np.repeat(np.arange(len(rows)), [len(row.at) for row in rows])


def inputs(
    model: "TransformersModel", rows: Sequence[PairRow], start: int = 0
) -> dict[str, "torch.Tensor"]:
    """What the model is given from `start` on, padded on the right, where no token sees it."""
    import torch

    module = torch_module(model)
    ids = torch.from_numpy(padded([row.ids for row in rows])).to(module.device)
    if not start and not any(row.is_pair for row in rows):
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    places = torch.arange(ids.shape[1], device=module.device)
    hidden = (places[:, None] < places)[None].repeat(len(rows), 1, 1)
    for row, mask in zip(rows, hidden, strict=True):
        mask[row.second :, row.shared : row.second] = True
    additive = torch.zeros(hidden.shape, dtype=module.dtype, device=module.device)
    additive.masked_fill_(hidden, torch.finfo(module.dtype).min)
    positions = torch.from_numpy(padded([row.positions for row in rows])).to(module.device)
    return {
        "input_ids": ids[:, start:],
        "attention_mask": additive[:, None, start:],
        "position_ids": positions[:, start:],
    }


class Beginning:
    """Tokens that all rows of a batch begin with, such as a system prompt: read once for all.

    Only where no gradient is wanted: that of these tokens would be a sum over the rows.

    Attributes
    ----------
    n_tokens : int
    cache : transformers.DynamicCache
        Their keys and values, once they are read; those of bypassed blocks are missing.
    """

    def __init__(self, rows: Sequence[PairRow], n_tokens: int) -> None:
        from transformers import DynamicCache

        self.n_tokens = n_tokens
        self.cache = DynamicCache()
        self._ids = rows[0].ids[:n_tokens]
        self._n_rows = len(rows)

    def read(self, model: "TransformersModel") -> None:
        """Read the tokens, alone in a row."""
        import torch

        module = torch_module(model)
        ids = torch.from_numpy(self._ids).to(module.device)[None]
        none = torch.zeros(0, dtype=torch.long, device=module.device)
        with _Wanted(none, none, tuple(ids.shape)).alone_reach(module.get_output_embeddings()):
            module(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                use_cache=True,
                past_key_values=self.cache,
            )

    def spread(self) -> None:
        """Give every row of the batch what was read."""
        self.cache.batch_repeat_interleave(self._n_rows)


def n_in_common(model: "TransformersModel", rows: Sequence[PairRow]) -> int:
    """How many tokens all rows begin with, before any that is scored; 0 for rows too long."""
    longest = max(map(len, rows))
    if len(rows) < 2 or not reads_pairs(model) or longest > _longest_pair(model):
        return 0
    limit = min(int(row.at.min(initial=len(row))) for row in rows)
    starts = np.stack([row.ids[:limit] for row in rows])
    differ = np.flatnonzero((starts != starts[0]).any(axis=0))
    return int(differ[0]) if len(differ) else limit


class _Wanted:
    """Places whose logits are read; as a hook before the head, all that reaches it.

    What the model does to logits afterwards, such as a soft cap, is its own.
    """

    def __init__(self, rows: "torch.Tensor", at: "torch.Tensor", shape: tuple[int, ...]) -> None:
        self._rows, self._at, self._shape = rows, at, shape
        self._is_gathered = False

    @contextlib.contextmanager
    def alone_reach(self, head: Any) -> Iterator[None]:
        if head is None:
            yield
            return
        handle = head.register_forward_pre_hook(self._gather)
        try:
            yield
        finally:
            handle.remove()

    def _gather(self, _head: Any, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not args or tuple(args[0].shape[:2]) != self._shape:
            return None  # a head of another kind: the whole is computed
        self._is_gathered = True
        return (args[0][self._rows, self._at][None], *args[1:])

    def of(self, logits: "torch.Tensor") -> "torch.Tensor":
        """Logits at the wanted places [n, vocabulary]."""
        return logits[0] if self._is_gathered else logits[self._rows, self._at]


# ------------------------------------------------------------------------- which models can


_READS_PAIRS: "weakref.WeakKeyDictionary[Any, bool]" = weakref.WeakKeyDictionary()


def reads_pairs(model: "TransformersModel") -> bool:
    """Whether the model reads two texts in one row as it reads each alone; tried once.

    Not where positions are not given but counted (ALiBi), where a state runs through the row
    (recurrence, convolutions), or where masks of our own are not taken.
    """
    module = torch_module(model)
    if module not in _READS_PAIRS:
        with exclusive(model):
            _READS_PAIRS[module] = _tried(model)
    return _READS_PAIRS[module]


def _tried(model: "TransformersModel") -> bool:
    import torch

    pairs = [_random_pair(model, 12, 6, 8), _random_pair(model, 9, 7, 5)]
    rows = [_together(0, right, wrong, n_shared(right, wrong)) for right, wrong in pairs]
    try:
        with torch.inference_mode():
            found = logprobs(model, rows)
            expected = torch.cat([_plain(model, text) for pair in pairs for text in pair])
    except Exception as error:  # whatever an architecture raises, it does not take such rows
        if is_out_of_memory(error):
            raise
        return False
    spread = float(expected.std())
    return bool((found - expected).abs().max() <= tolerance(model) * spread)


def tolerance(model: "TransformersModel") -> float:
    """Rounding, in units of how tokens differ: a tail that is seen changes far more."""
    import torch

    return 1e-3 if torch_module(model).dtype == torch.float32 else 0.1


def _plain(model: "TransformersModel", text: Tokens) -> "torch.Tensor":
    """Log-probabilities of a text's response, from nothing but the model."""
    import torch

    module = torch_module(model)
    ids = torch.from_numpy(text.ids.astype(np.int64)).to(module.device)[None]
    logits = module(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    first = text.response_start
    scores: torch.Tensor = logits[0, first - 1 : -1].float().log_softmax(dim=-1)
    return scores.gather(1, ids[0, first:, None])[:, 0]


def random_rows(model: "TransformersModel") -> list[PairRow]:
    """Rows of one text each, to try on a model what it takes."""
    return [_alone(0, text, text, 1.0, 0) for text in _random_pair(model, 4, 9, 5)]


def _random_pair(
    model: "TransformersModel", shared: int, right: int, wrong: int
) -> tuple[Tokens, Tokens]:
    """Two texts of random tokens that part after `shared`, where their responses begin."""
    vocabulary = int(torch_module(model).config.get_text_config().vocab_size)
    rng = np.random.default_rng(0)
    start = rng.integers(vocabulary, size=shared)
    tails = rng.integers(vocabulary, size=right), rng.integers(vocabulary, size=wrong)
    tails[1][0] = (tails[0][0] + 1) % vocabulary
    texts = []
    for tail in tails:
        ids = np.concatenate([start, tail]).astype(np.int32)
        roles = (np.arange(len(ids)) >= shared).astype(np.uint8) * 2
        texts.append(Tokens("", ids, np.zeros((len(ids), 2), np.int32), roles, shared))
    return texts[0], texts[1]


def _longest_pair(model: "TransformersModel") -> float:
    """Tokens up to which a mask of ours says all that the model's own would."""
    config = torch_module(model).config.get_text_config()
    limits = [getattr(config, name, None) for name in WINDOWS]
    limits += [context_length(model), longest_shared(model)]
    return min((limit for limit in limits if isinstance(limit, int)), default=math.inf)
