"""What to trust an axis for and what not, in words: the only place that draws these lines."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

# What chance scores, in all that follows: 19 random rotations of the 32 PCA axes of one layer
# within their span, embedded model; GSM8K (800 rows, layers 15 and 20), the demo corpus (1,000,
# layer 15), and a mixture of GSM8K and MATH (250 each, layer 15). "One" is the 95 % point of one
# rotated axis, "best" the 5 % level of the best of 32. Directions drawn from the whole space score
# about as much or less. `mnskills_viz.bases.quality.nulls` gives these figures for any data.

STABLE = 0.8
"""|Cosine| with its match in refits on halves from which on an axis counts as the same axis.

Rotations: best 0.39 to 0.45. With fewer axes chance comes closer (10 axes: 0.66, 3: 0.89, 2: 0.92),
and an axis has to exceed its own null as well. Of the first 20 axes 10 to 20 % reach 0.8 between
halves of 400 or 500 rows: strict enough to mean something, and within reach.
"""

FAIRLY_STABLE = 0.6
"""Below it an axis and its refit share little more than a third (0.6 squared): no claim then."""

REDUNDANT = 0.9
"""|Correlation| with another axis's coordinate above which two axes say nearly the same.

Rotations: one 0.54 to 0.79, best 0.62 to 0.86. PCA has none on its own rows; the axes of a sparse
autoencoder reach 0.37 to 0.67.
"""

LENGTH_R2 = 0.3
"""R2 of a coordinate on the length of the text above which length says much of what it says.

Rotations: one 0.15 to 0.29, best 0.42 to 0.52. Two of 64 axes on GSM8K exceed it, none of the demo
corpus. The line is drawn for one axis: to choose examples by length spoils a comparison soonest.
"""

TEMPLATE_R2 = 0.65
"""Share of a coordinate that lies between templates (or sources) above which it tells them apart.

Rotations, GSM8K against MATH: one 0.64, best 0.80. The first axis there has 0.83, the others 0.04
or less.
"""

TOKEN_R2 = 0.9
"""Share of a coordinate that a bag of words predicts above which it is little else.

Rotations: best 0.83 on GSM8K, where no axis exceeds the line; 0.93 on the mixture, where one does;
0.98 on the demo corpus, made from 34 templates, where half of the axes do. Means over tokens follow
the words in any direction (one random direction: 0.59 to 0.93): a lower line would say nothing.
"""


CLAIMS = (
    (
        "gradient_share",
        "uses the gradient",
        "it holds {:.1%} of the gradient of right over wrong answers; the best of as many random "
        "directions holds {:.1%}",
    ),
    (
        "mutual_information",
        "follows categories",
        "it tells {:.2f} nats about the category; the best of as many random directions tells "
        "{:.2f}",
    ),
)
"""Column, its badge where it exceeds what chance reaches, and the reason."""

WARNINGS = (
    (
        "redundancy",
        REDUNDANT,
        "near-duplicate",
        "|correlation| with the coordinate of another axis: {:.2f}",
    ),
    (
        "length_r2",
        LENGTH_R2,
        "follows length",
        "the length of the text explains {:.0%} of the coordinate",
    ),
    (
        "template_r2",
        TEMPLATE_R2,
        "follows template",
        "the template or source of the text explains {:.0%} of the coordinate",
    ),
    (
        "token_r2",
        TOKEN_R2,
        "follows words",
        "the words of the text, in any order, explain {:.0%} of the coordinate",
    ),
)
"""Column, the line above which there is a warning, its badge, and the reason."""


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

    Claims have to exceed what chance reaches where that is known (``FIGURE_null``); warnings are
    given above a fixed line, also where all axes are alike in it.

    Parameters
    ----------
    row : mapping
        A row of `Study.axes`. What is missing or NaN gives no badge.

    Returns
    -------
    tuple of Badge
        Stability, utility, gradient, categories, then redundancy, length, template, words.
    """
    claims = (_stability(row), _utility(row), *(_claim(row, *line) for line in CLAIMS))
    warnings = (_warning(row, *line) for line in WARNINGS)
    found = (*claims, *warnings)
    return tuple(badge for badge in found if badge is not None)


def _stability(row: Mapping[Any, Any]) -> Badge | None:
    cosine = _known(row, "stability")
    if cosine is None:
        return None
    low, chance = _known(row, "bootstrap_low"), _known(row, "stability_null")
    reason = f"|cosine| with its match when the basis is refitted on halves: {cosine:.2f}"
    if low is not None:
        reason += f"; on resampled rows at least {low:.2f} in 95 % of cases"
    if chance is not None:
        reason += f"; axes rotated at random reach {chance:.2f}"
    beats = chance is None or cosine > chance
    if cosine >= STABLE and beats:
        return Badge("stable", "good", reason)
    if cosine >= STABLE or (cosine >= FAIRLY_STABLE and beats):
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


def _claim(row: Mapping[Any, Any], column: str, text: str, reason: str) -> Badge | None:
    value, chance = _known(row, column), _known(row, f"{column}_null")
    if value is None or chance is None or value <= chance:
        return None
    return Badge(text, "good", reason.format(value, chance))


def _warning(
    row: Mapping[Any, Any], column: str, line: float, text: str, reason: str
) -> Badge | None:
    value = _known(row, column)
    if value is None or value <= line:
        return None
    return Badge(text, "warn", reason.format(value))


def _known(row: Mapping[Any, Any], name: str) -> float | None:
    value = row.get(name)
    return None if value is None or math.isnan(value) else float(value)
