"""What every figure is drawn with: places in per cent of the width, text, lines, bars, rulers.

Ink is ``currentColor``; the page that a figure stands in decides what is light and what is dark.
`alone` gives a figure the other colours too, for where there is no page of ours around it.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .markup import Markup, joined, rounded, shortened, signed, tag

INK = "currentColor"
BLUE = "var(--mn-blue, #0a6fb0)"
GREEN = "var(--mn-green, #00805f)"
ORANGE = "var(--mn-orange, #c2590a)"

PAPER = "var(--jp-layout-color0, var(--mn-paper, Canvas))"
"""What lies behind a figure: marks are set off from colour by it, and open ones filled with it."""

ROW = 22
"""Height of a row with one line of text, in pixels."""

FRAME = {
    "xmlns": "http://www.w3.org/2000/svg",
    "class": "mn-figure",
    "role": "img",
    "width": "100%",
    "fill": INK,
    "style": "font:12px/1 var(--mn-font, system-ui, sans-serif);font-variant-numeric:tabular-nums",
}
LABEL_LENGTH = 80
LABEL_STYLE = (
    "line-height:20px;overflow:hidden;white-space:nowrap;text-overflow:ellipsis;opacity:.8;"
    "unicode-bidi:plaintext;text-align:left"
)
XHTML = "http://www.w3.org/1999/xhtml"

STYLE = """
.mn-alone{max-width:760px;margin:6px 0 12px}
.mn-alone .wide{overflow-x:auto}.mn-alone .wide>svg{min-width:680px}
[data-jp-theme-light="false"] .mn-alone,.vscode-dark .mn-alone{
--mn-blue:#6db3ee;--mn-green:#4cc9a0;--mn-orange:#f2a35e}
@media (prefers-color-scheme:dark){body:not([data-jp-theme-light],[class*="vscode"]) .mn-alone{
--mn-blue:#6db3ee;--mn-green:#4cc9a0;--mn-orange:#f2a35e}}
"""


def alone(*parts: str, style: str = "") -> str:
    """Parts that bring their colours for light and dark, to stand in the output of a cell.

    Parameters
    ----------
    *parts : str
    style : str
        More CSS.
    """
    return tag("div", tag("style", Markup(STYLE + style)), *parts, class_="mn-alone")


def wide(svg: str) -> Markup:
    """A figure that is moved sideways, by keys too, where there is no room for its letters."""
    reached = {"tabindex": "0", "role": "group", "aria_label": "Figure, moved sideways"}
    return tag("div", Markup(svg), class_="wide", **reached)


@dataclass(frozen=True, slots=True)
class Scale:
    """Values from `low` to `high` laid over the width from `left` to `right` per cent."""

    low: float
    high: float
    left: float
    right: float

    def at(self, value: float) -> float:
        """Where a value lies, in per cent of the width."""
        share = (float(value) - self.low) / (self.high - self.low)
        return self.left + share * (self.right - self.left)

    def ticks(self, n: int) -> list[float]:
        """About `n` round numbers within."""
        rough = (self.high - self.low) / n
        power = 10.0 ** math.floor(math.log10(rough))
        step = power * next(m for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [i * step for i in range(first, last + 1)]


def pc(value: float) -> str:
    """A place across as SVG has it."""
    return f"{rounded(value)}%"


def figure(title: str, description: str, height: float, parts: Iterable[str]) -> str:
    """A whole figure; without values it says so."""
    said = (tag("title", title), tag("desc", description))
    drawn = joined(parts) or text("No values yet", 0, 20)
    return tag("svg", *said, drawn, height=height, **FRAME)


def text(
    text: str, x: float, y: float, anchor: str | None = None, faint: bool = False, **more: str
) -> Markup:
    """Letters on the base line `y`; the anchor is SVG's: ``"middle"`` or ``"end"``."""
    opacity = 0.66 if faint else None
    return tag("text", text, x=pc(x), y=y, text_anchor=anchor, opacity=opacity, **more)


def line(
    x1: float,
    y1: float,
    x2: float,
    y2: float,
    opacity: float,
    width: float = 1,
    dash: str | None = None,
) -> Markup:
    """A straight line between two places, down in pixels."""
    ends = {"x1": pc(x1), "x2": pc(x2)}
    ink = {"stroke_width": width, "stroke_opacity": opacity}
    return tag("line", y1=y1, y2=y2, stroke=INK, stroke_dasharray=dash, **ends, **ink)


def bar(a: float, b: float, y: float, height: float, fill: str = INK, **more: float) -> Markup:
    """A horizontal bar between two places across."""
    x, width = pc(min(a, b)), pc(abs(b - a))
    return tag("rect", x=x, y=y, width=width, height=height, fill=fill, **more)


def label(text: str, y: float, width: float, number: int | None = None) -> Markup:
    """A row's name in the `width` per cent that there are; its number first, if it has one."""
    # HTML inside, because SVG itself cannot end a text that is too long with an ellipsis.
    style = f"{LABEL_STYLE};padding-left:{0 if number is None else 26}px"
    name = tag("div", shortened(text, LABEL_LENGTH), xmlns=XHTML, style=style)
    box = tag("foreignObject", name, y=y, width=pc(width), height=ROW)
    if number is None:
        return box
    digits = tag("text", str(number), x=18, y=y + 14, text_anchor="end", font_weight="600")
    return joined([digits, box])


def ruler(scale: Scale, ticks: Sequence[float], top: float, bottom: float) -> Markup:
    """Vertical hairlines with their numbers below."""
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    parts = []
    for value in ticks:
        x = scale.at(value)
        parts.append(line(x, top, x, bottom, 0.35 if value == 0 else 0.1))
        number = signed(value, digits) if scale.low < 0 else f"{value:.{digits}f}"
        parts.append(text("0" if value == 0 else number, x, bottom + 15, "middle", faint=True))
    return joined(parts)
