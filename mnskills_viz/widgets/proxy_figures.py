"""Figure of the proxy: which axes matter, beyond what random directions reach."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pandas as pd

from . import drawing as draw
from .drawing import BLUE, ORANGE, ROW, Scale
from .error_figures import Labels
from .magnitudes import power_of_ten
from .marks import CHARACTER, Look, headings, interval, key
from .markup import Markup, decimals, shortened, signed, tag

COLUMNS = ("axis", "dose", "utility", "low", "high", "damage", "null_low", "null_high")

BEYOND = Look("beyond chance", "diamond")
WITHIN = Look("within chance (shaded)")
UNTESTED = Look("chance unknown", "cross")

TOP = 58.0
"""Where the first row begins, in pixels; above it stand the key and the headings."""

LINE = 16.0
"""Height of one value where several stand in a row."""

LONGEST = 18
"""Characters for what a value is called, where an axis has several."""

NAMED = 5
"""So many of the strongest are named in the words for screen readers."""


@dataclass(frozen=True, slots=True)
class _Utility:
    """One utility of an axis at a layer: a slope, or what a dose measured.

    Attributes
    ----------
    word : str
        What it is, where an axis has several.
    layer : str
        Empty where unknown.
    axis : int
    value, low, high, damage, null_low, null_high : float
        NaN where unknown, but for `value`.
    """

    word: str
    layer: str
    axis: int
    value: float
    low: float
    high: float
    damage: float
    null_low: float
    null_high: float

    @property
    def times_chance(self) -> float:
        """The utility over the edge of chance on its side, at least 0; NaN where unknown."""
        edge = self.null_high if self.value >= 0 else -self.null_low
        return abs(self.value) / edge if edge > 0 else math.nan

    @property
    def look(self) -> Look:
        if math.isnan(self.times_chance):
            return UNTESTED
        if self.times_chance <= 1:
            return WITHIN
        return Look(BEYOND.word, BEYOND.shape, ORANGE if self.value > 0 else BLUE)


Axis = Sequence[_Utility]
"""What is known of one axis at one layer; it is ranked by the first."""


def proxy_figure(
    tables: pd.DataFrame | Mapping[str, pd.DataFrame],
    labels: Labels | None = None,
    most: int = 16,
    unit: str = "nats/token",
) -> str:
    """Which axes matter: utility with its interval, against what random directions reach.

    Read from the top: axes stand in the order of their utility over the edge of chance, the
    column ``× chance``. The shaded band is where the best of as many random directions lies; a
    diamond lies beyond it, a circle within. Left of zero, an axis helps when it is pushed the
    other way. Measured doses stand below the slope; where they agree, it held that far.
    ``damage`` is what a push costs whichever way it goes.

    Parameters
    ----------
    tables : DataFrame, or mapping of str to DataFrame
        ``axis layer dose utility low high damage null_low null_high``, one row an axis, layer and
        dose, as `mnskills_viz.proxy` gives it; the dose of a slope is NaN. Of the columns only
        ``axis`` and ``utility`` must be there. Several tables, by name, are of the same axes and
        in the same unit.
    labels : mapping of (axis, +1 or -1) to str, optional
        What lies at each pole, of a basis that is the same at all layers.
    most : int
        Show so many axes and count the rest.
    unit : str
        Of damage, and of utility times a standard deviation: ``"pass@1"`` where answers were
        sampled.

    Returns
    -------
    str
        HTML.
    """
    named = dict(tables) if isinstance(tables, Mapping) else {"": tables}
    axes = _ranked(_utilities(named))
    title = "Utility of each axis, with 95 % intervals and the band of chance"
    if not axes:
        return draw.alone(draw.figure(title, "No axis has a utility.", 30, []))
    form = _Form.of(axes[:most], axes, labels, unit)
    parts: list[Markup] = [*_proxy_key(axes), *form.headings()]
    y = TOP
    rows: list[Markup] = []
    for axis in axes[:most]:
        rows += form.rows(axis, y)
        y += form.height(axis)
    parts += [draw.ruler(form.scale, form.scale.ticks(4), TOP, y), *rows]
    units = f"utility in {form.unit} per standard deviation"
    units += f", damage in {form.unit}" * form.harms
    parts.append(draw.text(units, 100, y + 34, "end", faint=True))
    if rest := _rest(axes[most:], named):
        y += 20
        parts.append(draw.text(rest, 0, y + 34, faint=True))
    said = _summary(axes, form)
    return draw.alone(draw.wide(draw.figure(title, said, y + 40, parts)))


def _rest(left_out: Sequence[Axis], tables: Mapping[str, pd.DataFrame]) -> str:
    """What is not drawn."""
    beyond = sum(axis[0].look.shape == BEYOND.shape for axis in left_out)
    more = f"⋮ {len(left_out):,} more, {beyond or 'none'} of them beyond chance"
    unknown = sum(int(_floats(table)["utility"].isna().sum()) for table in tables.values())
    return "; ".join([more] * bool(left_out) + [f"{unknown:,} without a utility"] * bool(unknown))


def _floats(table: pd.DataFrame) -> pd.DataFrame:
    """All columns of a proxy table as numbers, NaN where one is missing or not finite."""
    known = table.reindex(columns=list(COLUMNS)).astype(np.float64)
    return known.where(np.isfinite(known))


def layer_name(layer: object) -> str:
    """A block's number, ``concat``, or nothing where it is unknown."""
    if isinstance(layer, str):
        return layer
    return "" if layer is None or layer != layer else f"{layer:g}"  # NaN is not itself


def _utilities(tables: Mapping[str, pd.DataFrame]) -> Iterator[_Utility]:
    for name, table in tables.items():
        layers = table["layer"].map(layer_name) if "layer" in table else ""
        given = (
            _floats(table)
            .assign(layer=layers)
            .sort_values("dose", kind="stable", na_position="first")
        )
        given["null_low"] = given["null_low"].fillna(-given["null_high"])
        for row in given.dropna(subset=["axis", "utility"]).to_dict("records"):
            dose = "" if math.isnan(row["dose"]) else f"±{row['dose']:g}σ"
            yield _Utility(
                f"{shortened(name, LONGEST - 6)} {dose}".strip() or "slope",
                row["layer"],
                int(row["axis"]),
                row["utility"],
                *(row[column] for column in COLUMNS[3:]),
            )


def _ranked(utilities: Iterator[_Utility]) -> list[Axis]:
    """Axes with all that is known of each, farthest beyond chance first."""

    def whose(found: _Utility) -> tuple[str, int]:
        return (found.layer, found.axis)

    # Sorting is stable: what is known of an axis stays in the order of the tables.
    axes = [list(found) for _, found in groupby(sorted(utilities, key=whose), whose)]
    return sorted(axes, key=lambda a: (-np.nan_to_num(a[0].times_chance), -abs(a[0].value)))


@dataclass(frozen=True, slots=True)
class _Form:
    """Where the columns of `proxy_figure` stand, and the units of its numbers.

    Attributes
    ----------
    scale : Scale
        In `unit`.
    factor : float
        From the table to `unit`.
    unit : str
    labels : Labels or None
    layers, several, harms : bool
        Whether there is a column of layers, of words for each value, of damages.
    number : float
        Where the numbers of axes end; after it stand their names, up to `named`.
    named : float
    """

    scale: Scale
    factor: float
    unit: str
    labels: Labels | None
    layers: bool
    several: bool
    harms: bool
    number: float
    named: float

    @classmethod
    def of(
        cls, shown: Sequence[Axis], axes: Sequence[Axis], labels: Labels | None, unit: str
    ) -> "_Form":
        found = [utility for axis in shown for utility in axis]
        layers = len({axis[0].layer for axis in axes}) > 1
        words = {utility.word for utility in found}
        several = len(words) > 1
        harms = not all(math.isnan(utility.damage) for utility in found)
        number = 11.5 if layers else 4.0
        named = number + 1 + (max(0, 30 - number) if labels else 0)
        left = named + 1 + (CHARACTER * max(map(len, words)) + 1 if several else 0)
        ends = [
            abs(end)
            for utility in found
            for end in (utility.value, utility.low, utility.high, utility.null_high)
            if not math.isnan(end)
        ]
        factor, power = _power(max(ends))
        limit = 1.05 * factor * max(ends) or 1.0
        scale = Scale(-limit, limit, left, 70.5 if harms else 79.5)
        return cls(scale, factor, power + unit, labels, layers, several, harms, number, named)

    @property
    def ends(self) -> dict[str, float]:
        """Where the columns of numbers end."""
        if self.harms:
            return {"value": 79.5, "chance": 90.5, "damage": 100.0}
        return {"value": 88.5, "chance": 100.0}

    def headings(self) -> Iterator[Markup]:
        y = TOP - 12
        yield from headings({self.number: "axis"}, y, "end")
        if self.layers:
            yield from headings({6.2: "layer"}, y, "end")
        if self.labels:
            yield from headings({self.number + 1.5: "poles"}, y)
        names = {"value": "utility", "chance": "× chance", "damage": "damage"}
        yield from headings({x: names[name] for name, x in self.ends.items()}, y, "end")

    def height(self, axis: Axis) -> float:
        return ROW if len(axis) == 1 else LINE * len(axis) + 9

    def written(self, value: float) -> str:
        return signed(self.factor * value, decimals(self.scale.high))

    def poles(self, axis: int) -> str:
        """Both poles in one line, negative first as on the scale."""
        names = [(self.labels or {}).get((axis, sign), "") for sign in (-1, 1)]
        return " ↔ ".join(name or "…" for name in names) if any(names) else ""

    def rows(self, axis: Axis, y: float) -> Iterator[Markup]:
        """An axis: its number and name, and a line for each of its utilities."""
        height, first = self.height(axis), axis[0]
        middle = y + height / 2
        if self.several:
            yield draw.line(0, y, 100, y, 0.12)
        if self.layers:
            yield draw.text(first.layer or "–", 6.2, middle + 4, "end", faint=True)
        yield draw.text(str(first.axis), self.number, middle + 4, "end", font_weight="600")
        if name := self.poles(first.axis):
            label = draw.label(name, 0, 100)
            across = {
                "x": draw.pc(self.number + 1.5),
                "width": draw.pc(self.named - self.number - 1.5),
            }
            yield tag("svg", label, y=middle - 10, height=ROW, **across)
        inset = (height - LINE * len(axis)) / 2
        for i, utility in enumerate(axis):
            yield self.line(utility, y + inset + LINE * i)

    def line(self, utility: _Utility, y: float) -> Markup:
        """One utility on its band of chance, and its numbers."""
        middle, base, look = y + LINE / 2, y + LINE / 2 + 4, utility.look
        value, low, high = (self.factor * end for end in (utility.value, utility.low, utility.high))
        chance = utility.times_chance
        times = "–" if math.isnan(chance) else _times(chance)
        weight = "600" if look.shape == BEYOND.shape else "400"
        parts = [tag("title", self.spoken(utility))]
        if self.several:
            parts.append(draw.text(utility.word, self.scale.left - 1, base, "end", faint=True))
        if not math.isnan(utility.null_high):
            band = [self.scale.at(self.factor * e) for e in (utility.null_low, utility.null_high)]
            parts.append(draw.bar(band[0], band[1], y, LINE, fill_opacity=0.11))
        parts += [
            interval(low, value, high, look, self.scale, middle),
            draw.text(
                self.written(utility.value), self.ends["value"], base, "end", font_weight=weight
            ),
            draw.text(times, self.ends["chance"], base, "end", font_weight=weight),
        ]
        if self.harms and not math.isnan(utility.damage):
            parts.append(draw.text(self.written(utility.damage), self.ends["damage"], base, "end"))
        return tag("g", *parts)

    def spoken(self, utility: _Utility) -> str:
        words = [f"{_whose(utility)}{f', {utility.word}' * self.several}"]
        if name := self.poles(utility.axis):
            words[0] += f" ({name})"
        said = f"{self.written(utility.value)}"
        if not math.isnan(utility.low):
            said += f" ({self.written(utility.low)} to {self.written(utility.high)})"
        words.append(f"{said}, {utility.look.word.removesuffix(' (shaded)')}")
        if not math.isnan(utility.damage):
            words[-1] += f", damage {self.written(utility.damage)}"
        return ": ".join(words)


def _power(largest: float) -> tuple[float, str]:
    """Thousandths where they suit, else the power of a thousand that does."""
    power = math.floor(math.log10(largest)) if largest > 0 else -3
    if not -6 <= power <= 1:
        power = 3 * (power // 3)
        return 10.0**-power, f"{power_of_ten(power)} "
    return 1000.0, f"{power_of_ten(-3)} "


def _times(chance: float) -> str:
    return f"{chance:.2f}" if chance < 10 else f"{chance:.0f}" if chance < 1000 else "> 999"


def _whose(utility: _Utility) -> str:
    where = f" at layer {utility.layer}" * bool(utility.layer)
    return f"Axis {utility.axis}{where}"


def _proxy_key(axes: Sequence[Axis]) -> Iterator[Markup]:
    found = {utility.look.shape for axis in axes for utility in axis}
    yield from key([BEYOND, WITHIN] + [UNTESTED] * (UNTESTED.shape in found), 12)


def _summary(axes: Sequence[Axis], form: _Form) -> str:
    beyond = [axis[0] for axis in axes if axis[0].look.shape == BEYOND.shape]
    named = ", ".join(
        f"{_whose(utility).lower()} {form.written(utility.value)}" for utility in beyond[:NAMED]
    )
    more = f" and {len(beyond) - NAMED:,} more" * (len(beyond) > NAMED)
    return (
        f"{len(axes):,} axes{' and layers' * form.layers}, {len(beyond) or 'none'} of them beyond "
        f"chance{': ' * bool(beyond)}{named}{more}. In {form.unit} for one standard deviation of "
        "push."
    )
