"""The explorer's panels: long work for the axis that is looked at, one run at a time."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import anywidget
import traitlets

from ..axes.changes import Field
from ..errors import InputError
from ..progress import Stopped
from ..study import Study
from . import panels
from .facts import Json
from .jobs import Job
from .state import ExplorerState
from .suggesting import suggested

STOPPED = "stopped; what was done before is kept"


class ExplorerPanels(anywidget.AnyWidget):  # type: ignore[misc]
    """The part of the explorer that does something with an axis.

    Parameters
    ----------
    study : Study
    state : ExplorerState

    Attributes
    ----------
    setting : dict
        What the controls offer and say.
    steering, doses, selection, skill, quiz, neighbours : dict
        What the panels show; see `panels`.
    suggestions : dict
        Labels that might fit; see `suggested`.
    status : dict
        What happened last: ``level`` ("info", "busy" or "error"), ``text``, the line of
        ``python`` that does the same, ``progress``, and a number that tells two equal messages
        apart.
    """

    setting = traitlets.Dict().tag(sync=True)
    steering = traitlets.Dict().tag(sync=True)
    doses = traitlets.Dict().tag(sync=True)
    selection = traitlets.Dict().tag(sync=True)
    skill = traitlets.Dict().tag(sync=True)
    quiz = traitlets.Dict().tag(sync=True)
    neighbours = traitlets.Dict().tag(sync=True)
    suggestions = traitlets.Dict().tag(sync=True)
    status = traitlets.Dict().tag(sync=True)

    def __init__(self, study: Study, state: ExplorerState) -> None:
        super().__init__()
        self._study, self._state = study, state
        self._lock = threading.RLock()  # what is shown is changed by one thread at a time
        self._asked: dict[tuple[str, int], list[int]] = {}
        self._quiz: panels.Quiz | None = None
        self._busy_with = ""
        self._job = Job(self._progressed)

    def _say(
        self, text: str, level: str = "info", python: str = "", progress: Json | None = None
    ) -> None:
        self.status = {
            "level": level,
            "text": text,
            "python": python,
            "progress": progress,
            "n": self.status.get("n", 0) + 1,
        }

    def _complain(self, error: Exception) -> None:
        kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        self._say(f"{kind}{error}", "error")

    def _change(self, **changes: Any) -> None:
        """Go on in another state; threads change it too."""
        with self._lock:
            self._state = replace(self._state, **changes)

    def _rows_shown(self) -> list[int]:
        """Rows that are in sight, with the side that they lie on."""
        raise NotImplementedError

    def _labelled(self, basis: str, axis: int, field: Field, value: str) -> None:
        """Keep what was said of an axis, and show it."""
        raise NotImplementedError

    def _answer_panel(self, message: Json) -> None:
        """Do what a message asks of a panel, for the axis that is looked at."""
        study, basis, axis = self._study, self._state.basis, self._state.axis
        match message:
            case {"type": "steer", "prompt": str(prompt), "dose": int() | float() as dose}:
                row = message.get("row") if isinstance(message.get("row"), int) else None
                self._run(
                    "steering",
                    panels.run_asked(basis, axis, float(dose), prompt, row),
                    lambda: panels.steered(study, basis, axis, float(dose), prompt, row=row),
                    f"steered along axis {axis} with {dose:+g} σ",
                )
            case {"type": "doses"}:
                asked = panels.kept_dose_curve(study, basis, axis) or {}
                asked = panels.doses_asked(basis, axis) | asked | {"busy": True}
                self._run(
                    "doses",
                    asked,
                    lambda: panels.dose_curve(study, basis, axis),
                    f"measured doses of axis {axis}",
                )
            case {"type": "suggest"}:
                self._run(
                    "suggestions",
                    {"basis": basis, "axis": axis, "positive": [], "negative": []},
                    lambda: suggested(study, basis, axis),
                    "these might fit; a click takes one over",
                )
            case {"type": "select", "strategy": str(strategy), "budget": int(budget),
                  "unit": str(unit), "name": str(name)}:  # fmt: skip
                self._run(
                    "selection",
                    self.selection | {"strategy": strategy, "budget": budget, "unit": unit},
                    lambda: panels.selected(study, basis, strategy, budget, unit, name),
                    f"selected by {strategy}",
                )
            case {"type": "export", "selection": str(selection), "format": str(form)}:
                self._run(
                    "selection",
                    self.selection,
                    lambda: panels.exported(study, selection, form),
                    f"exported {selection} for {form}",
                )
            case {"type": "skill", "kind": str(kind), "value": str() | int() as value}:
                self._run(
                    "skill",
                    {"kind": kind, "value": value},
                    lambda: panels.skill(study, basis, kind, value),
                    "took the skill apart",
                )
            case {"type": "neighbours"}:
                self._run(
                    "neighbours",
                    {"basis": basis, "axis": axis, "axes": [], "latents": []},
                    lambda: panels.neighbours(study, basis, axis),
                    f"looked for what is like axis {axis}",
                )
            case {"type": "quiz"}:
                before = self._asked.setdefault((basis, axis), [])
                seen = [*self._rows_shown(), *before]
                self._quiz = panels.quiz_of(study, basis, axis, seen, seed=len(before))
                before += self._quiz.rows
                self.quiz = panels.quiz_shown(study, self._quiz)
            case {"type": "answer", "pole": int(pole)} if self._quiz is not None:
                self._quiz = panels.answered(self._quiz, pole)
                self.quiz = panels.quiz_shown(study, self._quiz)
                if self._quiz.is_done:
                    self._keep_score(self._quiz)
            case _:
                raise InputError(f"a message that the explorer does not know: {message}")

    def _keep_score(self, quiz: panels.Quiz) -> None:
        """Keep a score with the labels that were tried, unless they are others by now."""
        labels = self._study.annotations.labels(quiz.basis)
        if quiz.labels != tuple(labels.get((quiz.axis, sign), "") for sign in (-1, 1)):
            self._say("the labels were changed during the quiz; its score is not kept")
            return
        self._labelled(quiz.basis, quiz.axis, "quiz", quiz.result)
        self._say(self.quiz["said"])

    def _show_kept_doses(self) -> None:
        """The doses of the axis that is looked at, if they were measured before."""
        if self._job.is_running and self._busy_with == "doses":
            return  # their progress is shown
        basis, axis = self._state.basis, self._state.axis
        nothing = panels.doses_asked(basis, axis) | {"busy": False}
        self.doses = panels.kept_dose_curve(self._study, basis, axis) or nothing

    def _run(self, panel: str, asked: Json, work: Callable[[], Json], said: str) -> None:
        """Fill a panel by work in a thread: labels are saved and axes change meanwhile."""
        before = getattr(self, panel)

        def run() -> Callable[[], None]:
            try:
                shown = work()
            except Stopped:
                return lambda: self._finish(panel, before, lambda: self._say(STOPPED))
            except Exception as error:
                complaint = error
                return lambda: self._finish(panel, before, lambda: self._complain(complaint))
            line = _last_line(shown.get("python", ""))
            return lambda: self._finish(panel, shown, lambda: self._say(said, python=line))

        if self._job.is_running:
            raise InputError("a run is under way; wait until it is done, or stop it")
        self._busy_with = panel
        setattr(self, panel, asked | {"busy": True, "progress": None})
        self._say("working; a first run also loads the model", "busy")
        self._job.start(run)

    def _finish(self, panel: str, shown: Json, say: Callable[[], None]) -> None:
        """Show what came of a run."""
        with self._lock:
            say()
            setattr(self, panel, shown | {"busy": False, "progress": None})
            if panel == "doses":  # whichever axis is looked at by now
                self._show_kept_doses()
            if panel == "selection":
                self.setting = self.setting | {"selections": self._study.selection_names}

    def _progressed(self, done: int, total: int, left: float | None) -> None:
        progress = {"done": done, "total": total, "left": left}
        panel = getattr(self, self._busy_with)
        setattr(self, self._busy_with, panel | {"progress": progress})


def _last_line(python: str | list[str]) -> str:
    return python if isinstance(python, str) else python[-1]
