"""A map of layers and axes: where a push matters, beyond what random directions reach."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from . import drawing as draw
from .drawing import BLUE, GREEN, INK, ORANGE, PAPER, Scale
from .marks import headings
from .markup import Markup, tag
from .proxy_figures import layer_name

Times = Mapping[tuple[str, int], float]
"""(layer, axis) -> signed utility over the edge of chance; only what is known."""

STRONGEST = 3.0
"""From so many times chance on the colour is full."""

AT_CHANCE, BEYOND, FULL = 0.26, 0.46, 0.94
"""Opacity just within the edge of chance, just beyond it, and at `STRONGEST`."""

TOP = 62.0
"""Where the uppermost layer begins, in pixels."""

LEFT = 7.2
"""Per cent of the width for the numbers of layers."""

WIDEST = 4.0
"""Per cent of the width of a cell, at most."""

CROWDED = 12
"""With more layers than this a row is lower."""

NAMED = 5
"""So many of the strongest are named in the words for screen readers."""

UP, DOWN = "▲", "▼"


def layer_map(table: pd.DataFrame, share: pd.DataFrame | None = None) -> str:
    """Which axes matter at which layer: a row a layer, the first block lowest, a column an axis.

    The colour is the utility over the edge of chance: orange where a push to the positive pole
    helps, blue where one to the negative pole does. It steps at the edge. Cells beyond it are
    marked ▲ or ▼ alike, and counted beside their layer; of layers without any effect one in
    twenty has one by chance. A struck cell has no utility.

    Parameters
    ----------
    table : DataFrame
        ``axis layer dose utility null_low null_high``, as `mnskills_viz.proxy` gives it. Measured
        doses are passed over: they are known at few layers.
    share : DataFrame, optional
        ``layer share random``: how much of the gradient the axes span at each layer, and how much
        as many random directions do, in [0, 1]. Drawn beside the layers. Default: what the table
        carries in ``attrs["share"]``, as that of `Study.proxy_layers` does.

    Returns
    -------
    str
        HTML.
    """
    title = "Utility of each axis at each layer, in times the edge of chance"
    slopes = table[table["dose"].isna()] if "dose" in table else table
    if not len(slopes):
        return draw.alone(draw.figure(title, "No axis has a utility.", 30, []))
    if share is None and "share" in table.attrs:
        share = pd.DataFrame(table.attrs["share"])
    times = _times(slopes)
    layers = sorted({layer_name(layer) for layer in slopes["layer"]}, key=_height)
    axes = sorted({int(axis) for axis in slopes["axis"]})
    grid = _Grid.of(layers, axes, share is not None)
    shares = {} if share is None else _shares(share)
    full = max([1e-9, *(v for row in shares.values() for v in row if math.isfinite(v))])
    parts: list[Markup] = [*_key(), *grid.frame(), grid.cells(times), *grid.marks(times)]
    for layer in layers:
        beyond = sum(abs(times.get((layer, axis), 0.0)) > 1 for axis in axes)
        parts += grid.beside(layer, beyond)
        if share is not None:
            parts.append(grid.share(layer, shares.get(layer, (math.nan, math.nan)), full))
    said = _summary(times, layers, axes)
    return draw.alone(draw.wide(draw.figure(title, said, grid.bottom + 22, parts)))


def _height(layer: str) -> tuple[bool, int, str]:
    """Blocks by their number, then what is made of several."""
    return (not layer.isdecimal(), int(layer) if layer.isdecimal() else 0, layer)


def _times(slopes: pd.DataFrame) -> dict[tuple[str, int], float]:
    """Utility over the edge of chance on its side, where both are known."""
    value, high = (slopes[name].to_numpy(np.float64) for name in ("utility", "null_high"))
    low = slopes["null_low"].to_numpy(np.float64) if "null_low" in slopes else -high
    edge = np.where(value >= 0, high, -low)
    keys = zip(slopes["layer"].map(layer_name), slopes["axis"].astype(int), strict=True)
    return {
        key: float(v / e)
        for key, v, e in zip(keys, value, edge, strict=True)
        if math.isfinite(v) and math.isfinite(e) and e > 0
    }


def _shares(share: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Share of the gradient at each layer, and that of random directions."""
    known = share.reindex(columns=["share", "random"]).astype(np.float64)
    held = known.itertuples(index=False, name=None)
    return {layer_name(layer): pair for layer, pair in zip(share["layer"], held, strict=True)}


def _opacity(times: float) -> float:
    """How full the colour of a cell is: pale within chance, a step at its edge, full from 3."""
    size = abs(times)
    if size <= 1:
        return AT_CHANCE * size
    return BEYOND + (FULL - BEYOND) * (min(size, STRONGEST) - 1) / (STRONGEST - 1)


@dataclass(frozen=True, slots=True)
class _Grid:
    """Where layers and axes lie, and what stands beside them.

    Attributes
    ----------
    layers : sequence of str
    axes : sequence of int
        Both ascending.
    row : float
        Height of a layer, in pixels.
    scale : Scale
        Places of the axes, by their order.
    shared : bool
        Whether there is a column for the share of the gradient.
    """

    layers: Sequence[str]
    axes: Sequence[int]
    row: float
    scale: Scale
    shared: bool

    @classmethod
    def of(cls, layers: Sequence[str], axes: Sequence[int], shared: bool) -> "_Grid":
        room = (67.0 if shared else 89.0) - LEFT
        right = LEFT + min(room, WIDEST * len(axes))
        row = 14.0 if len(layers) > CROWDED else 20.0
        return cls(layers, axes, row, Scale(0, len(axes), LEFT, right), shared)

    @property
    def bottom(self) -> float:
        return TOP + self.row * len(self.layers)

    def above(self, layer: str) -> float:
        """Upper end of a layer, in pixels."""
        return self.bottom - self.row * (1 + self.layers.index(layer))

    def frame(self) -> Iterator[Markup]:
        """The ground of the cells, the names of the columns, and the numbers of the axes."""
        left, right = self.scale.left, self.scale.right
        yield draw.bar(left, right, TOP, self.bottom - TOP, fill_opacity=0.04)
        yield from headings({left - 0.8: "layer", right + 8.5: "beyond"}, TOP - 9, "end")
        if self.shared:
            yield from headings({right + 10.5: "gradient held"}, TOP - 9)
            yield draw.line(right + 25, TOP - 19, right + 25, TOP - 7, 0.9, 1.5)
            yield draw.text("random", right + 25.8, TOP - 9, faint=True)
        step = (right - left) / len(self.axes)
        every = next(n for n in (1, 2, 4, 8, 16, 32, 64, 128, 10**6) if n * step >= 2.8)
        for i, axis in enumerate(self.axes):
            if i % every == 0:
                x = self.scale.at(i + 0.5)
                yield draw.text(str(axis), x, self.bottom + 15, "middle", faint=True)
        yield draw.text("axis", left - 0.8, self.bottom + 15, "end", font_weight="600")

    def cells(self, times: Times) -> Markup:
        """A coloured cell for each axis and layer, with what is said of it."""
        drawn = []
        for up, layer in enumerate(reversed(self.layers)):
            for i, axis in enumerate(self.axes):
                value = times.get((layer, axis))
                said = tag("title", f"Layer {layer}, axis {axis}: {_verdict(value)}")
                if value is None:
                    struck: dict[str, Any] = {"d": f"M{i}.1 {up}.9l.8-.8", "stroke_opacity": 0.5}
                    drawn.append(tag("path", said, stroke=INK, **_THIN, **struck))
                else:
                    colour = ORANGE if value > 0 else BLUE
                    cell: dict[str, Any] = {
                        "d": f"M{i} {up}h1v1h-1Z",
                        "fill_opacity": _opacity(value),
                    }
                    drawn.append(tag("path", said, fill=colour, **cell))
        box: dict[str, Any] = {"x": draw.pc(self.scale.left), "y": TOP, "height": self.bottom - TOP}
        across = {"width": draw.pc(self.scale.right - self.scale.left)}
        fit = {"viewBox": f"0 0 {len(self.axes)} {len(self.layers)}"}
        return tag("svg", *drawn, preserveAspectRatio="none", **box, **across, **fit)

    def marks(self, times: Times) -> Iterator[Markup]:
        """Arrows on the cells beyond chance, up where the positive pole helps."""
        for layer in self.layers:
            for i, axis in enumerate(self.axes):
                value = times.get((layer, axis), 0.0)
                if abs(value) > 1:
                    y = self.above(layer) + self.row / 2
                    yield _arrow(value, self.scale.at(i + 0.5), y)

    def beside(self, layer: str, beyond: int) -> Iterator[Markup]:
        """Number of a layer, and how many of its axes are beyond chance."""
        base = self.above(layer) + self.row / 2 + 4
        yield draw.text(layer, self.scale.left - 0.8, base, "end", faint=True)
        count, x = str(beyond or "–"), self.scale.right + 8.5
        yield draw.text(count, x, base, "end", faint=not beyond)

    def share(self, layer: str, shares: tuple[float, float], full: float) -> Markup:
        """How much of the gradient the axes hold at a layer; a line for random directions."""
        held, random = shares
        left = self.scale.right + 10.5
        scale, y = Scale(0, full, left, left + 14), self.above(layer)
        base = y + self.row / 2 + 4
        if not math.isfinite(held):
            return draw.text("–", left, base, faint=True)
        said = f"Layer {layer}: {held:.1%} of the gradient"
        parts = [draw.bar(left, scale.at(held), y + 2, self.row - 4, GREEN, fill_opacity=0.55)]
        if math.isfinite(random):
            x = scale.at(random)
            parts.append(draw.line(x, y + 1, x, y + self.row - 1, 0.9, 1.5))
            said += f", random directions {random:.1%}"
        number = draw.text(f"{held:.0%}", left + 15, base)
        return tag("g", tag("title", said), *parts, number)


_THIN: dict[str, Any] = {"stroke_width": 1, "vector_effect": "non-scaling-stroke"}


_CENTERED: dict[str, str] = {"text_anchor": "middle", "font_size": "8"}


def _arrow(value: float, x: float, y: float) -> Markup:
    halo = {"stroke": PAPER, "stroke_width": "2", "paint_order": "stroke"}
    return tag("text", UP if value > 0 else DOWN, x=draw.pc(x), y=y + 3, **_CENTERED, **halo)


def _verdict(times: float | None) -> str:
    if times is None:
        return "unknown"
    word = "beyond" if abs(times) > 1 else "within"
    return f"{_number(times)} times, {word} chance"


def _number(times: float) -> str:
    sign = "−" if times < 0 else "+"
    size = abs(times)
    return sign + (f"{size:.2f}" if size < 1000 else f"{size:.1e}")


def _key() -> Iterator[Markup]:
    """The colours of some utilities, and what the marks say."""
    places = np.linspace(-STRONGEST, STRONGEST, 25)
    scale = Scale(-STRONGEST, STRONGEST, 11, 41)
    half = 0.5 * (places[1] - places[0])
    for value in places:
        colour = ORANGE if value > 0 else BLUE
        shade = {"fill_opacity": _opacity(value)}
        yield draw.bar(scale.at(value - half), scale.at(value + half), 2, 11, colour, **shade)
    for value, word in ((-STRONGEST, "−3"), (-1, "−1"), (0, "0"), (1, "+1"), (STRONGEST, "+3")):
        yield draw.text(word, scale.at(value), 26, "middle", faint=True)
    yield draw.text("× chance", 0, 12, faint=True)
    yield _arrow(1, 47, 8)
    yield draw.text("beyond chance, helps at +", 48.3, 12, faint=True)
    yield _arrow(-1, 74, 8)
    yield draw.text("beyond chance, helps at −", 75.3, 12, faint=True)


def _summary(times: Times, layers: Sequence[str], axes: Sequence[int]) -> str:
    beyond = sorted((key for key, t in times.items() if abs(t) > 1), key=lambda k: -abs(times[k]))
    said = f"{len(layers)} layers by {len(axes)} axes, {len(beyond) or 'none'} beyond chance"
    if not beyond:
        return f"{said}."
    counts = {layer: sum(at == layer for at, _ in beyond) for layer in layers}
    most = max(counts, key=lambda layer: counts[layer])
    named = ", ".join(
        f"axis {axis} at layer {layer} {_number(times[layer, axis])}"
        for layer, axis in beyond[:NAMED]
    )
    return (
        f"{said}, most of them at layer {most}: {counts[most]}. Strongest, in times the edge of "
        f"chance: {named}."
    )
