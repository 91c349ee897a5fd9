"""Values as lines, by layer or by whatever goes across.

Each carries its colours for light and dark with it, to stand alone in the output of a cell.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import drawing as draw
from .drawing import INK, Scale
from .markup import Markup, rounded, tag

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a figure of `curves`.

    Attributes
    ----------
    name : str
    values : array_like, [n]
    colour : str
    dash : str or None
        As SVG has it, such as ``"5 4"``.
    error : array_like, [n], or None
        Half the height of a band around it.
    """

    name: str
    values: ArrayLike
    colour: str = INK
    dash: str | None = None
    error: ArrayLike | None = None


def curves(
    title: str,
    drawn: Sequence[Curve],
    x: Sequence[float],
    *,
    x_name: str = "layer",
    log: bool = False,
    percent: bool = False,
    low: float | None = None,
    high: float | None = None,
    marked: tuple[float, str] | None = None,
) -> str:
    """Values as lines, each named at its end.

    Parameters
    ----------
    title : str
        What the values are; stands above.
    drawn : sequence of Curve
    x : sequence of float
        Whole numbers, ascending.
    x_name : str
        What they number.
    log : bool
        Draw the values, all above zero, on a log scale.
    percent : bool
        Write them as per cents.
    low, high : float, optional
        Ends of the scale.
    marked : (float, str), optional
        A place across to mark, and what is there.
    """
    lines = [(curve, *_band(curve)) for curve in drawn]
    ends = [value for _, _, below, above in lines for value in (below.min(), above.max())]
    least, most = (min(ends) if low is None else low), (max(ends) if high is None else high)
    least, most = (math.log10(least), math.log10(most)) if log else (least, most)
    margin = 0.04 * (most - least) or 1.0
    least -= margin if low is None else 0
    most += margin if high is None else 0
    across = Scale(min(x), max(max(x), min(x) + 1), 7, 76)
    top, bottom = 34.0, 194.0

    def y(value: float) -> float:
        place = math.log10(value) if log else value
        return bottom - (float(place) - least) / (most - least) * (bottom - top)

    parts = [draw.text(title, 0, 12, font_weight="600")]
    for value in _log_ticks(least, most) if log else Scale(least, most, 0, 1).ticks(5):
        parts += [draw.line(7, y(value), 76, y(value), 0.12)]
        parts += [draw.text(_number(value, percent), 6, y(value) + 4, "end", faint=True)]
    for place in across.ticks(6):
        if place == round(place):
            text = f"{place:g}"
            parts.append(draw.text(text, across.at(place), bottom + 16, "middle", faint=True))
    parts.append(draw.text(x_name, 5.6, bottom + 16, "end", faint=True))
    parts += _mark(marked, across, top, bottom)
    for curve, values, below, above in lines:
        if curve.error is not None:
            outline = [*zip(x, above, strict=True), *reversed([*zip(x, below, strict=True)])]
            band = _path(outline, across, y, top, bottom) + "Z"
            parts.append(_plot(band, across, top, bottom, fill=curve.colour, fill_opacity=0.14))
        line = _path(zip(x, values, strict=True), across, y, top, bottom)
        ink = {"stroke": curve.colour, "stroke_width": 2, "stroke_dasharray": curve.dash}
        more = {"fill": "none", "vector_effect": "non-scaling-stroke", "stroke_linejoin": "round"}
        parts.append(_plot(line, across, top, bottom, **ink, **more))
    names = _apart([y(values[-1]) for _, values, _, _ in lines], 15)
    for (curve, *_), height in zip(lines, names, strict=True):
        parts.append(draw.text(curve.name, 77.5, height + 4, fill=curve.colour))
    parts += _spoken_places(lines, x, x_name, across, (top, bottom - top), percent)
    spoken = "; ".join(
        f"{curve.name} from " + " ".join(_number(value, percent) for value in values)
        for curve, values, *_ in lines
    )
    said = f"By {x_name}: {spoken}." + (f" At {marked[0]:g}: {marked[1]}." if marked else "")
    return draw.alone(draw.wide(draw.figure(title, said, bottom + 24, parts)))


def _number(value: float, percent: bool) -> str:
    return f"{100 * value:.3g}%" if percent else f"{value:,.4g}"


def _mark(
    marked: tuple[float, str] | None, across: Scale, top: float, bottom: float
) -> Iterator[Markup]:
    """A dashed line at a place, with what is there above it, where the figure has room."""
    if marked is None:
        return
    x = across.at(marked[0])
    anchor = "start" if x < (across.left + across.right) / 2 else "end"
    yield draw.line(x, top - 6, x, bottom, 0.7, dash="4 3")
    yield draw.text(marked[1], x, top - 9, anchor)


def _spoken_places(
    lines: Sequence[tuple[Curve, Values, Values, Values]],
    x: Sequence[float],
    x_name: str,
    across: Scale,
    place: tuple[float, float],
    percent: bool,
) -> Iterator[Markup]:
    """What is said of the values at a place when the mouse is over it."""
    width = across.at(x[1]) - across.at(x[0]) if len(x) > 1 else across.right - across.left
    for i, where in enumerate(x):
        values = ", ".join(f"{curve.name} {_number(v[i], percent)}" for curve, v, *_ in lines)
        box = {"x": draw.pc(across.at(where) - width / 2), "width": draw.pc(width)}
        said = tag("title", f"{x_name} {where:g}: {values}")
        yield tag("rect", said, y=place[0], height=place[1], fill_opacity=0.0, **box)


def _band(curve: Curve) -> tuple[Values, Values, Values]:
    """Values, and the lower and upper end of the band around them."""
    values = np.asarray(curve.values, dtype=np.float64)
    error = np.zeros_like(values) if curve.error is None else np.asarray(curve.error)
    return values, values - error, values + error


def _log_ticks(least: float, most: float) -> list[float]:
    """One and three times the powers of ten within; with the wider scales the powers alone."""
    factors = (1, 3) if most - least < 3 else (1,)
    powers = range(math.floor(least), math.ceil(most) + 1)
    found = [factor * 10.0**power for power in powers for factor in factors]
    return [value for value in found if least <= math.log10(value) <= most]


def _path(
    points: Iterable[tuple[float, float]], across: Scale, y: Any, top: float, bottom: float
) -> str:
    """Points as a path in a box of 100 by 100."""
    width, height = across.right - across.left, bottom - top
    placed = (
        f"{rounded(100 * (across.at(a) - across.left) / width)} "
        f"{rounded(100 * (y(b) - top) / height)}"
        for a, b in points
    )
    return "M" + "L".join(placed)


def _plot(path: str, across: Scale, top: float, bottom: float, **ink: Any) -> Markup:
    """A path laid over the place where values are drawn."""
    place = {"x": draw.pc(across.left), "y": top, "overflow": "visible"}
    box = {"width": draw.pc(across.right - across.left), "height": bottom - top}
    fit = {"viewBox": "0 0 100 100", "preserveAspectRatio": "none"}
    return tag("svg", tag("path", d=path, **ink), **place, **box, **fit)  # type: ignore[arg-type]


def _apart(places: Sequence[float], least: float) -> list[float]:
    """Places moved as little as it takes for each to be `least` below the one before."""
    found = np.array(places, dtype=np.float64)
    order = np.argsort(found, kind="stable")
    for _ in range(8 * len(order)):
        for a, b in pairwise(order):
            lack = least - (found[b] - found[a])
            if lack > 1e-6:
                found[a] -= lack / 2
                found[b] += lack / 2
    return [float(place) for place in found]
