"""The report's figures: SVG that stands alone, on light and on dark pages."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mnskills_viz.widgets import drawing as draw
from mnskills_viz.widgets.drawing import BLUE, GREEN, ORANGE, ROW, Scale
from mnskills_viz.widgets.marks import SERIES, Look, key, mark
from mnskills_viz.widgets.markup import Markup, shortened, signed, tag

WIDTH, MARGIN = 860, 14
"""In pixels."""

COLOURS = """
:root{color:#1f2328;background:#fff;--paper:#fff;
--mn-blue:#0a6fb0;--mn-green:#00805f;--mn-orange:#c2590a}
@media (prefers-color-scheme:dark){:root{color:#e6edf3;background:#0d1117;--paper:#0d1117;
--mn-blue:#6db3ee;--mn-green:#4cc9a0;--mn-orange:#f2a35e}}
"""

LOOKS = {
    "human taxonomy": Look("human taxonomy", "square", ORANGE),
    "model-native": Look("model-native", "diamond", BLUE),
    "ladder": Look("ladder", "circle"),
    "other": Look("other", "triangle", GREEN),
}

LETTER = 0.83
"""About how wide a letter is, in per cent of the width."""

MOST_LETTERS = 40
"""Of what a row is called."""


def standing_alone(title: str, said: str, height: float, parts: Iterator[Markup]) -> str:
    """A figure with a background and colours of its own, as a file.

    Parameters
    ----------
    title, said : str
        What a screen reader says.
    height : float
    parts : iterator of Markup
    """
    inner = Markup(draw.figure(title, said, height, parts))
    box = {"x": MARGIN, "y": MARGIN, "width": WIDTH - 2 * MARGIN, "height": height}
    whole = tag(
        "svg",
        tag("style", Markup(COLOURS)),
        tag("rect", width="100%", height="100%", fill="var(--paper)"),
        tag("svg", inner, **box),
        xmlns="http://www.w3.org/2000/svg",
        width=WIDTH,
        height=height + 2 * MARGIN,
        viewBox=f"0 0 {WIDTH} {height + 2 * MARGIN:g}",
    )
    return whole + "\n"


# ------------------------------------------------------------------------------------ forest


@dataclass(frozen=True, slots=True)
class Dot:
    """A value with up to two intervals: over problems, and over trainings."""

    value: float
    spans: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """One outcome of all rows.

    Attributes
    ----------
    name, unit : str
    dots : mapping of str to Dot
        By row.
    band : float or None
        Effects smaller than this, either way, lie on a shaded ground.
    digits : int
    """

    name: str
    unit: str
    dots: Mapping[str, Dot]
    band: float | None = None
    digits: int = 4


def forest(
    title: str,
    groups: Mapping[str, Sequence[str]],
    columns: Sequence[Column],
    looks: Mapping[str, Look] = LOOKS,
    spans: Sequence[str] = ("over problems", "over trainings"),
) -> str:
    """Effects about zero, a row an arm, with their intervals.

    Parameters
    ----------
    title : str
    groups : mapping of str to sequence of str
        Names of rows by the group that they stand in.
    columns : sequence of Column
    looks : mapping of str to Look
        How the rows of a group are marked.
    spans : sequence of str
        What the intervals are over, the upper one first.
    """
    groups = {group: rows for group, rows in groups.items() if rows}
    top, height = 64.0, ROW * sum(len(rows) + 1 for rows in groups.values())
    names = _room([row for rows in groups.values() for row in rows])

    def parts() -> Iterator[Markup]:
        yield draw.text(title, 0, 12, font_weight="600")
        yield from _spans(spans, any(column.band is not None for column in columns), 31)
        step = (100 - names) / len(columns)
        for i, column in enumerate(columns):
            left = names + step * i + 1
            scale = _about_zero(column, left, left + step - 9)
            yield draw.text(column.name, left, top - 8, font_weight="600")
            yield draw.text(column.unit, left + step - 2, top - 8, "end", faint=True)
            yield from _ground(column, scale, top, top + height)
        y = top
        for group, rows in groups.items():
            yield draw.text(group, 0, y + 15, faint=True, font_style="italic")
            y += ROW
            for row in rows:
                yield draw.line(0, y, 100, y, 0.08)
                yield draw.text(shortened(row, MOST_LETTERS), 1, y + 15)
                for i, column in enumerate(columns):
                    left = names + step * i + 1
                    scale = _about_zero(column, left, left + step - 9)
                    if row in column.dots:
                        yield _dot(row, column, looks[group], scale, left + step - 2, y)
                y += ROW

    said = "; ".join(
        f"{column.name}: "
        + ", ".join(f"{row} {signed(d.value, column.digits)}" for row, d in column.dots.items())
        for column in columns
    )
    return standing_alone(title, said, top + height + 22, parts())


def _room(names: Sequence[str]) -> float:
    """Per cent of the width for what rows are called."""
    return 3 + LETTER * min(MOST_LETTERS, max(18, *map(len, names), 18))


def _spans(spans: Sequence[str], band: bool, y: float) -> Iterator[Markup]:
    """What the lines beside a mark are, and the shaded ground."""
    x = 0.0
    for i, word in enumerate(spans):
        said = f"95 % {word}"
        yield draw.line(x, y - 4, x + 3, y - 4, 0.85, 1.6, None if i == 0 else "3 2")
        yield draw.text(said, x + 3.6, y, faint=True)
        x += 6.5 + 0.8 * len(said)
    if band:
        yield draw.bar(x, x + 3, y - 10, 12, fill_opacity=0.09)
        yield draw.text("smaller than what this design was to find", x + 3.6, y, faint=True)


def _about_zero(column: Column, left: float, right: float) -> Scale:
    ends = [0.0]
    for dot in column.dots.values():
        ends += [dot.value, *(end for span in dot.spans for end in span)]
    known = [end for end in ends if math.isfinite(end)]
    low, high = min(known), max(known)
    room = 0.06 * (high - low) or 1.0
    return Scale(low - room, high + room, left, right)


def _ground(column: Column, scale: Scale, top: float, bottom: float) -> Iterator[Markup]:
    if column.band is not None:
        low, high = max(-column.band, scale.low), min(column.band, scale.high)
        yield draw.bar(scale.at(low), scale.at(high), top, bottom - top, fill_opacity=0.09)
    ticks = scale.ticks(4)
    yield draw.ruler(scale, ticks if len(ticks) < 6 else ticks[::2], top, bottom)


def _dot(row: str, column: Column, look: Look, scale: Scale, right: float, y: float) -> Markup:
    dot, number = column.dots[row], signed(column.dots[row].value, column.digits)
    middle = y + ROW / 2
    lines = []
    for i, (low, high) in enumerate(dot.spans):
        if math.isfinite(low) and math.isfinite(high):
            place = middle if len(dot.spans) == 1 else middle + (3.5 if i else -3.5)
            ends = {"x1": draw.pc(scale.at(low)), "x2": draw.pc(scale.at(high))}
            ink = {"stroke": look.colour, "stroke_dasharray": "3 2" if i else None}
            lines.append(tag("line", y1=place, y2=place, stroke_width=1.6, **ends, **ink))
    shape = mark(look, scale.at(dot.value), middle)
    said = tag("title", f"{row}, {column.name}: {number} {column.unit}")
    return tag("g", said, *lines, shape, draw.text(number, right, y + 15, "end"))


# -------------------------------------------------------------------------------------- heat


@dataclass(frozen=True, slots=True)
class Heat:
    """Numbers of rows by columns, shaded by their size.

    Attributes
    ----------
    columns : sequence of str
    values : mapping of str to sequence of float
        By row.
    digits : int
    sign : bool
        Whether numbers carry their sign; those below zero are of another colour.
    """

    columns: Sequence[str]
    values: Mapping[str, Sequence[float]]
    digits: int = 0
    sign: bool = False

    def number(self, value: float) -> str:
        """A number as it stands in its field."""
        if not math.isfinite(value):
            return "–"
        return signed(value, self.digits) if self.sign else f"{value:.{self.digits}f}"


def heat(title: str, said: str, shown: Heat) -> str:
    """A table whose fields are shaded by their numbers."""
    known = [abs(v) for row in shown.values.values() for v in row if math.isfinite(v)]
    most = max(known, default=0.0) or 1.0
    names = _room([*shown.values])
    top, step = 66.0, (100 - names) / max(1, len(shown.columns))
    letters = max(4, int(step / LETTER) - 1)

    def parts() -> Iterator[Markup]:
        yield draw.text(title, 0, 12, font_weight="600")
        yield draw.text(said, 0, 30, faint=True)
        for i, name in enumerate(shown.columns):
            first, _, rest = name.replace("_", "-").partition("-")
            place = names + step * (i + 0.5)
            for line, word in enumerate([f"{first}-", rest] if rest else ["", first]):
                yield draw.text(shortened(word, letters), place, 46 + 13 * line, "middle")
        for place, (row, values) in enumerate(shown.values.items()):
            y = top + ROW * place
            yield draw.text(shortened(row, MOST_LETTERS), 0, y + 15)
            for i, value in enumerate(values):
                left = names + step * i
                if math.isfinite(value):
                    colour = ORANGE if value < 0 else BLUE
                    shade = 0.55 * abs(value) / most
                    yield draw.bar(
                        left + 0.15, left + step - 0.15, y + 1, ROW - 2, colour, fill_opacity=shade
                    )
                yield draw.text(shown.number(value), left + step / 2, y + 15, "middle")

    spoken = "; ".join(
        f"{row}: " + ", ".join(map(shown.number, values)) for row, values in shown.values.items()
    )
    return standing_alone(title, spoken, top + ROW * len(shown.values) + 4, parts())


# ------------------------------------------------------------------------------------ curves


MOST_NUMBERS = 30
"""That fit below one panel."""


def curves(
    title: str,
    across: Sequence[int],
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    unit: str,
    log: bool = False,
) -> str:
    """Lines over numbers, a panel beside the other.

    Parameters
    ----------
    title : str
    across : sequence of int
        Ascending.
    panels : mapping of str to mapping of str to sequence of float
        Panel -> line -> a value for each number.
    unit : str
        Of the numbers.
    log : bool
        Whether equal ratios are equally far apart.
    """
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    looks = {name: SERIES[i % len(SERIES)].saying(name) for i, name in enumerate(names)}
    top, bottom, step = 74.0, 254.0, 100 / max(1, len(panels))
    places = [math.log2(number) if log else float(number) for number in across]
    every = -(-len(across) * len(panels) // MOST_NUMBERS)
    numbers = {place: str(n) for place, n in [*zip(places, across, strict=True)][::every]}

    def parts() -> Iterator[Markup]:
        yield draw.text(title, 0, 12, font_weight="600")
        yield from key(list(looks.values()), 34)
        for i, (panel, lines) in enumerate(panels.items()):
            last = max(places[-1], places[0] + 1)
            scale = Scale(places[0], last, step * i + 5, step * (i + 1) - 3)
            yield draw.text(panel, scale.left, top - 14, font_weight="600")
            yield from _panel(lines, looks, places, numbers, scale, (top, bottom))
            yield draw.text(unit, scale.right, bottom + 32, "end", faint=True)

    said = "; ".join(
        f"{panel}{panel and ', '}{name}: " + " ".join(f"{value:.3g}" for value in values)
        for panel, lines in panels.items()
        for name, values in lines.items()
    )
    return standing_alone(title, said, bottom + 38, parts())


def _panel(
    lines: Mapping[str, Sequence[float]],
    looks: Mapping[str, Look],
    places: Sequence[float],
    numbers: Mapping[float, str],
    across: Scale,
    place: tuple[float, float],
) -> Iterator[Markup]:
    known = [value for values in lines.values() for value in values]
    low, high = min(known), max(known)
    room = 0.06 * (high - low) or 0.5
    up = Scale(low - room, high + room, place[1], place[0])
    for value in up.ticks(4):
        yield draw.line(across.left, up.at(value), across.right, up.at(value), 0.12)
        yield draw.text(f"{value:.3g}", across.left - 0.6, up.at(value) + 4, "end", faint=True)
    for number, said in numbers.items():
        yield draw.text(said, across.at(number), place[1] + 16, "middle", faint=True)
    for name, values in lines.items():
        look = looks[name]
        xs = [across.at(number) for number in places]
        for i in range(len(xs) - 1):
            ends = {"x1": draw.pc(xs[i]), "x2": draw.pc(xs[i + 1])}
            y = {"y1": up.at(values[i]), "y2": up.at(values[i + 1])}
            yield tag("line", stroke=look.colour, stroke_width=1.6, **ends, **y)
        for x, value in zip(xs, values, strict=True):
            said = tag("title", f"{name}: {value:.3g}")
            yield tag("g", said, mark(look, x, up.at(value)))
