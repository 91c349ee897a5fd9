"""Figures of errors: where a model is weak, what training changed, what was measured.

Functions from tables to a string of HTML, the same string for the same values. Each carries its
colours for light and dark with it, so that it can stand alone in the output of a notebook's cell.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from . import drawing as draw
from .drawing import BLUE, GREEN, ORANGE, ROW, Scale
from .marks import CROSS, SERIES, Look, headings, interval, key, mark
from .markup import Markup, decimals, shortened, signed, tag

Labels = Mapping[tuple[int, int], str]
"""(axis, +1 or -1) -> what lies at that pole, in words."""

STRONGEST = 4
"""So many strong poles are shown below the weak ones, to see how far apart they lie."""

NEGLIGIBLE = 0.005
"""Errors per standard deviation; below it a coefficient of the joint regression is no more than 0
to the digits that are shown."""

TOP = 74.0
"""Where the first row begins, in pixels; above it stand the key and the headings."""

NAME_WIDTH = 31.0
"""Per cent of the width for what a row is called."""

LINE = 15.0
"""Height of one value where several stand in a row."""


WEAKER = Look("weaker than average", "diamond", ORANGE)
STRONGER = Look("stronger than average", "square", BLUE)
NOT_TOLD = Look("cannot be told from the average")

IMPROVED = Look("improved", "square", GREEN)
WORSE = Look("worse", "diamond", ORANGE)
UNCLEAR = Look("cannot be told")


# ------------------------------------------------------------------------------ weak and strong


def weakness_figure(table: pd.DataFrame, labels: Labels | None = None, most: int = 12) -> str:
    """Where the model is weak: the weakest poles, a few of the strongest, and how sure that is.

    Read from the top. A full mark says that the interval leaves out the mean error: the model is
    weaker (or stronger) there than on average. The faint cross is the same error before it was
    pulled to the mean; far from the mark, little is known of that pole. ``budget`` is the share of
    the excess error, and of a weakness curriculum. The last column is the joint regression:
    where it opposes or says nothing, other axes may account for the errors.

    Parameters
    ----------
    table : DataFrame
        One row a pole, as `Study.weakness` or `pole_weakness` gives it.
    labels : mapping of (axis, +1 or -1) to str, optional
        What lies at each pole, such as its label.
    most : int
        Show this many of the weakest poles; four of the strongest follow.

    Returns
    -------
    str
        HTML.
    """
    ordered = table.sort_values(["shrunk", "axis", "pole"], ascending=[False, True, False])
    rows = [_labelled(row, labels) for row in ordered.to_dict("records")]
    title = "Where the model is weak: error at each pole, with 95 % intervals"
    if not rows:
        return draw.alone(draw.figure(title, "No poles.", 30, []))
    mean = float(table.attrs["mean_error"])
    shown, between = _ends(rows, most, STRONGEST)
    known = ordered[["shrunk", "low", "high", "weakness"]].to_numpy(dtype=float)
    scale = _scale(float(np.nanmin(known)), float(np.nanmax(known)), 34, 60)
    support = Scale(0, float(ordered["support"].max()) or 1.0, 63, 70)
    mass = float(ordered["mass"].sum())
    bottom = TOP + ROW * (len(shown) + bool(between))
    parts: list[Markup] = [
        *key([WEAKER, STRONGER, NOT_TOLD], 12),
        mark(CROSS, 82, 8, 0.55),
        draw.text("before shrinking", 83.3, 12, faint=True),
        *headings({0: "pole", 34: "error", 63: "support"}, TOP - 27),
        *headings({82: "budget", 100: "joint regression"}, TOP - 27, "end"),
        draw.ruler(scale, scale.ticks(4), TOP, bottom),
        *_reference(mean, f"mean {mean:.2f}", scale, bottom),
    ]
    for row, y in _placed(shown, between, most):
        share = row["mass"] / mass if mass else 0.0
        parts.append(_weakness_row(row, scale, support, share, mean, y))
    parts += _gap(between, most)
    weak = [row for row in rows if row["low"] > mean]
    named = ", ".join(f"{_pole(row)} {row['shrunk']:.2f}" for row in weak[:most])
    said = (
        f"{len(rows)} poles, mean error {mean:.2f}. Weaker than average beyond their intervals: "
        f"{len(weak)}{': ' * bool(weak)}{named}."
    )
    if not mass:
        none = "No pole is weaker than the mean beyond chance on this probe."
        parts.append(draw.text(none, 0, bottom + 40))
        bottom += 24
    return draw.alone(draw.wide(draw.figure(title, said, bottom + 22, parts)))


def _weakness_row(
    row: Mapping[Any, Any],
    scale: Scale,
    support: Scale,
    share: float,
    mean: float,
    y: float,
) -> Markup:
    shrunk, raw, ridge = row["shrunk"], row["weakness"], row["ridge"]
    look = WEAKER if row["low"] > mean else STRONGER if row["high"] < mean else NOT_TOLD
    joint = _joint(ridge, shrunk - mean)
    spoken = (
        f"{_spoken(row)}: error {shrunk:.3f} ({row['low']:.3f} to {row['high']:.3f}), {look.word}; "
        f"before shrinking {'unknown' if math.isnan(raw) else f'{raw:.3f}'}; support "
        f"{row['support']:.0f}; {share:.0%} of the budget; with all other axes fixed "
        f"{signed(ridge, 3)} a standard deviation: {joint[1]}"
    )
    before = [] if math.isnan(raw) else [mark(CROSS, scale.at(raw), y + 11, 0.55)]
    return tag(
        "g",
        tag("title", spoken),
        *_named(row, y),
        *before,
        interval(row["low"], shrunk, row["high"], look, scale, y + 11),
        draw.bar(support.left, support.at(row["support"]), y + 6, 10, fill_opacity=0.28),
        draw.text(f"{row['support']:.0f}", 71, y + 15, faint=True),
        draw.text(f"{share:.0%}" if share else "–", 82, y + 15, "end"),
        draw.text(signed(ridge), 88.5, y + 15, "end", faint=True),
        draw.text(" ".join(joint), 90, y + 15, faint=joint[0] in "–≈"),
    )


def _joint(ridge: float, excess: float) -> tuple[str, str]:
    """Whether the joint regression says the same of a pole as its own error: a sign and a word."""
    if excess == 0:
        return "–", "no excess"
    if abs(ridge) < NEGLIGIBLE:
        return "≈", "nothing"
    return ("✓", "agrees") if (ridge > 0) == (excess > 0) else ("✗", "opposes")


# ------------------------------------------------------------------------------ before and after


def comparison_figure(table: pd.DataFrame, labels: Labels | None = None, most: int = 24) -> str:
    """Which poles improved: change of the error at each pole, with 95 % intervals.

    Left of zero is better. The dashed line is the change over the whole probe: a pole left of it
    improved by more than everything did. *Cannot be told* means that the interval holds zero. Of
    poles that did not change at all about one in twenty would still seem to.

    Parameters
    ----------
    table : DataFrame
        One row an axis, as `compare` gives it.
    labels : mapping of (axis, +1 or -1) to str, optional
        What lies at each pole.
    most : int
        Of more poles than this the middle ones are only counted.

    Returns
    -------
    str
        HTML. ``moved`` is how far the probe's coordinates went towards the pole, in standard
        deviations of the pool before.
    """
    by_pole = (_labelled(row, labels) for row in _by_pole(table))
    rows = sorted(by_pole, key=lambda row: (row["change"], row["axis"], -row["pole"]))
    title = "Change of the error at each pole, with 95 % intervals"
    if not rows:
        return draw.alone(draw.figure(title, "No poles.", 30, []))
    overall = float(table.attrs["mean_error_after"] - table.attrs["mean_error_before"])
    first = math.ceil(most / 2)
    shown, between = _ends(rows, first, most - first)
    reach = [0.0, overall, *(row[end] for row in rows for end in ("low", "high"))]
    scale = _scale(min(reach), max(reach), 47, 77)
    bottom = TOP + ROW * (len(shown) + bool(between))
    counts = Counter(_verdict(row) for row in rows)
    looks = [look.saying(f"{counts[look]} {look.word}") for look in (IMPROVED, WORSE, UNCLEAR)]
    parts: list[Markup] = [
        *key(looks, 12),
        *headings({0: "pole", 34: "error", 47: "change"}, TOP - 27),
        *headings({84: "moved"}, TOP - 27, "end"),
        draw.ruler(scale, scale.ticks(5), TOP, bottom),
        *_reference(overall, f"whole probe {signed(overall)}", scale, bottom),
    ]
    for row, y in _placed(shown, between, first):
        parts.append(_comparison_row(row, scale, y))
    parts += _gap(between, first)
    said = (
        f"{len(rows)} poles: {', '.join(look.word for look in looks)}. Over the whole probe "
        f"{signed(overall)}. Most improved: {_pole(rows[0])}, "
        f"{rows[0]['before']:.2f} to {rows[0]['after']:.2f}."
    )
    return draw.alone(draw.wide(draw.figure(title, said, bottom + 22, parts)))


def _by_pole(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The columns of each pole under one name; poles on which nobody lies are left out."""
    for row in table.to_dict("records"):
        for side, pole in (("positive", 1), ("negative", -1)):
            change = row[f"change_{side}"]
            if not math.isnan(change) and not math.isnan(row[f"change_{side}_low"]):
                yield {
                    "axis": row["axis"],
                    "pole": pole,
                    "before": row[f"error_{side}_before"],
                    "after": row[f"error_{side}_after"],
                    "change": change,
                    "low": row[f"change_{side}_low"],
                    "high": row[f"change_{side}_high"],
                    "moved": pole * row["shift"],
                }


def _verdict(row: Mapping[Any, Any]) -> Look:
    return IMPROVED if row["high"] < 0 else WORSE if row["low"] > 0 else UNCLEAR


def _comparison_row(row: Mapping[Any, Any], scale: Scale, y: float) -> Markup:
    look = _verdict(row)
    spoken = (
        f"{_spoken(row)}: error {row['before']:.3f} before, {row['after']:.3f} after; change "
        f"{signed(row['change'], 3)} ({signed(row['low'], 3)} to {signed(row['high'], 3)}), "
        f"{look.word}; the probe moved {signed(row['moved'])} standard deviations towards it"
    )
    weight = "400" if look is UNCLEAR else "600"
    return tag(
        "g",
        tag("title", spoken),
        *_named(row, y),
        draw.text(f"{row['before']:.2f} → {row['after']:.2f}", 34, y + 15),
        interval(row["low"], row["change"], row["high"], look, scale, y + 11),
        draw.text(f"{signed(row['moved'])}σ", 84, y + 15, "end", faint=True),
        draw.text(look.word, 100, y + 15, "end", font_weight=weight),
    )


def evaluation_figure(tables: Mapping[str, pd.DataFrame], metric: str | None = None) -> str:
    """What was measured before and after, or of several models: one metric in each group.

    Compare marks within a group: where the intervals of two lie apart, they differ; where they
    overlap a little they still may, and `paired_difference` says more, because the same problems
    were asked. Groups stand in the order of the first table.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        Name -> ``group metric value low high n``, as `evaluate` gives it: say
        ``{"before": ..., "after": ...}``.
    metric : str, optional
        Such as ``"pass@1"``; default: the first of the first table.

    Returns
    -------
    str
        HTML.
    """
    if metric is None:
        metric = next((str(m) for table in tables.values() for m in table["metric"]), "")
    found = {
        name: table[table["metric"] == metric].set_index("group").to_dict("index")
        for name, table in tables.items()
    }
    title = f"{metric} in each group, with 95 % intervals".strip()
    scale = _scale_of([row for rows in found.values() for row in rows.values()])
    if scale is None:
        return draw.alone(draw.figure(title, "Nothing was measured.", 30, []))
    looks = [SERIES[i % len(SERIES)].saying(name) for i, name in enumerate(found)]
    groups = list(dict.fromkeys(group for rows in found.values() for group in rows))
    top, height = 32.0, LINE * len(found) + 9
    bottom = top + height * len(groups)
    parts: list[Markup] = [*key(looks, 12), draw.ruler(scale, scale.ticks(5), top, bottom)]
    spoken: list[str] = []
    for i, group in enumerate(groups):
        y = top + height * i
        measured = [(look, found[look.word][group]) for look in looks if group in found[look.word]]
        parts += _group(str(group), max(int(row["n"]) for _, row in measured), y, height)
        for look, row in measured:
            place = y + 4.5 + LINE * (looks.index(look) + 0.5)
            said, drawn = _measured(str(group), row, look, scale, place)
            spoken.append(said)
            parts.append(drawn)
    drawn_all = draw.figure(title, f"{'; '.join(spoken)}.", bottom + 22, parts)
    return draw.alone(draw.wide(drawn_all))


def _scale_of(rows: Sequence[Mapping[Any, Any]]) -> Scale | None:
    """From 0 to 1 where that holds all values, else as wide as they are; None without any."""
    ends = [row[name] for row in rows for name in ("low", "value", "high")]
    known = [end for end in ends if not math.isnan(end)]
    if not known:
        return None
    low, high = min(known), max(known)
    return Scale(0, 1, 34, 77) if low >= 0 and high <= 1 else _scale(low, high, 34, 77)


def _group(name: str, n: int, y: float, height: float) -> Iterator[Markup]:
    """What a group is called and how large it is, under a hairline."""
    yield draw.line(0, y, 100, y, 0.12)
    size = tag("tspan", f"\u2002{n:,} examples", opacity=0.66, font_weight="400")
    weight = "600" if name == "all" else "400"
    said = shortened(name, 24)
    yield tag("text", said, size, x="0%", y=y + height / 2 + 4, font_weight=weight)


def _measured(
    group: str, row: Mapping[Any, Any], look: Look, scale: Scale, y: float
) -> tuple[str, Markup]:
    """One value in words and as a mark with its interval and its numbers."""
    if math.isnan(row["value"]):
        return f"{group}, {look.word}: unknown", draw.text("–", 84, y + 4, "end")
    digits = decimals(max(abs(scale.low), abs(scale.high)))
    number, low, high = (f"{row[name]:.{digits}f}" for name in ("value", "low", "high"))
    ends = "" if math.isnan(row["low"]) else f"{low} to {high}"
    said = f"{group}, {look.word}: {number}{f' ({ends})' * bool(ends)}, {row['n']:,} examples"
    return said, tag(
        "g",
        tag("title", said),
        interval(row["low"], row["value"], row["high"], look, scale, y),
        draw.text(number, 84, y + 4, "end"),
        draw.text(ends, 100, y + 4, "end", faint=True),
    )


# ------------------------------------------------------------------------------- what they share


def _scale(low: float, high: float, left: float, right: float) -> Scale:
    """A scale with a little room at both ends."""
    room = 0.05 * (high - low) or 0.05
    return Scale(low - room, high + room, left, right)


def _pole(row: Mapping[Any, Any]) -> str:
    return f"axis {row['axis']} {'+' if row['pole'] > 0 else '−'}"


def _labelled(row: Mapping[Any, Any], labels: Labels | None) -> dict[Any, Any]:
    """A pole with what lies there, empty where nobody has said."""
    return {**row, "label": (labels or {}).get((int(row["axis"]), int(row["pole"])), "")}


def _spoken(row: Mapping[Any, Any]) -> str:
    return f"{_pole(row)} ({row['label']})" if row["label"] else _pole(row)


def _named(row: Mapping[Any, Any], y: float) -> Iterator[Markup]:
    """The axis, the sign of the pole, and what lies there."""
    sign = "+" if row["pole"] > 0 else "−"
    yield draw.text(str(row["axis"]), 2.8, y + 15, "end", font_weight="600")
    yield draw.text(sign, 3.9, y + 15, "middle", font_weight="600")
    name = draw.label(row["label"] or "unnamed", 0, 100)
    yield tag("svg", name, x="5.5%", y=y + 1, width=draw.pc(NAME_WIDTH - 5.5), height=ROW)


def _ends(
    rows: Sequence[dict[Any, Any]], first: int, last: int
) -> tuple[list[dict[Any, Any]], int]:
    """The first and the last rows, and how many lie between; one left over is shown too."""
    between = len(rows) - first - last
    if between <= 1:
        return list(rows), 0
    return [*rows[:first], *rows[len(rows) - last :]], between


def _placed(
    rows: Sequence[dict[Any, Any]], between: int, first: int
) -> Iterator[tuple[dict[Any, Any], float]]:
    """Each row with its height; a line stays free after the `first` where some are left out."""
    for i, row in enumerate(rows):
        yield row, TOP + ROW * (i + (between > 0 and i >= first))


def _gap(between: int, first: int) -> list[Markup]:
    y = TOP + ROW * first + 15
    return [draw.text(f"⋮ {between} poles between", 5.5, y, faint=True)] if between else []


def _reference(value: float, said: str, scale: Scale, bottom: float) -> Iterator[Markup]:
    """A dashed line that values are read against, named above it."""
    x = scale.at(value)
    yield draw.line(x, TOP - 6, x, bottom, 0.7, dash="4 3")
    yield draw.text(said, x, TOP - 10, "middle", faint=True)
