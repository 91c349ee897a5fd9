"""Figures and tables as the report writes them."""

import math
from collections.abc import Iterable, Sequence

from mnskills_viz.widgets.markup import signed

UNKNOWN = "–"

UNITS = {"logprob": "nats a token", "pass@1": "points", "pass@8": "points"}
"""Of effects; a point is a hundredth."""


def plain(value: float | None, digits: int = 3) -> str:
    """A number, or a dash where it is not known."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return f"{value:,.{digits}f}".replace("-", "−")


def change(value: float, outcome: str) -> str:
    """An effect with its sign: nats a token, or points of pass@k."""
    if not math.isfinite(value):
        return UNKNOWN
    return signed(value, 4) if outcome == "logprob" else signed(100 * value, 1)


def level(value: float, outcome: str) -> str:
    """A mean: nats a token, or per cent of pass@k."""
    return plain(value, 4) if outcome == "logprob" else f"{plain(100 * value, 1)} %"


def between(low: float, high: float, outcome: str) -> str:
    """An interval of an effect."""
    if math.isnan(low) or math.isnan(high):
        return UNKNOWN
    return f"{change(low, outcome)} to {change(high, outcome)}"


def percent(value: float, digits: int = 0) -> str:
    """A share with its sign, in per cent."""
    return UNKNOWN if not math.isfinite(value) else f"{signed(100 * value, digits)} %"


def chance(p: float) -> str:
    """A p-value."""
    if not math.isfinite(p):
        return UNKNOWN
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def cell(text: str) -> str:
    """Text of unknown content within a table: nothing in it is markup, nor ends the cell."""
    line = " ".join(str(text).split())
    for sign in "\\`*_[]<>|~":
        line = line.replace(sign, "&lt;" if sign == "<" else f"\\{sign}")
    return line


def table(head: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> list[str]:
    """A markdown table; the first `words` columns to the left, numbers to the right."""
    rule = [":--" if i < words else "--:" for i in range(len(head))]
    lines = [head, rule, *rows]
    return ["| " + " | ".join(line) + " |" for line in lines] + [""]


def counted(number: int, noun: str, plural: str = "") -> str:
    """``1 arm``, ``2 arms``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
