"""The explorer's rows: the card's, those that are browsed, the map, and heat."""

from dataclasses import replace
from typing import Any

import ipywidgets
import numpy as np
import traitlets
from numpy.typing import NDArray

from ..axes.heat import Heat
from ..errors import InputError
from ..study import Study
from .cards import rows_of_card
from .explorer_panels import ExplorerPanels
from .facts import BasisFacts, Json
from .found import found_page, found_rows
from .heating import Heating, heat_of_axis
from .map import COLOURS, VIEWS, AxisMap, MapChoice, empty_figure
from .state import ExplorerState, Found, python_of_found


class ExplorerRows(ExplorerPanels):
    """The part of the explorer that shows rows.

    Parameters
    ----------
    study : Study
    state : ExplorerState

    Attributes
    ----------
    card : dict
        The current axis; see `cards.axis_card`.
    found : dict
        Rows that are browsed; see `found.found_page`.
    map : FigureWidget or None
        The map; made when the front end has been painted.
    atlas : dict
        What the map shows: ``x y colour view legend colours views n drawn``; empty for a basis of
        one axis.
    """

    card = traitlets.Dict().tag(sync=True)
    found = traitlets.Dict().tag(sync=True)
    map = traitlets.Instance(ipywidgets.DOMWidget, allow_none=True).tag(
        sync=True, **ipywidgets.widget_serialization
    )
    atlas = traitlets.Dict().tag(sync=True)

    _session: str  # under which steps are kept; the explorer says it

    def __init__(self, study: Study, state: ExplorerState) -> None:
        super().__init__(study, state)
        self._facts = BasisFacts(study, state.basis)
        self._state = state.within(self._facts.n_axes)
        self._map: AxisMap | None = None
        self._is_drawn = False  # the figure, by a front end
        self._rows: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._heating = Heating(study, self._send_heat, self._without_heat)

    def close(self) -> None:
        """End the widget, and what runs for it."""
        self._job.stop()
        self._heating.want("", [])
        super().close()

    @property
    def rows(self) -> NDArray[np.int64]:
        """Rows that are browsed, the highest on the axis first."""
        return self._rows

    def _look(self, python: str, **changes: Any) -> None:
        """Go on in another state; it is kept, so that the next explorer opens there."""
        self._change(**changes)
        kept = self._state
        if kept.found.what == "lasso":
            kept = replace(kept, found=Found())  # the line has its corners
        self._study.annotations.record_view(self._session, kept.as_dict(), python)
        self._say("", python=python)

    def _rows_shown(self) -> list[int]:
        found = [example["row"] for example in self.found.get("examples", ())]
        return list(dict.fromkeys([*rows_of_card(self.card), *found]))

    def _browse(self, found: Found, say: bool = True) -> None:
        asked = replace(self._state, found=found)
        axis_map = self._atlas() if found.what == "lasso" else self._map
        self._rows = found_rows(self._facts, asked, axis_map)
        if say:
            self._look(python_of_found(asked), found=found)
        else:
            self._change(found=found)
        self._show_found()

    def _show_found(self) -> None:
        self.found = found_page(self._facts, self._state, self._rows)
        self._outline(self._state.map)
        self._warm()

    def _outline(self, shown: MapChoice) -> None:
        """Have the map show the lasso whose rows are browsed, if it was drawn on what is shown."""
        if self._map is not None:
            found = self._state.found
            there = found.what == "lasso" and found.on.lies_as(shown)
            self._map.outline(found.corners if there else ())

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
            self._map = AxisMap(facts.z, facts.categories, study.corpus, errors, self._lassoed)
            if self._is_drawn:
                self._map.adopt(self.map)
        return self._map

    def _send_figure(self) -> None:
        """Have the front end draw an empty figure; what belongs in it follows then."""
        if self.map is None and self._facts.n_axes > 1:
            self._say("drawing the map", "busy")
            figure = empty_figure(self._draw_first_map)
            self.atlas = self._atlas_shown(self._state.map, [])
            self.map = figure

    def _draw_first_map(self) -> None:
        """Draw what was looked at last, or else the first two axes."""
        try:
            self._is_drawn = True
            self._atlas().adopt(self.map)
            try:
                self._draw_map(self._state.map)
            except InputError:  # of a study that was not what it is now
                self._change(map=MapChoice().within(self._facts.n_axes))
                self._draw_map(self._state.map)
        except Exception as error:
            self._complain(error)
        if self.status.get("text") == "drawing the map":
            self._say("")

    def _draw_map(self, choice: MapChoice) -> None:
        if self._facts.n_axes < 2:
            self.atlas = {}
            return
        labels = self._study.annotations.labels(self._facts.name)
        legend = self._atlas().show(choice, self._state.axis, labels)
        self._outline(choice)
        self.atlas = self._atlas_shown(choice, legend)

    def _atlas_shown(self, choice: MapChoice, legend: list[dict[str, str]]) -> Json:
        n = len(self._facts.z)
        return {
            "x": choice.x,
            "y": choice.y,
            "colour": choice.colour,
            "view": choice.view,
            "legend": legend,
            "colours": list(COLOURS),
            "views": list(VIEWS),
            "n": n,
            "drawn": n if self._map is None else len(self._map.rows),
        }

    # --------------------------------------------------------------------------------- heat

    def _warm(self) -> None:
        """Ask for the heat of what is shown."""
        if not self._state.heat:
            self._heating.want(self._state.basis, [])
            return
        self._heating.want(self._state.basis, self._rows_shown())

    def _without_heat(self, error: Exception) -> None:
        """Go on without heat that cannot be had, and say why."""
        self._change(heat=False)
        self.setting = self.setting | {"heat": False}
        self._complain(error)

    def _send_heat(self, basis: str, found: dict[int, Heat], left_out: dict[int, str]) -> None:
        """Send what tokens add on the axis that is looked at now, or why a row has none."""
        state = self._state
        if basis != state.basis:
            return
        scale = self._study.basis(basis).scale_[state.axis] or 1.0
        rows = {str(row): heat_of_axis(heat, state.axis, scale) for row, heat in found.items()}
        about = {"type": "heat", "basis": basis, "axis": state.axis}
        self.send(about | {"rows": rows, "left_out": {str(r): why for r, why in left_out.items()}})
