"""The explorer: one widget to look through axes, name their poles and try them.

The kernel holds the state and says what is shown; the browser draws it and sends back what a
person did, as messages. Every message is answered by a change of what is shown, or by an error
in the status line.
"""

import os
import platform
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import traitlets

from ..axes.changes import Change, Field
from ..errors import InputError
from ..exporting.trainers import FORMATS
from ..progress import Stopped
from ..selection.strategies import STRATEGIES
from ..study import Study
from ..study.kept import key_of
from ..study.selecting import Unit
from .cards import axis_card, axis_list, example_in_full, rows_of_card
from .explorer_rows import ExplorerRows
from .facts import BasisFacts, Json, said_about
from .jobs import Job
from .map import MapChoice
from .state import (
    FILTERS,
    SORTS,
    ExplorerState,
    Found,
    python_of_heat,
    python_of_label,
    python_of_list,
    python_of_map,
)
from .static_twin import static_html

STATIC = Path(__file__).parent / "static" / "explorer"

SCRIPTS = (
    *("elements", "saving", "list", "histogram", "examples", "card", "found", "map"),
    *("steer", "select", "skill", "quiz", "neighbours", "explorer"),
)
STYLES = ("base", "card", "panels", "width")

JUDGING = "quality is being computed; badges follow"


def _joined(names: Sequence[str], kind: str) -> str:
    """The front end in one piece: its parts share one scope, and need no build."""
    return "\n".join((STATIC / f"{name}.{kind}").read_text("utf-8") for name in names)


def explore(study: Study, basis: str | None = None) -> "Explorer":
    """Look through a study's axes, label their poles, push along them and choose data by them.

    As the last line of a notebook cell it shows the explorer, and below it, for readers without
    a kernel, the axes as a plain table that stays out of sight while the explorer is alive.

    It opens where it was left, whatever became of the kernel; labels are on disk when it says
    "saved".

    Parameters
    ----------
    study : Study
        Collected, with a fitted basis.
    basis : str, optional
        Name of the basis to begin with; default the one that was looked at last, or the first.

    Raises
    ------
    InputError
        No basis yet, or none of that name.
    """
    if not study.basis_names:
        raise InputError(f'{study.path} has no basis yet; fit one first: study.fit("pca")')
    left = ExplorerState.from_dict(study.annotations.last_view() or {})
    if left.basis not in study.basis_names or basis not in (None, left.basis):
        left = ExplorerState(basis or study.basis_names[0])
    # Heat is not begun unasked: it may have to load the model.
    return Explorer(study, replace(left, heat=False))


def notebook_session() -> str:
    """Name for the steps of one notebook: its undo takes back what it said before a restart too.

    Jupyter tells a kernel which notebook it belongs to. Where nobody does, every explorer is a
    session of its own.
    """
    notebook = os.environ.get("JPY_SESSION_NAME")
    # The same path on another machine is another notebook.
    return key_of([platform.node(), notebook])[:12] if notebook else uuid.uuid4().hex[:12]


class Explorer(ExplorerRows):
    """The widget that `explore` gives; for what it shows of rows see `ExplorerRows`.

    Parameters
    ----------
    study : Study
    state : ExplorerState

    Attributes
    ----------
    axes : list of dict
        The axis list; see `cards.axis_list`.
    """

    _esm = _joined(SCRIPTS, "js")
    _css = _joined(STYLES, "css")

    axes = traitlets.List().tag(sync=True)

    def __init__(self, study: Study, state: ExplorerState) -> None:
        super().__init__(study, state)
        self._session = notebook_session()
        self._judging = Job(self._judged_so_far)
        self._show()
        self._browse(self._state.found, say=False)
        self.on_msg(self._receive)

    def close(self) -> None:
        """End the widget, and what runs for it."""
        self._judging.stop()
        super().close()

    def __repr__(self) -> str:
        return f"Explorer({str(self._study.path)!r}, {self._state.basis!r})"

    def _ipython_display_(self) -> None:
        from IPython.display import HTML, display

        bundle, metadata = self._repr_mimebundle_()
        display(bundle, metadata=metadata, raw=True)  # type: ignore[no-untyped-call]
        # An output of its own: JupyterLab shows an error for a widget whose kernel is gone, and
        # would not look for other forms of the same output.
        still = static_html(self.axes, self.card, self.setting["fallback"])
        display(HTML(still))  # type: ignore[no-untyped-call]

    # ------------------------------------------------------------------------- what is shown

    def _show(self) -> None:
        """Bring list, card and controls up to date with state, facts and labels."""
        facts, state, study = self._facts, self._state, self._study
        said = said_about(study, state.basis)
        first = int(study.probe_rows[0]) if len(study.probe_rows) else 0
        with self.hold_sync():
            self.setting = {
                "basis": state.basis,
                "bases": study.basis_names,
                "sort": state.sort,
                "sorts": list(SORTS),
                "only": state.only,
                "filters": list(FILTERS),
                "query": state.query,
                "heat": state.heat,
                "n_axes": facts.n_axes,
                "judging": self._judging.is_running,
                "steerable": facts.layer is not None,
                "prompt": study.corpus[first].prompt_text,
                "prompt_row": first,
                "strategies": list(STRATEGIES),
                "units": list(get_args(Unit)),
                "formats": list(FORMATS),
                "selections": study.selection_names,
                "categories": facts.categories.names,
                "fallback": f"mn-fallback-{self.model_id}",
            }
            self.axes = axis_list(facts, said, state)
            self.card = axis_card(facts, said, state)
        self._warm()

    def _show_card(self) -> None:
        said = said_about(self._study, self._state.basis)
        self.card = axis_card(self._facts, said, self._state)
        self._warm()

    def _labelled(self, basis: str, axis: int, field: Field, value: str) -> None:
        self._label(basis, axis, field, value)
        self._show()

    # ------------------------------------------------------------------------------- quality

    def _say(
        self, text: str, level: str = "info", python: str = "", progress: Json | None = None
    ) -> None:
        """Say what happened; where that is nothing, what goes on beside it stays said."""
        if not text and self._judging.is_running:
            if self._says_judging():
                progress = self.status["progress"]
            text, level = JUDGING, "busy"
        super()._say(text, level, python, progress)

    def _says_judging(self) -> bool:
        return bool(self.status.get("text") == JUDGING)

    def _judge(self) -> None:
        """Compute quality that was never kept, beside what a person does."""
        facts = self._facts
        if facts.is_judged or self._judging.is_running:
            return
        self._judging.start(lambda: self._judged(facts))
        self.setting = self.setting | {"judging": True}
        self._say("")

    def _judged(self, facts: BasisFacts) -> Callable[[], None]:
        try:
            facts.judge()
        except Stopped:
            return lambda: None
        except Exception as error:
            complaint = error
            return lambda: self._show_judged(complaint)
        return self._show_judged

    def _show_judged(self, complaint: Exception | None = None) -> None:
        with self._lock:
            if complaint is None:
                if self._says_judging():
                    self._say("quality is computed, and kept")
                self._judge()  # of another basis, if that is looked at by now
            self._show()
            if complaint is not None:
                self._complain(complaint)

    def _judged_so_far(self, done: int, total: int, left: float | None) -> None:
        with self._lock:
            if self._says_judging():
                progress = {"done": done, "total": total, "left": left}
                self.status = self.status | {"progress": progress}

    # ------------------------------------------------------------------------------ messages

    def _receive(self, _: Any, message: Json, buffers: Any) -> None:
        """Do what a message asks for; whatever goes wrong is said in the status line."""
        try:
            with self._lock:
                self._answer(message)
        except BaseException as error:
            if message.get("type") == "label":
                self.send({"type": "failed", "seq": message.get("seq")})
            if not isinstance(error, Exception):
                raise
            self._complain(error)

    def _answer(self, message: Json) -> None:
        match message:
            case {"type": "ready"}:
                self._send_figure()
                self._judge()
            case {"type": "basis", "basis": str(basis)}:
                self._choose_basis(basis)
            case {"type": "refresh"}:
                self._choose_basis(self._state.basis, self._state.axis)
                if not self._judging.is_running:
                    self._say("read the study again")
            case {"type": "stop"}:
                self._job.stop()
            case {"type": "undo"}:
                self._step(self._study.annotations.undo(session=self._session), "undid")
            case {"type": "redo"}:
                self._step(self._study.annotations.redo(session=self._session), "redid")
            case {"type": "example", "row": int(row)}:
                self.send({"type": "example"} | example_in_full(self._study, row))
            case _:
                self._require_fit()
                self._answer_look(message)

    def _require_fit(self) -> None:
        """Refuse to act on an axis that is another one by now."""
        if what := self._what_became_of_it():
            raise InputError(f"{self._state.basis} {what}; press ↻ to read the study again")

    def _what_became_of_it(self) -> str:
        """What happened to the basis since it was read, in words; empty if nothing did."""
        basis = self._state.basis
        if basis not in self._study.basis_names:
            return "is no longer there"
        is_it = self._study.basis(basis).fingerprint == self._facts.fingerprint
        return "" if is_it else "was fitted anew"

    def _answer_look(self, message: Json) -> None:
        match message:
            case {"type": "axis", "axis": int(axis)}:
                self._choose_axis(axis)
            case {"type": "list", "sort": sort, "only": only, "query": str(query)}:
                asked = replace(self._state, sort=sort, only=only, query=query)
                self._look(
                    python_of_list(asked, self._facts.rows[0]), sort=sort, only=only, query=query
                )
                self._show()
            case {"type": "search", "query": str(query)}:
                self._browse(Found("search", text=query) if query.strip() else Found())
            case {"type": "examples", "mode": mode}:
                self._look("", mode=mode)
                self._show_card()
                self._say("", python=self.card["python"])
            case {"type": "heat", "on": bool(on)}:
                self._look(python_of_heat(self._state.basis, rows_of_card(self.card)), heat=on)
                self._show()
            case {"type": "brush", "low": low, "high": high}:
                ends = [None if end is None else float(end) for end in (low, high)]
                self._browse(Found("range", self._state.axis, low=ends[0], high=ends[1]))
            case {"type": "page", "page": int(page)}:
                self._look("", found=replace(self._state.found, page=max(0, page)))
                self._show_found()
            case {"type": "clear"}:
                self._browse(Found())
            case {"type": "box", "low": [x0, y0], "high": [x1, y1]}:
                sides = [float(side) for side in (x0, y0, x1, y1)]
                (left, right), (low, high) = sorted(sides[::2]), sorted(sides[1::2])
                corners = [[left, low], [right, low], [right, high], [left, high]]
                self._lassoed(np.array(corners))
            case {"type": "map", "x": int(x), "y": int(y), "colour": colour, "view": view}:
                choice = MapChoice(x, y, colour, view)
                self._draw_map(choice)
                self._look(python_of_map(self._state, choice), map=choice)
            case {
                "type": "label",
                "basis": str(basis),
                "axis": int(axis),
                "field": field,
                "value": str(value),
                "seq": seq,
            }:
                self._label(basis, axis, field, value)
                self.send({"type": "saved", "seq": seq})
                self._show()
                self._say("", python=python_of_label(basis, axis, field, value))
            case _:
                self._answer_panel(message)

    def _label(self, basis: str, axis: int, field: Field, value: str) -> None:
        """Keep what was said of an axis that is there."""
        if basis not in self._study.basis_names:
            raise InputError(f"there is no basis {basis!r} any more; nothing is kept of its axes")
        n_axes = self._study.basis(basis).n_axes_
        if not 0 <= axis < n_axes:
            raise InputError(f"{basis} has axes 0 to {n_axes - 1}, not {axis}")
        self._study.annotations.set(basis, axis, field, value, session=self._session)

    def _choose_axis(self, axis: int) -> None:
        """Show another card; the list stays, so that this is quick however long it is."""
        basis = self._state.basis
        said = said_about(self._study, basis)
        self.card = axis_card(self._facts, said, replace(self._state, axis=axis))
        self._look(f"study.axes({basis!r}).loc[{axis}]", axis=axis)
        self._follow()

    def _follow(self) -> None:
        """Bring what depends on the axis up to date, beside its card."""
        self._warm()
        self._show_kept_doses()
        if self._state.found.what:
            self._browse(self._state.found, say=False)
        if self._map is not None and self._state.map.colour == "coordinate":
            self._draw_map(self._state.map)

    def _choose_basis(self, basis: str, axis: int = 0) -> None:
        """Read a basis from the study and show it; a refit may have left it fewer axes."""
        self._facts = BasisFacts(self._study, basis)
        had_map, self._map = self._map is not None, None
        shown = MapChoice(0, 1, self._state.map.colour)
        asked = replace(self._state, basis=basis, axis=axis, map=shown, found=Found())
        now = asked.within(self._facts.n_axes)
        self._look(
            f"study.axes({basis!r})", basis=basis, axis=now.axis, map=now.map, found=now.found
        )
        self._show()
        self._browse(Found(), say=False)
        self._show_kept_doses()
        if had_map:
            self._draw_map(now.map)
        self._judge()

    def _step(self, change: Change | None, verb: str) -> None:
        """Go to where an undo or redo changed something, so that it is seen."""
        if change is None:
            self._say("nothing to undo" if verb == "undid" else "nothing to redo")
            return
        step = "undo" if verb == "undid" else "redo"
        python = f"study.annotations.{step}(session={self._session!r})"
        where = f"{change.field} of axis {change.axis}"
        if change.basis not in self._study.basis_names:
            self._show()
            said = f"{verb} the {where} of {change.basis}, a basis that is no longer here"
            self._say(said, python=python)
            return
        if change.basis != self._state.basis or self._what_became_of_it():
            self._choose_basis(change.basis, change.axis)
        self._look(python, axis=min(change.axis, self._facts.n_axes - 1))
        self._show()
        self._follow()
        self._say(f"{verb} the {where}", python=python)
