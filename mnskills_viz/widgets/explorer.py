"""The explorer: one widget to look through axes, name their poles and try them.

The kernel holds the state and says what is shown; the browser draws it and sends back what a
person did, as messages. Every message is answered by a change of what is shown, or by an error
in the status line.
"""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import ipywidgets
import numpy as np
import traitlets
from numpy.typing import NDArray

from ..axes.changes import Change, Field
from ..errors import InputError
from ..exporting.trainers import FORMATS
from ..selection.strategies import STRATEGIES
from ..study import Study
from ..study.selecting import Unit
from .cards import axis_card, axis_list, example_in_full, rows_of_card
from .explorer_panels import ExplorerPanels
from .facts import BasisFacts, Json, said_about
from .found import found_page, found_rows
from .heating import Heating, heat_of_axis
from .map import COLOURS, VIEWS, AxisMap, MapChoice
from .state import (
    FILTERS,
    SORTS,
    ExplorerState,
    Found,
    python_of_found,
    python_of_heat,
    python_of_label,
    python_of_list,
)
from .static_twin import static_html

STATIC = Path(__file__).parent / "static" / "explorer"

SCRIPTS = (
    *("elements", "saving", "list", "histogram", "examples", "card", "found", "map"),
    *("steer", "select", "skill", "quiz", "neighbours", "explorer"),
)
STYLES = ("base", "card", "panels", "width")


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
    if left.basis in study.basis_names and basis in (None, left.basis):
        return Explorer(study, left)
    return Explorer(study, ExplorerState(basis or study.basis_names[0]))


class Explorer(ExplorerPanels):
    """The widget that `explore` gives; for its panels see `ExplorerPanels`.

    Parameters
    ----------
    study : Study
    state : ExplorerState

    Attributes
    ----------
    axes : list of dict
        The axis list; see `cards.axis_list`.
    card : dict
        The current axis; see `cards.axis_card`.
    found : dict
        Rows that are browsed; see `found.found_page`.
    map : FigureWidget or None
        The map; made when the front end has been painted.
    atlas : dict
        What the map shows: ``x y colour view legend colours views n drawn``.
    """

    _esm = _joined(SCRIPTS, "js")
    _css = _joined(STYLES, "css")

    axes = traitlets.List().tag(sync=True)
    card = traitlets.Dict().tag(sync=True)
    found = traitlets.Dict().tag(sync=True)
    map = traitlets.Instance(ipywidgets.DOMWidget, allow_none=True).tag(
        sync=True, **ipywidgets.widget_serialization
    )
    atlas = traitlets.Dict().tag(sync=True)

    def __init__(self, study: Study, state: ExplorerState) -> None:
        super().__init__(study, state)
        self._facts = BasisFacts(study, state.basis)
        self._state = replace(state, axis=min(max(state.axis, 0), self._facts.n_axes - 1))
        self._session = uuid.uuid4().hex[:12]
        self._map: AxisMap | None = None
        self._rows: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._heating = Heating(study, self._send_heat, self._without_heat)
        if self._state.found.what == "lasso":
            self._state = replace(self._state, found=Found())  # it was drawn on a map that is gone
        self._show()
        self._browse(self._state.found, say=False)
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

    # ------------------------------------------------------------------------- what is shown

    @property
    def rows(self) -> NDArray[np.int64]:
        """Rows that are browsed, the highest on the axis first."""
        return self._rows

    @property
    def places(self) -> NDArray[np.floating]:
        """Where every row lies on the map: [n_rows, 2]."""
        return self._atlas().places(self._state.map)

    def _show(self) -> None:
        """Bring list, card and controls up to date with state, facts and labels."""
        facts, state, study = self._facts, self._state, self._study
        said = said_about(study, state.basis)
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
                "steerable": facts.layer is not None,
                "prompt": self._first_prompt(),
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

    def _rows_shown(self) -> list[int]:
        found = [example["row"] for example in self.found.get("examples", ())]
        return list(dict.fromkeys([*rows_of_card(self.card), *found]))

    def _labelled(self, basis: str, axis: int, field: Field, value: str) -> None:
        self._study.annotations.set(basis, axis, field, value)
        self._show()

    def _first_prompt(self) -> str:
        rows = self._study.probe_rows
        return self._study.corpus[int(rows[0]) if len(rows) else 0].prompt_text

    def _look(self, python: str, **changes: Any) -> None:
        """Go on in another state; it is kept, so that the next explorer opens there."""
        self._state = replace(self._state, **changes)
        self._study.annotations.record_view(self._session, self._state.as_dict(), python)
        self._say("", python=python)

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
            case {"type": "ready"}:
                self._say("drawing the map", "busy")
                self._draw_map()
                self._say("")
            case {"type": "axis", "axis": int(axis)}:
                self._choose_axis(axis)
            case {"type": "basis", "basis": str(basis)}:
                self._choose_basis(basis)
            case {"type": "list", "sort": sort, "only": only, "query": str(query)}:
                asked = replace(self._state, sort=sort, only=only, query=query)
                self._look(python_of_list(asked), sort=sort, only=only, query=query)
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
                ends = [None if end is None else round(float(end), 4) for end in (low, high)]
                self._browse(Found("range", self._state.axis, low=ends[0], high=ends[1]))
            case {"type": "page", "page": int(page)}:
                self._look("", found=replace(self._state.found, page=page))
                self._show_found()
            case {"type": "clear"}:
                self._browse(Found())
            case {"type": "map", "x": int(x), "y": int(y), "colour": colour, "view": view}:
                self._look("explorer.places", map=MapChoice(x, y, colour, view))
                self._draw_map()
            case {"type": "label", "basis": str(basis), "axis": int(axis), "field": field,
                  "value": str(value), "seq": seq}:  # fmt: skip
                self._study.annotations.set(basis, axis, field, value)
                self.send({"type": "saved", "seq": seq})
                self._show()
                self._say("", python=python_of_label(basis, axis, field, value))
            case {"type": "undo"}:
                self._step(self._study.annotations.undo(), "undid")
            case {"type": "redo"}:
                self._step(self._study.annotations.redo(), "redid")
            case {"type": "example", "row": int(row)}:
                self.send({"type": "example"} | example_in_full(self._study, row))
            case {"type": "refresh"}:
                self._choose_basis(self._state.basis, self._state.axis)
                self._say("read the study again")
            case {"type": "stop"}:
                self._job.stop()
            case _:
                self._answer_panel(message)

    def _choose_axis(self, axis: int) -> None:
        """Show another card; the list stays, so that this is quick however long it is."""
        basis = self._state.basis
        card = axis_card(
            self._facts, said_about(self._study, basis), replace(self._state, axis=axis)
        )
        self._look(f"study.axes({basis!r}).loc[{axis}]", axis=axis)
        self.card = card
        self._follow()

    def _follow(self) -> None:
        """Bring what depends on the axis up to date, beside its card."""
        self._warm()
        self._show_kept_doses()
        if self._state.found.what:
            self._browse(self._state.found, say=False)
        if self._map is not None and self._state.map.colour == "coordinate":
            self._draw_map()

    def _choose_basis(self, basis: str, axis: int = 0) -> None:
        """Read a basis from the study and show it; a refit may have left it fewer axes."""
        self._facts = BasisFacts(self._study, basis)
        last = self._facts.n_axes - 1
        had_map, self._map = self._map is not None, None
        choice = MapChoice(y=min(1, last), colour=self._state.map.colour)
        self._look(
            f"study.axes({basis!r})",
            basis=basis,
            axis=min(axis, last),
            found=Found(),
            map=choice,
        )
        self._show()
        self._browse(Found(), say=False)
        self._show_kept_doses()
        if had_map:
            self._draw_map()

    def _step(self, change: Change | None, verb: str) -> None:
        """Go to where an undo or redo changed something, so that it is seen."""
        if change is None:
            self._say("nothing to undo" if verb == "undid" else "nothing to redo")
            return
        python = f"study.annotations.{'undo' if verb == 'undid' else 'redo'}()"
        where = f"{change.field} of axis {change.axis}"
        if change.basis not in self._study.basis_names:
            said = f"{verb} the {where} of {change.basis}, a basis that is no longer here"
            self._say(said, python=python)
            return
        if change.basis != self._state.basis:
            self._choose_basis(change.basis, change.axis)
        self._look(python, axis=min(change.axis, self._facts.n_axes - 1))
        self._show()
        self._follow()
        self._say(f"{verb} the {where}", python=python)

    # ------------------------------------------------------------------------- rows and map

    def _browse(self, found: Found, say: bool = True) -> None:
        asked = replace(self._state, found=found)
        self._rows = found_rows(self._facts, asked, self._map)
        if say:
            self._look(python_of_found(asked), found=found)
        else:
            self._state = asked
        self._show_found()

    def _show_found(self) -> None:
        self.found = found_page(self._facts, self._state, self._rows)
        self._warm()

    def _lassoed(self, corners: NDArray[np.float64] | None) -> None:
        """Rows within a lasso: all of them, drawn or not."""
        try:
            if corners is not None:
                outline = tuple((round(float(x), 6), round(float(y), 6)) for x, y in corners)
                self._browse(Found("lasso", corners=outline, on=self._state.map))
            elif self._state.found.what == "lasso":
                self._browse(Found())
        except Exception as error:
            self._complain(error)

    def _atlas(self) -> AxisMap:
        if self._map is None:
            facts, study = self._facts, self._study
            errors = None
            if study.knows_weakness(facts.name):
                errors = np.full(len(facts.z), np.nan)
                errors[study.probe_rows] = study.probe_errors()
            given = (facts.z, facts.categories, study.corpus, errors, self._lassoed)
            self._map = AxisMap(*given, figure=self.map)
        return self._map

    def _draw_map(self) -> None:
        choice, facts = self._state.map, self._facts
        if facts.n_axes < 2:
            return
        atlas = self._atlas()
        labels = self._study.annotations.labels(facts.name)
        legend = atlas.show(choice, self._state.axis, labels)
        self.atlas = {
            "x": choice.x,
            "y": choice.y,
            "colour": choice.colour,
            "view": choice.view,
            "legend": legend,
            "colours": list(COLOURS),
            "views": list(VIEWS),
            "n": len(facts.z),
            "drawn": len(atlas.rows),
        }
        self.map = atlas.figure

    # --------------------------------------------------------------------------------- heat

    def _warm(self) -> None:
        """Ask for the heat of what is shown."""
        if not self._state.heat:
            self._heating.want(self._state.basis, [])
            return
        self._heating.want(self._state.basis, self._rows_shown())

    def _without_heat(self, error: Exception) -> None:
        """Go on without heat that cannot be had, and say why."""
        self._state = replace(self._state, heat=False)
        self.setting = self.setting | {"heat": False}
        self._complain(error)

    def _send_heat(self, basis: str, found: dict[int, Any]) -> None:
        """Send what tokens add on the axis that is looked at now."""
        state = self._state
        if basis != state.basis:
            return
        scale = self._study.basis(basis).scale_[state.axis] or 1.0
        rows = {str(row): heat_of_axis(heat, state.axis, scale) for row, heat in found.items()}
        self.send({"type": "heat", "basis": basis, "axis": state.axis, "rows": rows})
