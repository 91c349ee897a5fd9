"""What doses of an axis do to what the model writes, kept dose by dose."""

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from ..corpus import Prompt
from ..errors import InputError
from ..files import read_json, write_json
from ..steering.response import (
    DOSES,
    NEUTRAL,
    Response,
    Trial,
    dose_grid,
    respond,
    response_table,
)
from ..steering.vector import SteeringVector
from .kept import as_json, key_of
from .steering import StudySteering, require_prompts

PROMPTS = 16
"""Probe examples whose prompts doses are tried on, unless others are given."""

_DOSE_FILE = re.compile(r"([0-9]+)-([0-9a-f]{16})-(-?[0-9][0-9.e+-]*)")
"""Axis, key of the trial, and dose."""


@dataclass(frozen=True, slots=True)
class KeptDoses:
    """What is kept of one axis's dose response on one set of prompts.

    Attributes
    ----------
    axis : int
    prompts : list of str or chat messages
    is_own : bool
        Whether these are the study's own, which `Study.dose_response` takes by default.
    max_new_tokens : int
    table : DataFrame
        As `Study.dose_response` gives it; dose 0 is in it.
    """

    axis: int
    prompts: list[Prompt]
    is_own: bool
    max_new_tokens: int
    table: pd.DataFrame


class StudyDoses(StudySteering):
    """The part of a study that knows how far its model can be pushed."""

    def dose_response(
        self,
        basis: str,
        axis: int,
        doses: Sequence[float] = DOSES,
        prompts: Sequence[Prompt] | None = None,
        max_new_tokens: int = 48,
        progress: bool = True,
    ) -> pd.DataFrame:
        """What doses of an axis do to what the model writes; see `mnskills_viz.dose_response`.

        Every dose is kept as soon as it is there, under ``results``, and not measured again.

        Parameters
        ----------
        basis : str
        axis : int
        doses : sequence of float
            Standard deviations; 0 is always added.
        prompts : sequence of str or chat messages, optional
            Default: those of 16 probe examples.
        max_new_tokens : int
        progress : bool
        """
        fitted = self.basis(basis)
        SteeringVector.require_axis(fitted, axis, 0.0)
        if prompts is None:
            prompts = self._response_prompts
        require_prompts(prompts)
        trial_of = {
            "basis": fitted.fingerprint,
            "prompts": [as_json(prompt) for prompt in prompts],
            "neutral": as_json(NEUTRAL),
            "max_new_tokens": max_new_tokens,
        }
        key = key_of([*trial_of.values()])
        folder = self._responses(basis)
        if _read_trial(folder / f"{key}.json", fitted.fingerprint) is None:
            write_json(folder / f"{key}.json", trial_of)
        files = {dose: folder / f"{axis}-{key}-{dose}.json" for dose in dose_grid(doses)}
        found = {dose: response for dose in files if (response := _read_response(files[dose]))}
        missing = [dose for dose in files if dose not in found]
        if missing:
            trial = Trial([self._as_chat(p) for p in prompts], max_new_tokens=max_new_tokens)
            for dose in tqdm(missing, desc="doses", unit="dose", disable=not progress):
                vector = self.vector(basis, axis, dose)
                found[dose] = respond(self.model, fitted, vector, trial)
                write_json(files[dose], found[dose].as_dict())
        return response_table(found, axis)

    def kept_doses(self, basis: str, axis: int | None = None) -> list[KeptDoses]:
        """What `dose_response` has kept of a basis as it is now; the model is not needed.

        Parameters
        ----------
        basis : str
        axis : int, optional
            Default: every axis that doses were tried of.

        Returns
        -------
        list of KeptDoses
            By axis; the study's own prompts come first, then what has most doses. Left out are
            those of an earlier fit, those without dose 0, and damaged files.
        """
        fingerprint = self.basis(basis).fingerprint
        trials = {
            file.stem: trial
            for file in sorted(self._responses(basis).glob("*.json"))
            if (trial := _read_trial(file, fingerprint)) is not None
        }
        if not trials:
            return []
        own = as_json(self._response_prompts)
        found: dict[tuple[int, str], dict[float, Response]] = {}
        for key, its_axis, dose, file in self._dose_files(basis):
            wanted = key in trials and axis in (None, its_axis)
            if wanted and (response := _read_response(file)) is not None:
                found.setdefault((its_axis, key), {})[dose] = response
        kept = [
            KeptDoses(
                axis=its_axis,
                prompts=trials[key]["prompts"],
                is_own=trials[key]["prompts"] == own,
                max_new_tokens=trials[key]["max_new_tokens"],
                table=response_table(responses, its_axis),
            )
            for (its_axis, key), responses in sorted(found.items())
            if 0.0 in responses
        ]
        return sorted(kept, key=lambda one: (one.axis, not one.is_own, -len(one.table)))

    @functools.cached_property
    def _response_prompts(self) -> list[Prompt]:
        return [e.prompt for e in self._gradient_examples(PROMPTS, "probe")]

    def _responses(self, basis: str) -> Path:
        return self.path / "results" / f"responses-{basis}"

    def _dose_files(self, basis: str) -> Iterator[tuple[str, int, float, Path]]:
        for file in sorted(self._responses(basis).glob("*-*.json")):
            if named := _DOSE_FILE.fullmatch(file.stem):
                its_axis, key, dose = named.groups()
                yield key, int(its_axis), float(dose), file


def _read_response(file: Path) -> Response | None:
    """A dose that was measured; None if it was not, or its file is damaged: it is made anew."""
    try:
        return Response.from_dict(read_json(file)) if file.exists() else None
    except (InputError, AttributeError, KeyError, TypeError, ValueError):
        return None


def _read_trial(file: Path, fingerprint: str) -> dict[str, Any] | None:
    """What doses of one key were tried on; None for another fit, and for any other file."""
    if not re.fullmatch(r"[0-9a-f]{16}", file.stem):
        return None
    try:
        found = read_json(file)
    except InputError:
        return None
    is_whole = isinstance(found, dict) and {"prompts", "max_new_tokens"} <= {*found}
    return found if is_whole and found.get("basis") == fingerprint else None
