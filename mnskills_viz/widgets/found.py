"""Rows found by a range, a lasso or a search, a page at a time."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..axes.regions import within_polygon, within_range
from .cards import briefs
from .facts import BasisFacts, Json
from .map import AxisMap
from .markup import shortened, signed
from .state import ExplorerState, Found, python_of_found

PAGE = 20


def found_rows(
    facts: BasisFacts, state: ExplorerState, axis_map: AxisMap | None
) -> NDArray[np.int64]:
    """Rows that are browsed, the highest on the axis first.

    Parameters
    ----------
    facts : BasisFacts
    state : ExplorerState
    axis_map : AxisMap, optional
        Where a lasso was drawn.
    """
    found, along = state.found, facts.z[:, state.axis]
    if found.what == "range":
        rows = within_range(facts.z[:, found.axis], found.low, found.high)
    elif found.what == "lasso" and axis_map is not None:
        rows = within_polygon(axis_map.places(found.on), found.corners)
    elif found.what == "search":
        rows = facts.study.search(found.text)
    else:
        return np.empty(0, dtype=np.int64)
    highest_first: NDArray[np.int64] = rows[np.argsort(-along[rows], kind="stable")]
    return highest_first


def found_page(facts: BasisFacts, state: ExplorerState, rows: NDArray[np.int64]) -> Json:
    """What is shown of them.

    Returns
    -------
    dict
        ``what said n page pages per_page examples python``; ``basis axis``: those that the
        coordinates are of; ``range``: ``axis low high``, None where it is none.
    """
    found = state.found
    pages = max(1, -(-len(rows) // PAGE))
    page = min(max(found.page, 0), pages - 1)
    return {
        "what": found.what,
        "said": _said(state),
        "n": len(rows),
        "page": page,
        "pages": pages,
        "per_page": PAGE,
        "basis": state.basis,
        "axis": state.axis,
        "range": _range(found),
        "examples": briefs(facts, state.axis, rows[page * PAGE : (page + 1) * PAGE]),
        "python": python_of_found(state),
    }


def _range(found: Found) -> Json | None:
    if found.what != "range":
        return None
    return {"axis": found.axis, "low": found.low, "high": found.high}


def _said(state: ExplorerState) -> str:
    found = state.found
    if found.what == "range":
        low = "the lower end" if found.low is None else f"{signed(found.low)}"
        high = "the upper end" if found.high is None else f"{signed(found.high)}"
        return f"on axis {found.axis} from {low} to {high} σ"
    if found.what == "lasso":
        where = f"axes {found.on.x} and {found.on.y}"
        what = "box" if _is_box(found.corners) else "lasso"
        return f"in a {what} on {where if found.on.view == 'axes' else found.on.view}"
    return f"with “{shortened(found.text, 60)}” in them" if found.what == "search" else ""


def _is_box(corners: Sequence[tuple[float, float]]) -> bool:
    """Whether an outline is that of a box, whose sides go straight across and straight up."""
    xs, ys = ({corner[i] for corner in corners} for i in (0, 1))
    return len(corners) == 4 and len(xs) == len(ys) == 2 and len(set(corners)) == 4
