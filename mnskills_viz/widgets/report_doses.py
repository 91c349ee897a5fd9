"""Dose curves in the report: what a study keeps of its dose responses, read without a model."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from ..errors import InputError
from ..files import read_json
from ..steering.response import NEUTRAL, Response, response_table
from ..steering.safe_band import safe_band
from ..study import Study
from ..study.kept import as_json, key_of
from ..study.steering import RESPONSE_PROMPTS
from .dose_figures import dose_figure
from .markup import Markup, rounded, signed, tag
from .report_view import SIDES, BasisView, Detail, Doses, pole_name

DOSES = (
    "What the model writes when it is pushed along an axis. A push that works moves the text along "
    "its own axis and leaves the others where they are; the safe band ends where perplexity, "
    "repetition, length or the divergence on neutral text goes beyond what still reads well."
)

TOKENS = 48
"""Most tokens of a completion, unless a study was told otherwise."""

Responses = dict[int, dict[float, Response]]
"""Axis -> dose -> what the model did."""

_FILE = re.compile(r"([0-9]+)-([0-9a-f]{16})-(-?[0-9][0-9.e+-]*)")


def kept_responses(folder: Path) -> dict[str, Responses]:
    """Read the dose responses that a study keeps of a basis.

    Parameters
    ----------
    folder : Path
        ``results/responses-BASIS``; need not be there.

    Returns
    -------
    dict
        Key -> axis -> dose -> response. One key is one fit of the basis, one set of prompts and
        one length of completions. Damaged files are left out.
    """
    found: dict[str, Responses] = {}
    for key, axis, dose, file in _files(folder):
        if (response := _read(file)) is not None:
            found.setdefault(key, {}).setdefault(axis, {})[dose] = response
    return found


def kept_doses(study: Study, basis: str) -> Doses:
    """Dose responses to the study's own prompts, with the basis as it is now, by axis.

    Those of an earlier fit, or to other prompts, are left out, and those without dose 0.
    """
    found = kept_responses(study.path / "results" / f"responses-{basis}")
    tables: dict[int, pd.DataFrame] = {}
    for key in sorted(_own_keys(study, basis, found) & found.keys()):
        for axis, responses in found[key].items():
            if 0.0 in responses and len(responses) > len(tables.get(axis, ())):
                tables[axis] = response_table(responses, axis)
    return dict(sorted(tables.items()))


def _own_keys(study: Study, basis: str, found: Mapping[str, Responses]) -> set[str]:
    """Keys as `Study.dose_response` makes them, of all lengths of completions that are there."""
    if not found:
        return set()
    examples = study._gradient_examples(RESPONSE_PROMPTS, "probe")
    texts = [as_json(example.prompt) for example in examples]
    every = (r for axes in found.values() for doses in axes.values() for r in doses.values())
    cut = (zip(r.n_tokens, r.ended, strict=True) for r in every)
    lengths = {TOKENS} | {n for one in cut for n, ended in one if not ended}
    fingerprint = study.basis(basis).fingerprint
    return {key_of([fingerprint, texts, NEUTRAL, n]) for n in lengths}


def _files(folder: Path) -> Iterator[tuple[str, int, float, Path]]:
    for file in sorted(folder.glob("*.json")):
        if named := _FILE.fullmatch(file.stem):
            axis, key, dose = named.groups()
            yield key, int(axis), float(dose), file


def _read(file: Path) -> Response | None:
    try:
        return Response.from_dict(read_json(file))
    except (InputError, KeyError, TypeError, ValueError):
        return None


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
        parts.append(Markup(dose_figure(table, safe_band(table))))
    return parts


def safe_doses(table: pd.DataFrame) -> str:
    """The safe band in words."""
    low, high = safe_band(table)
    if low == high:
        return "none of those tried"
    ends = (signed(end, len(rounded(end).partition(".")[2])) for end in (low, high))
    return f"{' to '.join(ends)} σ"
