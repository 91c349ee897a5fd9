"""Rows that would be trained on otherwise than they read, told before the training begins."""

from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import InputError
from ..exporting.conversation import Conversation, Finding
from ..exporting.preflight import findings_of_rows, findings_of_tokens
from ..exporting.tokens import Ruler
from ..exporting.trl import TRL
from .rows import Rows


def require_trainable(rows: Rows, tokenizer: Any) -> None:
    """Refuse rows that `preflight` says TRL would refuse, lose text of, or misread.

    Of the rules of format "trl" those on a row and on its tokens; without a chat template, those
    on text. How long rows may be the training says itself. That the folder was edited after the
    export, or repeats a row, is the user's to decide.

    Parameters
    ----------
    rows : Rows
    tokenizer : transformers tokenizer

    Raises
    ------
    InputError
        Names the first row, from 1.
    """
    found = list(_findings(rows, tokenizer))
    if not found:
        return
    first = min(found, key=lambda finding: finding.row or 0)
    raise InputError(
        f"{len({finding.row for finding in found})} of {len(rows)} rows would not be trained on as "
        f"they read; row {first.row}: {first.message} ({first.rule}); correct them, leave them "
        "out, or take another model"
    )


def _findings(rows: Rows, tokenizer: Any) -> Iterator[Finding]:
    chat = tokenizer.chat_template is not None
    numbered = [
        (number, Conversation(row["prompt"], row["completion"], row))
        for number, row in enumerate(rows.for_trainer(chat), 1)
    ]
    ruler = Ruler.of(tokenizer, None, "")
    yield from findings_of_rows(TRL.row_rules, numbered)
    yield from findings_of_tokens(TRL, numbered, ruler)
    if chat or ruler.special is None:
        return
    for number, row in numbered:  # the rule on marks knows messages only
        if mark := ruler.special.search(f"{row.prompt}{row.completion}"):
            yield Finding(number, "special-token", f"it holds the special token {mark[0]!r}")


def require_end_marks(
    labels: Sequence[Sequence[int]], ends: frozenset[int], tokenizer: Any
) -> None:
    """Refuse labels without a mark that ends the response: the model would not learn to stop.

    Parameters
    ----------
    labels : sequence of sequence of int
        Token ids that the loss is on, -100 elsewhere; one row each.
    ends : frozenset of int
        The tokens at which generation stops.
    tokenizer : transformers tokenizer

    Raises
    ------
    InputError
    """
    without = [n for n, row in enumerate(labels, 1) if ends.isdisjoint(row)]
    if without:
        marks = ", ".join(repr(tokenizer.convert_ids_to_tokens(end)) for end in sorted(ends))
        raise InputError(
            f"in {len(without)} of {len(labels)} rows, the first is row {without[0]}, no end mark "
            f"({marks}) follows the response: the model would not learn to stop; correct its chat "
            "template"
        )
