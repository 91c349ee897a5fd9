"""Where one looks in a study, and the line of Python that shows the same.

No widget in here: what is shown is a function of the study and of this state.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, Self, get_args

from ..errors import InputError
from .facts import EXAMPLES
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
        """The state that `as_dict` gave; what another version wrote begins anew."""
        try:
            known = {f.name: kept[f.name] for f in fields(cls) if f.name in kept}
            known["map"] = MapChoice(**kept.get("map", {}))
            found = dict(kept.get("found", {}))
            found["on"] = MapChoice(**found.get("on", {}))
            found["corners"] = tuple((float(x), float(y)) for x, y in found.get("corners", ()))
            state = cls(**known | {"found": Found(**found)})
        except (AttributeError, TypeError, ValueError, InputError):
            return cls(str(kept.get("basis", "")))
        return state if state._is_sound() else cls(str(state.basis))

    def _is_sound(self) -> bool:
        """Whether all values are of their kinds."""
        found = self.found
        numbers = [
            self.axis,
            found.axis,
            found.page,
            self.map.x,
            self.map.y,
            found.on.x,
            found.on.y,
        ]
        texts = [self.basis, self.query, found.text]
        ends = [end for end in (found.low, found.high) if end is not None]
        return (
            all(isinstance(n, int) and n >= 0 for n in numbers)
            and all(isinstance(text, str) for text in texts)
            and all(isinstance(end, int | float) and math.isfinite(end) for end in ends)
        )

    def within(self, n_axes: int) -> Self:
        """The state for a basis of so many axes: what it has not is looked at no more."""
        last = n_axes - 1
        found = self.found if self.found.axis <= last else Found()
        return replace(self, axis=min(self.axis, last), map=self.map.within(n_axes), found=found)


# ------------------------------------------------------------------------------- as Python


def python_of_card(state: ExplorerState) -> str:
    """The line that gives what the card shows."""
    z = f"study.z({state.basis!r})[:, {state.axis}]"
    if state.mode == "quantiles":
        return f"mn.quantiles({z}, {EXAMPLES})"
    if state.mode == "matched":
        categories = "[e.category for e in study.corpus]"
        return f"mn.matched_pairs({z}, {categories}, study.activations.n_counted, {EXAMPLES})"
    return f"mn.poles({z}, {EXAMPLES})"


def python_of_list(state: ExplorerState, columns: Collection[str]) -> str:
    """The line that gives the table of all axes in the order of the list.

    Parameters
    ----------
    state : ExplorerState
    columns : collection of str
        Those that the table has: utility and weakness may not have been measured.
    """
    table = f"study.axes({state.basis!r})"
    poles = ["weakness_positive", "weakness_negative"]
    if state.sort == "weakness" and {*poles} <= {*columns}:
        weakest = f"assign(weakness=lambda axes: axes[{poles}].max(axis=1))"
        return f"{table}.{weakest}.sort_values('weakness', ascending=False)"
    if state.sort == "utility" and "utility" in columns:
        beside = "assign(beside_chance=lambda axes: axes['utility'].abs() / axes['null_high'])"
        return f"{table}.{beside}.sort_values('beside_chance', ascending=False)"
    if state.sort in ("variance", "stability"):
        return f"{table}.sort_values({state.sort!r}, ascending=False)"
    return table


def python_of_map(state: ExplorerState, choice: MapChoice) -> str:
    """The line that gives where rows lie on a map."""
    if choice.view == "categories apart":
        return f"study.categories_apart({state.basis!r})"
    return f"study.z({state.basis!r})[:, [{choice.x}, {choice.y}]]"


def python_of_found(state: ExplorerState) -> str:
    """The line that gives the rows that are browsed."""
    found, basis = state.found, state.basis
    if found.what == "range":
        return f"mn.within_range(study.z({basis!r})[:, {found.axis}], {found.low}, {found.high})"
    if found.what == "lasso":
        corners = [list(corner) for corner in found.corners]
        return f"mn.within_polygon({python_of_map(state, found.on)}, {corners})"
    return f"study.search({found.text!r})" if found.what == "search" else ""


def python_of_label(basis: str, axis: int, name: str, value: str) -> str:
    """The line that sets a label."""
    return f"study.annotations.set({basis!r}, {axis}, {name!r}, {value!r})"


def python_of_heat(basis: str, rows: Sequence[int]) -> str:
    """The line that gives what tokens add."""
    return f"study.heat({basis!r}, {list(rows)})"
