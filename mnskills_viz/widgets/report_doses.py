"""Dose curves in the report: what a study keeps of its dose responses, read without a model."""

import pandas as pd

from ..steering.safe_band import safe_band
from ..study import Study
from .dose_figures import dose_figure
from .markup import Markup, rounded, signed, tag
from .report_view import SIDES, BasisView, Detail, Doses, pole_name

DOSES = (
    "What the model writes when it is pushed along an axis. A push that works moves the text along "
    "its own axis and leaves the others where they are; the safe band ends where perplexity, "
    "repetition, length or the divergence on neutral text goes beyond what still reads well."
)

OTHER = "Tried on {n} other prompts than the study's own."


def kept_doses(study: Study, basis: str) -> Doses:
    """Dose responses that are kept, with the basis as it is now, by axis; see `Study.kept_doses`.

    Of an axis that was tried on several sets of prompts, those of the study's own prompts; where
    it was not tried on these, ``attrs["other_prompts"]`` says on how many others.
    """
    tables: dict[int, pd.DataFrame] = {}
    for kept in study.kept_doses(basis):
        if kept.axis not in tables:
            tables[kept.axis] = kept.table
            if not kept.is_own:
                kept.table.attrs["other_prompts"] = len(kept.prompts)
    return tables


# -------------------------------------------------------------------------------------- markup


def dose_curves(view: BasisView, detail: Detail) -> list[Markup]:
    """A figure an axis, as many as there is room for."""
    shown = list(view.doses.items())[: detail.curves]
    parts = [tag("p", DOSES)]
    if len(shown) < len(view.doses):
        file = tag("code", f"results/responses-{view.name}")
        said = f"The first {len(shown)} of {len(view.doses)} axes that were tried; all are in "
        parts.append(tag("p", said, file, ".", class_="faint"))
    for axis, table in shown:
        names = [
            tag(
                "span",
                tag("span", mark, class_=f"mark {pole}"),
                pole_name(view.rows[axis], pole),
                class_="side",
            )
            for pole, mark, _ in SIDES
        ]
        parts.append(tag("h4", f"Axis {axis} ", names[0], " ↔ ", names[1], class_="push"))
        if n := table.attrs.get("other_prompts"):
            parts.append(tag("p", OTHER.format(n=n), class_="faint"))
        parts.append(Markup(dose_figure(table, safe_band(table))))
    return parts


def safe_doses(table: pd.DataFrame) -> str:
    """The safe band in words."""
    low, high = safe_band(table)
    if low == high:
        return "none of those tried"
    ends = (signed(end, len(rounded(end).partition(".")[2])) for end in (low, high))
    return f"{' to '.join(ends)} σ"
