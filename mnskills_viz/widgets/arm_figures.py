"""Figures of arms: steered, unsteered and their rivals side by side, one column a measure.

Functions from tables to a string of HTML, the same string for the same values. Each carries its
colours for light and dark with it, so that it can stand alone in the output of a notebook's cell.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

from . import drawing as draw
from .drawing import BLUE, GREEN, ORANGE, ROW, Scale
from .magnitudes import short, short_ruler
from .marks import Look, interval, key
from .markup import Markup, decimals, shortened, tag

Value = tuple[float, float, float]
"""Low end, value, high end; NaN where unknown."""

UNKNOWN: Value = (math.nan, math.nan, math.nan)

KINDS = {
    "unsteered": Look("unsteered", "square"),
    "axis": Look("axis", "diamond", ORANGE),
    "vector": Look("vector", "diamond", ORANGE),
    "text prompt": Look("text prompt", "triangle", BLUE),
    "temperature": Look("temperature", "triangle", BLUE),
    "random": Look("random direction (range shaded)", "circle"),
}
OTHER = Look("other", "square", GREEN)
"""How arms are marked, by what is in their names, and all others."""

LEFT = 25.0
"""Per cent of the width for what a row is called."""

NUMBERS = 8.0
"""Per cent of the width for the number beside a mark."""

HEAD = 36.0
"""Height above the rows for what is measured, in pixels."""

COLUMNS_A_ROW = 3


@dataclass(frozen=True, slots=True)
class _Measure:
    """One column of a figure.

    Attributes
    ----------
    name, unit : str
    values : mapping of str to Value
        By arm.
    better : {"more", "less", ""}
    ends : tuple of float
        The scale holds these.
    """

    name: str
    unit: str
    values: Mapping[str, Value]
    better: Literal["more", "less", ""] = ""
    ends: tuple[float, ...] = field(default=())


def arms_figure(table: pd.DataFrame) -> str:
    """What each arm scores on each metric, against the unsteered model and against chance.

    The dashed line is the unsteered model. The shaded band reaches from the lowest to the highest
    random direction of equal norm: what lies within it, any push may do. At pass@k compare with
    the temperatures too: diversity alone raises it. The same problems are asked of all arms, so
    two whose intervals overlap may still differ.

    Parameters
    ----------
    table : DataFrame
        ``arm metric value low high``, as `sampled_arms` gives it. Arms are marked by what is in
        their names: ``unsteered``, ``axis``, ``vector``, ``random``, ``temperature``.

    Returns
    -------
    str
        HTML.
    """
    found = [_SAMPLED.fullmatch(str(arm)) for arm in table["arm"]]
    layers = {match["layer"] for match in found if match and match["layer"]}
    where = f", at layer {layers.pop()}" if len(layers) == 1 else ""
    names = [_written(str(arm), not where) for arm in table["arm"]]
    measures = [
        _Measure(str(metric), "", _values(rows, "value", "low", "high"), "more")
        for metric, rows in table.assign(arm=names).groupby("metric", sort=False)
    ]
    return _arms(f"What each arm scores, with 95 % intervals{where}", measures)


_SAMPLED = re.compile(
    r"(?:layer-(?P<layer>\w+)-)?(?P<kind>axis|random|temperature)-(?P<number>[\d.]+)"
    r"(?:-dose(?P<sign>[+-])(?P<dose>[\d.e-]+))?"
)


def _written(arm: str, with_layer: bool) -> str:
    """``axis 3 −2σ`` for ``layer-12-axis-3-dose-2.0``; any other name as it is."""
    match = _SAMPLED.fullmatch(arm)
    if match is None:
        return arm
    words = [match["kind"], match["number"]]
    if match["dose"]:
        words.append(f"{'+' if match['sign'] == '+' else '−'}{float(match['dose']):g}σ")
    if with_layer and match["layer"]:
        words.insert(0, f"{match['layer']}:")
    return " ".join(words)


def prompt_figure(table: pd.DataFrame, unit: str = "nats/token") -> str:
    """A vector against the text prompt that it replaces: effect, side effects, and tokens.

    Parameters
    ----------
    table : DataFrame
        ``arm effect low high``, the change over ``unsteered``, and any of ``kl_to_text kl tokens
        pass_rate pass_low pass_high``, as that of `ZeroTokenPrompt` has them. The arms may be
        the index.
    unit : str
        Of the effect.

    Returns
    -------
    str
        HTML.
    """
    rows = table if "arm" in table else table.rename_axis("arm").reset_index()
    nats = "nats/token"
    measures = [
        _Measure("effect", unit, _values(rows, "effect", "low", "high"), "more", (0.0,)),
        _Measure("unlike the text prompt", nats, _values(rows, "kl_to_text"), "less", (0.0,)),
        _Measure("side effect (KL)", nats, _values(rows, "kl"), "less", (0.0,)),
        _Measure("prompt", "tokens", _values(rows, "tokens"), "less", (0.0,)),
        _Measure("pass rate", "", _values(rows, "pass_rate", "pass_low", "pass_high"), "more"),
    ]
    title = "A vector against the text prompt that it replaces"
    return _arms(title, [measure for measure in measures if measure.values])


def _values(rows: pd.DataFrame, value: str, low: str = "", high: str = "") -> dict[str, Value]:
    """By arm: a value and the ends of its interval; nothing where all are unknown."""
    if value not in rows or rows[value].isna().all():
        return {}
    known = rows.reindex(columns=[low, value, high]).astype(np.float64)
    known = known.where(np.isfinite(known))
    found = known.itertuples(index=False, name=None)
    return {str(arm): ends for arm, ends in zip(rows["arm"], found, strict=True)}


def _look(arm: str) -> Look:
    return next((look for word, look in KINDS.items() if word in arm.lower()), OTHER)


def _arms(title: str, measures: Sequence[_Measure]) -> str:
    """Columns of values, three beside one another, a row an arm."""
    arms = list(dict.fromkeys(arm for measure in measures for arm in measure.values))
    if not arms:
        return draw.alone(draw.figure(title, "Nothing was measured.", 30, []))
    looks = list(dict.fromkeys(_look(arm) for arm in arms))
    parts: list[Markup] = list(key(looks, 12)) if len(looks) < len(arms) else []
    top = 22.0 if parts else 0.0
    random = [arm for arm in arms if _look(arm) is KINDS["random"]]
    said = []
    for start in range(0, len(measures), COLUMNS_A_ROW):
        block = measures[start : start + COLUMNS_A_ROW]
        parts += _names(arms, top + HEAD)
        step = (100 - LEFT) / len(block)
        for i, measure in enumerate(block):
            left = LEFT + step * i + 1.5
            scale = _scale(measure, left, left + step - NUMBERS - 1.5)
            parts += _column(measure, arms, random, scale, top + HEAD)
        said += [_spoken(measure) for measure in block]
        top += HEAD + ROW * len(arms) + 30
    drawn = draw.figure(title, f"{'. '.join(said)}.", top - 8, parts)
    return draw.alone(draw.wide(drawn))


def _scale(measure: _Measure, left: float, right: float) -> Scale:
    known = [end for value in measure.values.values() for end in value if not math.isnan(end)]
    low, high = (min([*known, *measure.ends]), max([*known, *measure.ends])) if known else (0, 1)
    room = 0.06 * (high - low) or 0.06 * abs(high) or 0.05
    return Scale(low - room, high + room, left, right)


def _names(arms: Sequence[str], top: float) -> Iterator[Markup]:
    for i, arm in enumerate(arms):
        yield draw.line(0, top + ROW * i, 100, top + ROW * i, 0.1)
        yield draw.label(arm, top + ROW * i + 1, LEFT - 1)


def _column(
    measure: _Measure, arms: Sequence[str], random: Sequence[str], scale: Scale, top: float
) -> Iterator[Markup]:
    """One measure of all arms, on the range of the random ones and the line of the unsteered."""
    bottom = top + ROW * len(arms)
    arrow = {"more": "better →", "less": "← better", "": ""}[measure.better]
    yield draw.text(shortened(measure.name, 24), scale.left, top - 21, font_weight="600")
    words = ", ".join(word for word in (measure.unit, arrow) if word)
    yield draw.text(words, scale.left, top - 7, faint=True)
    by_chance = [measure.values.get(arm, UNKNOWN)[1] for arm in random]
    known = [value for value in by_chance if not math.isnan(value)]
    if len(known) > 1:
        low, high = scale.at(min(known)), scale.at(max(known))
        yield draw.bar(low, high, top, bottom - top, fill_opacity=0.14)
    yield from short_ruler(scale, top, bottom)
    unsteered = next((arm for arm in arms if _look(arm) is KINDS["unsteered"]), "")
    if not math.isnan(zero := measure.values.get(unsteered, UNKNOWN)[1]):
        yield draw.line(scale.at(zero), top, scale.at(zero), bottom, 0.7, dash="4 3")
    for i, arm in enumerate(arms):
        yield _cell(arm, measure, scale, top + ROW * i)


def _cell(arm: str, measure: _Measure, scale: Scale, y: float) -> Markup:
    low, value, high = measure.values.get(arm, UNKNOWN)
    x = scale.right + NUMBERS
    if math.isnan(value):
        said = tag("title", f"{arm}, {measure.name}: unknown")
        return tag("g", said, draw.text("–", x, y + 15, "end", faint=True))
    number = _number(value, measure)
    between = "" if math.isnan(low) else f" ({_number(low, measure)} to "
    between += f"{_number(high, measure)})" * bool(between)
    said = tag("title", f"{arm}, {measure.name}: {number}{between} {measure.unit}".strip())
    drawn = interval(low, value, high, _look(arm), scale, y + ROW / 2)
    return tag("g", said, drawn, draw.text(number, x, y + 15, "end"))


def _number(value: float, measure: _Measure) -> str:
    largest = max(abs(v) for _, v, _ in measure.values.values() if not math.isnan(v))
    if largest >= 1e6 or 0 < largest < 1e-4:
        return short(value)
    digits = 0 if measure.unit == "tokens" else min(3, decimals(max(largest, 1e-2)))
    return f"{value:,.{digits}f}".replace("-", "−")


def _spoken(measure: _Measure) -> str:
    each = (
        f"{arm} {'unknown' if math.isnan(value) else _number(value, measure)}"
        for arm, (_, value, _) in measure.values.items()
    )
    return f"{measure.name}{f', {measure.unit}' * bool(measure.unit)}: {'; '.join(each)}"
