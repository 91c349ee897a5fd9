"""Cards of the report: an axis, its poles, and the examples at both ends with their heat."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..axes.examples import poles
from ..corpus import Example
from ..study import Study
from . import figures
from .heat_strip import HEATED, HeatText, folded_heat, heat_key, heat_sum, heat_text
from .markup import (
    MILLI,
    UTILITY_UNIT,
    Markup,
    bidi,
    fact_list,
    folded_text,
    shortened,
    signed,
    tag,
)
from .report_doses import safe_doses
from .report_view import SIDES, BasisView, Detail, badge_list, standing, typical, utility_digits

OPEN_EXAMPLES = 3
"""Examples of a pole that are open from the start."""

OPEN_CARDS = 8
"""Cards of a basis that are open from the start."""


def axis_cards(study: Study, view: BasisView, detail: Detail) -> list[Markup]:
    """Write the cards of a basis: links to them, and all but the first folded away."""
    jump = [tag("a", str(r["axis"]), href=f"#{view.id}-axis-{r['axis']}") for r in view.rows]
    cards = [_card(study, view, row, detail) for row in view.rows]
    more = cards[OPEN_CARDS:]
    # A link into folded cards unfolds them.
    folded = [tag("details", tag("summary", f"{len(more)} more axes"), *more)] if more else []
    key = [heat_key()] if any(HEATED in card for card in cards) else []
    return [tag("p", *jump, class_="jump"), *key, *cards[:OPEN_CARDS], *folded]


def _card(study: Study, view: BasisView, row: Mapping[Any, Any], detail: Detail) -> Markup:
    axis = int(row["axis"])
    said = view.said.get(axis, {})
    marks = (tag("span", text, class_="badge plain") for text in standing(said))
    return tag(
        "article",
        tag("header", tag("h4", f"Axis {axis}"), badge_list(row), *marks),
        fact_list(_facts(view, row)),
        folded_text(said["notes"], 2000, "notes") if said.get("notes") else "",
        Markup(figures.histogram(view.z[:, axis])),
        tag("div", *_both_poles(study, view, row, detail), class_="pair"),
        id=f"{view.id}-axis-{axis}",
        class_="card",
    )


def _facts(view: BasisView, row: Mapping[Any, Any]) -> dict[str, str]:
    """Numbers of an axis, in words."""
    facts = {"variance": f"{row['variance']:.1%}"}
    if "utility" in row and not pd.isna(row["utility"]):
        digits = utility_digits(view)
        value, band = signed(MILLI * row["utility"], digits), MILLI * row["null_high"]
        facts[f"utility, {UTILITY_UNIT}"] = f"{value}, chance ±{band:.{digits}f}"
    for pole, mark, _ in SIDES:
        if f"weakness_{pole}" in row:
            facts[f"weakness {mark}"] = f"{row[f'weakness_{pole}']:.2f}"
    if (doses := view.doses.get(row["axis"])) is not None:
        facts["safe doses"] = safe_doses(doses)
    return facts


def _both_poles(
    study: Study, view: BasisView, row: Mapping[Any, Any], detail: Detail
) -> Iterable[Markup]:
    """A column a pole: its name, and its examples on one scale of z and one of heat."""
    axis = int(row["axis"])
    z = view.z[:, axis]
    ends, farthest = poles(z, detail.examples), float(np.abs(z).max()) or 1.0
    scale = float(view.scale[axis])
    heats = {i: view.heats(i) for i in map(int, [*ends.negative, *ends.positive])}
    texts = {i: heat_text(heat, axis, scale) for i, heat in heats.items() if heat is not None}
    strongest = max((text.strongest for text in texts.values()), default=0.0)
    for pole, mark, sign in SIDES:
        examples = [
            _example(
                study.corpus[i],
                float(z[i]),
                farthest,
                detail,
                _Painted(texts[i], strongest) if i in texts else None,
            )
            for i in map(int, ends.of(sign))
        ]
        title = tag("h5", tag("span", mark, class_=f"mark {pole}"), _pole_title(row, pole))
        yield tag("div", title, *_typical_line(row, pole), *_listed(examples), class_=pole)


def _pole_title(row: Mapping[Any, Any], pole: str) -> Markup:
    label = row[f"label_{pole}"]
    return bidi(label[:500]) if label else tag("span", f"{pole} pole, unnamed", class_="unnamed")


def _typical_line(row: Mapping[Any, Any], pole: str) -> Iterable[Markup]:
    known = typical(row, pole)
    return [tag("p", "stands out: ", bidi(known), class_="typical")] if known else []


def _listed(examples: list[Markup]) -> Iterable[Markup]:
    """The first examples in sight, the others folded away."""
    parts = [tag("ol", *examples[:OPEN_EXAMPLES])]
    if more := examples[OPEN_EXAMPLES:]:
        folded = tag("ol", *more, start=str(OPEN_EXAMPLES + 1))
        parts.append(tag("details", tag("summary", f"{len(more)} more examples"), folded))
    return parts


def _example(
    example: Example, z: float, farthest: float, detail: Detail, painted: "_Painted | None"
) -> Markup:
    bar = tag("span", class_="bar", style=f"--share:{abs(z) / farthest:.2f}", aria_hidden="true")
    said = [tag("b", f"z {signed(z)}"), bar, bidi(shortened(example.category or "", 60))]
    texts = {"prompt": example.prompt_text, "response": example.response}
    written = (
        painted.paragraphs(texts, detail)
        if painted
        else [folded_text(t, detail.characters, kind) for kind, t in texts.items() if t]
    )
    return tag("li", tag("p", *said, class_="meta"), *written)


@dataclass(frozen=True, slots=True)
class _Painted:
    """An example's heat, and the strongest token of the card."""

    heat: HeatText
    strongest: float

    def paragraphs(self, texts: Mapping[str, str], detail: Detail) -> list[str]:
        """Prompt and response with their heat, and its sum."""
        pieces = {"prompt": self.heat.prompt, "response": self.heat.response}
        return [
            *(
                folded_heat(pieces[kind], text, detail.characters, kind, self.strongest)
                for kind, text in texts.items()
                if text
            ),
            heat_sum(self.heat),
        ]
