"""The decoding loop: rows that have ended leave the batch, and prompts that wait take their places.

A batch costs what its rows cost, not what its longest row does.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .models import torch_module

if TYPE_CHECKING:
    import torch
    from nnsight.modeling.transformers import TransformersModel

Job = tuple[int, int]
"""Number of a prompt, and of a sample of it."""

STEPS: ContextVar[Sequence[int] | None] = ContextVar("steps", default=None)
"""Which of its generated tokens, from 0, each row reads in the present pass of this loop; None in
prompts' passes, and outside the loop. Whoever steers some tokens only asks: rows join and leave."""

ALTERING: dict[str, Any] = {
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "bad_words_ids": None,
    "min_length": 0,
    "min_new_tokens": None,
    "sequence_bias": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "guidance_scale": 1.0,
    "exponential_decay_length_penalty": None,
    "watermarking_config": None,
    "stop_strings": None,
    "num_beams": 1,
}
"""Settings of a generation configuration that change what is chosen or where a text ends, and the
values at which they do not."""


@dataclass(frozen=True, slots=True)
class Sampler:
    """Greedy choice, or a draw: ``argmax(logits / T + Gumbel)`` is a draw from the softmax."""

    temperature: float
    seed: int

    def scores(
        self, logits: "torch.Tensor", jobs: Sequence[Job], steps: Sequence[int]
    ) -> "torch.Tensor":
        """What the chosen token is the largest of, [n_rows, vocabulary]; `steps`: tokens so far."""
        import torch

        if not self.temperature:
            return logits.float()
        generator = torch.Generator()
        noise = torch.empty(logits.shape)
        for row, (prompt, sample), step in zip(noise, jobs, steps, strict=True):
            state = np.random.SeedSequence([self.seed, prompt, sample, step])
            generator.manual_seed(int(state.generate_state(1, np.uint64)[0]) >> 1)
            row.exponential_(generator=generator)
        return logits.float() / self.temperature - noise.log_().to(logits.device)


# ------------------------------------------------------------------------------------ decoding


class _Batch:
    """Rows that are decoded together, and what the model remembers of them.

    All rows end at the same slot of the cache; shorter ones begin later, after slots that the
    mask hides.
    """

    def __init__(self, jobs: list[Job], logits: Any, mask: Any, cache: Any) -> None:
        self.jobs, self.logits, self.mask, self.cache = jobs, logits, mask, cache
        self.tokens: list[list[int]] = [[] for _ in jobs]

    def keep(self, rows: list[int]) -> None:
        """Let all other rows go, and with them slots that no row uses any more."""
        import torch

        if len(rows) == len(self.jobs):
            return
        self.jobs = [self.jobs[row] for row in rows]
        self.tokens = [self.tokens[row] for row in rows]
        if not rows:
            return
        index = torch.tensor(rows, device=self.mask.device)
        self.cache.reorder_cache(index)
        self.logits, mask = self.logits[index], self.mask[index]
        unused = int(mask.any(dim=0).int().argmax())
        self.mask = mask[:, unused:]
        if unused:
            _fit(self.cache, self.mask.shape[1])

    def join(self, other: "_Batch") -> None:
        """Take the rows of another batch in."""
        import torch
        from torch.nn.functional import pad

        slots = max(self.mask.shape[1], other.mask.shape[1])
        for batch in (self, other):
            batch.mask = pad(batch.mask, (slots - batch.mask.shape[1], 0))
            _fit(batch.cache, slots)
        for mine, theirs in zip(self.cache.layers, other.cache.layers, strict=True):
            mine.keys = torch.cat([mine.keys, theirs.keys])
            mine.values = torch.cat([mine.values, theirs.values])
        self.mask = torch.cat([self.mask, other.mask])
        self.logits = torch.cat([self.logits, other.logits])
        self.jobs += other.jobs
        self.tokens += other.tokens


def _fit(cache: Any, slots: int) -> None:
    """Give a cache `slots` slots: empty ones are added before the first, or the first are cut."""
    from torch.nn.functional import pad

    for layer in cache.layers:
        kept = slots
        if layer.is_sliding:  # it keeps what the next token may look back on, and counts the rest
            kept = min(slots, layer.sliding_window - 1)
            layer.cumulative_length = slots
        more = kept - layer.keys.shape[-2]
        if more:
            layer.keys = pad(layer.keys, (0, 0, more, 0))
            layer.values = pad(layer.values, (0, 0, more, 0))


def decode(
    model: "TransformersModel",
    encoded: Mapping[int, list[int]],
    queue: Sequence[Job],
    max_new_tokens: int,
    sampler: Sampler,
    batch_rows: int,
) -> Iterator[tuple[Job, list[int]]]:
    """Decode samples of prompts, in about the order of the queue.

    Parameters
    ----------
    model : TransformersModel
    encoded : mapping of int to list of int
        Number of a prompt -> its token ids.
    queue : sequence of (int, int)
        Number of the prompt and of the sample; neighbours of like length waste least.
    max_new_tokens : int
    sampler : Sampler
    batch_rows : int
        Most rows at a time.

    Yields
    ------
    (int, int), list of int
        What a row of the queue became, when it has ended; the token that ends it included.
    """
    own = _keeps_plain_cache(torch_module(model))
    run = _decode_plainly if own else _decode_by_transformers
    return run(model, encoded, queue, max_new_tokens, sampler, batch_rows)


def _decode_plainly(
    model: "TransformersModel",
    encoded: Mapping[int, list[int]],
    queue: Sequence[Job],
    max_new_tokens: int,
    sampler: Sampler,
    batch_rows: int,
) -> Iterator[tuple[Job, list[int]]]:
    import torch

    ends = _end_tokens(torch_module(model))
    batch = _Batch([], None, None, None)
    at = 0
    while at < len(queue) or batch.jobs:
        free = batch_rows - len(batch.jobs)
        if at < len(queue) and free >= max(1, batch_rows // 2):  # seldom: the batch waits for it
            new = _prefilled(model, encoded, queue[at : at + free])
            at += free
            if batch.jobs:
                batch.join(new)
            else:
                batch = new
        steps = [len(tokens) for tokens in batch.tokens]
        chosen = sampler.scores(batch.logits, batch.jobs, steps).argmax(dim=-1).tolist()
        going = []
        for row, token in enumerate(chosen):
            batch.tokens[row].append(token)
            if token in ends or len(batch.tokens[row]) == max_new_tokens:
                yield batch.jobs[row], batch.tokens[row]
            else:
                going.append(row)
        batch.keep(going)
        if going:
            _step(torch_module(model), batch, torch.tensor([[chosen[row]] for row in going]))


def _prefilled(
    model: "TransformersModel", encoded: Mapping[int, list[int]], jobs: Sequence[Job]
) -> _Batch:
    """Read the prompts of some jobs, each once, however many samples are taken of it."""
    import torch
    from transformers import DynamicCache

    module = torch_module(model)
    prompts = list(dict.fromkeys(i for i, _ in jobs))
    ids, mask = _padded(model, [encoded[i] for i in prompts])
    cache = DynamicCache(config=module.config.get_text_config(decoder=True))
    logits = _forward(module, ids, mask, cache)
    rows = torch.tensor([prompts.index(i) for i, _ in jobs], device=mask.device)
    if len(rows) > len(prompts):
        cache.reorder_cache(rows)
    return _Batch(list(jobs), logits[rows], mask[rows], cache)


def _step(module: Any, batch: _Batch, tokens: "torch.Tensor") -> None:
    """Let the model read one more token a row."""
    import torch

    batch.mask = torch.cat([batch.mask, torch.ones_like(batch.mask[:, :1])], dim=1)
    steps = STEPS.set([len(row) - 1 for row in batch.tokens])
    try:
        batch.logits = _forward(module, tokens.to(batch.mask.device), batch.mask, batch.cache)
    finally:
        STEPS.reset(steps)


def _forward(module: Any, ids: "torch.Tensor", mask: "torch.Tensor", cache: Any) -> "torch.Tensor":
    """Logits of the next token, [n_rows, vocabulary]; the cache grows."""
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    options = {"position_ids": positions, "logits_to_keep": 1}
    taken = inspect.signature(type(module).forward).parameters
    logits: torch.Tensor = module(
        input_ids=ids,
        attention_mask=mask,
        past_key_values=cache,
        use_cache=True,
        **{name: value for name, value in options.items() if name in taken},
    ).logits[:, -1]
    return logits


def _keeps_plain_cache(module: Any) -> bool:
    """Whether rows can leave the model's cache and join it, and logits are chosen from as they are.

    Keys and values of full and of sliding attention: nearly all decoders. What keeps a state of
    another kind, or prepares its inputs in a way of its own, is left to transformers.
    """
    from transformers import DynamicCache, GenerationMixin
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    config, kind = module.generation_config, type(module)
    if any(getattr(config, name, None) not in (None, off) for name, off in ALTERING.items()):
        return False
    takes = inspect.signature(kind.forward).parameters
    own_way = (
        kind.prepare_inputs_for_generation is not GenerationMixin.prepare_inputs_for_generation
    )
    if own_way or "past_key_values" not in takes or "attention_mask" not in takes:
        return False
    layers = DynamicCache(config=module.config.get_text_config(decoder=True)).layers
    return bool(layers) and all(
        type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers
    )


# ----------------------------------------------------------------------- left to transformers


def _decode_by_transformers(
    model: "TransformersModel",
    encoded: Mapping[int, list[int]],
    queue: Sequence[Job],
    max_new_tokens: int,
    sampler: Sampler,
    batch_rows: int,
) -> Iterator[tuple[Job, list[int]]]:
    """The same by the model's own `generate`: batches that run until their longest row ends."""
    from transformers import GenerationConfig, LogitsProcessorList

    module = torch_module(model)
    ends = _end_tokens(module)
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=_pad_token(model),
        eos_token_id=module.generation_config.eos_token_id,
        bos_token_id=module.generation_config.bos_token_id,
        num_return_sequences=1,
        # Beams search for what is likeliest; a sample is one draw after the other.
        num_beams=1 if sampler.temperature else module.generation_config.num_beams,
    )
    for start in range(0, len(queue), batch_rows):
        jobs = queue[start : start + batch_rows]
        ids, mask = _padded(model, [encoded[i] for i, _ in jobs])
        longest = ids.shape[1]

        def scores(
            so_far: Any, logits: Any, jobs: Sequence[Job] = jobs, longest: int = longest
        ) -> Any:
            return sampler.scores(logits, jobs, [so_far.shape[1] - longest] * len(jobs))

        out = module.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=config,
            tokenizer=model.tokenizer,  # for stop strings
            logits_processor=LogitsProcessorList([scores]),
        )
        for job, tokens in zip(jobs, out[:, longest:].tolist(), strict=True):
            length = next((i + 1 for i, token in enumerate(tokens) if token in ends), len(tokens))
            yield job, tokens[:length]


def _padded(
    model: "TransformersModel", rows: Sequence[list[int]]
) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Token ids and mask, [n_rows, longest], padded on the left: all go on at the right end."""
    import torch

    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), _pad_token(model), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, longest - len(row) :] = torch.tensor(row)
        mask[i, longest - len(row) :] = 1
    place = torch_module(model).device
    return ids.to(place), mask.to(place)


def _pad_token(model: "TransformersModel") -> int:
    tokenizer = model.tokenizer
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return int(pad or 0)


def _end_tokens(module: Any) -> frozenset[int]:
    """The tokens that end a text, by the model's own generation configuration."""
    ends = module.generation_config.eos_token_id
    if ends is None:
        return frozenset()
    return frozenset([ends] if isinstance(ends, int) else ends)
