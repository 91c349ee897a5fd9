"""Figure of the dose-response: what a push moves, and what it costs, over one axis of doses."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from . import drawing as draw
from .drawing import BLUE, GREEN, INK, ORANGE, PAPER, Scale
from .magnitudes import short
from .marks import CHARACTER
from .markup import Markup, tag

Values = NDArray[np.float64]
Band = tuple[float, float]

PLOT, FOOT = 88.0, 14.0
"""Heights of a panel and of the space below it, in pixels."""

HEAD, KEYED = 24.0, 40.0
"""Height above a panel for its name; for its name and a key."""

TOP = 26.0
COLUMNS = ((8.0, 47.0), (59.5, 98.5))
"""Where the panels of both columns begin and end, in per cent of the width."""

BOLD = 1.25
"""About how wide a bold letter is, in per cent of the width."""

CLOSE = 13.0
"""Pixels between two numbers beside a panel, at least."""


@dataclass(frozen=True, slots=True)
class _Panel:
    """One or two columns of the table over the dose.

    Attributes
    ----------
    name, unit : str
    columns : tuple of str
        The first is drawn with round marks, the second with square ones.
    log : bool
    ends : tuple of float
        The scale holds these.
    """

    name: str
    unit: str
    columns: tuple[str, ...]
    log: bool = False
    ends: tuple[float, ...] = ()


PANELS = (
    _Panel("shift of the text", "σ", ("shift", "leakage"), ends=(0,)),
    _Panel("carried to a later block", "of the dose", ("carried", "carried_leakage"), ends=(0, 1)),
    _Panel("perplexity", "times the unsteered", ("perplexity",), log=True, ends=(0.8, 1.25)),
    _Panel("KL on neutral text", "nats/token", ("kl",), log=True),
    _Panel("repeated n-grams", "share", ("repetition",), ends=(0, 1)),
    _Panel("ended by itself", "share of answers", ("ended",), ends=(0, 1)),
    _Panel("length", "tokens", ("length",), ends=(0,)),
)
WORDS = ("own axis", "other axes")
INKS = (BLUE, ORANGE)
SHAPES = (
    tag("circle", r=3.2),
    tag("rect", x=-2.8, y=-2.8, width=5.6, height=5.6),
)


def dose_figure(table: pd.DataFrame, band: Band | None = None) -> str:
    """What a push along an axis moves and what it costs, as the dose grows.

    All panels share the axis of doses. The safe band is shaded, its ends stand in bold below;
    marks within it are full, those beyond it open. A push that works moves its own axis and
    leaves the others where they are; one that breaks the text shows in the panels below.
    Perplexity and KL are on log scales. A low perplexity is no good sign where n-grams repeat.

    Parameters
    ----------
    table : DataFrame
        As `mnskills_viz.dose_response` gives it: ``dose``, in standard deviations, and any of
        ``shift leakage carried carried_leakage perplexity kl repetition ended length``; what is
        missing is left out. Perplexity is drawn over that of dose 0, where there is one.
    band : (float, float), optional
        Lowest and highest safe dose.

    Returns
    -------
    str
        HTML. What is not known leaves a gap; what is infinite stands at the edge as ∞.
    """
    title = "What a dose does: shift, leakage, and damage to the text"
    given = table.dropna(subset=["dose"]).sort_values("dose")
    doses = given["dose"].to_numpy(np.float64)
    drawn = [(p, columns) for p in PANELS if (columns := _columns(given, p))]
    if not drawn:
        return draw.alone(draw.figure(title, "No doses.", 30, []))
    places, bottom = _places(drawn, doses, TOP if band else 0.0)
    parts: list[Markup] = list(_band_key(band))
    said = [f"{len(doses)} doses from {_sigma(doses[0])} to {_sigma(doses[-1])}", *_safe(band)]
    for (panel, columns), place in zip(drawn, places, strict=True):
        parts += [*_heading(panel, columns, place), *place.ground(panel, band)]
        for i, values in enumerate(columns.values()):
            parts += _curve(i, doses, values, place, band)
        parts += _spoken_doses(panel, columns, doses, place)
        said += _spoken(panel, columns, doses)
    for place in places[-2:]:  # the lowest panel of each column
        parts += _numbers(place.across, place.bottom + 16, band)
    svg = draw.figure(title, f"{'. '.join(said)}.", bottom + 24, parts)
    return draw.alone(draw.wide(svg))


# ---------------------------------------------------------------------------------------- values


def _columns(table: pd.DataFrame, panel: _Panel) -> dict[str, Values]:
    """The columns of a panel that hold anything; perplexity over that of dose 0."""
    found = {
        name: table[name].to_numpy(np.float64)
        for name in panel.columns
        if name in table and table[name].notna().any()
    }
    if "perplexity" in found:
        unsteered = found["perplexity"][table["dose"].to_numpy() == 0]
        if len(unsteered) and np.isfinite(unsteered[0]) and unsteered[0] > 0:
            found["perplexity"] = found["perplexity"] / unsteered[0]
    return found


def _sigma(dose: float) -> str:
    return f"{dose:+.4g}".replace("-", "−") if dose else "0"


def _within(dose: float, band: Band | None) -> bool:
    return band is None or band[0] <= dose <= band[1]


# ------------------------------------------------------------------------------------------ words


def _safe(band: Band | None) -> list[str]:
    if band is None:
        return []
    low, high = (_sigma(end) for end in band)
    return ["No dose is safe" if band[0] == band[1] else f"Safe from {low} to {high}"]


def _band_key(band: Band | None) -> Iterator[Markup]:
    """What the shade and the marks say, and the ends of the band."""
    if band is None:
        return
    [said] = _safe(band)
    yield draw.bar(0, 3, 2, 12, GREEN, fill_opacity=0.2)
    yield draw.text(f"{said} σ" if "to" in said else said, 3.8, 12, font_weight="600")
    after = 8 + BOLD * len(said)
    for x, full, word in ((after, True, "within the safe band"), (after + 23, False, "beyond it")):
        yield _mark(0, INK, x, 8, full)
        yield draw.text(word, x + 1.3, 12, faint=True)


def _heading(panel: _Panel, columns: Mapping[str, Values], place: "_Place") -> Iterator[Markup]:
    """Name and unit of a panel, and what its lines are, where there are two."""
    left, several = place.across.left, len(columns) > 1
    unit = tag("tspan", f"\u2002{panel.unit}{', log scale' * place.log}", font_weight="400")
    base = place.top - (25 if several else 10)
    yield tag("text", panel.name, unit, x=draw.pc(left), y=base, font_weight="600")
    for i, word in enumerate(WORDS if several else ()):
        x = left + 0.6 + 14 * i
        yield _mark(i, INKS[i], x, place.top - 13, True)
        yield draw.text(word, x + 1.3, place.top - 9, faint=True)


def _spoken(panel: _Panel, columns: Mapping[str, Values], doses: Values) -> Iterator[str]:
    for i, values in enumerate(columns.values()):
        which = f", {WORDS[i]}" if len(columns) > 1 else ""
        each = zip(values, doses, strict=True)
        told = ", ".join(f"{short(v)} at {_sigma(d)}" for v, d in each if not math.isnan(v))
        yield f"{panel.name}{which}, {panel.unit}: {told}"


def _spoken_doses(
    panel: _Panel, columns: Mapping[str, Values], doses: Values, place: "_Place"
) -> Iterator[Markup]:
    """What is said of a dose when the mouse is over it."""
    scale = place.across
    half = (scale.right - scale.left) / (2 * max(len(doses) - 1, 1))
    for i, dose in enumerate(doses):
        told = [
            f"{WORDS[j]} {short(values[i])}" if len(columns) > 1 else short(values[i])
            for j, values in enumerate(columns.values())
            if not math.isnan(values[i])
        ]
        said = tag("title", f"dose {_sigma(dose)}: {panel.name} {', '.join(told) or 'unknown'}")
        box = {"x": draw.pc(scale.at(dose) - half), "width": draw.pc(2 * half)}
        yield tag("rect", said, y=place.top, height=PLOT, fill_opacity=0.0, **box)


# ----------------------------------------------------------------------------------------- places


def _across(doses: Values, ends: tuple[float, float]) -> Scale:
    low, high = float(doses[0]), float(doses[-1])
    room = 0.04 * (high - low) or 1.0
    return Scale(low - room, high + room, *ends)


def _places(
    drawn: Sequence[tuple[_Panel, Mapping[str, Values]]], doses: Values, top: float
) -> tuple[list["_Place"], float]:
    """Panels two by two, and where the last ones end."""
    places: list[_Place] = []
    for row in (drawn[i : i + 2] for i in range(0, len(drawn), 2)):
        top += KEYED if any(len(columns) > 1 for _, columns in row) else HEAD
        for (panel, columns), ends in zip(row, COLUMNS, strict=False):
            places.append(_Place.of(panel, columns, _across(doses, ends), top))
        top += PLOT + FOOT
    return places, top - FOOT


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the values of a panel lie.

    Attributes
    ----------
    across : Scale
        Of doses.
    low, high : float
        Ends of the values; of their logarithms to base 10, where `log`.
    top : float
        In pixels.
    log : bool
    zero : bool
        A log scale whose lower end stands for 0.
    """

    across: Scale
    low: float
    high: float
    top: float
    log: bool
    zero: bool

    @classmethod
    def of(
        cls, panel: _Panel, columns: Mapping[str, Values], across: Scale, top: float
    ) -> "_Place":
        held = np.concatenate([*columns.values(), np.array(panel.ends, dtype=np.float64)])
        held = held[np.isfinite(held)]
        log = panel.log and bool((held > 0).any())
        zero = log and bool((held <= 0).any())
        placed = np.log10(held[held > 0]) if log else held
        low, high = (float(placed.min()), float(placed.max())) if len(placed) else (0.0, 1.0)
        if low == high == 0 and not log:
            high = 1.0
        room = 0.06 * (high - low) or 0.5
        return cls(across, low - room * (4 if zero else 1), high + room, top, log, zero)

    @property
    def bottom(self) -> float:
        return self.top + PLOT

    def y(self, value: float) -> float:
        """Where a value lies, in pixels; what is beyond the scale lies at its edge."""
        placed = value
        if self.log:
            placed = math.log10(value) if value > 0 else self.low
        share = (placed - self.low) / (self.high - self.low)
        return self.bottom - PLOT * min(max(share, 0.0), 1.0)

    def ticks(self) -> list[float]:
        """Round numbers that have room below one another."""
        if not self.log:
            return Scale(self.low, self.high, 0, 1).ticks(4)
        span = self.high - self.low
        if span < 0.7:
            return [t for t in Scale(10**self.low, 10**self.high, 0, 1).ticks(3) if t > 0]
        first, last = math.ceil(self.low), math.floor(self.high)
        step = math.ceil(span / 4)
        powers = [10.0**p for p in range(first, last + 1) if p % step == 0]
        if span < 2:
            powers += [3 * 10.0**p for p in range(first - 1, last + 1)]
        return [power for power in powers if self.low <= math.log10(power) <= self.high]

    def ground(self, panel: _Panel, band: Band | None) -> Iterator[Markup]:
        """The safe band, and hairlines with their numbers."""
        across = self.across
        if band is not None:
            low, high = (min(max(end, across.low), across.high) for end in band)
            ends = [across.at(low), across.at(high)]
            yield draw.bar(ends[0], ends[1], self.top, PLOT, GREEN, fill_opacity=0.13)
            for x in ends:
                edge = {"stroke": GREEN, "stroke_width": 1, "y1": self.top, "y2": self.bottom}
                yield tag("line", x1=draw.pc(x), x2=draw.pc(x), **edge)  # type: ignore[arg-type]
        reference = 1 if panel.columns == ("perplexity",) else 0
        free = math.inf
        for value in ([0.0] if self.zero else []) + sorted(self.ticks()):
            y = self.y(value)
            if abs(free - y) >= CLOSE:
                opacity = 0.35 if value == reference else 0.1
                yield draw.line(across.left, y, across.right, y, opacity)
                yield draw.text(short(value), across.left - 1, y + 4, "end", faint=True)
                free = y


def _numbers(across: Scale, base: float, band: Band | None) -> Iterator[Markup]:
    """Doses below a panel: the ends of the safe band in bold, and round ones that have room."""
    yield draw.text("dose, σ", across.left - 1, base, "end", faint=True)
    taken = [(across.left - 1, across.left)]
    ends = [] if band is None else sorted({e for e in band if across.low <= e <= across.high})
    halves = [BOLD / 2 * len(_sigma(end)) for end in ends]
    apart = len(ends) < 2 or across.at(ends[1]) - across.at(ends[0]) > sum(halves) + BOLD
    for end, half, side in zip(ends, halves, (-1, 1), strict=False):
        x = across.at(end) + (0 if apart else side * half)  # outwards, where both are close
        taken.append((x - half, x + half))
        yield draw.text(_sigma(end), x, base, "middle", font_weight="600")
    for value in across.ticks(8):
        x, number = across.at(value), _sigma(round(value, 9))
        reach = CHARACTER * (len(number) / 2 + 1)
        if all(x + reach < a or x - reach > b for a, b in taken):
            yield draw.text(number, x, base, "middle", faint=True)


# ------------------------------------------------------------------------------------------ marks


def _mark(i: int, colour: str, x: float, y: float, full: bool) -> Markup:
    """The mark of the first or second column of a panel, full or open."""
    ink = {"fill": colour if full else PAPER, "stroke": colour, "stroke_width": "1.5"}
    return tag("svg", tag("g", SHAPES[i], **ink), x=draw.pc(x), y=y, overflow="visible")


def _curve(
    i: int, doses: Values, values: Values, place: _Place, band: Band | None
) -> Iterator[Markup]:
    """Marks with lines between neighbours; a gap where nothing is known."""
    points = [(place.across.at(d), place.y(v)) for d, v in zip(doses, values, strict=True)]
    known = np.isfinite(values)
    ink = {"stroke": INKS[i], "stroke_width": "1.8", "stroke_dasharray": "4 3" if i else None}
    for a in np.flatnonzero(known[:-1] & known[1:]):
        (x1, y1), (x2, y2) = points[a], points[a + 1]
        yield tag("line", x1=draw.pc(x1), x2=draw.pc(x2), y1=y1, y2=y2, **ink)
    for dose, value, (x, y) in zip(doses, values, points, strict=True):
        if math.isinf(value):
            edge = place.top + 9 if value > 0 else place.bottom - 2
            yield draw.text(short(value), x, edge, "middle", fill=INKS[i], font_weight="600")
        elif not math.isnan(value):
            yield _mark(i, INKS[i], x, y, _within(dose, band))
