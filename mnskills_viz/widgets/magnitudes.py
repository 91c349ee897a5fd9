"""Numbers of any size in few letters, and rulers that they fit on."""

import math
from collections.abc import Iterator

from . import drawing as draw
from .drawing import Scale
from .markup import Markup


def power_of_ten(exponent: int) -> str:
    """``10⁻³`` for -3."""
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def short(value: float) -> str:
    """A value to three figures, no longer than eight letters: ``0.25``, ``−4·10⁷``, ``∞``."""
    size, sign = abs(value), "−" if value < 0 else ""
    if math.isnan(value):
        return "–"
    if math.isinf(size):
        return f"{sign}∞"
    if size == 0 or 1e-3 <= size < 1e5:
        return ("" if size == 0 else sign) + (f"{size:.3g}" if size < 1000 else f"{size:,.0f}")
    power = math.floor(math.log10(size) + 1e-9)
    factor = f"{size / 10.0**power:.3g}"
    return sign + f"{factor}·" * (factor != "1") + power_of_ten(power)


def short_ruler(scale: Scale, top: float, bottom: float) -> Iterator[Markup]:
    """Vertical hairlines with their numbers below: as many as have room, at least two."""
    few = max(2, round((scale.right - scale.left) / 9))
    counts = range(few, few + 9)
    ticks = next((t for n in counts if len(t := scale.ticks(n)) > 1), scale.ticks(few))
    for value in ticks:
        x = scale.at(value)
        yield draw.line(x, top, x, bottom, 0.35 if value == 0 else 0.1)
        yield draw.text(short(value), x, bottom + 15, "middle", faint=True)
