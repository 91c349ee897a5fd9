"""The map: all rows on two axes, in the one plotly figure of a notebook.

A sample of the rows lies as points over the density of all of them. A lasso is drawn on what is
shown, and resolved in the kernel on all rows. The figure is restyled, never built again: its
script alone is 5 MB in a saved notebook.
"""

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..axes.examples import CategoryCounts
from ..axes.projection import categories_apart, sample
from ..corpus import Example
from ..errors import InputError
from .markup import shortened, signed
from .paint import DIVERGING, OPACITY, RISING, Paint, in_groups, marker, on_scale

Colour = Literal["category", "coordinate", "error", "label"]
COLOURS: tuple[str, ...] = get_args(Colour)
View = Literal["axes", "categories apart"]
VIEWS: tuple[str, ...] = get_args(View)

POINTS = 8_000
"""Points drawn: from about 100,000 a browser freezes when one is pointed at."""

BINS = 96
HEIGHT = 400
FARTHEST = 3.0
"""Standard deviations at which colours of a coordinate end."""

DIMMED = 0.15
"""Opacity of points outside a lasso."""

OUTLINE = "#808080"
"""Shows on light and on dark."""

BESIDE_A_POLE = 1.0
"""Standard deviations from which a row counts as lying at a labelled pole."""


Selected = Callable[[NDArray[np.float64] | None], None]


@dataclass(frozen=True, slots=True)
class MapChoice:
    """What the map shows.

    Attributes
    ----------
    x, y : int
        Axes, of the view ``"axes"``.
    colour : {"category", "coordinate", "error", "label"}
        What points are coloured by; ``"coordinate"`` is that on the axis that is looked at.
    view : {"axes", "categories apart"}
        ``"categories apart"``: the plane in which categories lie farthest apart for their own
        spread (linear discriminant analysis of all axes).
    """

    x: int = 0
    y: int = 1
    colour: Colour = "category"
    view: View = "axes"

    def __post_init__(self) -> None:
        for value, known in ((self.colour, COLOURS), (self.view, VIEWS)):
            if value not in known:
                raise InputError(f"expected one of {', '.join(known)}, not {value!r}")

    def within(self, n_axes: int) -> "MapChoice":
        """The choice for a basis of so many axes."""
        if max(self.x, self.y) < n_axes:
            return self
        return replace(self, x=0, y=min(1, n_axes - 1))

    def lies_as(self, other: "MapChoice") -> bool:
        """Whether every row lies where it lies in another choice, whatever the colours."""
        if self.view != other.view:
            return False
        return self.view != "axes" or (self.x, self.y) == (other.x, other.y)


class AxisMap:
    """Where all rows lie, which of them are drawn, and the figure.

    Parameters
    ----------
    z : ndarray, [n_rows, n_axes]
        Standard deviations.
    categories : CategoryCounts
    corpus : sequence of Example
        What is said when a point is pointed at.
    errors : ndarray, [n_rows], optional
        The model's error on each row, NaN where unknown.
    selected : callable
        Gets the corners of a lasso [m, 2] in what is shown, or None when it is taken away.
    """

    def __init__(
        self,
        z: NDArray[np.floating],
        categories: CategoryCounts,
        corpus: Sequence[Example],
        errors: NDArray[np.floating] | None,
        selected: Selected,
    ) -> None:
        self._z, self._errors = z, errors
        self._names, self._of_row = categories.names, categories.of_row
        self._counts = categories.counts
        self._codes = np.where(self._of_row < 0, len(self._names), self._of_row)
        self._apart: NDArray[np.float32] | None = None
        self.rows = sample(self._codes, POINTS)
        self._corpus, self._selected = corpus, selected
        self.figure: Any = None

    def adopt(self, figure: Any) -> None:
        """Take a figure, to be restyled from now on.

        Parameters
        ----------
        figure : FigureWidget
            From `empty_figure`, once it is drawn; or that of an earlier map of the same corpus.
        """
        self.figure = figure
        if not figure.data:
            said = [_said(self._corpus[int(row)]) for row in self.rows]
            _add_traces(figure, said, self._selected)

    # ------------------------------------------------------------------------------- showing

    def places(self, choice: MapChoice) -> NDArray[np.floating]:
        """Where every row lies in a view: [n_rows, 2]."""
        if choice.view == "categories apart":
            if self._apart is None:
                self._apart = categories_apart(self._z, self._of_row)
            return self._apart
        n_axes = self._z.shape[1]
        for axis in (choice.x, choice.y):
            if not 0 <= axis < n_axes:
                raise InputError(f"there are axes 0 to {n_axes - 1}, not {axis}")
        return self._z[:, [choice.x, choice.y]]

    def show(
        self, choice: MapChoice, axis: int, labels: Mapping[tuple[int, int], str]
    ) -> list[dict[str, str]]:
        """Restyle the figure, if there is one yet; returns the legend.

        Parameters
        ----------
        choice : MapChoice
        axis : int
            The axis that is looked at.
        labels : mapping of (axis, +1 or -1) to str
        """
        where, paint = self.places(choice), self.paint(choice.colour, axis, labels)
        points = where[self.rows].astype(np.float32)
        titles = (
            ["categories apart, 1", "categories apart, 2"]
            if choice.view == "categories apart"
            else [f"axis {choice.x}, σ", f"axis {choice.y}, σ"]
        )
        if self.figure is None:
            return paint.legend
        density, dots = self.figure.data
        if len(where) > len(self.rows):
            # Not in one batch with the points: plotly would tell the front end of an undefined
            # marker of the density, and nothing is drawn then.
            with self.figure.batch_update():
                for name, value in _density(where).items():
                    density[name] = value
        with self.figure.batch_update():
            dots.x, dots.y = points[:, 0], points[:, 1]
            dots.marker = marker(paint)
            for name, title in zip(("xaxis", "yaxis"), titles, strict=True):
                self.figure.layout[name].title.text = title
        return paint.legend

    def outline(self, corners: Sequence[tuple[float, float]]) -> None:
        """Draw the outline of a lasso, or take away the one that is there.

        Parameters
        ----------
        corners : sequence of (float, float)
            In what is shown; none for no outline.
        """
        if self.figure is None:
            return
        path = "M" + "L".join(f"{x},{y}" for x, y in corners) + "Z"
        # Not by assignment: plotly's layout does not know what a person drew.
        shown = [{"type": "path", "path": path, "line": {"color": OUTLINE}}] if corners else []
        # In one message: plotly takes none for selected when an outline goes, and dims the others.
        dimmed = {"unselected.marker.opacity": DIMMED if corners else OPACITY}
        self.figure.plotly_update(dimmed, {"selections": shown}, [1])

    def paint(self, colour: Colour, axis: int, labels: Mapping[tuple[int, int], str]) -> Paint:
        """How the drawn rows are coloured."""
        if colour == "coordinate":
            values = self._z[self.rows, axis].astype(np.float32)
            ends = (-FARTHEST, FARTHEST)
            return on_scale(values, DIVERGING, ends, [f"{signed(e, 0)} σ" for e in ends])
        if colour == "error":
            none = np.full(len(self._z), np.nan, dtype=np.float32)
            errors = none if self._errors is None else self._errors.astype(np.float32)
            said = ["no error", "the largest error", "not measured"]
            return on_scale(errors[self.rows], RISING, (0.0, 1.0), said)
        if colour == "label":
            return self._by_label(labels)
        # Of all rows, not of those drawn: the histogram has the same colours.
        return in_groups(self._codes[self.rows], [*self._names, "no category"], self._counts)

    def _by_label(self, labels: Mapping[tuple[int, int], str]) -> Paint:
        """Each row by the labelled pole that it lies at, the farthest out if there are several."""
        poles = sorted(labels)
        drawn = self._z[self.rows]
        sides = np.column_stack(
            [np.full(len(drawn), BESIDE_A_POLE), *(sign * drawn[:, axis] for axis, sign in poles)]
        )
        groups = (sides.argmax(axis=1) - 1) % (len(poles) + 1)  # the last: at none of them
        names = [*(labels[pole] for pole in poles), "at no labelled pole"]
        return in_groups(groups, names, np.bincount(groups, minlength=len(names))[:-1])


def empty_figure(drawn: Callable[[], None]) -> Any:
    """The figure, with nothing in it, for a front end to draw.

    What is sent to plotly before it has drawn once is lost: its script is large and comes late.

    Parameters
    ----------
    drawn : callable
        Called when a front end has drawn the figure for the first time.

    Returns
    -------
    FigureWidget
    """
    import plotly.graph_objects as go

    figure = go.FigureWidget(layout=_layout())
    figure._config = figure._config | {
        "displaylogo": False,
        "showSendToCloud": False,
        "modeBarButtonsToRemove": ["toImage", "sendDataToCloud", "autoScale2d"],
    }

    is_drawn = False

    def reported(change: Any) -> None:
        nonlocal is_drawn
        if change["new"] is not None and not is_drawn:
            is_drawn = True
            drawn()

    figure.observe(reported, ["_js2py_layoutDelta", "_js2py_traceDeltas"])
    return figure


def _add_traces(figure: Any, said: list[str], selected: Selected) -> None:
    """Density and points; what they call knows of no map, so that the figure outlives them."""
    figure.add_heatmap(
        colorscale=[[0.0, "rgba(128,128,128,0)"], [1.0, "rgba(128,128,128,0.6)"]],
        showscale=False,
        hoverinfo="skip",
    )
    figure.add_scattergl(
        mode="markers",
        showlegend=False,
        hovertext=said,
        hoverinfo="text",
        selected={"marker": {"size": 8}},
        unselected={"marker": {"opacity": OPACITY}},
    )

    def reported(change: Any) -> None:
        """Hear of outlines that a person drew, and not of a selection.

        Where the pointer then rests on a point, this is told in place of what was selected.
        """
        drawn = ((change["new"] or {}).get("relayout_data") or {}).get("selections")
        if drawn is not None:
            selected(_corners(drawn))

    figure.observe(reported, "_js2py_relayout")


def _corners(drawn: Sequence[Mapping[str, Any]]) -> NDArray[np.float64] | None:
    """Corners of the lasso or box that was drawn last, [m, 2]; None where there is none."""
    if not drawn:
        return None
    last = drawn[-1]
    if last["type"] == "rect":
        (left, right), (low, high) = (sorted((last[f"{c}0"], last[f"{c}1"])) for c in "xy")
        return np.array([[left, low], [right, low], [right, high], [left, high]], dtype=np.float64)
    numbers = re.findall(r"[-+.\de]+", last["path"])  # "M1,2L3,4Z"
    return np.array(numbers, dtype=np.float64).reshape(-1, 2)


def _said(example: Example) -> str:
    """What is said of a point; plotly reads some markup."""
    said = shortened(example.prompt_text, 90)
    return html.escape(f"{example.category}: {said}" if example.category else said)


def _density(where: NDArray[np.floating]) -> dict[str, Any]:
    """How many rows lie where, on a logarithmic scale."""
    low, high = where.min(axis=0), where.max(axis=0)
    width = np.where(high > low, high - low, 1.0)
    place = np.minimum(((where - low) / width * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(place[:, 1] * BINS + place[:, 0], minlength=BINS * BINS)
    step = width / BINS
    return {
        "z": np.log1p(counts).reshape(BINS, BINS).astype(np.float32),
        "x0": float(low[0] + step[0] / 2),
        "dx": float(step[0]),
        "y0": float(low[1] + step[1] / 2),
        "dy": float(step[1]),
    }


def _layout() -> dict[str, Any]:
    axis = {"zeroline": True, "zerolinewidth": 1, "gridwidth": 1}
    quiet = {"bgcolor": "rgba(0,0,0,0)", "color": OUTLINE, "activecolor": "#2a8be0"}
    lines = {"gridcolor": "rgba(128,128,128,0.18)", "zerolinecolor": "rgba(128,128,128,0.5)"}
    return {
        "height": HEIGHT,
        "autosize": True,
        "dragmode": "lasso",
        "margin": {"l": 52, "r": 8, "t": 26, "b": 44},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "showlegend": False,
        "modebar": quiet,
        "hovermode": "closest",
        "newselection": {"mode": "immediate", "line": {"color": OUTLINE}},
        "xaxis": axis | lines,
        "yaxis": axis | lines,
        "uirevision": "same",
    }
