"""Marks that stand for a value: each known by its shape, its colour and its word alike."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import drawing as draw
from .drawing import BLUE, GREEN, INK, ORANGE, Scale
from .markup import Markup, joined, tag

SHAPES = {
    "circle": tag("circle", r="3.5", fill="none", stroke_width="1.5"),
    "diamond": tag("path", d="M0-5.5 5.5 0 0 5.5-5.5 0Z"),
    "square": tag("path", d="M-4-4H4V4H-4Z"),
    "triangle": tag("path", d="M0-5 5 4H-5Z"),
    "cross": tag("path", d="M-3-3 3 3M-3 3 3-3", stroke_width="1.5"),
}
OUTLINES = ("circle", "cross")
"""Shapes that are drawn with a line, so that what lies below shows."""

CHARACTER = 0.97
"""About how wide a letter is, in per cent of the width of a figure on a narrow page."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a value is marked, and what that says.

    Attributes
    ----------
    word : str
    shape : str
        One of `SHAPES`.
    colour : str
    """

    word: str
    shape: str = "circle"
    colour: str = INK

    def saying(self, word: str) -> "Look":
        """The same look with another word."""
        return Look(word, self.shape, self.colour)


CROSS = Look("", "cross")

SERIES = (
    Look("", "circle"),
    Look("", "diamond", BLUE),
    Look("", "square", ORANGE),
    Look("", "triangle", GREEN),
)
"""Looks of named series, in their order; a fifth would look like the first."""


def mark(look: Look, x: float, y: float, opacity: float | None = None) -> Markup:
    """The shape of a look about a place: `x` in per cent of the width, `y` in pixels."""
    ink = {"stroke" if look.shape in OUTLINES else "fill": look.colour}
    shape = tag("g", SHAPES[look.shape], **ink)
    return tag("svg", shape, x=draw.pc(x), y=y, overflow="visible", opacity=opacity)


def interval(low: float, value: float, high: float, look: Look, scale: Scale, y: float) -> Markup:
    """A marked value with a line to both ends of its interval, where it has one."""
    parts = [mark(look, scale.at(value), y)]
    if not (math.isnan(low) or math.isnan(high)):
        parts.insert(0, draw.line(scale.at(low), y, scale.at(high), y, 0.6, 1.5))
    return joined(parts)


def key(looks: Sequence[Look], y: float) -> Iterator[Markup]:
    """Marks and what they say, one after the other on the base line `y`."""
    x = 0.7
    for look in looks:
        yield mark(look, x, y - 4)
        yield draw.text(look.word, x + 1.3, y, faint=True)
        x += 4.3 + CHARACTER * len(look.word)


def headings(names: Mapping[float, str], y: float, anchor: str | None = None) -> Iterator[Markup]:
    """Names of columns, each at its place across."""
    more: dict[str, Any] = {"font_weight": "600"}
    for x, name in names.items():
        yield draw.text(name, x, y, anchor, **more)
