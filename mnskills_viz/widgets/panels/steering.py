"""The steer panel: a text with and without a push, and what doses do."""

import math
from pathlib import Path

import pandas as pd

from ...corpus import Prompt
from ...corpus.splits import hash_of_id
from ...errors import InputError
from ...files import read_json
from ...steering.response import DOSES, NEUTRAL, Response, dose_grid, response_table
from ...steering.safe_band import safe_band
from ...study import Study
from ...study.kept import as_json, key_of
from ...study.steering import RESPONSE_PROMPTS
from ..dose_figures import dose_figure
from ..jobs import Tell
from ..side_by_side import LONGEST, Piece, differences
from .naming import Json
from .telling import TokenCount, each_pass

NEW_TOKENS = 64
"""Tokens generated a run, unsteered and steered each."""

DOSE_TOKENS = 48
"""Tokens of each answer that a dose is measured on."""

# ------------------------------------------------------------------------------ side by side


def run_asked(basis: str, axis: int, dose: float, prompt: str, row: int | None = None) -> Json:
    """What is shown while a run is under way.

    Parameters
    ----------
    basis : str
    axis : int
    dose : float
    prompt : str
    row : int, optional
        The example whose prompt it is: one of several messages is given to the model as such.

    Returns
    -------
    dict
        ``basis axis dose prompt python``, and ``busy progress unsteered steered pieces said`` as
        they are before anything is generated.

    Raises
    ------
    InputError
        An empty prompt, or a dose that is no number.
    """
    if not prompt.strip():
        raise InputError("the prompt is empty; write one, or use an example's")
    if not math.isfinite(dose):
        raise InputError(f"the dose must be a number, not {dose}")
    given = repr(prompt) if row is None else f"study.corpus[{row}].prompt"
    return {
        "basis": basis,
        "axis": axis,
        "dose": dose,
        "prompt": prompt,
        "row": row,
        "unsteered": "",
        "steered": "",
        "pieces": {"unsteered": [], "steered": []},
        "said": "",
        "busy": True,
        "progress": None,
        "python": f"study.steer([{given}], {basis!r}, axis={axis}, dose={dose:g})",
    }


def steered(
    study: Study,
    basis: str,
    axis: int,
    dose: float,
    prompt: str,
    tell: Tell,
    max_new_tokens: int = NEW_TOKENS,
    row: int | None = None,
) -> Json:
    """A prompt completed with and without a push along an axis; see `Study.steer`.

    What is kept is not generated again, and then the model is not needed.

    Parameters
    ----------
    study : Study
    basis : str
    axis : int
    dose : float
        Standard deviations of the axis.
    prompt : str
    tell : Tell
        Told before every token: how many there are, and how many there may be.
    max_new_tokens : int
    row : int, optional
        The example whose prompt it is, as it stands.

    Returns
    -------
    dict
        As `run_asked` gives it, with ``unsteered`` and ``steered``; ``pieces`` of both, each
        ``[whether only this text has it, text]``; ``said``: how much they differ.
    """
    given = _prompt_of(study, prompt, row)
    asked = run_asked(basis, axis, dose, prompt, row if given is not prompt else None)
    missing = _texts_missing(study, basis, axis, dose, given, max_new_tokens)
    if not missing:
        table = study.steer([given], basis, axis, dose, max_new_tokens)
    else:
        count = _TextCount(TokenCount(tell, missing * max_new_tokens, max_new_tokens))
        with each_pass(study.model, count):
            table = study.steer([given], basis, axis, dose, max_new_tokens)
    before, after = (str(table[name].iloc[0]) for name in ("unsteered", "steered"))
    own = differences(before[:LONGEST], after[:LONGEST])
    return asked | {
        "unsteered": before,
        "steered": after,
        "pieces": {"unsteered": own[0], "steered": own[1]},
        "said": _how_different(*own),
        "busy": False,
    }


def _prompt_of(study: Study, prompt: str, row: int | None) -> Prompt:
    """The prompt of an example where it is shown as it stands; else what was written."""
    if row is None or not 0 <= row < len(study.corpus):
        return prompt
    example = study.corpus[row]
    return example.prompt if example.prompt_text == prompt else prompt


def _texts_missing(
    study: Study, basis: str, axis: int, dose: float, prompt: Prompt, max_new_tokens: int
) -> int:
    """How many of the two texts have to be generated."""
    kept = study.results("steering", basis)
    if kept is None:
        return 2
    here = kept[(kept["key"] == key_of(prompt)) & (kept["max_new_tokens"] == max_new_tokens)]
    if not len(here):
        return 2
    return int(not ((here["axis"] == axis) & (here["dose"] == dose)).any())


class _TextCount:
    """Tokens of one text after the other."""

    def __init__(self, count: TokenCount) -> None:
        self._count, self._texts = count, 0

    def __call__(self, read: int | None) -> None:
        if read == 0:
            self._count.part(self._texts)
            self._texts += 1
        else:
            self._count(read)


def _how_different(before: list[Piece], after: list[Piece]) -> str:
    own = [sum(len(text.split()) for mine, text in side if mine) for side in (before, after)]
    if not any(own):
        return "The words are the same."
    shared = sum(len(text.split()) for mine, text in before if not mine)
    return f"Words: {shared:,} in both, {own[0]:,} only unsteered, {own[1]:,} only steered."


# ------------------------------------------------------------------------------------- doses


def doses_asked(basis: str, axis: int) -> Json:
    """What is shown while doses are measured and none is kept: ``basis axis python`` and so on."""
    return {
        "basis": basis,
        "axis": axis,
        "busy": True,
        "progress": None,
        "figure": "",
        "band": None,
        "doses": [],
        "python": f"study.dose_response({basis!r}, axis={axis})",
    }


def dose_curve(study: Study, basis: str, axis: int, tell: Tell) -> Json:
    """What doses of an axis do, measured where it is not kept; see `Study.dose_response`.

    Small doses come first, and each is kept as soon as it is there: `kept_dose_curve` shows what
    there is of a run that was stopped.

    Returns
    -------
    dict
        ``basis axis doses python``; ``figure``: markup of `dose_figure`; ``band``: lowest and
        highest safe dose, None before there is one beside 0.
    """
    there = _responses(study, basis, axis)
    missing = sorted((d for d in dose_grid(DOSES) if d not in there), key=lambda d: (abs(d), -d))
    if missing:
        count = TokenCount(tell, len(missing) * DOSE_TOKENS, DOSE_TOKENS)
        with each_pass(study.model, count):
            for number, dose in enumerate(missing):
                count.part(number)
                study.dose_response(basis, axis, [dose], max_new_tokens=DOSE_TOKENS, progress=False)
    found = kept_dose_curve(study, basis, axis)
    if found is None:
        raise InputError(f"doses of axis {axis} of {basis} were measured and cannot be read back")
    return found


def kept_dose_curve(study: Study, basis: str, axis: int) -> Json | None:
    """What of `dose_curve` is kept, without any model; None where dose 0 is not."""
    responses = _responses(study, basis, axis)
    if 0.0 not in responses:
        return None
    table = response_table(responses, axis)
    band = _band(table)
    return doses_asked(basis, axis) | {
        "busy": False,
        "figure": dose_figure(table, band),
        "band": band and list(band),
        "doses": sorted(responses),
    }


def _band(table: pd.DataFrame) -> tuple[float, float] | None:
    return safe_band(table) if len(table) > 1 else None


def _responses(study: Study, basis: str, axis: int) -> dict[float, Response]:
    """Doses of `Study.dose_response`, asked as `dose_curve` asks it, that can be read back."""
    corpus, rows = study.corpus, study.probe_rows
    by_hash = sorted(rows, key=lambda row: hash_of_id(corpus[int(row)].id))[:RESPONSE_PROMPTS]
    prompts = [as_json(corpus[int(row)].prompt) for row in by_hash]
    key = key_of([study.basis(basis).fingerprint, prompts, NEUTRAL, DOSE_TOKENS])
    folder, beginning = study.path / "results" / f"responses-{basis}", f"{axis}-{key}-"
    found = {
        float(file.stem.removeprefix(beginning)): _read(file)
        for file in folder.glob("*.json")
        if file.name.startswith(beginning)
    }
    return {dose: response for dose, response in sorted(found.items()) if response}


def _read(file: Path) -> Response | None:
    """A dose that was measured; None where its file is damaged: it will be measured again."""
    try:
        return Response.from_dict(read_json(file))
    except (InputError, AttributeError, KeyError, TypeError, ValueError):
        return None
