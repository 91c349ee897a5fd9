"""The explorer: one widget to look through axes, name their poles and try them.

The kernel holds the state and says what is shown; the browser draws it and sends back what a
person did, as messages. Every message is answered by a change of what is shown, or by an error
in the status line.
"""

import math
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from ..axes.annotations import Change
from ..errors import InputError
from ..study import Study
from .state import (
    FILTERS,
    SORTS,
    BasisFacts,
    ExplorerState,
    Json,
    axis_card,
    axis_list,
    example_in_full,
    said_about,
)
from .static_twin import static_html

STATIC = Path(__file__).parent / "static" / "explorer"

SCRIPTS = ("elements", "saving", "list", "histogram", "examples", "card", "steer", "explorer")
STYLES = ("base", "card", "panels", "width")


def _joined(names: tuple[str, ...], kind: str) -> str:
    """The front end in one piece: its parts share one scope, and need no build."""
    return "\n".join((STATIC / f"{name}.{kind}").read_text("utf-8") for name in names)


NEW_TOKENS = 64
"""Tokens generated a run, unsteered and steered each."""


def explore(study: Study, basis: str | None = None) -> "Explorer":
    """Look through a study's axes, label their poles and steer along them.

    As the last line of a notebook cell it shows the explorer, and below it, for readers without
    a kernel, the axes as a plain table that stays out of sight while the explorer is alive.

    Parameters
    ----------
    study : Study
        Collected, with a fitted basis.
    basis : str, optional
        Name of the basis to begin with; default the first one.

    Raises
    ------
    InputError
        No basis yet, or none of that name.
    """
    if not study.basis_names:
        raise InputError(f'{study.path} has no basis yet; fit one first: study.fit("pca")')
    return Explorer(study, basis or study.basis_names[0])


class Explorer(anywidget.AnyWidget):  # type: ignore[misc]
    """The widget that `explore` gives.

    Parameters
    ----------
    study : Study
    basis : str

    Attributes
    ----------
    setting : dict
        What the controls offer and say: names of bases, sort, filter, search, a prompt to begin.
    axes : list of dict
        The axis list; see `state.axis_list`.
    card : dict
        The current axis; see `state.axis_card`.
    steering : dict
        The last run: ``basis axis dose prompt unsteered steered busy python``.
    status : dict
        What happened last: ``level`` ("info", "busy" or "error"), ``text`` and a number that
        tells two equal messages apart.
    """

    _esm = _joined(SCRIPTS, "js")
    _css = _joined(STYLES, "css")

    setting = traitlets.Dict().tag(sync=True)
    axes = traitlets.List().tag(sync=True)
    card = traitlets.Dict().tag(sync=True)
    steering = traitlets.Dict().tag(sync=True)
    status = traitlets.Dict().tag(sync=True)

    def __init__(self, study: Study, basis: str) -> None:
        super().__init__()
        self._study = study
        self._state = ExplorerState(basis)
        self._facts = BasisFacts(study, basis)
        self._run: threading.Thread | None = None
        self._show()
        self.on_msg(self._receive)

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

    # ------------------------------------------------------------------------------- showing

    def _show(self) -> None:
        """Bring everything that is shown up to date with state, facts and labels."""
        facts, state = self._facts, self._state
        said = said_about(self._study, state.basis)
        with self.hold_sync():
            self.setting = {
                "basis": state.basis,
                "bases": self._study.basis_names,
                "sort": state.sort,
                "sorts": list(SORTS),
                "only": state.only,
                "filters": list(FILTERS),
                "query": state.query,
                "n_axes": facts.n_axes,
                "steerable": isinstance(facts.layer, int),
                "prompt": self._first_prompt(),
                "fallback": f"mn-fallback-{self.model_id}",
            }
            self.axes = axis_list(facts, said, state)
            self.card = axis_card(facts, said, state.axis)

    def _first_prompt(self) -> str:
        rows = self._study.probe_rows
        return self._study.corpus[int(rows[0]) if len(rows) else 0].prompt_text

    def _say(self, text: str, level: str = "info") -> None:
        self.status = {"level": level, "text": text, "n": self.status.get("n", 0) + 1}

    def _complain(self, error: Exception) -> None:
        kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        self._say(f"{kind}{error}", "error")

    # ------------------------------------------------------------------------------ messages

    def _receive(self, _: Any, message: Json, buffers: Any) -> None:
        """Do what a message asks for; whatever goes wrong is said in the status line."""
        try:
            self._answer(message)
        except Exception as error:
            if message.get("type") == "label":
                self.send({"type": "failed", "seq": message.get("seq")})
            self._complain(error)

    def _answer(self, message: Json) -> None:
        match message:
            case {"type": "axis", "axis": int(axis)}:
                self._choose_axis(axis)
            case {"type": "basis", "basis": str(basis)}:
                self._choose_basis(basis)
            case {"type": "list", "sort": sort, "only": only, "query": str(query)}:
                self._state = replace(self._state, sort=sort, only=only, query=query)
                self._show()
            case {
                "type": "label",
                "basis": str(basis),
                "axis": int(axis),
                "field": field,
                "value": str(value),
                "seq": seq,
            }:
                self._study.annotations.set(basis, axis, field, value)
                self.send({"type": "saved", "seq": seq})
                self._show()
            case {"type": "undo"}:
                self._step(self._study.annotations.undo(), "undid")
            case {"type": "redo"}:
                self._step(self._study.annotations.redo(), "redid")
            case {"type": "example", "row": int(row)}:
                self.send({"type": "example"} | example_in_full(self._study, row))
            case {"type": "steer", "prompt": str(prompt), "dose": int() | float() as dose}:
                self._steer(prompt, float(dose))
            case {"type": "refresh"}:
                self._choose_basis(self._state.basis, self._state.axis)
                self._say("read the study again")
            case _:
                raise InputError(f"a message that the explorer does not know: {message}")

    def _choose_axis(self, axis: int) -> None:
        """Show another card; the list stays, so that this is quick however long it is."""
        card = axis_card(self._facts, said_about(self._study, self._state.basis), axis)
        self._state = replace(self._state, axis=axis)
        self.card = card

    def _choose_basis(self, basis: str, axis: int = 0) -> None:
        """Read a basis from the study and show it; a refit may have left it fewer axes."""
        self._facts = BasisFacts(self._study, basis)
        last = self._facts.n_axes - 1
        self._state = replace(self._state, basis=basis, axis=min(axis, last))
        self._show()

    def _step(self, change: Change | None, verb: str) -> None:
        """Go to where an undo or redo changed something, so that it is seen."""
        if change is None:
            self._say("nothing to undo" if verb == "undid" else "nothing to redo")
            return
        where = f"{change.field} of axis {change.axis}"
        if change.basis not in self._study.basis_names:
            self._say(f"{verb} the {where} of {change.basis}, a basis that is no longer here")
            return
        if change.basis != self._state.basis:
            self._choose_basis(change.basis, change.axis)
        self._state = replace(self._state, axis=min(change.axis, self._facts.n_axes - 1))
        self._show()
        self._say(f"{verb} the {where}")

    # ------------------------------------------------------------------------------ steering

    def _steer(self, prompt: str, dose: float) -> None:
        """Begin a run in a thread of its own: labels are saved and axes change meanwhile."""
        if self._run is not None and self._run.is_alive():
            raise InputError("a run is under way; wait until it is done")
        if not prompt.strip():
            raise InputError("the prompt is empty; write one, or use an example's")
        if not math.isfinite(dose):
            raise InputError(f"the dose must be a number, not {dose}")
        basis, axis = self._state.basis, self._state.axis
        asked = {
            "basis": basis,
            "axis": axis,
            "dose": dose,
            "prompt": prompt,
            "python": f"study.steer([{prompt!r}], {basis!r}, axis={axis}, dose={dose:g})",
        }
        self.steering = asked | {"busy": True, "unsteered": "", "steered": ""}
        self._say(f"steering along axis {axis}; a first run also loads the model", "busy")
        self._run = threading.Thread(target=self._generate, args=(asked,), daemon=True)
        self._run.start()

    def _generate(self, asked: Json) -> None:
        texts = {"unsteered": "", "steered": ""}
        try:
            table = self._study.steer(
                [asked["prompt"]],
                asked["basis"],
                asked["axis"],
                asked["dose"],
                max_new_tokens=NEW_TOKENS,
            )
            texts = {name: str(table[name].iloc[0]) for name in texts}
            self._say(f"steered along axis {asked['axis']} with {asked['dose']:+g} σ")
        except Exception as error:
            self._complain(error)
        finally:
            self.steering = asked | texts | {"busy": False}
