"""Where one looks in a study, and the line of Python that shows the same.

No widget in here: what is shown is a function of the study and of this state.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Self, get_args

from ..errors import InputError
from .map import MapChoice

Sort = Literal["number", "variance", "utility", "weakness", "stability"]
Only = Literal["all", "beats chance", "stable", "named", "confirmed", "unnamed"]
Mode = Literal["top", "quantiles", "matched"]
SORTS: tuple[str, ...] = get_args(Sort)
FILTERS: tuple[str, ...] = get_args(Only)
MODES: tuple[str, ...] = get_args(Mode)


@dataclass(frozen=True, slots=True)
class Found:
    """Rows that are browsed, and by what they were found.

    Attributes
    ----------
    what : {"", "range", "lasso", "search"}
    axis : int
        Of a range.
    low, high : float, optional
        Of a range, in standard deviations; None is no limit.
    corners : tuple of (float, float)
        Of a lasso, on the map as it was.
    on : MapChoice
        What the lasso was drawn on.
    text : str
        Of a search.
    page : int
    """

    what: Literal["", "range", "lasso", "search"] = ""
    axis: int = 0
    low: float | None = None
    high: float | None = None
    corners: tuple[tuple[float, float], ...] = ()
    on: MapChoice = field(default_factory=MapChoice)
    text: str = ""
    page: int = 0


@dataclass(frozen=True, slots=True)
class ExplorerState:
    """Where one looks.

    Attributes
    ----------
    basis : str
        Name in the study.
    axis : int
    sort : {"number", "variance", "utility", "weakness", "stability"}
        Order of the list. All but the number put the largest first; utility goes by its size
        beside chance, whatever its sign: an axis that harms one way helps the other way.
    only : {"all", "beats chance", "stable", "named", "confirmed", "unnamed"}
    query : str
        Text that an axis's labels, notes, categories or examples must hold.
    mode : {"top", "quantiles", "matched"}
        Which examples the card shows.
    heat : bool
        Whether their tokens are coloured.
    found : Found
    map : MapChoice
    """

    basis: str
    axis: int = 0
    sort: Sort = "number"
    only: Only = "all"
    query: str = ""
    mode: Mode = "top"
    heat: bool = False
    found: Found = field(default_factory=Found)
    map: MapChoice = field(default_factory=MapChoice)

    def __post_init__(self) -> None:
        if self.sort not in SORTS:
            raise InputError(f"axes are sorted by one of {', '.join(SORTS)}, not {self.sort!r}")
        if self.only not in FILTERS:
            raise InputError(f"the list shows one of {', '.join(FILTERS)}, not {self.only!r}")
        if self.mode not in MODES:
            raise InputError(f"examples are one of {', '.join(MODES)}, not {self.mode!r}")

    def as_dict(self) -> dict[str, Any]:
        """The state as JSON takes it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, kept: dict[str, Any]) -> Self:
        """The state that `as_dict` gave; what another version does not know, begins anew."""
        try:
            known = {f.name: kept[f.name] for f in fields(cls) if f.name in kept}
            known["map"] = MapChoice(**kept.get("map", {}))
            found = dict(kept.get("found", {}))
            found["on"] = MapChoice(**found.get("on", {}))
            found["corners"] = tuple((float(x), float(y)) for x, y in found.get("corners", ()))
            return cls(**known | {"found": Found(**found)})
        except (AttributeError, TypeError, ValueError, InputError):
            return cls(str(kept.get("basis", "")))


# ------------------------------------------------------------------------------- as Python


def python_of_card(state: ExplorerState) -> str:
    """The line that gives what the card shows."""
    z = f"study.z({state.basis!r})[:, {state.axis}]"
    if state.mode == "quantiles":
        return f"mn.quantiles({z})"
    if state.mode == "matched":
        categories = "[e.category for e in study.corpus]"
        return f"mn.matched_pairs({z}, {categories}, study.activations.n_counted)"
    return f"mn.poles({z})"


def python_of_list(state: ExplorerState) -> str:
    """The line that gives the table that the list shows."""
    table = f"study.axes({state.basis!r})"
    columns: dict[str, str] = {"number": "", "weakness": "weakness_positive"}
    column = columns.get(state.sort, state.sort)
    return f"{table}.sort_values({column!r}, ascending=False)" if column else table


def python_of_found(state: ExplorerState) -> str:
    """The line that gives the rows that are browsed."""
    found, basis = state.found, state.basis
    if found.what == "range":
        return f"mn.within_range(study.z({basis!r})[:, {found.axis}], {found.low}, {found.high})"
    if found.what == "lasso":
        corners = [list(corner) for corner in found.corners]
        where = (
            f"study.z({basis!r})[:, [{found.on.x}, {found.on.y}]]"
            if found.on.view == "axes"
            else "explorer.places"
        )
        return f"mn.within_polygon({where}, {corners})"
    return f"study.search({found.text!r})" if found.what == "search" else ""


def python_of_label(basis: str, axis: int, name: str, value: str) -> str:
    """The line that sets a label."""
    return f"study.annotations.set({basis!r}, {axis}, {name!r}, {value!r})"


def python_of_heat(basis: str, rows: Sequence[int]) -> str:
    """The line that gives what tokens add."""
    return f"study.heat({basis!r}, {list(rows)})"
