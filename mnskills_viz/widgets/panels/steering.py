"""The steer panel: a text with and without a push, and what doses do."""

import math

import pandas as pd

from ...corpus import Prompt
from ...errors import InputError
from ...steering.response import DOSES, dose_grid
from ...steering.safe_band import safe_band
from ...study import Study
from ...study.kept import key_of
from ..dose_figures import dose_figure
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
        count = _TextCount(TokenCount(missing * max_new_tokens, max_new_tokens))
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


def dose_curve(study: Study, basis: str, axis: int) -> Json:
    """What doses of an axis do, measured where it is not kept; see `Study.dose_response`.

    Small doses come first, and each is kept as soon as it is there: `kept_dose_curve` shows what
    there is of a run that was stopped.

    Returns
    -------
    dict
        ``basis axis doses python``; ``figure``: markup of `dose_figure`; ``band``: lowest and
        highest safe dose, None before there is one beside 0.
    """
    kept = _kept(study, basis, axis)
    there = set() if kept is None else {*kept["dose"]}
    missing = sorted((d for d in dose_grid(DOSES) if d not in there), key=lambda d: (abs(d), -d))
    if missing:
        count = TokenCount(len(missing) * DOSE_TOKENS, DOSE_TOKENS)
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
    table = _kept(study, basis, axis)
    if table is None:
        return None
    band = _band(table)
    return doses_asked(basis, axis) | {
        "busy": False,
        "figure": dose_figure(table, band),
        "band": band and list(band),
        "doses": table["dose"].tolist(),
    }


def _kept(study: Study, basis: str, axis: int) -> pd.DataFrame | None:
    """Doses that were measured as `dose_curve` measures them."""
    kept = study.kept_doses(basis, axis)
    same = (one.table for one in kept if one.is_own and one.max_new_tokens == DOSE_TOKENS)
    return next(same, None)


def _band(table: pd.DataFrame) -> tuple[float, float] | None:
    return safe_band(table) if len(table) > 1 else None
