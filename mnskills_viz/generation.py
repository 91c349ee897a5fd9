"""Batched generation, greedy or sampled, with or without something that changes the model."""

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from tqdm.auto import tqdm

from .corpus import Message, Prompt
from .errors import InputError
from .models import context_length, exclusive, torch_module

if TYPE_CHECKING:
    import torch
    from nnsight.modeling.transformers import TransformersModel

BATCH_ROWS = 64


class Steering(Protocol):
    """What can change a model for a while: a steering vector."""

    def apply(self, model: "TransformersModel") -> contextlib.AbstractContextManager[Any]:
        """Return a context in which `model` is changed."""


def generate(
    model: "TransformersModel",
    prompts: Sequence[Prompt],
    steering: Steering | contextlib.AbstractContextManager[Any] | None = None,
    n: int = 1,
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    seed: int = 0,
    progress: bool = False,
) -> list[list[str]]:
    """Complete prompts.

    Prompts of like length are batched together. Sampling adds Gumbel noise to the logits, drawn
    for each completion and step by itself, so that a sample does not depend on its batch.

    Parameters
    ----------
    model : TransformersModel
    prompts : sequence of str or chat messages
        A str goes in raw; messages go through the chat template.
    steering : SteeringVector or context manager, optional
        The model is generated with inside it.
    n : int
        Completions a prompt.
    max_new_tokens : int
    temperature : float
        0 is greedy: `n` equal completions.
    seed : int
    progress : bool

    Returns
    -------
    list of list of str
        `n` completions a prompt, without the prompt, special tokens left out.

    Raises
    ------
    InputError
        An empty prompt, one that does not fit the context, or a bad number.
    """
    if n < 1 or max_new_tokens < 1 or temperature < 0 or seed < 0:
        raise InputError(
            "generate: n and max_new_tokens must be at least 1, temperature and seed at least 0, "
            f"not {n}, {max_new_tokens}, {temperature}, {seed}"
        )
    encoded = [_encode(model, prompt, i) for i, prompt in enumerate(prompts)]
    limit = context_length(model)
    for i, ids in enumerate(encoded):
        if limit is not None and len(ids) + max_new_tokens > limit:
            raise InputError(
                f"prompt {i}: {len(ids)} tokens and {max_new_tokens} new ones do not fit the "
                f"model's context of {limit}"
            )
    jobs = [(i, sample) for i in range(len(prompts)) for sample in range(n)]
    jobs.sort(key=lambda job: (len(encoded[job[0]]), job))
    out = [[""] * n for _ in prompts]
    with contextlib.ExitStack() as stack:
        stack.enter_context(exclusive(model))
        if steering is not None:
            stack.enter_context(steering.apply(model) if hasattr(steering, "apply") else steering)
        bar = stack.enter_context(
            tqdm(total=len(jobs), desc="generate", unit="text", disable=not progress)
        )
        for start in range(0, len(jobs), BATCH_ROWS):
            batch = jobs[start : start + BATCH_ROWS]
            texts = _complete(
                model, [encoded[i] for i, _ in batch], batch, max_new_tokens, temperature, seed
            )
            for (i, sample), text in zip(batch, texts, strict=True):
                out[i][sample] = text
            bar.update(len(batch))
    return out


def _encode(model: "TransformersModel", prompt: Prompt, index: int) -> list[int]:
    if isinstance(prompt, str):
        ids: list[int] = model.tokenizer(prompt)["input_ids"]
    else:
        ids = _apply_template(model, prompt, index)
    if not ids or not (prompt if isinstance(prompt, str) else any(m["content"] for m in prompt)):
        raise InputError(f"prompt {index} is empty")
    return ids


def _apply_template(model: "TransformersModel", messages: list[Message], index: int) -> list[int]:
    tokenizer = model.tokenizer
    if tokenizer.chat_template is None:
        raise InputError(f"prompt {index}: the model has no chat template; give the prompt as text")
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _complete(
    model: "TransformersModel",
    rows: list[list[int]],
    jobs: list[tuple[int, int]],
    max_new_tokens: int,
    temperature: float,
    seed: int,
) -> list[str]:
    import torch
    from transformers import GenerationConfig, LogitsProcessorList

    module, tokenizer = torch_module(model), model.tokenizer
    longest = max(map(len, rows))
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    ids = torch.full((len(rows), longest), pad or 0, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):  # on the left: generation continues at the right end
        ids[i, longest - len(row) :] = torch.tensor(row)
        mask[i, longest - len(row) :] = 1
    noise = [_GumbelNoise(jobs, longest, temperature, seed)] if temperature > 0 else []
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=pad,
        eos_token_id=module.generation_config.eos_token_id,
        bos_token_id=module.generation_config.bos_token_id,
    )
    with torch.inference_mode():
        out = module.generate(
            input_ids=ids.to(module.device),
            attention_mask=mask.to(module.device),
            generation_config=config,
            logits_processor=LogitsProcessorList(noise),
        )
    texts: list[str] = tokenizer.batch_decode(out[:, longest:], skip_special_tokens=True)
    return texts


class _GumbelNoise:
    """Turns greedy choice into sampling: ``argmax(logits / T + Gumbel)`` is a draw from softmax."""

    def __init__(
        self, jobs: list[tuple[int, int]], prompt_length: int, temperature: float, seed: int
    ) -> None:
        self._jobs, self._prompt_length = jobs, prompt_length
        self._temperature, self._seed = temperature, seed

    def __call__(self, input_ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
        import torch

        step = input_ids.shape[1] - self._prompt_length
        generator = torch.Generator()
        noise = torch.empty(scores.shape)
        for row, (prompt, sample) in zip(noise, self._jobs, strict=True):
            state = np.random.SeedSequence([self._seed, prompt, sample, step])
            generator.manual_seed(int(state.generate_state(1, np.uint64)[0]) >> 1)
            row.exponential_(generator=generator)
        return scores.float() / self._temperature - noise.log().to(scores.device)
