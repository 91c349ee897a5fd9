"""Figure of an export: what a trainer reads of a row, and what it learns from."""

from collections.abc import Sequence
from itertools import pairwise

from . import drawing as draw
from .collect_figures import MOST_TOKENS, STYLE
from .markup import Markup, joined, tag

READ, LEARNT = "template", "response"
"""Classes of `collect_figures.STYLE`: faint, and green with a line below."""


def loss_strip(tokens: Sequence[str], in_loss: Sequence[bool]) -> str:
    """A training row token by token, as its trainer reads it; what carries loss is underlined.

    Look at the seam: the loss should begin with the first word of the answer, not within the
    template, and reach to the mark that ends the answer, or the model will not learn to stop.

    Parameters
    ----------
    tokens : sequence of str, [n]
        Of the whole row, after the chat template. Beyond 600 the rest is only counted.
    in_loss : sequence of bool, [n]
        Whether the loss is on each.

    Returns
    -------
    str
        HTML.
    """
    learnt = sum(map(bool, in_loss))
    key = (
        tag("i", f"read only: {len(tokens) - learnt}", class_=READ),
        tag("i", f"learnt from, the loss is on these: {learnt}", class_=LEARNT),
    )
    shown = [_token(*of_row) for of_row in zip(range(MOST_TOKENS), tokens, in_loss, strict=False)]
    if len(tokens) > MOST_TOKENS:
        shown.append(Markup(f" … {len(tokens) - MOST_TOKENS:,} more tokens"))
    flags = [bool(flag) for flag in in_loss]
    seams = sum(one != other for one, other in pairwise(flags))
    said = f"{len(tokens)} tokens, {learnt} of them learnt from, {seams} seams"
    text = tag("div", *shown, dir="auto")
    strip = tag("div", tag("div", *key, class_="key"), text, role="group", aria_label=said)
    return draw.alone(tag("div", strip, class_="mn-tokens"), style=STYLE)


def _token(position: int, text: str, in_loss: bool) -> Markup:
    said = f"token {position}: {'carries loss' if in_loss else 'read only'}"
    shown = text.replace("\n", "↵")
    drawn = tag("i", shown, class_=LEARNT if in_loss else READ, title=said)
    return joined([drawn, Markup("\n" * text.count("\n"))])
