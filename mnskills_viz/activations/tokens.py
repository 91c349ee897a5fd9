"""Which tokens of an example count.

The text that the model reads is the chat template's, filled with the example: template tokens
(system text, role marks), the prompt's own tokens, and the response's. Roles come from character
offsets, so that no token is guessed by position.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..corpus import Example
from ..errors import InputError

Counted = Literal["content", "prompt", "response", "all"]
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

    def truncated(self, length: int) -> "Tokens":
        """The first `length` tokens."""
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
    has_template = tokenizer.chat_template is not None
    end = _closing_text(tokenizer) if closing and has_template else ""
    rendered = [
        _render_chat(tokenizer, e, end) if has_template else _render_plain(e) for e in examples
    ]
    encoded = tokenizer(
        [r.text for r in rendered],
        add_special_tokens=not has_template,  # a template writes its own, BOS included
        return_offsets_mapping=True,
        padding=False,
        truncation=False,
        verbose=False,
    )
    return [
        _with_roles(r, ids, offsets)
        for r, ids, offsets in zip(
            rendered, encoded["input_ids"], encoded["offset_mapping"], strict=True
        )
    ]


@dataclass(frozen=True, slots=True)
class _Rendered:
    text: str
    prompt_spans: list[tuple[int, int]]
    response_span: tuple[int, int]
    prefix_end: int


def _render_chat(tokenizer: Any, example: Example, closing: str) -> _Rendered:
    try:
        prefix = tokenizer.apply_chat_template(
            example.messages, tokenize=False, add_generation_prompt=True
        )
    except Exception as error:  # jinja raises what the template's author chose
        raise InputError(
            f"example {example.id}: the chat template rejects the prompt ({error})"
        ) from error
    spans, cursor = [], 0
    for message in example.messages:
        content = message["content"]
        start = prefix.find(content, cursor)
        if start < 0:  # many templates strip what they are given
            content = content.strip()
            start = prefix.find(content, cursor)
        if start < 0:
            raise InputError(
                f"example {example.id}: the chat template alters the {message['role']} message; "
                "its tokens cannot be told from the template's"
            )
        cursor = start + len(content)
        spans.append((start, cursor))
    end = len(prefix) + len(example.response)
    tail = closing if example.response else ""
    return _Rendered(prefix + example.response + tail, spans, (len(prefix), end), len(prefix))


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
