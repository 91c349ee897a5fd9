"""Figures as SVG text: functions from values to a string, the same string for the same values.

Across, everything is placed in per cent of the width, so that a figure fills a phone or a screen
while its letters keep their size. Ink is ``currentColor`` and the two poles are CSS variables:
the page that a figure stands in decides what is light and what is dark.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from .markup import (
    MILLI,
    UTILITY_UNIT,
    Markup,
    decimals,
    joined,
    rounded,
    shortened,
    signed,
    tag,
)

POSITIVE = "var(--mn-positive, #c2590a)"
NEGATIVE = "var(--mn-negative, #2c74b8)"
INK = "currentColor"

FRAME = {
    "xmlns": "http://www.w3.org/2000/svg",
    "class": "mn-figure",
    "role": "img",
    "width": "100%",
    "fill": INK,
    "style": "font:12px/1 var(--mn-font, system-ui, sans-serif);font-variant-numeric:tabular-nums",
}
ROW = 22
POLES = (("positive", "+", POSITIVE, 3), ("negative", "−", NEGATIVE, 11))  # name sign colour top
LABEL_LENGTH = 80
LABEL_STYLE = (
    "line-height:20px;overflow:hidden;white-space:nowrap;text-overflow:ellipsis;opacity:.8;"
    "unicode-bidi:plaintext;text-align:left"
)
XHTML = "http://www.w3.org/1999/xhtml"
MOST_CATEGORIES = 24


def axis_label(row: Mapping[Any, Any]) -> str:
    """Both poles in one line, negative first as on the scale: labels, else the top categories."""
    names = []
    for pole in ("negative", "positive"):
        typical = str(row.get(f"categories_{pole}") or "").split(", ")[0]
        names.append(str(row.get(f"label_{pole}") or "") or re.sub(r" \d+%$", "", typical))
    return " ↔ ".join(name or "…" for name in names) if any(names) else ""


@dataclass(frozen=True, slots=True)
class _Scale:
    """Values from `low` to `high` laid over the width from `left` to `right` per cent."""

    low: float
    high: float
    left: float
    right: float

    def at(self, value: float) -> float:
        share = (float(value) - self.low) / (self.high - self.low)
        return self.left + share * (self.right - self.left)

    def ticks(self, n: int) -> list[float]:
        """About `n` round numbers within."""
        rough = (self.high - self.low) / n
        power = 10.0 ** math.floor(math.log10(rough))
        step = power * next(m for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [i * step for i in range(first, last + 1)]


def _pc(value: float) -> str:
    return f"{rounded(value)}%"


def _figure(title: str, description: str, height: float, parts: Iterable[str]) -> str:
    """A whole figure; without values it says so."""
    said = (tag("title", title), tag("desc", description))
    drawn = joined(parts) or _text("No values yet", 0, 20)
    return tag("svg", *said, drawn, height=height, **FRAME)


def _text(
    text: str, x: float, y: float, anchor: str | None = None, faint: bool = False, **more: str
) -> Markup:
    opacity = 0.66 if faint else None
    return tag("text", text, x=_pc(x), y=y, text_anchor=anchor, opacity=opacity, **more)


def _line(x1: float, y1: float, x2: float, y2: float, opacity: float, width: float = 1) -> Markup:
    ends = {"x1": _pc(x1), "x2": _pc(x2)}
    ink = {"stroke_width": width, "stroke_opacity": opacity}
    return tag("line", y1=y1, y2=y2, stroke=INK, **ends, **ink)


def _bar(a: float, b: float, y: float, height: float, fill: str = INK, **more: float) -> Markup:
    """A horizontal bar between two places across."""
    x, width = _pc(min(a, b)), _pc(abs(b - a))
    return tag("rect", x=x, y=y, width=width, height=height, fill=fill, **more)


def _label(text: str, y: float, width: float, number: int | None = None) -> Markup:
    """A row's name in the `width` per cent that there are; its number first, if it has one."""
    # HTML inside, because SVG itself cannot end a text that is too long with an ellipsis.
    style = f"{LABEL_STYLE};padding-left:{0 if number is None else 26}px"
    name = tag("div", shortened(text, LABEL_LENGTH), xmlns=XHTML, style=style)
    box = tag("foreignObject", name, y=y, width=_pc(width), height=ROW)
    if number is None:
        return box
    digits = tag("text", str(number), x=18, y=y + 14, text_anchor="end", font_weight="600")
    return joined([digits, box])


def _ruler(scale: _Scale, ticks: Sequence[float], top: float, bottom: float) -> Markup:
    """Vertical hairlines with their numbers below."""
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    parts = []
    for value in ticks:
        x = scale.at(value)
        parts.append(_line(x, top, x, bottom, 0.35 if value == 0 else 0.1))
        number = signed(value, digits) if scale.low < 0 else f"{value:.{digits}f}"
        parts.append(_text("0" if value == 0 else number, x, bottom + 15, "middle", faint=True))
    return joined(parts)


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
        return _figure(title, "No axis has a utility.", 30, [])
    limit = 1.05 * max(1e-9, *known[shown].abs().max())
    scale = _Scale(-limit, limit, 32, 82)
    digits = decimals(limit)
    top, bottom = 26.0, 26.0 + ROW * len(rows)
    parts = [
        _text("◆ beats chance\u2003○ within chance (shaded)", 0, 12, faint=True),
        *(
            _bar(
                scale.at(-row["null_high"]),
                scale.at(row["null_high"]),
                top + ROW * i,
                ROW,
                fill_opacity=0.09,
            )
            for i, row in enumerate(rows)
        ),
        _ruler(scale, scale.ticks(4), top, bottom),
        *(_forest_row(row, scale, top + ROW * i, digits) for i, row in enumerate(rows)),
        _text(f"utility, {UTILITY_UNIT}", scale.at(0), bottom + 33, "middle", faint=True),
    ]
    named = ", ".join(f"axis {row['axis']} {signed(row['utility'], digits)}" for row in special)
    description = (
        f"{len(rows)} axes, {len(special)} of them beyond chance{': ' * bool(special)}{named}. "
        f"In {UTILITY_UNIT} for one standard deviation of push."
    )
    return _figure(title, description, bottom + 40, parts)


def _forest_row(row: Mapping[Any, Any], scale: _Scale, y: float, digits: int) -> Markup:
    utility, middle = row["utility"], y + ROW / 2
    spoken = " to ".join(signed(row[end], digits) for end in ("low", "high"))
    verdict = "beats chance" if row["special"] else "within chance"
    colour = (POSITIVE if utility > 0 else NEGATIVE) if row["special"] else None
    shape = (
        tag("path", d="M0-5.5 5.5 0 0 5.5-5.5 0Z", fill=colour)
        if colour
        else tag("circle", r="3.5", fill="var(--mn-paper, Canvas)", stroke=INK, stroke_width="1.5")
    )
    return tag(
        "g",
        tag("title", f"Axis {row['axis']}: {signed(utility, digits)} ({spoken}), {verdict}"),
        _label(axis_label(row), y + 1, 30, int(row["axis"])),
        _line(scale.at(row["low"]), middle, scale.at(row["high"]), middle, 0.7, 1.5),
        tag("svg", shape, x=_pc(scale.at(utility)), y=middle, overflow="visible"),
        _text(signed(utility, digits), 100, y + 15, "end", font_weight="600" if colour else "400"),
    )


def spectrum(explained_variance_ratio: ArrayLike) -> str:
    """Share of variance of each axis as bars, and their running sum as a line.

    Parameters
    ----------
    explained_variance_ratio : array_like, [n_axes]
        Shares of the total variance, in [0, 1].
    """
    shares = np.nan_to_num(np.asarray(explained_variance_ratio, dtype=np.float64)).ravel()
    title = "Share of variance of each axis, and the running sum"
    if not len(shares):
        return _figure(title, "No axes.", 30, [])
    sums = np.cumsum(shares)
    highest = max(0.05, math.ceil(20 * float(sums[-1]) - 1e-6) / 20)
    top, bottom, step = 20.0, 180.0, (100 - 10) / len(shares)

    def y(share: float) -> float:
        return bottom - float(share) / highest * (bottom - top)

    every = math.ceil(len(shares) / 12)
    parts: list[Markup] = []
    for value in _Scale(0, highest, 0, 1).ticks(4):
        parts += [_line(0, y(value), 100, y(value), 0.1)]
        parts += [_text(f"{value:.0%}", 0, y(value) - 4, faint=True)]
    for i, (share, total) in enumerate(zip(shares, sums, strict=True)):
        x = 10 + i * step
        said = tag("title", f"Axis {i}: {share:.1%}, {total:.1%} so far")
        bar = _bar(x + 0.15 * step, x + 0.85 * step, y(share), bottom - y(share), fill_opacity=0.6)
        parts.append(tag("g", said, bar))
        if i:
            parts.append(_line(x - step / 2, y(sums[i - 1]), x + step / 2, y(total), 0.55, 1.5))
        if i % every == 0:
            parts.append(_text(str(i), x + step / 2, bottom + 16, "middle", faint=True))
    parts.append(_text(f"together {sums[-1]:.1%}", 100, y(sums[-1]) - 7, "end", font_weight="600"))
    description = f"{len(shares)} axes hold {sums[-1]:.1%} of the variance; axis 0 {shares[0]:.1%}."
    return _figure(title, description, bottom + 24, parts)


def composition(selected: Mapping[str, int], pool: Mapping[str, int]) -> str:
    """Shares of the categories in a selection beside their shares in the pool.

    Parameters
    ----------
    selected, pool : mapping of str to int
        Rows of each category. Beyond 24 categories the rarest in the pool go together.
    """
    title = "Composition of the selection against the pool"
    totals = max(1, sum(selected.values())), max(1, sum(pool.values()))
    names = sorted({*selected, *pool}, key=lambda c: (-pool.get(c, 0), -selected.get(c, 0), c))
    groups = {name: [name] for name in names[:MOST_CATEGORIES]}
    if rest := names[MOST_CATEGORIES:]:
        groups[f"{len(rest)} others"] = rest
    shares: list[tuple[str, float, float]] = []
    for label, members in groups.items():
        a, b = (sum(c.get(m, 0) for m in members) for c in (selected, pool))
        shares.append((label, a / totals[0], b / totals[1]))
    if not shares:
        return _figure(title, "No categories.", 30, [])
    scale = _Scale(0, max(max(mine, whole) for _, mine, whole in shares) or 1, 36, 86)
    parts = [
        _bar(0, 3, 4, 8, fill_opacity=0.85),
        _text(f"selected, {sum(selected.values()):,} rows", 4.5, 12, faint=True),
        _bar(50, 53, 4, 8, fill_opacity=0.28),
        _text(f"pool, {sum(pool.values()):,} rows", 54.5, 12, faint=True),
    ]
    for i, (label, mine, whole) in enumerate(shares):
        y = 28.0 + 32 * i
        parts += [
            _label(label, y, 34),
            _bar(36, scale.at(mine), y, 10, fill_opacity=0.85),
            _bar(36, scale.at(whole), y + 11, 10, fill_opacity=0.28),
            _text(f"{mine:.1%}", 100, y + 9, "end", font_weight="600"),
            _text(f"{whole:.1%}", 100, y + 21, "end", faint=True),
        ]
    spoken = "; ".join(f"{label} {mine:.1%} of {whole:.1%}" for label, mine, whole in shares)
    return _figure(title, f"Selected, of the pool: {spoken}.", 28 + 32 * len(shares), parts)


def weakness(axes: pd.DataFrame, mean_error: float = 0.5) -> str:
    """How far the error at each pole lies from the mean error; the weakest pole first.

    Parameters
    ----------
    axes : DataFrame
        ``axis weakness_positive weakness_negative``, and labels, as `Study.axes` gives them.
    mean_error : float
        Mean error of the probe. Errors from reference losses average 0.5.
    """
    ends = ["weakness_positive", "weakness_negative"]
    known = axes.dropna(subset=ends)
    known = known.assign(worst=known[ends].max(axis=1))
    known = known.sort_values(["worst", "axis"], ascending=[False, True])
    rows = known.to_dict("records")
    title = "Error at both poles of each axis, about the mean error"
    if not rows:
        return _figure(title, "No axis has a weakness.", 30, [])
    reach = max(0.02, 1.1 * float((known[ends] - mean_error).abs().to_numpy().max()))
    scale = _Scale(mean_error - reach, mean_error + reach, 32, 98)
    top, bottom = 26.0, 26.0 + ROW * len(rows)
    middle, worst = scale.at(mean_error), rows[0]
    parts = [
        _text("+ positive pole", 0, 12, fill=POSITIVE),
        _text("− negative pole", 32, 12, fill=NEGATIVE),
        _text(f"line: mean {mean_error:.2f}", 100, 12, "end", faint=True),
        _ruler(scale, scale.ticks(4), top, bottom),
        *(_weakness_row(row, scale, top + ROW * i, mean_error) for i, row in enumerate(rows)),
        _line(middle, top, middle, bottom, 0.6),
    ]
    pole = "positive" if worst[ends[0]] >= worst[ends[1]] else "negative"
    description = (
        f"{len(rows)} axes, mean error {mean_error:.2f}. Weakest: the {pole} pole of axis "
        f"{worst['axis']}, {worst['worst']:.2f}."
    )
    return _figure(title, description, bottom + 22, parts)


def _weakness_row(row: Mapping[Any, Any], scale: _Scale, y: float, mean: float) -> Markup:
    parts = [_label(axis_label(row), y + 1, 30, int(row["axis"]))]
    for pole, sign, colour, top in POLES:
        value = row[f"weakness_{pole}"]
        end = scale.at(value)
        anchor, dx = ("start", "3") if value >= mean else ("end", "-3")
        parts.append(_bar(scale.at(mean), end, y + top, 7, colour))
        parts.append(_text(sign, end, y + top + 7, anchor, fill=colour, dx=dx))
    spoken = f"+ {row['weakness_positive']:.3f}, − {row['weakness_negative']:.3f}"
    return tag("g", tag("title", f"Axis {row['axis']}: {spoken}"), *parts)


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
        return _figure(title, "No values.", 30, [])
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
    numbers = [_text(text, x, 74, anchor, faint=True) for text, x, anchor in marks]
    parts = [drawn, _line(0, 58.5, 100, 58.5, 0.35), *numbers]
    ends = " to ".join(signed(float(end)) for end in (finite.min(), finite.max()))
    return _figure(title, f"{len(finite):,} rows from {ends}.", 78, parts)
