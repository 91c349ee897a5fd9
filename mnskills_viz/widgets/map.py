"""The map: all rows on two axes, in the one plotly figure of a notebook.

A sample of the rows lies as points over the density of all of them. A lasso is drawn on what is
shown, and resolved in the kernel on all rows. The figure is restyled, never built again: its
script alone is 5 MB in a saved notebook.
"""

import html
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

Colour = Literal["category", "coordinate", "error", "label"]
COLOURS: tuple[str, ...] = get_args(Colour)
View = Literal["axes", "categories apart"]
VIEWS: tuple[str, ...] = get_args(View)

POINTS = 8_000
"""Points drawn: from about 100,000 a browser freezes when one is pointed at."""

BINS = 96
HEIGHT = 400
NAMED = 9
"""Groups with a colour and a symbol of their own; the rest share grey."""

# Okabe and Ito's, told apart by colour-blind readers, and two more; each with a symbol.
COLOURS_OF_GROUPS = (
    ("#0072b2", "circle"),
    ("#d55e00", "diamond"),
    ("#009e73", "square"),
    ("#cc79a7", "triangle-up"),
    ("#b08900", "cross"),
    ("#56a4d9", "x"),
    ("#7f3fbf", "star"),
    ("#8c564b", "triangle-down"),
    ("#5f6b2a", "hexagon"),
)
OTHERS = ("#8c8c8c", "circle")
DIVERGING = ((0.0, "#1f6bb0"), (0.5, "#b8b8b8"), (1.0, "#b4540a"))
RISING = ((0.0, "#56a4d9"), (1.0, "#8b1a00"))
FARTHEST = 3.0
"""Standard deviations at which colours of a coordinate end."""

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


@dataclass(frozen=True, slots=True)
class Paint:
    """How points are coloured.

    Attributes
    ----------
    values : ndarray of float32, [n_points]
        Numbers that colours stand for; of groups, their places.
    legend : list of dict
        ``name colour symbol`` of each group; or of the two ends of a scale.
    groups : ndarray of int64, [n_points], or None
        None where values lie on a scale.
    scale : sequence of (float, str)
    ends : (float, float)
        Values at the ends of the scale.
    known : ndarray of bool, [n_points]
        Points that have a value.
    """

    values: NDArray[np.float32]
    legend: list[dict[str, str]]
    groups: NDArray[np.int64] | None
    scale: Sequence[tuple[float, str]]
    ends: tuple[float, float]
    known: NDArray[np.bool_]


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
            dots.marker = _marker(paint)
            dots.selectedpoints = None
            for name, title in zip(("xaxis", "yaxis"), titles, strict=True):
                self.figure.layout[name].title.text = title
            self.figure.layout.selections = ()
        return paint.legend

    def paint(self, colour: Colour, axis: int, labels: Mapping[tuple[int, int], str]) -> Paint:
        """How the drawn rows are coloured."""
        if colour == "coordinate":
            values = self._z[self.rows, axis].astype(np.float32)
            ends = (-FARTHEST, FARTHEST)
            return _on_scale(values, DIVERGING, ends, [f"{signed(e, 0)} σ" for e in ends])
        if colour == "error":
            none = np.full(len(self._z), np.nan, dtype=np.float32)
            errors = none if self._errors is None else self._errors.astype(np.float32)
            said = ["no error", "the largest error"]
            return _on_scale(errors[self.rows], RISING, (0.0, 1.0), said)
        if colour == "label":
            return self._by_label(labels)
        return _in_groups(self._codes[self.rows], [*self._names, "no category"])

    def _by_label(self, labels: Mapping[tuple[int, int], str]) -> Paint:
        """Each row by the labelled pole that it lies at, the farthest out if there are several."""
        poles = sorted(labels)
        drawn = self._z[self.rows]
        sides = np.column_stack(
            [np.full(len(drawn), BESIDE_A_POLE), *(sign * drawn[:, axis] for axis, sign in poles)]
        )
        groups = (sides.argmax(axis=1) - 1) % (len(poles) + 1)  # the last: at none of them
        return _in_groups(groups, [*(labels[pole] for pole in poles), "at no labelled pole"])


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
        unselected={"marker": {"opacity": 0.12}},
    )
    points = figure.data[1]
    points.on_selection(lambda _trace, _points, selector: _lassoed(selector, selected))
    points.on_deselect(lambda *_: selected(None))


def _lassoed(selector: Any, selected: Selected) -> None:
    """Corners of a lasso or box; of another selection, such as a click, there are none."""
    if hasattr(selector, "xs"):
        corners = np.column_stack([selector.xs, selector.ys])
    elif hasattr(selector, "xrange"):
        (left, right), (low, high) = sorted(selector.xrange), sorted(selector.yrange)
        corners = np.array([[left, low], [right, low], [right, high], [left, high]])
    else:
        return
    selected(corners.astype(np.float64))


def _said(example: Example) -> str:
    """What is said of a point; plotly reads some markup."""
    said = shortened(example.prompt_text, 90)
    return html.escape(f"{example.category}: {said}" if example.category else said)


def _on_scale(
    values: NDArray[np.float32],
    scale: Sequence[tuple[float, str]],
    ends: tuple[float, float],
    said: Sequence[str],
) -> Paint:
    known = np.isfinite(values)
    legend = [
        {"name": name, "colour": colour, "symbol": "circle"}
        for name, (_, colour) in zip(said, (scale[0], scale[-1]), strict=True)
    ]
    return Paint(np.where(known, values, ends[0]), legend, None, scale, ends, known)


def _in_groups(groups: NDArray[np.integer], names: Sequence[str]) -> Paint:
    """The most frequent groups get colours of their own; the last name is of what has none."""
    counts = np.bincount(groups, minlength=len(names))[:-1]
    frequent = [g for g in np.argsort(-counts, kind="stable")[:NAMED] if counts[g]]
    place = np.full(len(names), len(frequent))
    place[frequent] = np.arange(len(frequent))
    looks = [*COLOURS_OF_GROUPS[: len(frequent)], OTHERS]
    others = names[-1] if len(frequent) == np.count_nonzero(counts) else "others"
    shown = place[groups].astype(np.int64)
    said = [*(names[g] for g in frequent), *([others] if (shown == len(frequent)).any() else [])]
    legend = [
        {"name": name, "colour": colour, "symbol": symbol}
        for name, (colour, symbol) in zip(said, looks, strict=False)
    ]
    n = len(looks)
    steps = [(edge / n, colour) for i, (colour, _) in enumerate(looks) for edge in (i, i + 1)]
    known = np.ones(len(groups), dtype=bool)
    return Paint(shown.astype(np.float32), legend, shown, steps, (-0.5, n - 0.5), known)


def _marker(paint: Paint) -> dict[str, Any]:
    symbols = [symbol for _, symbol in COLOURS_OF_GROUPS[: len(paint.scale) // 2 - 1]]
    looks = np.array([*symbols, OTHERS[1]])
    return {
        "size": 6,
        "color": paint.values,
        "colorscale": [list(step) for step in paint.scale],
        "cmin": paint.ends[0],
        "cmax": paint.ends[1],
        "showscale": False,
        "opacity": np.where(paint.known, 0.8, 0.1).astype(np.float32),
        "symbol": "circle" if paint.groups is None else looks[paint.groups].tolist(),
    }


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
    lines = {"gridcolor": "rgba(128,128,128,0.18)", "zerolinecolor": "rgba(128,128,128,0.5)"}
    return {
        "height": HEIGHT,
        "autosize": True,
        "dragmode": "lasso",
        "margin": {"l": 52, "r": 8, "t": 26, "b": 44},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "showlegend": False,
        "hovermode": "closest",
        "newselection": {"mode": "immediate"},
        "xaxis": axis | lines,
        "yaxis": axis | lines,
        "uirevision": "same",
    }
