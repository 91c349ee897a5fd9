import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mnskills_viz.axes.regions import POINTS_AT_ONCE, within_polygon, within_range
from mnskills_viz.errors import InputError

CORNERS = st.lists(st.tuples(st.integers(-8, 8), st.integers(-8, 8)), min_size=3, max_size=14)


def crossings_to_the_right(x, y, corners):
    """How often a ray to the right of a point crosses an outline that it does not lie on."""
    count = 0
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        if (y0 > y) != (y1 > y):
            count += x < x0 + (y - y0) * (x1 - x0) / (y1 - y0)
    return count


def on_the_outline(x, y, corners):
    return any(
        (x1 - x0) * (y - y0) == (x - x0) * (y1 - y0)
        and min(x0, x1) <= x <= max(x0, x1)
        and min(y0, y1) <= y <= max(y0, y1)
        for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True)
    )


def test_neighbouring_ranges_part_the_rows_and_the_last_one_is_closed():
    z = np.array([0.0, 1.0, 1.5, 2.0, np.nan, -1.0], dtype=np.float32)
    assert within_range(z, -1, 1).tolist() == [0, 5]
    assert within_range(z, 1, 1.5).tolist() == [1]
    assert within_range(z, 1.5, 2).tolist() == [2, 3]
    assert within_range(z, None, 1).tolist() == [0, 5]
    assert within_range(z, 1.5).tolist() == [2, 3]
    assert within_range(z).tolist() == [0, 1, 2, 3, 5]
    assert within_range(z, 3, 4).tolist() == []


@settings(deadline=None)
@given(
    st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=40),
    st.lists(st.floats(-6, 6), min_size=1, max_size=6, unique=True),
)
def test_bins_count_as_numpys_histogram_does(values, inner):
    z = np.array(values)
    edges = np.unique([min(inner), *inner, z.max()])
    assume(len(edges) > 1)
    assume(edges[-1] == z.max())
    counts = [len(within_range(z, *ends)) for ends in itertools.pairwise(edges)]
    assert counts == np.histogram(z, edges)[0].tolist()


@settings(deadline=None)
@given(CORNERS, st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.375]))
def test_a_polygon_holds_its_outline_and_what_crosses_it_an_odd_number_of_times(
    corners, seed, offset
):
    # With and without points on edges, and level with corners.
    points = np.random.default_rng(seed).integers(-9, 9, (80, 2)).astype(np.float32) + offset
    expected = [
        i
        for i, (x, y) in enumerate(points.tolist())
        if on_the_outline(x, y, corners) or crossings_to_the_right(x, y, corners) % 2
    ]
    assert within_polygon(points, corners).tolist() == expected


@settings(deadline=None)
@given(CORNERS, st.integers(0, 13), st.booleans())
def test_a_polygon_is_the_same_from_any_corner_and_either_way_round(corners, first, turned):
    points = np.random.default_rng(0).integers(-9, 9, (60, 2)).astype(np.float32)
    other = np.roll(corners, first, axis=0)[:: -1 if turned else 1]
    closed = [*corners, corners[0]]
    expected = within_polygon(points, corners).tolist()
    assert within_polygon(points, other).tolist() == expected
    assert within_polygon(points, closed).tolist() == expected


def test_a_round_lasso_on_many_points_holds_those_of_the_closed_form():
    points = np.random.default_rng(0).standard_normal((3 * POINTS_AT_ONCE, 2)).astype(np.float32)
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    lasso = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    lengths = np.hypot(*points.astype(np.float64).T)
    # Between the circles inside and around the polygon the closed form says nothing.
    clear = (lengths < np.cos(np.pi / 200)) | (lengths > 1)
    inside = np.zeros(len(points), dtype=bool)
    inside[within_polygon(points, lasso)] = True
    assert clear.mean() > 0.999
    np.testing.assert_array_equal(inside[clear], lengths[clear] < 1)


def test_the_middle_of_a_pentagram_is_outside():
    angles = np.pi / 2 + 4 * np.pi / 5 * np.arange(5)
    pentagram = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    tips_and_middle = np.array([[0.0, 0.8], [0.5, -0.7], [0.0, 0.0], [1.0, 1.0]])
    assert within_polygon(tips_and_middle, pentagram).tolist() == [0, 1]


def test_a_point_without_coordinates_is_in_no_polygon():
    points = np.array([[0, 0], [np.nan, 0], [0, np.nan], [np.inf, 0], [0, -np.inf]])
    assert within_polygon(points, [[-1, -1], [1, -1], [1, 1], [-1, 1]]).tolist() == [0]
    assert within_polygon(points[:0], [[-1, -1], [1, -1], [1, 1]]).tolist() == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: within_range(np.zeros(2), 1, 0), "from a lower to a higher"),
        (lambda: within_range(np.zeros(2), np.nan, 0), "from a lower to a higher"),
        (lambda: within_polygon(np.zeros((2, 2)), [[0, 0], [1, 1]]), "3 corners"),
        (lambda: within_polygon(np.zeros((2, 2)), [[0, 0], [1, 1], [0, np.nan]]), "NaN or inf"),
        (lambda: within_polygon(np.zeros((2, 3)), [[0, 0], [1, 1], [0, 1]]), r"points are \[n, 2"),
    ],
)
def test_what_is_no_region_is_refused_in_one_line(wrong, message):
    with pytest.raises(InputError, match=message) as error:
        wrong()
    assert "\n" not in str(error.value)
