"""The map is compared with what all rows are, and with scikit-learn."""

import json

import numpy as np
import pytest

import mnskills_viz as mn
from mnskills_viz.axes.examples import CategoryCounts
from mnskills_viz.axes.regions import within_polygon
from mnskills_viz.widgets import map as maps
from mnskills_viz.widgets.cards import histogram
from mnskills_viz.widgets.map import AxisMap, MapChoice, empty_figure

N = 600
NAMES = ["a", "b", "c", None]


@pytest.fixture(scope="module")
def corpus():
    texts = [f"prompt {i} <script>alert({i})</script>" for i in range(N)]
    return [mn.Example(str(i), text, category=NAMES[i % 4]) for i, text in enumerate(texts)]


@pytest.fixture(scope="module")
def z():
    rng = np.random.default_rng(0)
    centres = np.array([[3, 0, 0], [0, 3, 0], [0, 0, 3], [0, 0, 0]])
    return (rng.normal(size=(N, 3)) + centres[np.arange(N) % 4]).astype(np.float32)


@pytest.fixture
def lassos():
    return []


@pytest.fixture
def axis_map(z, corpus, lassos):
    categories = CategoryCounts.of([example.category for example in corpus])
    errors = np.full(N, np.nan)
    errors[:50] = np.linspace(0, 1, 50)
    found = AxisMap(z, categories, corpus, errors, lassos.append)
    found.adopt(empty_figure(lambda: None))
    return found


def test_points_lie_where_rows_lie(axis_map, z):
    axis_map.show(MapChoice(2, 1), 0, {})
    points = axis_map.figure.data[1]
    np.testing.assert_array_equal(points.x, z[axis_map.rows, 2])
    np.testing.assert_array_equal(points.y, z[axis_map.rows, 1])
    assert axis_map.figure.layout.xaxis.title.text == "axis 2, σ"


def test_the_figure_is_restyled_and_never_built_again(axis_map):
    figure, traces = axis_map.figure, axis_map.figure.data
    for colour in maps.COLOURS:
        axis_map.show(MapChoice(0, 1, colour), 2, {(1, 1): "x"})
    assert axis_map.figure is figure
    assert axis_map.figure.data == traces


def test_colours_stand_for_what_the_legend_says(axis_map, corpus):
    legend = axis_map.show(MapChoice(), 0, {})
    assert [entry["name"] for entry in legend] == ["a", "b", "c", "no category"]
    painted = np.array(axis_map.figure.data[1].marker.color)
    for place, name in enumerate(NAMES):
        mine = [corpus[int(row)].category == name for row in axis_map.rows]
        assert (painted[mine] == place).all()
    assert len({entry["symbol"] for entry in legend[:3]}) == 3  # colour is not the only sign


def test_what_has_no_error_is_small_and_grey(axis_map):
    legend = axis_map.show(MapChoice(colour="error"), 0, {})
    marker = axis_map.figure.data[1].marker
    known = axis_map.rows < 50
    assert marker.size[known].min() > marker.size[~known].max()
    assert [entry["name"] for entry in legend] == ["no error", "the largest error", "not measured"]
    inks = np.array([_ink(marker, value) for value in marker.color])
    assert {*inks[~known]} == {legend[2]["colour"]}
    lowest, highest = np.flatnonzero(known)[[0, -1]]
    assert (inks[lowest], inks[highest]) == (legend[0]["colour"], legend[1]["colour"])
    axis_map.show(MapChoice(colour="coordinate"), 0, {})
    assert axis_map.figure.data[1].marker.size == marker.size.max()


def _ink(marker, value) -> str:
    """The colour that is nearest on the scale; of two at one place the one further up."""
    place = (value - marker.cmin) / (marker.cmax - marker.cmin)
    return min(reversed(marker.colorscale), key=lambda step: round(abs(step[0] - place), 6))[1]


def test_categories_have_the_colours_of_the_histogram(z):
    """Also where so few rows are drawn that their order is another one, and where some share."""
    generator = np.random.default_rng(1)
    names = [f"kind {c:02d}" for c in generator.integers(0, 12, size=N)]
    counts = CategoryCounts.of(names)
    rows = [mn.Example(str(i), "text", category=name) for i, name in enumerate(names)]
    legend = AxisMap(z, counts, rows, None, print).show(MapChoice(), 0, {})
    bars = histogram(z[:, 0], counts)["categories"]
    assert [bar.get("colour") is None for bar in bars] == [False] * 8 + [True] * 4
    looks = [(bar["name"], bar["colour"], bar["symbol"]) for bar in bars[:8]]
    assert [(e["name"], e["colour"], e["symbol"]) for e in legend[:-1]] == looks
    assert legend[-1]["name"] == "others"


def test_rows_are_coloured_by_the_labelled_pole_they_lie_at(axis_map, z):
    legend = axis_map.show(MapChoice(colour="label"), 0, {(0, 1): "first", (1, -1): "second"})
    names = [entry["name"] for entry in legend]
    assert set(names) == {"first", "second", "at no labelled pole"}
    groups = np.array(axis_map.figure.data[1].marker.color).astype(int)
    for row, group in zip(axis_map.rows, groups, strict=True):
        sides = {"at no labelled pole": 1.0, "first": z[row, 0], "second": -z[row, 1]}
        assert names[group] == max(sides, key=sides.get)


def test_a_lasso_reaches_rows_that_are_not_drawn(z, corpus, lassos, monkeypatch):
    monkeypatch.setattr(maps, "POINTS", 40)
    categories = CategoryCounts.of([example.category for example in corpus])
    few = AxisMap(z, categories, corpus, None, lassos.append)
    few.adopt(empty_figure(lambda: None))
    few.show(MapChoice(0, 1), 0, {})
    assert len(few.rows) < 50
    _draw(few.figure, {"type": "path", "path": "M0,-1L4,-1L4.0,4e0L0,4Z"})
    rows = within_polygon(few.places(MapChoice(0, 1)), lassos[0])
    x, y = z[:, 0], z[:, 1]
    assert rows.tolist() == np.flatnonzero((x >= 0) & (x <= 4) & (y >= -1) & (y <= 4)).tolist()
    assert len(rows) > 50


def test_a_front_end_that_draws_is_told_of_once():
    drawn = []
    figure = empty_figure(lambda: drawn.append(1))
    assert not drawn
    for revision in range(2):
        figure._js2py_layoutDelta = {"layout_delta": {}, "layout_edit_id": revision}
    assert drawn == [1]


def test_a_box_is_a_polygon_of_four_corners(axis_map, lassos):
    _draw(axis_map.figure, {"type": "rect", "x0": 2, "x1": 1, "y0": -1, "y1": 3})
    assert lassos[0].tolist() == [[1, -1], [2, -1], [2, 3], [1, 3]]


def test_of_several_lassos_the_last_one_counts_and_then_none(axis_map, lassos):
    first, last = ({"type": "path", "path": f"M0,0L{x},0L0,{x}Z"} for x in (1, 2))
    _draw(axis_map.figure, first, last)
    assert lassos[-1].tolist() == [[0, 0], [2, 0], [0, 2]]
    _draw(axis_map.figure)
    assert lassos[-1] is None


def test_the_outline_is_that_of_the_corners_until_it_is_taken_away(axis_map):
    axis_map.show(MapChoice(), 0, {})
    told = []

    def heard(change):
        if change["new"]:  # and None when it has been sent
            told.append(change["new"])

    axis_map.figure.observe(heard, "_py2js_update")
    axis_map.outline([(0.5, -1.0), (2.0, 1e-7), (1.0, 3.0)])
    (drawn,) = told[-1]["layout_data"]["selections"]
    assert (drawn["type"], drawn["path"]) == ("path", "M0.5,-1.0L2.0,1e-07L1.0,3.0Z")
    assert told[-1]["style_data"]["unselected.marker.opacity"] < 0.5
    axis_map.outline([])
    _draw(axis_map.figure, {"type": "rect", "x0": 0, "x1": 1, "y0": 0, "y1": 1})
    axis_map.outline([])  # what a person drew goes too
    assert [message["layout_data"] for message in told[1:]] == [{"selections": []}] * 2
    points = axis_map.figure.data[1]
    assert points.unselected.marker.opacity == points.marker.opacity


def _draw(figure, *selections) -> None:
    """What plotly's front end sends when a selection was drawn, changed or taken away."""
    told = {"relayout_data": {"selections": [*selections]}, "source_view_id": None}
    figure._js2py_relayout = told


def test_what_is_pointed_at_is_text(axis_map):
    said = axis_map.figure.data[1].hovertext
    assert not any("<" in text for text in said)


def test_nothing_goes_to_a_cloud_and_what_is_saved_stays_small(axis_map):
    axis_map.show(MapChoice(), 0, {})
    assert axis_map.figure._config["showSendToCloud"] is False
    layout = json.dumps(axis_map.figure.layout.to_plotly_json())
    assert len(layout) < 20_000


def test_a_figure_outlives_the_map_it_was_made_for(axis_map, z, corpus, lassos):
    """A basis that is chosen later uses the same figure; no coordinates of the first one stay."""
    import gc
    import weakref

    categories = CategoryCounts.of([example.category for example in corpus])
    figure, first = axis_map.figure, AxisMap(z, categories, corpus, None, lassos.append)
    first.adopt(figure)
    gone = weakref.ref(first)
    second = AxisMap(-z, categories, corpus, None, lassos.append)
    second.adopt(figure)
    del first
    gc.collect()
    assert gone() is None
    second.show(MapChoice(0, 1), 0, {})
    np.testing.assert_array_equal(figure.data[1].x, -z[second.rows, 0])


def test_an_unknown_axis_or_colour_is_named(axis_map):
    with pytest.raises(mn.InputError, match="axes 0 to 2, not 3"):
        axis_map.places(MapChoice(0, 3))
    with pytest.raises(mn.InputError, match="one of category, coordinate, error, label"):
        MapChoice(colour="beauty")
