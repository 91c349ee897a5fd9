"""Batched generation, greedy or sampled, with or without something that changes the model."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from tqdm.auto import tqdm

from .corpus import Message, Prompt
from .decoding import Job, Sampler, decode
from .errors import InputError
from .models import context_length, exclusive

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel

BATCH_ROWS = 64

OnText = Callable[[int, int, str], object]
"""Takes a completion when its row has ended: number of the prompt, of the sample, text."""


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
    on_text: OnText | None = None,
) -> list[list[str]]:
    """Complete prompts.

    Prompts of like length are batched together, the samples of one share its first pass, and rows
    that have ended leave the batch. Sampling adds Gumbel noise to the logits, drawn for each
    completion and step by itself, so that a sample does not depend on its batch.

    An interrupt leaves the model as it was; what had ended by then was given to `on_text`.

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
    on_text : callable, optional
        Called with (number of the prompt, number of the sample, text) as each row ends.

    Returns
    -------
    list of list of str
        `n` completions a prompt, without the prompt, special tokens left out.

    Raises
    ------
    InputError
        No list of prompts, a prompt that is empty or neither text nor messages, one that does not
        fit the context, or a bad number.
    """
    require_numbers(max_new_tokens, temperature, seed, n)
    _require_several(prompts)
    out = [[""] * n for _ in prompts]
    samples = range(n if temperature else 1)

    def keep(prompt: int, sample: int, text: str) -> None:
        for copy in (sample,) if temperature else range(n):
            out[prompt][copy] = text
            if on_text is not None:
                on_text(prompt, copy, text)

    jobs = [(i, sample) for i in range(len(prompts)) for sample in samples]
    with steered(model, steering), progress_bar(len(jobs), progress) as bar:
        complete(model, prompts, jobs, keep, max_new_tokens, temperature, seed, bar)
    return out


def complete(
    model: "TransformersModel",
    prompts: Sequence[Prompt],
    jobs: Sequence[Job],
    on_text: OnText,
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    seed: int = 0,
    bar: Any = None,
) -> None:
    """Generate some of the samples of some of the prompts, giving away each as it ends.

    Parameters
    ----------
    model : TransformersModel
    prompts : sequence of str or chat messages
        All of them: a sample's random numbers go by its prompt's place in this list.
    jobs : sequence of (int, int)
        Which samples are wanted: number of the prompt, and of the sample.
    on_text : callable
        Called with (number of the prompt, number of the sample, text), in the order of ending.
    max_new_tokens, temperature, seed
        As in `generate`.
    bar : tqdm, optional
        Told of every row that ends.

    Raises
    ------
    InputError
        As in `generate`.
    """
    import torch

    require_numbers(max_new_tokens, temperature, seed)
    wanted = sorted({i for i, _ in jobs})
    encoded = dict(zip(wanted, encode(model, prompts, max_new_tokens, wanted), strict=True))
    sampler = Sampler(temperature, seed)
    queue = sorted(jobs, key=lambda job: (len(encoded[job[0]]), job))
    began, n_tokens = time.monotonic(), 0
    with exclusive(model), torch.inference_mode():
        for job, tokens in decode(model, encoded, queue, max_new_tokens, sampler, BATCH_ROWS):
            on_text(*job, model.tokenizer.decode(tokens, skip_special_tokens=True))
            if bar is not None:
                n_tokens += len(tokens)
                rate = n_tokens / max(time.monotonic() - began, 1e-9)
                bar.set_postfix_str(f"{rate:.0f} tokens/s", refresh=False)
                bar.update()


def require_numbers(max_new_tokens: int, temperature: float, seed: int, n: int = 1) -> None:
    """Refuse numbers that nothing can be generated with."""
    for name, number, least in (
        ("n", n, 1),
        ("max_new_tokens", max_new_tokens, 1),
        ("seed", seed, 0),
    ):
        whole = isinstance(number, int | np.integer) and not isinstance(number, bool)
        if not whole or number < least:
            raise InputError(f"{name} must be a whole number of at least {least}, not {number!r}")
    if not isinstance(temperature, float | int | np.number) or not 0 <= temperature < math.inf:
        raise InputError(f"temperature must be a number of at least 0, not {temperature!r}")


@contextlib.contextmanager
def steered(
    model: "TransformersModel",
    steering: Steering | contextlib.AbstractContextManager[Any] | None,
) -> Iterator[None]:
    """Hold a model for oneself, changed by `steering` if there is any."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(exclusive(model))
        if steering is not None:
            stack.enter_context(steering.apply(model) if hasattr(steering, "apply") else steering)
        yield


def progress_bar(total: int, shown: bool, initial: int = 0) -> Any:
    """A bar that counts completions, for `complete` to move."""
    return tqdm(total=total, initial=initial, desc="generate", unit="text", disable=not shown)


# ------------------------------------------------------------------------------------ prompts


def _require_several(prompts: Sequence[Prompt]) -> None:
    """Refuse one prompt in place of a list of them."""
    if isinstance(prompts, str | Mapping):
        raise InputError("generate takes a list of prompts; put this one in a list: [prompt]")
    if len(prompts) and isinstance(prompts[0], Mapping):
        raise InputError("generate takes a list of prompts; put this one chat in a list: [chat]")


def encode(
    model: "TransformersModel",
    prompts: Sequence[Prompt],
    max_new_tokens: int,
    wanted: Sequence[int] | None = None,
) -> list[list[int]]:
    """Token ids of all prompts, or of some.

    Raises
    ------
    InputError
        A prompt that is empty or neither text nor messages, one that does not fit the context, or
        messages without a template.
    """
    limit = context_length(model)
    encoded = []
    for i in range(len(prompts)) if wanted is None else wanted:
        ids = _encode(model, prompts[i], i)
        if limit is not None and len(ids) + max_new_tokens > limit:
            raise InputError(
                f"prompt {i}: {len(ids)} tokens and {max_new_tokens} new ones do not fit the "
                f"model's context of {limit}"
            )
        encoded.append(ids)
    return encoded


def _encode(model: "TransformersModel", prompt: Prompt, index: int) -> list[int]:
    _require_text(prompt, index)
    if isinstance(prompt, str):
        ids: list[int] = model.tokenizer(prompt)["input_ids"]
    else:
        ids = _apply_template(model, prompt, index)
    if not ids:
        raise InputError(f"prompt {index} is empty")
    return ids


def _require_text(prompt: Prompt, index: int) -> None:
    """Refuse what is neither text nor messages, and text that no tokenizer can read."""
    try:
        parts = [prompt] if isinstance(prompt, str) else [m["content"] for m in prompt]
        empty = not any(parts)
        for part in parts:
            part.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"prompt {index}: character {error.start} is half of a pair (a lone surrogate), no "
            "text; take it out"
        ) from error
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"prompt {index} is neither text nor a list of messages with role and content as text"
        ) from error
    if empty:
        raise InputError(f"prompt {index} is empty")


def _apply_template(model: "TransformersModel", messages: list[Message], index: int) -> list[int]:
    tokenizer = model.tokenizer
    if tokenizer.chat_template is None:
        raise InputError(f"prompt {index}: the model has no chat template; give the prompt as text")
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
