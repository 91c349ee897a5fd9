"""Figures of selections: what each is made of, how it covers the space, what two have in common.

Functions from values to a string of HTML, the same string for the same values. Each carries its
colours for light and dark with it, so that it can stand alone in the output of a notebook's cell.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from ..selection.measures import Coverage
from . import drawing as draw
from .drawing import BLUE, GREEN, INK, ORANGE, ROW, Scale
from .marks import CHARACTER, Look, key, mark
from .markup import Markup, shortened, tag

MORE = Look("more than a random draw", "triangle", ORANGE)
LESS = Look("less", "diamond", BLUE)
WITHIN = Look("as a random draw may", "circle")

BETTER = Look("better than random draws", "square", GREEN)
NO_BETTER = Look("as random draws", "circle")
POORER = Look("less well", "diamond", ORANGE)

PANELS_A_ROW = 4
LEFT = 19.0
"""Per cent of the width for what a row is called."""

HEAD = 37.0
"""Pixels for the name and the size of a selection, above its column."""

MOST_GROUPS = 24


# ------------------------------------------------------------------------------- what is bought


def composition_figure(table: pd.DataFrame) -> str:
    """What each strategy would buy: its share of each group, against the pool and against chance.

    One column a selection, one row a group. The upright line is the group's share of the pool; the
    shaded band holds 95 % of random draws of the same size. A full mark lies outside it: the
    strategy prefers that group (▲ more) or passes it over (◆ less), which chance alone seldom
    does. In a figure of many rows and columns one mark in twenty lies outside by chance.

    Parameters
    ----------
    table : DataFrame
        ``selection group pool_share count share low high``, as `composition` gives it. Of more
        than 24 groups the first 24 are shown, and the rest counted.

    Returns
    -------
    str
        HTML.
    """
    title = "What each selection is made of, against the pool and against chance"
    names = list(dict.fromkeys(table["selection"]))
    groups = list(dict.fromkeys(table["group"]))
    if not groups:
        return draw.alone(draw.figure(title, "No selections.", 30, []))
    rows = {(row["selection"], row["group"]): row for row in table.to_dict("records")}
    full = 1.05 * float(table[["share", "pool_share", "high"]].to_numpy().max()) or 1.0
    shown = groups[:MOST_GROUPS]
    parts: list[Markup] = [
        *key([MORE, LESS, WITHIN], 12),
        draw.bar(58, 61, 3, 11, fill_opacity=0.14),
        draw.text("95 % of random draws", 61.8, 12, faint=True),
        draw.line(84, 2, 84, 14, 0.8, 1.5),
        draw.text("the pool", 85, 12, faint=True),
    ]
    top = 28.0
    for start in range(0, len(names), PANELS_A_ROW):
        parts += _block(names[start : start + PANELS_A_ROW], shown, rows, full, top)
        top += HEAD + ROW * len(shown) + 16
    if len(groups) > len(shown):
        parts.append(draw.text(f"and {len(groups) - len(shown)} more groups", 0, top, faint=True))
        top += 16
    drawn = draw.figure(title, " ".join(_bought(name, shown, rows) for name in names), top, parts)
    return draw.alone(draw.wide(drawn))


Rows = Mapping[tuple[Any, Any], Mapping[Any, Any]]


def _block(
    names: Sequence[Any], groups: Sequence[Any], rows: Rows, full: float, top: float
) -> Iterator[Markup]:
    """Up to four selections side by side, under their names, beside the names of the groups."""
    step = (100 - LEFT) / PANELS_A_ROW
    for j, group in enumerate(groups):
        y = top + HEAD + ROW * j
        yield draw.line(0, y, 100, y, 0.1)
        yield draw.label(str(group), y + 1, LEFT - 1)
    for i, name in enumerate(names):
        left = LEFT + step * i
        scale = Scale(0, full, left, left + step - 7.5)
        size = sum(row["count"] for (chosen, _), row in rows.items() if chosen == name)
        yield draw.text(shortened(str(name), 20), left, top + 14, font_weight="600")
        yield draw.text(f"{size:,} rows", left, top + 29, faint=True)
        for j, group in enumerate(groups):
            yield _share(str(name), rows[name, group], scale, top + HEAD + ROW * j)


def _share(name: str, row: Mapping[Any, Any], scale: Scale, y: float) -> Markup:
    """The share of one group in one selection, on what it is read against."""
    share, low, high, middle = row["share"], row["low"], row["high"], y + ROW / 2
    look = _bias(row)
    pool = scale.at(row["pool_share"])
    spoken = (
        f"{name}, {row['group']}: {row['count']:,} rows, {share:.1%}, {look.word}; the pool "
        f"{row['pool_share']:.1%}, random draws {low:.1%} to {high:.1%}"
    )
    return tag(
        "g",
        tag("title", spoken),
        draw.bar(scale.at(low), scale.at(high), y + 4, ROW - 8, fill_opacity=0.14),
        draw.line(pool, y + 4, pool, y + ROW - 4, 0.8, 1.5),
        draw.line(scale.left, middle, scale.right, middle, 0.1),
        mark(look, scale.at(share), middle),
        draw.text(
            f"{share:.0%}",
            scale.right + 5.8,
            y + 15,
            "end",
            font_weight="400" if look is WITHIN else "600",
        ),
    )


def _bias(row: Mapping[Any, Any]) -> Look:
    return MORE if row["share"] > row["high"] else LESS if row["share"] < row["low"] else WITHIN


def _bought(name: Any, groups: Sequence[Any], rows: Rows) -> str:
    """What a selection has more and less of, in words."""
    parts = []
    for look, word in ((MORE, "more"), (LESS, "less")):
        found = [rows[name, group] for group in groups if _bias(rows[name, group]) is look]
        listed = ", ".join(
            f"{row['group']} {row['share']:.0%} of {row['pool_share']:.0%}" for row in found
        )
        parts += [f"{word} than chance: {listed}"] * bool(found)
    return f"{name}: {'; '.join(parts) or 'no group beyond chance'}."


# ------------------------------------------------------------------------------ what is covered


@dataclass(frozen=True, slots=True)
class _Panel:
    """One measure of `coverage_figure` in its column.

    Attributes
    ----------
    measure : str
        Field of `Coverage`.
    name, unit : str
    better : {"more", "less"}
    """

    measure: str
    name: str
    unit: str
    better: Literal["more", "less"]


PANELS = (
    _Panel("mean_distance", "nearest pick, mean", "sd", "less"),
    _Panel("radius_95", "the farthest 5 %", "sd", "less"),
    _Panel("empty_bins", "empty bins", "%", "less"),
    _Panel("participation", "directions", "of z", "more"),
)


def coverage_figure(
    found: Mapping[str, Coverage],
    chance: Sequence[Coverage] = (),
    before: Coverage | None = None,
) -> str:
    """How well each selection covers the space of skills, against random draws and the whole pool.

    One row a selection, one column a measure: how far an example lies from the nearest one that was
    picked, on average and from where the farthest 5 % begin; the share of the space's bins in which
    none was picked; and over how many directions the picks spread. The shaded band is where the
    random draws lie; a full mark lies beyond them. The upright line is the whole pool, before
    anything was left out: no selection from it comes nearer.

    Parameters
    ----------
    found : mapping of str to Coverage
        Name of a selection -> what `coverage` says of it. All of one pool, covering the same rows.
    chance : sequence of Coverage
        The same of random draws of the same budget, twenty or more.
    before : Coverage, optional
        The same of the whole pool; covering held-out rows, or it is 0 by definition.

    Returns
    -------
    str
        HTML.
    """
    title = "How well each selection covers the space of skills"
    if not found:
        return draw.alone(draw.figure(title, "No selections.", 30, []))
    top, step = 78.0, (100 - LEFT) / len(PANELS)
    bottom = top + ROW * len(found)
    looks = [BETTER, NO_BETTER, POORER] if chance else [NO_BETTER.saying("a selection")]
    parts: list[Markup] = list(key(looks, 12))
    if chance:
        parts.append(draw.bar(58, 61, 3, 11, fill_opacity=0.14))
        parts.append(draw.text(f"{len(chance)} random draws", 61.8, 12, faint=True))
    if before is not None:
        parts.append(draw.line(84, 2, 84, 14, 0.8, 1.5))
        parts.append(draw.text("the whole pool", 85, 12, faint=True))
    for j, name in enumerate(found):
        parts.append(draw.line(0, top + ROW * j, 100, top + ROW * j, 0.1))
        parts.append(draw.label(name, top + ROW * j + 1, LEFT - 1))
    spoken = []
    for i, panel in enumerate(PANELS):
        band = _band([_measure(panel, draws) for draws in chance])
        whole = None if before is None else _measure(panel, before)
        values = {name: _measure(panel, covers) for name, covers in found.items()}
        known = [*values.values(), *(band or ()), *([] if whole is None else [whole])]
        room = 0.08 * (max(known) - min(known)) or 0.5
        scale = Scale(min(known) - room, max(known) + room, LEFT + step * i, LEFT + step * i + 12)
        parts += _heading(panel, scale, top)
        for j, (name, value) in enumerate(values.items()):
            drawn, said = _covered(name, value, panel, band, whole, scale, top + ROW * j)
            parts.append(drawn)
            spoken.append(said)
    return draw.alone(draw.wide(draw.figure(title, f"{'; '.join(spoken)}.", bottom + 4, parts)))


def _measure(panel: _Panel, covers: Coverage) -> float:
    value = float(getattr(covers, panel.measure))
    return 100 * value if panel.unit == "%" else value


def _band(values: Sequence[float]) -> tuple[float, float] | None:
    """Where 95 % of the random draws lie."""
    if not values:
        return None
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def _heading(panel: _Panel, scale: Scale, top: float) -> Iterator[Markup]:
    """What is measured, and which way is better."""
    arrow = "← better" if panel.better == "less" else "better →"
    yield draw.text(panel.name, scale.left, top - 25, font_weight="600")
    yield draw.text(f"{panel.unit}, {arrow}", scale.left, top - 9, faint=True)


def _covered(
    name: str,
    value: float,
    panel: _Panel,
    band: tuple[float, float] | None,
    whole: float | None,
    scale: Scale,
    y: float,
) -> tuple[Markup, str]:
    """One measure of one selection, drawn and in words."""
    middle, parts = y + ROW / 2, []
    look = NO_BETTER
    if band is not None:
        parts.append(
            draw.bar(scale.at(band[0]), scale.at(band[1]), y + 4, ROW - 8, fill_opacity=0.14)
        )
        less, more = (BETTER, POORER) if panel.better == "less" else (POORER, BETTER)
        look = less if value < band[0] else more if value > band[1] else NO_BETTER
    if whole is not None:
        x = scale.at(whole)
        parts.append(draw.line(x, y + 4, x, y + ROW - 4, 0.8, 1.5))
    number = f"{value:.0f}%" if panel.unit == "%" else f"{value:.2f}"
    verdict = f", {look.word}" if band else ""
    spoken = f"{name}, {panel.name}: {number}{verdict}"
    parts += [
        draw.line(scale.left, middle, scale.right, middle, 0.1),
        mark(look, scale.at(value), middle),
        draw.text(
            number,
            scale.right + 6.2,
            y + 15,
            "end",
            font_weight="400" if look is NO_BETTER else "600",
        ),
    ]
    return tag("g", tag("title", spoken), *parts), spoken


# --------------------------------------------------------------------------- what they share


def overlap_figure(selections: Mapping[str, Sequence[Any]], pool_size: int | None = None) -> str:
    """How many rows selections have in common: rows in both as a share of rows in either.

    A cell far above chance says that two strategies buy much the same; one near it that they choose
    as if they knew nothing of each other. On the diagonal stands how many rows each has.

    Parameters
    ----------
    selections : mapping of str to sequence
        Name -> ids, or rows of one pool.
    pool_size : int, optional
        Rows in the pool; then the share of two random draws of these sizes stands below each
        number.

    Returns
    -------
    str
        HTML.
    """
    title = "Rows in common: in both, of those in either"
    sets = {name: set(chosen) for name, chosen in selections.items()}
    if not sets:
        return draw.alone(draw.figure(title, "No selections.", 30, []))
    names = list(sets)
    height, top = (38.0, 50.0) if pool_size else (26.0, 30.0)
    step = min(13.0, (100 - LEFT) / len(names))
    how = "in both, of those in either; below it, the same of random draws of these sizes"
    parts: list[Markup] = [draw.text(how, 0, 12, faint=True)] if pool_size else []
    spoken = []
    for i, row in enumerate(names):
        y = top + height * i
        parts.append(draw.label(row, y + height / 2 - 11, LEFT - 1))
        for j, column in enumerate(names[: i + 1]):
            box = (LEFT + step * j + 0.2, LEFT + step * (j + 1) - 0.2)
            if i == j:
                parts += _corner(column, len(sets[row]), box, y, height)
                continue
            shared = _jaccard(sets[row], sets[column])
            by_chance = _by_chance(len(sets[row]), len(sets[column]), pool_size)
            said = f"{row} and {column}: {shared:.0%}"
            said += "" if by_chance is None else f", by chance {by_chance:.0%}"
            spoken.append(said)
            parts.append(_cell(said, shared, by_chance, box, y, height))
    said = f"{'; '.join(spoken)}." if spoken else f"{names[0]} alone."
    bottom = top + height * len(names)
    return draw.alone(draw.wide(draw.figure(title, said, bottom + 4, parts)))


def _jaccard(a: set[Any], b: set[Any]) -> float:
    return len(a & b) / (len(a | b) or 1)


def _by_chance(a: int, b: int, pool_size: int | None) -> float | None:
    """About what two random draws share: the expected rows in both, of those then in either."""
    if not pool_size:
        return None
    both = a * b / pool_size
    return both / ((a + b - both) or 1)


def _corner(
    name: str, size: int, box: tuple[float, float], y: float, height: float
) -> Iterator[Markup]:
    """A cell of the diagonal, with the name of its column above."""
    middle = sum(box) / 2
    # Names of columns are stairs: there is room to the right, up to the edge of the figure.
    room = int((100 - box[0]) / CHARACTER)
    yield draw.text(shortened(name, min(room, 20)), box[0], y - 6, font_weight="600")
    yield draw.bar(*box, y + 1, height - 2, INK, fill_opacity=0.05)
    yield draw.text(f"{size:,} rows", middle, y + height / 2 + 4, "middle", faint=True)


def _cell(
    said: str,
    shared: float,
    by_chance: float | None,
    box: tuple[float, float],
    y: float,
    height: float,
) -> Markup:
    """One pair: the darker, the more they share."""
    middle = sum(box) / 2
    line = y + height / 2 + 4
    parts = [
        tag("title", said),
        draw.bar(*box, y + 1, height - 2, BLUE, fill_opacity=0.06 + 0.6 * shared),
    ]
    if by_chance is not None:
        parts.append(draw.text(f"{by_chance:.0%}", middle, line + 9, "middle", faint=True))
        line -= 6
    parts.append(draw.text(f"{shared:.0%}", middle, line, "middle", font_weight="600"))
    return tag("g", *parts)
