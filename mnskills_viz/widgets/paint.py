"""How points of the map are coloured: by the group that they belong to, or on a scale."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .groups import LOOKS, OTHERS, with_looks

DIVERGING = ((0.0, "#1f6bb0"), (0.5, "#b8b8b8"), (1.0, "#b4540a"))
RISING = ((0.0, "#56a4d9"), (1.0, "#8b1a00"))

SIZE = 6
OPACITY = 0.9
"""Comes out as 0.8: plotly counts it twice where points have several colours."""

UNKNOWN = 3
"""Size of points that have no value; they are grey, too."""


@dataclass(frozen=True, slots=True)
class Paint:
    """How points are coloured.

    Attributes
    ----------
    values : ndarray of float32, [n_points]
        Numbers that colours stand for; of groups, their places.
    legend : list of dict
        ``name colour symbol`` of each group; or of the two ends of a scale.
    groups : ndarray of int64, [n_points], or None
        None where values lie on a scale.
    scale : sequence of (float, str)
    ends : (float, float)
        Values at the ends of the scale.
    known : ndarray of bool, [n_points]
        Points that have a value.
    """

    values: NDArray[np.float32]
    legend: list[dict[str, str]]
    groups: NDArray[np.int64] | None
    scale: Sequence[tuple[float, str]]
    ends: tuple[float, float]
    known: NDArray[np.bool_]


def on_scale(
    values: NDArray[np.float32],
    scale: Sequence[tuple[float, str]],
    ends: tuple[float, float],
    said: Sequence[str],
) -> Paint:
    """Numbers on a scale; points without one lie below its low end, and are small and grey.

    Parameters
    ----------
    values : ndarray of float32, [n_points]
        NaN where there is none.
    scale : sequence of (float, str)
        Places from 0 to 1 and their colours.
    ends : (float, float)
        Values at 0 and 1.
    said : sequence of str
        Of the low end, the high end, and points without a value.
    """
    known = np.isfinite(values)
    colours = [scale[0][1], scale[-1][1], OTHERS[0]]
    legend = [
        {"name": name, "colour": colour, "symbol": "circle"}
        for name, colour in zip(said, colours, strict=False)
    ]
    if known.all():
        return Paint(values, legend[:2], None, scale, ends, known)
    low, high = ends
    below = low - (high - low) / 10
    start = (low - below) / (high - below)
    steps = [(start + (1 - start) * place, colour) for place, colour in scale]
    grey = [(0.0, OTHERS[0]), (start, OTHERS[0])]
    return Paint(
        np.where(known, values, below), legend, None, [*grey, *steps], (below, high), known
    )


def in_groups(
    groups: NDArray[np.integer], names: Sequence[str], counts: NDArray[np.integer]
) -> Paint:
    """Groups in the looks that they have by their counts.

    Parameters
    ----------
    groups : ndarray of int, [n_points]
        Places among `names`.
    names : sequence of str
        The last one is of points in no group.
    counts : ndarray of int, [n_names - 1]
        What the looks go by; see `with_looks`.
    """
    frequent = with_looks(counts)
    n = len(frequent)
    place = np.full(len(names), n)
    place[frequent] = np.arange(n)
    looks = [*LOOKS[:n], OTHERS]
    others = names[-1] if n == np.count_nonzero(counts) else "others"
    shown = place[groups].astype(np.int64)
    said = [*(names[g] for g in frequent), *([others] if (shown == n).any() else [])]
    legend = [
        {"name": name, "colour": colour, "symbol": symbol}
        for name, (colour, symbol) in zip(said, looks, strict=False)
    ]
    steps = [(edge / (n + 1), colour) for i, (colour, _) in enumerate(looks) for edge in (i, i + 1)]
    known = np.ones(len(groups), dtype=bool)
    return Paint(shown.astype(np.float32), legend, shown, steps, (-0.5, n + 0.5), known)


def marker(paint: Paint) -> dict[str, Any]:
    """A paint as the marker of a plotly trace."""
    symbols = [symbol for _, symbol in LOOKS[: len(paint.scale) // 2 - 1]]
    looks = np.array([*symbols, OTHERS[1]])
    sizes = np.where(paint.known, SIZE, UNKNOWN).astype(np.float32)
    return {
        "size": SIZE if paint.known.all() else sizes,
        "color": paint.values,
        "colorscale": [list(step) for step in paint.scale],
        "cmin": paint.ends[0],
        "cmax": paint.ends[1],
        "showscale": False,
        "line": {"width": 0},  # or else plotly draws one around points of several sizes
        "opacity": OPACITY,
        "symbol": "circle" if paint.groups is None else looks[paint.groups].tolist(),
    }
