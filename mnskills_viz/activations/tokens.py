"""Which tokens of an example count.

The text that the model reads is the chat template's, filled with the example: template tokens
(system text, role marks), the prompt's own tokens, and the response's. Roles come from character
offsets, so that no token is guessed by position.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..corpus import Example
from ..errors import InputError

Counted = Literal["content", "prompt", "response", "all"]
CHARACTERS_AT_ONCE = 1_000_000  # a token takes a hundred bytes until it is in an array

COUNTED = ("content", "prompt", "response", "all")


class Role(IntEnum):
    """Who a token belongs to."""

    TEMPLATE = 0
    PROMPT = 1
    RESPONSE = 2


@dataclass(frozen=True, slots=True)
class Tokens:
    """An example as the model reads it.

    Attributes
    ----------
    text : str
        The rendered text.
    ids : ndarray of int32, [n_tokens]
    offsets : ndarray of int32, [n_tokens, 2]
        Where each token starts and ends in `text`, in characters.
    roles : ndarray of uint8, [n_tokens]
        A `Role` each.
    response_start : int
        Position of the first token that is not prompt or its template; ``n_tokens`` if none.
    """

    text: str
    ids: NDArray[np.int32]
    offsets: NDArray[np.int32]
    roles: NDArray[np.uint8]
    response_start: int

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def response_end(self) -> int:
        """Position after the last token of the response; `response_start` if it has none."""
        answered = np.flatnonzero(self.roles == Role.RESPONSE)
        return int(answered[-1]) + 1 if len(answered) else self.response_start

    def truncated(self, length: int | None) -> "Tokens":
        """The first `length` tokens; all of them for None."""
        if length is None or len(self) <= length:
            return self
        return Tokens(
            self.text,
            self.ids[:length],
            self.offsets[:length],
            self.roles[:length],
            min(self.response_start, length),
        )


def tokenize(tokenizer: Any, examples: Sequence[Example], *, closing: bool = False) -> list[Tokens]:
    """Render and tokenize examples, with the role of every token.

    The response follows the generation prompt verbatim: a template that would drop thinking
    blocks from past turns does not see it. A tokenizer without chat template reads prompt, line
    break, response, with its own special tokens.

    Parameters
    ----------
    tokenizer : transformers tokenizer
        A fast one: offsets are needed.
    examples : sequence of Example
    closing : bool
        Whether to add what the template puts after a response.

    Raises
    ------
    InputError
        The tokenizer gives no offsets, or the template rejects or alters a prompt.
    """
    if not tokenizer.is_fast:
        raise InputError(
            f"{type(tokenizer).__name__} gives no character offsets; a fast tokenizer is needed"
        )
    if tokenizer.chat_template is None:
        rendered = [_render_plain(example) for example in examples]
    else:
        end = _closing_text(tokenizer) if closing else ""
        template = functools.cache(lambda roles: _separators(tokenizer, roles))
        rendered = [_render_chat(tokenizer, example, template, end) for example in examples]
    rows = []
    for these in parts(len(r.text) for r in rendered):
        part = rendered[these]
        encoded = tokenizer(
            [r.text for r in part],
            # A template writes its own, BOS included.
            add_special_tokens=tokenizer.chat_template is None,
            return_offsets_mapping=True,
            padding=False,
            truncation=False,
            verbose=False,
        )
        places = zip(part, encoded["input_ids"], encoded["offset_mapping"], strict=True)
        rows += [_with_roles(r, ids, offsets) for r, ids, offsets in places]
    return rows


def parts(sizes: Iterable[int], most: int = CHARACTERS_AT_ONCE) -> Iterator[slice]:
    """Slices of consecutive items, of one item or of sizes that add up to `most` or less."""
    start, total, index = 0, 0, -1
    for index, size in enumerate(sizes):
        if total + size > most and index > start:
            yield slice(start, index)
            start, total = index, 0
        total += size
    if index >= start:
        yield slice(start, index + 1)


@dataclass(frozen=True, slots=True)
class _Rendered:
    text: str
    prompt_spans: list[tuple[int, int]]
    response_span: tuple[int, int]
    prefix_end: int


def _render_chat(
    tokenizer: Any,
    example: Example,
    template: Callable[[tuple[str, ...]], list[str]],
    closing: str,
) -> _Rendered:
    """Render a prompt, and know where its messages stand by what the template puts between."""
    try:
        prefix = tokenizer.apply_chat_template(
            example.messages, tokenize=False, add_generation_prompt=True
        )
        between = template(tuple(message["role"] for message in example.messages))
    except Exception as error:  # jinja raises what the template's author chose
        raise InputError(
            f"example {example.id}: the chat template rejects the prompt ({error})"
        ) from error
    spans = None
    for strip in (False, True):  # many templates strip what they are given
        contents = [m["content"].strip() if strip else m["content"] for m in example.messages]
        whole = [*(x for pair in zip(between, contents, strict=False) for x in pair), between[-1]]
        if "".join(whole) == prefix:
            ends = list(itertools.accumulate(map(len, whole)))
            spans = [(ends[i - 1], ends[i]) for i in range(1, len(whole), 2)]
            break
    if spans is None:
        raise InputError(
            f"example {example.id}: the chat template alters the prompt beyond stripping it; "
            "the prompt's tokens cannot be told from the template's"
        )
    end = len(prefix) + len(example.response)
    tail = closing if example.response else ""
    return _Rendered(prefix + example.response + tail, spans, (len(prefix), end), len(prefix))


def _separators(tokenizer: Any, roles: tuple[str, ...]) -> list[str]:
    """What the template writes before, between and after messages of these roles."""
    marks = [f"\N{BLACK SQUARE}{i}\N{BLACK SQUARE}" for i in range(len(roles))]
    turns = [{"role": r, "content": mark} for r, mark in zip(roles, marks, strict=True)]
    rest: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    between = []
    for mark in marks:
        before, found, rest = rest.partition(mark)
        if not found:
            raise InputError("it leaves a message out")
        between.append(before)
    return [*between, rest]


def _render_plain(example: Example) -> _Rendered:
    prompt = example.prompt_text
    if not example.response:
        return _Rendered(prompt, [(0, len(prompt))], (len(prompt), len(prompt)), len(prompt))
    start = len(prompt) + 1
    text = f"{prompt}\n{example.response}"
    return _Rendered(text, [(0, len(prompt))], (start, len(text)), start)


def _closing_text(tokenizer: Any) -> str:
    """What the template writes after an assistant's message."""
    mark = "\N{BLACK SQUARE}response\N{BLACK SQUARE}"
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": mark}]
    text: str = tokenizer.apply_chat_template(turns, tokenize=False)
    return text.rpartition(mark)[2]


def _with_roles(
    rendered: _Rendered, ids: Iterable[int], offsets: Iterable[tuple[int, int]]
) -> Tokens:
    where = np.array(list(offsets), dtype=np.int32).reshape(-1, 2)
    start, end = where[:, 0], where[:, 1]
    roles = np.zeros(len(where), dtype=np.uint8)
    for role, spans in (
        (Role.PROMPT, rendered.prompt_spans),
        (Role.RESPONSE, [rendered.response_span]),
    ):
        for first, last in spans:
            roles[(start < last) & (end > first)] = role
    after = np.flatnonzero(start >= rendered.prefix_end)
    answered = np.flatnonzero(roles == Role.RESPONSE)
    # A token may straddle the border; it is then the response's first.
    candidates = np.concatenate([after, answered])
    return Tokens(
        text=rendered.text,
        ids=np.array(list(ids), dtype=np.int32),
        offsets=where,
        roles=roles,
        response_start=int(candidates.min()) if len(candidates) else len(where),
    )


def counted(tokens: Tokens, which: Counted, exclude_sinks: bool = True) -> NDArray[np.bool_]:
    """Say which tokens are pooled, before any norm is known.

    Parameters
    ----------
    tokens : Tokens
    which : {"content", "prompt", "response", "all"}
    exclude_sinks : bool
        Leave out the first token and its immediate repeats: they are attention sinks in every
        layer, with norms over a hundred times those of the others.

    Returns
    -------
    ndarray of bool, [n_tokens]
    """
    wanted = {
        "content": (Role.PROMPT, Role.RESPONSE),
        "prompt": (Role.PROMPT,),
        "response": (Role.RESPONSE,),
        "all": tuple(Role),
    }[which]
    mask: NDArray[np.bool_] = np.isin(tokens.roles, wanted)
    if exclude_sinks and len(tokens):
        differs = np.flatnonzero(tokens.ids != tokens.ids[0])
        mask[: differs[0] if len(differs) else len(tokens)] = False
    return mask
