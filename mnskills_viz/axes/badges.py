"""What to trust an axis for and what not, in words: the only place that draws these lines."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

STABLE = 0.8
"""|Cosine| with its match in refits on halves from which on an axis counts as the same axis.

Of the top 20 PCA axes 17 to 25 % reach it between halves of 400 rows (measured on GSM8K with the
embedded model): strict enough to mean something, and within reach.
"""

FAIRLY_STABLE = 0.6
"""Below it an axis and its refit share little more than a third (0.6 squared): no claim then."""

LENGTH_R2 = 0.3
"""R2 of a coordinate on the length of the text above which length says much of what it says.

It is a correlation of 0.55: a choice, nothing measured stands behind it.
"""


@dataclass(frozen=True, slots=True)
class Badge:
    """One verdict on an axis.

    Attributes
    ----------
    text : str
        Two or three words.
    kind : {"good", "warn", "plain"}
    explanation : str
        The reason, with its number where it is one.
    """

    text: str
    kind: Literal["good", "warn", "plain"]
    explanation: str


def badges(row: Mapping[Any, Any]) -> tuple[Badge, ...]:
    """Judge an axis by what is known of it.

    Parameters
    ----------
    row : mapping
        A row of `Study.axes`; of it ``stability``, ``utility`` with ``special``, and
        ``length_r2``. What is missing or NaN gives no badge.

    Returns
    -------
    tuple of Badge
        Stability, utility, length, in this order.
    """
    found = (_stability(row), _utility(row), _length(row))
    return tuple(badge for badge in found if badge is not None)


def _stability(row: Mapping[Any, Any]) -> Badge | None:
    cosine = _known(row, "stability")
    if cosine is None:
        return None
    reason = f"|cosine| with its match when the basis is refitted on halves: {cosine:.2f}"
    if cosine >= STABLE:
        return Badge("stable", "good", reason)
    if cosine >= FAIRLY_STABLE:
        return Badge("fairly stable", "plain", reason)
    return Badge("unstable", "warn", reason)


def _utility(row: Mapping[Any, Any]) -> Badge | None:
    if _known(row, "utility") is None:
        return None
    if row["special"]:
        reason = "its utility is larger than that of the best of as many random directions"
        return Badge("beats chance", "good", reason)
    reason = "the best of as many random directions has as large a utility"
    return Badge("within chance", "plain", reason)


def _length(row: Mapping[Any, Any]) -> Badge | None:
    share = _known(row, "length_r2")
    if share is None or share <= LENGTH_R2:
        return None
    reason = f"the length of the text explains {share:.0%} of the coordinate"
    return Badge("follows length", "warn", reason)


def _known(row: Mapping[Any, Any], name: str) -> float | None:
    value = row.get(name)
    return None if value is None or math.isnan(value) else float(value)
