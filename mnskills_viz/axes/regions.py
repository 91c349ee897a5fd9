"""Which rows lie in a range of one axis, or in a polygon on a map of two."""

from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from ..errors import InputError

Rows = NDArray[np.int64]
Reals = NDArray[np.float64]

POINTS_AT_ONCE = 2**15
"""Points that stay in a core's cache with what is worked out of them."""


def within_range(
    coordinates: NDArray[np.floating[Any]], low: float | None = None, high: float | None = None
) -> Rows:
    """Find the rows of a range: ``low <= coordinate < high``.

    Ranges side by side part the rows, as the bins of a histogram do; and as with these the last
    one is closed: a range that ends at the largest coordinate holds it.

    Parameters
    ----------
    coordinates : ndarray, [n_rows]
        On one axis. NaN is in no range.
    low, high : float, optional
        In the units of the coordinates; None is no limit.

    Returns
    -------
    ndarray of int64
        In order of the rows.

    Raises
    ------
    InputError
        A limit is NaN, or `low` is above `high`.
    """
    bottom = -np.inf if low is None else float(low)
    top = np.inf if high is None else float(high)
    if not bottom <= top:
        raise InputError(f"a range goes from a lower to a higher coordinate, not {low} to {high}")
    inside = coordinates >= bottom
    is_last = not np.any(coordinates > top)
    inside &= coordinates <= top if is_last else coordinates < top
    return np.flatnonzero(inside)


def within_polygon(points: NDArray[np.floating[Any]], polygon: npt.ArrayLike) -> Rows:
    """Find the points in a polygon, by the even-odd rule.

    A point is inside when a ray from it crosses the outline an odd number of times: the middle of
    a pentagram is outside. A point on the outline is inside. So does the lasso of plotly select.
    Computed in float64 for every point, without division: coordinates of float32 or whole numbers
    that are not of very different size have no rounding at all.

    Parameters
    ----------
    points : ndarray, [n, 2]
        Points with NaN or inf are never inside.
    polygon : array-like, [m, 2]
        Corners in order, 3 or more; the last is joined to the first. The outline may cross itself.

    Returns
    -------
    ndarray of int64
        Indices of points, in order.

    Raises
    ------
    InputError
        Not arrays of that shape, or a corner that is not finite.
    """
    corners = np.asarray(polygon, dtype=np.float64)
    if corners.ndim != 2 or corners.shape[1] != 2 or len(corners) < 3:
        raise InputError(f"a polygon is [m, 2] with 3 corners or more, not {corners.shape}")
    if not np.isfinite(corners).all():
        raise InputError("a corner of the polygon is NaN or inf; leave it out")
    if points.ndim != 2 or points.shape[1] != 2:
        raise InputError(f"points are [n, 2], not {points.shape}")
    near = _within_box(points, corners.min(axis=0), corners.max(axis=0))
    found = [np.empty(0, dtype=np.int64)]
    for start in range(0, len(near), POINTS_AT_ONCE):
        rows = near[start : start + POINTS_AT_ONCE]
        found.append(rows[_inside(points[rows].astype(np.float64), corners)])
    return np.concatenate(found)


def _within_box(points: NDArray[np.floating[Any]], least: Reals, most: Reals) -> Rows:
    inside = np.ones(len(points), dtype=np.bool_)
    for values, low, high in zip(points.T, least, most, strict=True):
        inside &= values >= low
        inside &= values <= high
    return np.flatnonzero(inside)


def _inside(points: Reals, corners: Reals) -> NDArray[np.bool_]:
    """Whether each point [n, 2] is in the polygon.

    In order of x the points above or below an edge are a slice: each edge is held against the
    points that it can matter to, few for the short edges of a lasso, and not against all.
    """
    order = np.argsort(points[:, 0])
    x, y = points[order, 0], points[order, 1]
    odd, on_outline = np.zeros(len(x), dtype=np.bool_), np.zeros(len(x), dtype=np.bool_)
    edges = np.stack([corners, np.roll(corners, -1, axis=0)], axis=1)
    backward = edges[:, 0, 0] > edges[:, 1, 0]
    edges[backward] = edges[backward, ::-1]
    starts = np.searchsorted(x, edges[:, 0, 0])
    # The end of an edge is left to the next edge, or a ray through a corner would count twice.
    stops = np.searchsorted(x, edges[:, 1, 0])
    ends = np.searchsorted(x, edges[:, 1, 0], "right")
    for edge, start, stop, end in zip(edges, starts, stops, ends, strict=True):
        (x0, y0), (x1, y1) = edge
        if start == end:
            continue
        here = slice(start, end)
        if x0 == x1:
            on_outline[here] |= (y[here] >= min(y0, y1)) & (y[here] <= max(y0, y1))
            continue
        # Which side of the edge: the sign of (x1 - x0) (y - y0) - (x - x0) (y1 - y0).
        up, along = y[here] - y0, x[here] - x0
        up *= x1 - x0
        along *= y1 - y0
        on_outline[here] |= up == along
        odd[start:stop] ^= (up < along)[: stop - start]
    inside = np.empty(len(x), dtype=np.bool_)
    inside[order] = odd | on_outline
    return inside
