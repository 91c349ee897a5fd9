"""Figures as SVG text: functions from values to a string, the same string for the same values.

Across, everything is placed in per cent of the width, so that a figure fills a phone or a screen
while its letters keep their size. Ink is ``currentColor`` and the two poles are CSS variables:
the page that a figure stands in decides what is light and what is dark.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from . import drawing as draw
from .markup import rounded, signed, tag

POSITIVE = "var(--mn-positive, #c2590a)"
NEGATIVE = "var(--mn-negative, #2c74b8)"


def pole_label(row: Mapping[Any, Any], pole: str) -> str:
    """What a pole, ``"positive"`` or ``"negative"``, is known by: its label, else a category."""
    typical = str(row.get(f"categories_{pole}") or "").split(", ")[0]
    return str(row.get(f"label_{pole}") or "") or re.sub(r" \d+%$", "", typical)


def pole_labels(axes: pd.DataFrame) -> dict[tuple[int, int], str]:
    """The same for every pole of a table of `Study.axes`: (axis, +1 or -1) -> words."""
    return {
        (int(row["axis"]), sign): pole_label(row, pole)
        for row in axes.to_dict("records")
        for pole, sign in (("positive", 1), ("negative", -1))
    }


def histogram(values: ArrayLike, n_bins: int = 40) -> str:
    """How many rows lie where on an axis; blue below zero, orange above.

    Parameters
    ----------
    values : array_like, [n_rows]
        z of each row; what is not finite is left out.
    n_bins : int
    """
    given = np.asarray(values, dtype=np.float64).ravel()
    finite = given[np.isfinite(given)]
    title = "Histogram of the coordinate, in standard deviations"
    if not len(finite):
        return draw.figure(title, "No values.", 30, [])
    reach = max(1e-9, float(np.abs(finite).max()))
    # About zero, so that the poles stand left and right of the middle on every card.
    counts, _ = np.histogram(finite, bins=n_bins, range=(-reach, reach))
    tall = [rounded(100 * count / counts.max()) for count in counts]
    bars = [f"M{rounded(i + 0.08)} 100v-{t}h.84V100Z" * (t != "0") for i, t in enumerate(tall)]
    sides = ((NEGATIVE, bars[: n_bins // 2]), (POSITIVE, bars[n_bins // 2 :]))
    paths = [tag("path", d="".join(side), fill=colour) for colour, side in sides]
    box = {"width": "100%", "height": "56", "viewBox": f"0 0 {n_bins} 100"}
    marks = ((signed(-reach, 1), 0, None), ("0", 50, "middle"), (signed(reach, 1), 100, "end"))
    drawn = tag("svg", *paths, y="2", preserveAspectRatio="none", **box)
    numbers = [draw.text(text, x, 74, anchor, faint=True) for text, x, anchor in marks]
    parts = [drawn, draw.line(0, 58.5, 100, 58.5, 0.35), *numbers]
    ends = " to ".join(signed(float(end)) for end in (finite.min(), finite.max()))
    return draw.figure(title, f"{len(finite):,} rows from {ends}.", 78, parts)
