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
from .drawing import INK, ROW, Scale
from .markup import (
    MILLI,
    UTILITY_UNIT,
    Markup,
    decimals,
    rounded,
    signed,
    tag,
)

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


def axis_label(row: Mapping[Any, Any]) -> str:
    """Both poles in one line, negative first as on the scale."""
    names = [pole_label(row, pole) for pole in ("negative", "positive")]
    return " ↔ ".join(name or "…" for name in names) if any(names) else ""


def forest(axes: pd.DataFrame) -> str:
    """Utility of every axis with its interval, against the band of chance; highest first.

    Parameters
    ----------
    axes : DataFrame
        ``axis utility low high null_high special``, and labels, as `Study.axes` gives them.

    Returns
    -------
    str
        SVG. A filled diamond beats chance, an open circle does not.
    """
    known = axes.dropna(subset=["utility"]).sort_values(
        ["utility", "axis"], ascending=[False, True]
    )
    shown = ["utility", "low", "high", "null_high"]
    known[shown] *= MILLI
    rows = known.to_dict("records")
    special = [row for row in rows if row["special"]]
    title = "Utility of each axis, with 95 % intervals and the band of chance"
    if not rows:
        return draw.figure(title, "No axis has a utility.", 30, [])
    limit = 1.05 * max(1e-9, *known[shown].abs().max())
    scale = Scale(-limit, limit, 32, 82)
    digits = decimals(limit)
    top, bottom = 26.0, 26.0 + ROW * len(rows)
    parts = [
        draw.text("◆ beats chance\u2003○ within chance (shaded)", 0, 12, faint=True),
        *(
            draw.bar(
                scale.at(-row["null_high"]),
                scale.at(row["null_high"]),
                top + ROW * i,
                ROW,
                fill_opacity=0.09,
            )
            for i, row in enumerate(rows)
        ),
        draw.ruler(scale, scale.ticks(4), top, bottom),
        *(_forest_row(row, scale, top + ROW * i, digits) for i, row in enumerate(rows)),
        draw.text(f"utility, {UTILITY_UNIT}", scale.at(0), bottom + 33, "middle", faint=True),
    ]
    named = ", ".join(f"axis {row['axis']} {signed(row['utility'], digits)}" for row in special)
    description = (
        f"{len(rows)} axes, {len(special)} of them beyond chance{': ' * bool(special)}{named}. "
        f"In {UTILITY_UNIT} for one standard deviation of push."
    )
    return draw.figure(title, description, bottom + 40, parts)


def _forest_row(row: Mapping[Any, Any], scale: Scale, y: float, digits: int) -> Markup:
    utility, middle = row["utility"], y + ROW / 2
    spoken = " to ".join(signed(row[end], digits) for end in ("low", "high"))
    verdict = "beats chance" if row["special"] else "within chance"
    colour = (POSITIVE if utility > 0 else NEGATIVE) if row["special"] else None
    weight = "600" if colour else "400"
    shape = (
        tag("path", d="M0-5.5 5.5 0 0 5.5-5.5 0Z", fill=colour)
        if colour
        else tag("circle", r="3.5", fill="var(--mn-paper, Canvas)", stroke=INK, stroke_width="1.5")
    )
    return tag(
        "g",
        tag("title", f"Axis {row['axis']}: {signed(utility, digits)} ({spoken}), {verdict}"),
        draw.label(axis_label(row), y + 1, 30, int(row["axis"])),
        draw.line(scale.at(row["low"]), middle, scale.at(row["high"]), middle, 0.7, 1.5),
        tag("svg", shape, x=draw.pc(scale.at(utility)), y=middle, overflow="visible"),
        draw.text(signed(utility, digits), 100, y + 15, "end", font_weight=weight),
    )


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
