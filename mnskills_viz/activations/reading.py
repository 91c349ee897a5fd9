"""Which tokens of an example are read, and how long the examples of a corpus are."""

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..corpus import Corpus, Example
from ..errors import InputError
from .tokens import COUNTED, Counted, Tokens, counted, parts, tokenize

Pooling = Literal["mean", "last"]

SECONDS_UNTIL_A_BAR = 2.0


@dataclass(frozen=True, slots=True)
class Reading:
    """How an example becomes one vector a layer.

    Attributes
    ----------
    pooling : {"mean", "last"}
        Mean over the counted tokens, or the last token (of the generation prompt if `tokens` is
        ``"prompt"``, else of the text).
    tokens : {"content", "prompt", "response", "all"}
        Which count.
    exclude_sinks : bool
        Whether attention sinks are left out of a mean.
    max_length : int or None
        Most tokens in a row; None where neither the caller nor the model has a limit.
    truncate : bool
        Whether longer rows are cut, instead of refused.
    """

    pooling: Pooling
    tokens: Counted
    exclude_sinks: bool
    max_length: int | None
    truncate: bool

    def __post_init__(self) -> None:
        if self.pooling not in ("mean", "last"):
            raise InputError(f'pooling must be "mean" or "last", not {self.pooling!r}')
        if self.tokens not in COUNTED:
            raise InputError(f"tokens must be one of {', '.join(COUNTED)}, not {self.tokens!r}")
        if self.max_length is not None and self.max_length < 1:
            raise InputError(f"max_length must be at least 1, not {self.max_length}")

    @property
    def excludes_norms(self) -> bool:
        """Whether tokens are left out for their norm, a layer at a time."""
        return self.exclude_sinks and self.pooling == "mean"

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Prepared:
    """Examples as the model reads them.

    Attributes
    ----------
    rows : list of Tokens
        Cut to the reading's `max_length`.
    masks : list of ndarray of bool, [n_tokens]
        Which tokens count, before any norm is known.
    whole_lengths : list of int
        Tokens before the cut.
    """

    rows: list[Tokens]
    masks: list[NDArray[np.bool_]]
    whole_lengths: list[int]


def prepare(tokenizer: Any, examples: Sequence[Example], reading: Reading) -> Prepared:
    """Tokenize examples and mark what counts."""
    whole = tokenize(tokenizer, examples, closing=reading.tokens == "all")
    rows = [row.truncated(reading.max_length) for row in whole]
    return Prepared(rows, [_mask(row, reading) for row in rows], [len(row) for row in whole])


def _mask(row: Tokens, reading: Reading) -> NDArray[np.bool_]:
    if reading.pooling == "mean":
        return counted(row, reading.tokens, reading.exclude_sinks)
    mask = np.zeros(len(row), dtype=bool)
    if len(row):
        mask[(row.response_start if reading.tokens == "prompt" else len(row)) - 1] = True
    return mask


def lengths(
    tokenizer: Any, corpus: Corpus, reading: Reading, *, progress: bool = False
) -> NDArray[np.int64]:
    """Tokens in every row, after a look at all of them; the tokens themselves are not kept.

    Returns
    -------
    ndarray of int64, [n_examples]

    Raises
    ------
    InputError
        Rows that are longer than `reading.max_length`, unless they may be cut, or that have no
        counted token.
    """
    found = np.empty(len(corpus), dtype=np.int64)
    too_long: list[tuple[int, str]] = []
    uncounted: list[str] = []
    bar = tqdm(
        total=len(corpus),
        desc="tokenize",
        unit="row",
        disable=not progress,
        delay=SECONDS_UNTIL_A_BAR,
    )
    with bar:
        for these in parts(len(e.prompt_text) + len(e.response) for e in corpus):
            part = corpus[these]
            ready = prepare(tokenizer, part, reading)
            each = zip(part, ready.rows, ready.masks, ready.whole_lengths, strict=True)
            for index, (example, row, mask, whole) in enumerate(each, these.start):
                found[index] = len(row)
                if whole > len(row):
                    too_long.append((whole, example.id))
                if not mask.any():
                    uncounted.append(example.id)
            bar.update(len(part))
    if too_long:
        _refuse_or_report(too_long, len(corpus), reading)
    if uncounted:
        shown = ", ".join(uncounted[:5]) + (", ..." if len(uncounted) > 5 else "")
        raise InputError(
            f"{len(uncounted)} of {len(corpus)} examples have no token that counts with "
            f'tokens="{reading.tokens}": {shown}'
        )
    return found


def _refuse_or_report(too_long: list[tuple[int, str]], n_rows: int, reading: Reading) -> None:
    longest, worst = max(too_long)
    if not reading.truncate:
        raise InputError(
            f"{len(too_long)} of {n_rows} rows are longer than max_length {reading.max_length} "
            f"(the longest, {worst}, has {longest:,} tokens); pass truncate=True to cut them"
        )
    warnings.warn(
        f"{len(too_long)} of {n_rows} rows were cut to {reading.max_length} tokens "
        f"(the longest, {worst}, had {longest:,})",
        stacklevel=5,
    )
