"""Figures of a skill as a path: the axes that make it up, and one text on its way along them.

They are drawn for a column of 300 pixels and fill a wider one. Blue is a negative pole and orange
a positive one, and a minus or a plus stands beside either.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..activations.tokens import Role
from . import drawing as draw
from .drawing import BLUE, GREEN, INK, ORANGE, PAPER, ROW, Scale
from .markup import Markup, joined, rounded, shortened, signed, tag

Values = NDArray[np.float64]

# ------------------------------------------------------------------------------------- a skill

KEY = 26.0
STEP = 36.0
"""Height of an axis: its name, and below it the bar."""

BAR = 9.0
LABEL_WIDTH = 68.0
"""Per cent of the width; to the right stand the mean and its share."""

MIDDLE = Scale(-1, 1, 2, 98)


def skill_figure(axes: Sequence[Mapping[str, Any]]) -> str:
    """The axes that make up a skill, each as a bar from 0 with its interval.

    A bar to the left leans to the negative pole, one to the right to the positive one. A full bar
    differs from 0 beyond chance, a pale one may not. Beside the mean, in standard deviations,
    stands the share of the skill's direction that the axis makes up.

    Parameters
    ----------
    axes : sequence of mapping
        ``axis name mean low high share sure``, the largest first; `low` and `high` are None where
        there is no interval. The name begins with the sign of its pole.

    Returns
    -------
    str
        HTML.
    """
    title = "What the skill is made of"
    if not axes:
        return draw.alone(draw.figure(title, "No axes.", 30, []))
    has_intervals = any(_bound(axis, "low") is not None for axis in axes)
    ends = [abs(v) for axis in axes for v in _ends(axis) if math.isfinite(v)]
    reach = 1.08 * max(ends, default=0.0) or 1.0
    scale = Scale(-reach, reach, MIDDLE.left, MIDDLE.right)
    top = KEY if has_intervals else 4.0
    bottom = top + STEP * len(axes)
    parts: list[Markup] = list(_skill_key()) if has_intervals else []
    for i, axis in enumerate(axes):
        y = top + STEP * i
        parts += [_ticks(scale, y), _bar(axis, scale, y)]
    parts += _numbers(scale, bottom)
    parts.append(draw.text("standard deviations from the mean", 50, bottom + 31, "middle", True))
    said = "; ".join(map(_said, axes))
    return draw.alone(draw.figure(title, f"{said}.", bottom + 38, parts))


def _bound(axis: Mapping[str, Any], name: str) -> float | None:
    value = axis[name]
    return None if value is None or not math.isfinite(value) else float(value)


def _ends(axis: Mapping[str, Any]) -> Iterator[float]:
    yield float(axis["mean"])
    for name in ("low", "high"):
        if (value := _bound(axis, name)) is not None:
            yield value


def _skill_key() -> Iterator[Markup]:
    """Both kinds of bars, and the interval."""
    for x, opacity, word in ((0, 0.8, "beyond chance"), (39, 0.3, "maybe chance")):
        yield draw.bar(x, x + 4, 5, BAR, INK, fill_opacity=opacity)
        yield draw.text(word, x + 5.5, 14, faint=True)
    yield draw.line(78, 9.5, 82, 9.5, 1, 1.6)
    yield draw.text("95 %", 84, 14, faint=True)


def _ticks(scale: Scale, y: float) -> Markup:
    """Hairlines behind a bar; its name stays clear of them."""
    top, bottom = y + ROW - 4, y + ROW + BAR + 4
    lines = [(scale.at(value), 0.5 if value == 0 else 0.14) for value in scale.ticks(5)]
    return joined(draw.line(x, top, x, bottom, opacity) for x, opacity in lines)


def _numbers(scale: Scale, bottom: float) -> Iterator[Markup]:
    ticks = scale.ticks(5)
    digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    for value in ticks:
        number = signed(value, digits) if value else "0"
        yield draw.text(number, scale.at(value), bottom + 15, "middle", faint=True)


def _bar(axis: Mapping[str, Any], scale: Scale, y: float) -> Markup:
    mean, sure = float(axis["mean"]), bool(axis["sure"]) or _bound(axis, "low") is None
    colour = ORANGE if mean >= 0 else BLUE
    low, high = _bound(axis, "low"), _bound(axis, "high")
    below = y + ROW + BAR / 2
    parts = [
        tag("title", _said(axis)),
        draw.label(str(axis["name"]), y, LABEL_WIDTH, int(axis["axis"])),
        draw.text(signed(mean), 86, y + 14, "end", font_weight="600" if sure else "400"),
        draw.text(f"{axis['share']:.0%}", 99, y + 14, "end", faint=True),
        draw.bar(
            scale.at(0), scale.at(mean), y + ROW, BAR, colour, fill_opacity=0.85 if sure else 0.3
        ),
    ]
    if low is not None and high is not None:
        # On paper of its own: the line must show on the bar and beside it.
        edge = {"stroke": PAPER, "stroke_width": 4.5}
        a, b = draw.pc(scale.at(low)), draw.pc(scale.at(high))
        parts.append(tag("line", x1=a, x2=b, y1=below, y2=below, **edge))  # type: ignore[arg-type]
        parts.append(draw.line(scale.at(low), below, scale.at(high), below, 1, 1.6))
        caps = (scale.at(low), scale.at(high))
        parts += [draw.line(x, below - 3, x, below + 3, 1, 1.6) for x in caps]
    return tag("g", *parts)


def _said(axis: Mapping[str, Any]) -> str:
    low, high = _bound(axis, "low"), _bound(axis, "high")
    interval = "" if low is None or high is None else f" [{signed(low)}, {signed(high)}]"
    doubt = "" if axis["sure"] or not interval else ", maybe chance"
    share = f"{axis['share']:.0%} of the skill"
    name = f"axis {axis['axis']}, {axis['name']}"
    return f"{name}: {signed(float(axis['mean']))}{interval}, {share}{doubt}"


# ------------------------------------------------------------------------------- on the way

PLOT = 132.0
HEAD = 18.0
LEFT = 9.0
"""Per cent of the width for the numbers of the scale."""

STROKES = ((ORANGE, None), (BLUE, "6 3"), (GREEN, "2 3"), (INK, "9 3 2 3"))
"""Colour and dashes of each line: either alone tells them apart."""

UNSETTLED = 0.1
"""The first tenth of a text does not decide the scale: a mean of few tokens swings widely."""

STRIPS = 160
"""At most so many places answer to the mouse."""

NEAR = 8
"""Tokens quoted of a place."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of `running_figure`.

    Attributes
    ----------
    name : str
    values : array_like, [n_tokens]
        Standard deviations; NaN where there is none yet.
    """

    name: str
    values: ArrayLike


def running_figure(
    tokens: Sequence[str], lines: Sequence[Line], roles: ArrayLike | None = None
) -> str:
    """Where a text lies after each of its tokens, on a few axes.

    The last value is that of the whole text. The scale is that of the settled part: what a mean
    of the first few tokens shows beyond it is cut off.

    Parameters
    ----------
    tokens : sequence of str, [n_tokens]
    lines : sequence of Line
        Four can be told apart.
    roles : array_like of int, [n_tokens], optional
        A `Role` each; where the response begins is marked.

    Returns
    -------
    str
        HTML.
    """
    title = "Where the text lies after each token"
    given = [np.asarray(line.values, dtype=np.float64) for line in lines]
    if not any(map(_knows, given)):
        return draw.alone(draw.figure(title, "No tokens.", 30, []))
    place = _Plot.of(given, len(tokens))
    parts: list[Markup] = [draw.text("σ", LEFT - 2, 12, "end", faint=True)]
    parts += [*place.ground(), *_response(roles, place)]
    parts += [place.line(values, *stroke) for values, stroke in zip(given, STROKES, strict=False)]
    parts += _strips(tokens, lines, given, place)
    key = HEAD + PLOT + 38
    for i, (line, (colour, dash)) in enumerate(zip(lines, STROKES, strict=False)):
        y = key + 20 * i
        ink = {"stroke": colour, "stroke_width": 2.2, "stroke_dasharray": dash}
        parts.append(tag("line", x1="0%", x2="8%", y1=y + 10, y2=y + 10, **ink))  # type: ignore[arg-type]
        parts.append(tag("svg", draw.label(line.name, 0, 71), x="10%", y=y, overflow="visible"))
        last = _last(given[i])
        parts.append(draw.text(signed(last), 99, y + 14, "end", font_weight="600"))
    said = "; ".join(
        f"{line.name}: {signed(_last(values))} at the end"
        for line, values in zip(lines, given, strict=True)
    )
    height = key + 20 * min(len(lines), len(STROKES)) + 4
    return draw.alone(draw.figure(title, f"{len(tokens)} tokens. {said}.", height, parts))


def _knows(values: Values) -> bool:
    return bool(np.isfinite(values).any())


def _last(values: Values) -> float:
    known = values[np.isfinite(values)]
    return float(known[-1]) if len(known) else math.nan


@dataclass(frozen=True, slots=True)
class _Plot:
    """Where values lie: tokens from `LEFT` to the right edge, standard deviations downwards."""

    first: int
    last: int
    low: float
    high: float

    @classmethod
    def of(cls, given: Sequence[Values], n: int) -> "_Plot":
        """From the first token that any line knows of."""
        first = min(int(np.isfinite(values).argmax()) for values in given if _knows(values))
        settled = first + int(UNSETTLED * (n - first))
        known = np.concatenate([*(values[settled:] for values in given), [0.0]])
        known = known[np.isfinite(known)]
        room = 0.08 * float(known.max() - known.min()) or 1.0
        return cls(first, n - 1, float(known.min()) - room, float(known.max()) + room)

    @property
    def across(self) -> Scale:
        return Scale(self.first, max(self.last, self.first + 1), LEFT, 99)

    def y(self, value: float) -> float:
        """In pixels."""
        return HEAD + PLOT * (self.high - value) / (self.high - self.low)

    def ground(self) -> Iterator[Markup]:
        ticks = Scale(self.low, self.high, 0, 1).ticks(4)
        step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        for value in ticks:
            y = self.y(value)
            yield draw.line(LEFT, y, 99, y, 0.35 if abs(value) < step / 2 else 0.1)
            number = signed(value, digits) if abs(value) > step / 2 else "0"
            yield draw.text(number, LEFT - 2, y + 4, "end", faint=True)
        for place in self.across.ticks(4):
            if place == round(place):
                x = self.across.at(place)
                yield draw.text(f"{place:g}", x, HEAD + PLOT + 15, "middle", faint=True)
        yield draw.text("token", 99, HEAD + PLOT + 31, "end", faint=True)

    def line(self, values: Values, colour: str, dash: str | None) -> Markup:
        """Values as a path with gaps, cut off at the edges."""
        steps, pen = [], "M"
        for i in range(self.first, self.last + 1):
            value = values[i]
            if not math.isfinite(value):
                pen = "M"
                continue
            x = 100 * (i - self.first) / max(self.last - self.first, 1)
            steps.append(f"{pen}{rounded(x)} {rounded(100 * (self.y(value) - HEAD) / PLOT)}")
            pen = "L"
        ink = {"stroke": colour, "stroke_width": 2, "stroke_dasharray": dash, "fill": "none"}
        more = {"vector_effect": "non-scaling-stroke", "stroke_linejoin": "round"}
        path = tag("path", d="".join(steps), **ink, **more)  # type: ignore[arg-type]
        box = {"x": draw.pc(LEFT), "y": HEAD, "width": draw.pc(99 - LEFT), "height": PLOT}
        fit = {"viewBox": "0 0 100 100", "preserveAspectRatio": "none"}
        return tag("svg", path, **box, **fit)  # type: ignore[arg-type]


def _response(roles: ArrayLike | None, place: _Plot) -> Iterator[Markup]:
    """A mark where the response begins, unless the text is one."""
    answered = np.flatnonzero(np.asarray([] if roles is None else roles) == Role.RESPONSE)
    if len(answered) and answered[0] > place.first:
        x = place.across.at(float(answered[0]))
        yield draw.line(x, HEAD - 4, x, HEAD + PLOT, 0.6, dash="4 3")
        is_left = x < 55
        yield draw.text("response", x + (1 if is_left else -1), 12, None if is_left else "end")


def _strips(
    tokens: Sequence[str], lines: Sequence[Line], given: Sequence[Values], place: _Plot
) -> Iterator[Markup]:
    """What is said of a place when the mouse is over it."""
    each = math.ceil((len(tokens) - place.first) / STRIPS)
    width = each * (place.across.at(place.first + 1) - place.across.at(place.first))
    for start in range(place.first, len(tokens), each):
        at = min(start + each, len(tokens)) - 1
        text = shortened("".join(tokens[max(0, at - NEAR + 1) : at + 1]), 60)
        values = ", ".join(
            f"{line.name} {signed(float(v[at]))}"
            for line, v in zip(lines, given, strict=True)
            if math.isfinite(v[at])
        )
        said = tag("title", f"token {at}, …{text}: {values or 'not counted yet'}")
        x = draw.pc(place.across.at(start) - width / each / 2)
        yield tag("rect", said, x=x, width=draw.pc(width), y=HEAD, height=PLOT, fill_opacity=0.0)
