"""Figures of bases: how much axes hold, which layer, how far to trust an axis, which basis.

Functions from values to a string of HTML, the same string for the same values. Each carries its
colours for light and dark with it, so that it can stand alone in the output of a notebook's cell.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from ..axes.badges import WARNINGS, badges
from . import drawing as draw
from .curves import Curve, curves
from .drawing import BLUE, GREEN, INK, ORANGE, Scale
from .markup import GLYPHS, Markup, joined, tag

FAINTEST = 1e-4
"""Shares below this part of the largest are drawn there: past the rank they are rounding."""

KINDS = {"good": GREEN, "warn": ORANGE, "plain": INK}

# ------------------------------------------------------------------------- variance and layers


def spectrum(shares: ArrayLike, chance: ArrayLike | None = None) -> str:
    """Share of variance of each axis and their running sum, on a log scale.

    Parameters
    ----------
    shares : array_like, [n_axes]
        Of the total variance, in [0, 1]: a basis's ``explained_variance_ratio_``, or the variances
        of `parallel_analysis` over their sum.
    chance : array_like, [n_axes], optional
        The same of rows that have nothing in common but their spreads: drawn as a dotted line,
        with a mark where the shares fall below it.
    """
    held = np.nan_to_num(np.asarray(shares, dtype=np.float64)).ravel()
    if not len(held):
        return draw.alone(draw.figure("Share of variance of each axis", "No axes.", 30, []))
    total = float(held.sum())
    least = FAINTEST * float(held.max()) or FAINTEST
    drawn = [
        Curve("running sum", np.maximum(held.cumsum(), least), INK, "6 4"),
        Curve("each axis", np.maximum(held, least), BLUE),
    ]
    marked = None
    if chance is not None:
        by_chance = np.asarray(chance, dtype=np.float64).ravel()
        drawn.append(Curve("each axis by chance", np.maximum(by_chance, least), ORANGE, "2 3"))
        within = held <= by_chance
        count = int(within.argmax()) if within.any() else len(held)
        marked = (max(count - 1, 0), f"{count} axes above chance")
    title = f"Share of the variance on each axis, log scale; together {total:.1%}"
    numbers = range(len(held))
    return curves(title, drawn, numbers, x_name="axis", log=True, percent=True, marked=marked)


def layer_curve(table: pd.DataFrame) -> str:
    """What a probe reads at each layer and how far axes recur there; the chosen layer is marked.

    Parameters
    ----------
    table : DataFrame
        As `compare_layers` gives it.
    """
    chance, metric = table.attrs["chance"], table.attrs["metric"]
    drawn = [
        Curve(f"probe, {metric}", table["probe"], BLUE, error=table["probe_se"]),
        Curve("stability of axes", table["stability"], GREEN, "6 4"),
        Curve("probe by chance", np.full(len(table), chance), INK, "2 3"),
    ]
    lowest = float((table["probe"] - table["probe_se"]).min())
    chosen = table.loc[table["chosen"], "layer"].item()
    return curves(
        f"Held-out probe of the {table.attrs['target']} (band: one standard error), and stability",
        drawn,
        table["layer"].tolist(),
        low=min(0.0, lowest),
        high=1.0,
        marked=(chosen, f"layer {chosen} is chosen"),
    )


# ------------------------------------------------------------------------------------- quality


@dataclass(frozen=True, slots=True)
class _Panel:
    """One figure of `quality` in its column of the drawing.

    Attributes
    ----------
    column, name, unit : str
    full : float or None
        End of the scale; None: the largest value that there is.
    """

    column: str
    name: str
    unit: str
    full: float | None = 1.0


PANELS = (
    _Panel("stability", "stability", "|cosine|"),
    _Panel("length_r2", "length", "R²"),
    _Panel("template_r2", "template", "R²"),
    _Panel("token_r2", "words", "R²"),
    _Panel("redundancy", "redundancy", "|correlation|"),
    _Panel("mutual_information", "categories", "nats", None),
    _Panel("gradient_share", "gradient", "share, %", None),
)
LINES = {column: line for column, line, _, _ in WARNINGS}
TOP, ROW = 74.0, 40.0
LEFT, TRACK = 11.5, 6.6
BAND = 25.0
"""Height of what is drawn in a row; its badges stand below."""


def quality_figure(table: pd.DataFrame) -> str:
    """How far to trust each axis: one row an axis, one column a figure, each against chance.

    Parameters
    ----------
    table : DataFrame
        As `Basis.quality` gives it. Figures that it lacks are left out.

    Returns
    -------
    str
        HTML. Shaded is what the best axis of as many random ones reaches; a dashed line is where a
        warning begins; the whisker of stability goes to its bootstrap's 5 % point. Below
        each axis stand its badges.
    """
    panels = [p for p in PANELS if p.column in table and table[p.column].notna().any()]
    rows = table.to_dict("records")
    title = "Quality of each axis, against chance"
    if not rows or not panels:
        return draw.alone(draw.figure(title, "No axes.", 30, []))
    bottom = TOP + ROW * len(rows)
    step = (100 - LEFT) / len(panels)
    parts: list[Markup] = [*_quality_key(), draw.text("axis", 0, TOP - 10, faint=True)]
    parts.append(draw.text("variance", 3.6, TOP - 10, faint=True))
    for i, panel in enumerate(panels):
        left = LEFT + step * i
        scale = Scale(0, _full(table, panel), left, left + TRACK)
        parts += _heading(panel, scale, bottom)
        for j, row in enumerate(rows):
            parts += _ground(row, panel, scale, TOP + ROW * j)
            parts += _mark(row, panel, scale, TOP + ROW * j + 13)
    for j, row in enumerate(rows):
        parts += _name(row, TOP + ROW * j)
    drawn = draw.figure(title, _told(rows), bottom + 20, parts)
    return draw.alone(draw.wide(drawn))


def _quality_key() -> Iterator[Markup]:
    """What the marks mean, in two lines."""
    yield draw.bar(0, 3, 3, 10, fill_opacity=0.12)
    yield draw.text("what the best of as many random axes reaches", 3.6, 12, faint=True)
    yield _dot(46, 8, full=True)
    yield draw.text("beyond that", 47.2, 12, faint=True)
    yield _dot(60, 8, full=False)
    yield draw.text("within", 61.2, 12, faint=True)
    yield draw.line(0, 27, 3, 27, 0.8, 1.5, "3 2")
    yield draw.text("beyond it there is a warning", 3.6, 31, faint=True)
    yield draw.line(44, 27, 47, 27, 0.7, 1.5)
    yield draw.line(44, 24, 44, 30, 0.7, 1.5)
    yield draw.text("to the bootstrap's 5 % point", 47.6, 31, faint=True)


def _dot(x: float, y: float, full: bool, colour: str = INK) -> Markup:
    """A full dot, or an open one."""
    place: dict[str, str | float] = {"cx": draw.pc(x), "cy": y}
    if full:
        return tag("circle", r=4, fill=colour, **place)
    return tag("circle", r=3.5, fill="none", stroke=colour, stroke_width=1.5, **place)


def _full(table: pd.DataFrame, panel: _Panel) -> float:
    if panel.full is not None:
        return panel.full
    columns = [c for c in (panel.column, f"{panel.column}_null") if c in table]
    return 1.05 * float(np.nanmax(table[columns].to_numpy(dtype=np.float64))) or 1.0


def _heading(panel: _Panel, scale: Scale, bottom: float) -> Iterator[Markup]:
    """Name of a column, and the ends of its scale."""
    yield draw.text(panel.name, scale.left, TOP - 24, font_weight="600")
    yield draw.text(panel.unit, scale.left, TOP - 10, faint=True)
    for end, anchor in ((0.0, "start"), (scale.high, "middle")):
        yield draw.text(_short(end, panel), scale.at(end), bottom + 11, anchor, faint=True)


def _ground(row: Mapping[Any, Any], panel: _Panel, scale: Scale, top: float) -> Iterator[Markup]:
    """The band of chance and the line of warning that a value is read against."""
    null = _value(row, f"{panel.column}_null")
    if null is not None:
        end = scale.at(min(null, scale.high))
        yield draw.bar(scale.left, end, top, BAND, fill_opacity=0.12)
    if panel.column in LINES:
        x = scale.at(LINES[panel.column])
        yield draw.line(x, top, x, top + BAND, 0.8, 1.5, "3 2")
    for end in (scale.left, scale.right):
        yield draw.line(end, top, end, top + BAND, 0.25)


def _short(value: float, panel: _Panel) -> str:
    """A value in the unit of its column, short enough for it."""
    if panel.column == "gradient_share":
        return f"{100 * value:.1f}"
    return f"{value:.2f}" if value not in (0.0, 1.0) else f"{value:.0f}"


def _mark(row: Mapping[Any, Any], panel: _Panel, scale: Scale, y: float) -> Iterator[Markup]:
    """The value of one axis in one column, as a place and as a number."""
    value, null = _value(row, panel.column), _value(row, f"{panel.column}_null")
    if value is None:
        yield draw.text("–", scale.left, y + 4, faint=True)
        return
    low = _value(row, "bootstrap_low") if panel.column == "stability" else None
    if low is not None:
        yield draw.line(scale.at(low), y, scale.at(value), y, 0.7, 1.5)
        yield draw.line(scale.at(low), y - 3, scale.at(low), y + 3, 0.7, 1.5)
    warned = value > LINES.get(panel.column, math.inf)
    beyond = warned if null is None else value > null
    colour = ORANGE if warned else BLUE if beyond else INK
    yield _dot(scale.at(min(max(value, 0), scale.high)), y, beyond, colour)
    weight = "600" if warned else "400"
    yield draw.text(_short(value, panel), scale.right + 0.9, y + 4, font_weight=weight)


def _name(row: Mapping[Any, Any], top: float) -> Iterator[Markup]:
    """Number and variance of an axis, its badges in the line below, and a hairline above."""
    yield draw.line(0, top - 1, 100, top - 1, 0.12)
    yield draw.text(str(row["axis"]), 0, top + 17, font_weight="600")
    yield draw.text(f"{row['variance']:.1%}", 3.6, top + 17)
    found = []
    for badge in badges(row):
        said = tag("title", badge.explanation)
        word = f"{GLYPHS[badge.kind]}{badge.text}"
        found.append(tag("tspan", said, word, fill=KINDS[badge.kind]))
    spaced = [joined([Markup("\u2003" if i else ""), span]) for i, span in enumerate(found)]
    yield tag("text", *spaced, x=draw.pc(3.6), y=top + 33)


def _told(rows: Sequence[Mapping[Any, Any]]) -> str:
    named = (", ".join(badge.text for badge in badges(row)) or "no badge" for row in rows)
    each = (f"axis {row['axis']}: {words}" for row, words in zip(rows, named, strict=True))
    return f"{len(rows)} axes. " + "; ".join(each) + "."


def _value(row: Mapping[Any, Any], name: str) -> float | None:
    value = row.get(name)
    return None if value is None or math.isnan(value) else float(value)


# ------------------------------------------------------------------------------------ which one


@dataclass(frozen=True, slots=True)
class Merit:
    """One figure of merit of several bases, for `comparison`.

    Attributes
    ----------
    name : str
    values : mapping of str to float
        Name of a basis -> its value, not below 0; NaN where it has none.
    better : {"more", "less"}
    percent : bool
        Write the values as per cents.
    """

    name: str
    values: Mapping[str, float]
    better: Literal["more", "less"] = "more"
    percent: bool = False

    @property
    def best(self) -> float:
        """The best of the known values; NaN if none is known."""
        known = [value for value in self.values.values() if not math.isnan(value)]
        return (max if self.better == "more" else min)(known, default=math.nan)


def comparison(merits: Sequence[Merit]) -> str:
    """Several bases side by side: a block of bars for each figure of merit, the best one marked.

    Parameters
    ----------
    merits : sequence of Merit
    """
    title = "Bases side by side"
    parts: list[Markup] = []
    heights = [44.0 + 20 * len(merit.values) for merit in merits]
    top = 0.0
    for i, merit in enumerate(merits):
        column = i % 2
        if i and not column:
            top += max(heights[i - 2 : i])
        parts += _merit(merit, 52.0 * column, top)
    spoken = "; ".join(
        f"{merit.name}: " + ", ".join(f"{n} {_written(v, merit)}" for n, v in merit.values.items())
        for merit in merits
    )
    last = max(heights[(len(merits) - 1) // 2 * 2 :], default=30.0)
    drawn = draw.figure(title, f"{spoken}." if spoken else "No bases.", top + last, parts)
    return draw.alone(draw.wide(drawn))


def _merit(merit: Merit, left: float, top: float) -> Iterator[Markup]:
    yield draw.text(merit.name, left, top + 14, font_weight="600")
    yield draw.text(f"{merit.better} is better", left, top + 29, faint=True)
    known = [value for value in merit.values.values() if not math.isnan(value)]
    scale = Scale(0, max(known, default=1.0) or 1.0, left + 16, left + 38)
    for i, (name, value) in enumerate(merit.values.items()):
        y = top + 36 + 20 * i
        is_best = value == merit.best
        weight = "600" if is_best else "400"
        yield draw.text(name, left, y + 11, font_weight=weight)
        if not math.isnan(value):
            end = scale.at(max(value, 0.0))
            yield draw.bar(scale.left, end, y, 13, BLUE if is_best else INK, fill_opacity=0.6)
        number = _written(value, merit) + (" ◆" if is_best else "")
        yield draw.text(number, left + 39, y + 11, font_weight=weight)


def _written(value: float, merit: Merit) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.1%}" if merit.percent else f"{value:.2f}"
