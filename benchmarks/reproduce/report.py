"""The report: markdown and figures from stored results alone."""

from pathlib import Path

from mnskills_viz.files import write_text

from .claims import claims
from .defaults_sections import defaults_part
from .design_sections import cost_part, plan_part
from .other_sections import (
    made_part,
    refusal_part,
    safety_part,
    steering_part,
)
from .stored import read_outcomes
from .trained_sections import (
    Drawings,
    claim_table,
    effect_part,
    found_in_words,
    mean_part,
    picked_part,
)

__all__ = ["read_outcomes", "write_report"]


def write_report(results_folder: Path) -> Path:
    """Write ``report.md`` and ``figures/*.svg`` into a folder of results.

    Equal results give equal bytes. What was not run is said to be so.

    Parameters
    ----------
    results_folder : Path

    Returns
    -------
    Path
        Of the report.

    Raises
    ------
    InputError
        Not a folder of results, a damaged file, or a cell that lacks values.
    """
    stored = read_outcomes(results_folder)
    told = claims(stored)
    drawn: Drawings = {}
    lines = [
        f"# Do a model's own axes choose better data? Scale {stored.settings['scale']}\n",
        *found_in_words(stored, told),
        *claim_table(told),
        *plan_part(stored),
        *effect_part(stored, drawn),
        *mean_part(stored, drawn),
        *cost_part(stored),
        *picked_part(stored, drawn),
        *steering_part(stored, drawn),
        *safety_part(stored, drawn),
        *refusal_part(stored),
        *defaults_part(stored, drawn),
        *made_part(stored),
    ]
    for name, svg in drawn.items():
        write_text(results_folder / "figures" / f"{name}.svg", svg)
    for file in (results_folder / "figures").glob("*.svg"):
        if file.stem not in drawn:
            file.unlink()
    report = results_folder / "report.md"
    write_text(report, "\n".join(lines).rstrip() + "\n")
    return report
