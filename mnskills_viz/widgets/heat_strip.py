"""Text with its heat: what each token adds to a coordinate, as one byte a token.

The text stands on the page as plain text. Beside it lie the tokens' lengths and values, and a
short script paints them; without it the text reads all the same.
"""

import base64
import hashlib
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np

from ..activations.tokens import Role
from ..axes.heat import Heat
from .markup import SHOWN, Markup, escaped, joined, signed, tag

SCRIPT = resources.files(__package__).joinpath("static/report.js").read_text("utf-8")
SCRIPT_HASH = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
"""What a page's policy has to allow."""

LEVELS = 127
"""A byte is a token's value in this many steps of the largest on the card."""

LONGEST = 255
"""A length of this many code units goes on in the next byte."""

BREAK = "\n\n"
"""Stands between two messages of a prompt, as it does where prompts are shown as one text."""

NBSP = "\N{NO-BREAK SPACE}"

HEATED = "data-heat="
"""Stands in markup that has heat."""

Piece = tuple[str, float]
"""Text of a token, and what it adds, in standard deviations."""


@dataclass(frozen=True, slots=True)
class HeatText:
    """An example's text on one axis.

    Attributes
    ----------
    prompt, response : list of (str, float)
        Tokens and what they add, in standard deviations of the axis.
    template : float
        What the tokens of the template add.
    """

    prompt: list[Piece]
    response: list[Piece]
    template: float

    @property
    def strongest(self) -> float:
        """The largest absolute value."""
        return max((abs(value) for _, value in self.prompt + self.response), default=0.0)


def heat_text(heat: Heat, axis: int, scale: float) -> HeatText:
    """One axis of the heat of an example.

    Parameters
    ----------
    heat : Heat
    axis : int
    scale : float
        Standard deviation of the axis.
    """
    values = np.nan_to_num(heat.contributions[:, axis].astype(np.float64)) / (scale or 1.0)
    of_template = heat.roles == Role.TEMPLATE
    return HeatText(
        _pieces(heat, values.tolist(), Role.PROMPT),
        _pieces(heat, values.tolist(), Role.RESPONSE),
        float(values[of_template].sum()),
    )


def _pieces(heat: Heat, values: Sequence[float], role: Role) -> list[Piece]:
    """Tokens of a role; where others stand between them, a break does."""
    found: list[Piece] = []
    apart = False
    for token, its_role, value in zip(heat.tokens, heat.roles, values, strict=True):
        if its_role == role:
            if apart and found:
                found.append((BREAK, 0.0))
            found.append((token, value))
            apart = False
        else:
            apart = True
    return found


# -------------------------------------------------------------------------------------- markup


def heat_key() -> Markup:
    """How to read the colours."""
    adds = tag("b", "adds to z", class_="adds strong", style="--share:0.8")
    takes = tag("b", "takes from z", class_="takes strong", style="--share:0.8")
    said = "Heat: what each token ", adds, ", towards the + pole, or ", takes, ", towards the −. "
    more = "The deeper the colour the more; the strongest tokens of a text are underlined."
    return tag("p", *said, more, class_="faint heat-key")


def heat_sum(text: HeatText) -> Markup:
    """What prompt, response and template add, and what that comes to."""
    parts = {
        "prompt": sum(value for _, value in text.prompt),
        "response": sum(value for _, value in text.response),
        "template": text.template,
    }
    told = ", ".join(f"{name}{NBSP}{signed(value)}" for name, value in parts.items() if value)
    total = f"sum{NBSP}{signed(sum(parts.values()))}"
    return tag("p", f"Tokens add up: {told or 'none'}; {total}", class_="sum")


def folded_heat(pieces: Sequence[Piece], whole: str, most: int, kind: str, strongest: float) -> str:
    """A long text with its heat: the beginning in sight, the rest folded away.

    Parameters
    ----------
    pieces : sequence of (str, float)
        The text as the model read it.
    whole : str
        The text; what the model did not read of it stands after the pieces, without colour.
    most : int
        Characters, of which `SHOWN` are in sight.
    kind : str
        Class of its paragraphs.
    strongest : float
        The value that has the deepest colour.
    """
    text = "".join(token for token, _ in pieces)
    unread = whole[len(text) :] if whole.startswith(text) else ""
    every = [*pieces, (unread, 0.0)]
    seen, later = _parted(every, min(SHOWN, most))
    folded, cut = _parted(later, most - min(SHOWN, most))
    parts: list[str] = [_paragraph(seen, "…" if _length(later) else "", kind, strongest)]
    if n := _length(folded):
        more = tag("summary", f"{n:,} more characters")
        parts.append(tag("details", more, _paragraph(folded, "", kind, strongest)))
    if n := _length(cut):
        said = f"Cut: {n:,} of {_length(every):,} characters are not in this file."
        parts.append(tag("p", said, class_="cut"))
    return joined(parts)


def _length(pieces: Sequence[Piece]) -> int:
    """In characters."""
    return sum(len(token) for token, _ in pieces)


def _parted(pieces: Sequence[Piece], at: int) -> tuple[list[Piece], list[Piece]]:
    """Pieces before and after a place in the text; the one across it is cut in two."""
    before: list[Piece] = []
    for i, (token, value) in enumerate(pieces):
        if len(token) > at:
            # Its value counts once, with its first part.
            first, rest = [(token[:at], value)] if at else [], (token[at:], 0.0 if at else value)
            return before + first, [rest, *pieces[i + 1 :]]
        before.append((token, value))
        at -= len(token)
    return before, []


def _paragraph(pieces: Sequence[Piece], end: str, kind: str, strongest: float) -> Markup:
    texts = _as_on_the_page([token for token, _ in pieces])
    values = np.array([value for _, value in pieces], dtype=np.float64)
    levels = np.clip(np.rint(LEVELS * values / (strongest or 1.0)), -LEVELS, LEVELS)
    painted: dict[str, str | float | bool | None] = {
        "data_heat": _base64(levels.astype(np.int8).tobytes()),
        "data_lengths": _base64(_lengths(texts)),
        "data_most": f"{strongest:.4g}",
    }
    return tag("p", *texts, end, class_=f"{kind} heat", dir="auto", **painted)


def _as_on_the_page(tokens: Sequence[str]) -> list[Markup]:
    """Tokens as the page will hold them: one line end is one character there."""
    shown: list[Markup] = []
    following = ""
    for token in reversed(tokens):
        joint = token[:-1] if token.endswith("\r") and following == "\n" else token
        shown.append(escaped(joint))
        following = token[:1] or following
    return shown[::-1]


def _lengths(texts: Iterable[str]) -> bytes:
    """Length of each text in UTF-16 code units, as scripts count them."""
    found = bytearray()
    for text in texts:
        units = len(html.unescape(text).encode("utf-16-le")) // 2
        found += bytes([LONGEST] * (units // LONGEST) + [units % LONGEST])
    return bytes(found)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
