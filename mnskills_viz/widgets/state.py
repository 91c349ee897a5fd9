"""What the explorer shows, as JSON: functions of the study and of where one looks in it.

No widget in here: the same values feed the live explorer, its static twin and the tests.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..axes.annotations import FIELDS
from ..axes.badges import STABLE, badges
from ..axes.examples import POLES, Poles, overrepresented, poles
from ..errors import InputError
from ..study import Study

Json = dict[str, Any]
Said = dict[int, dict[str, str]]

Sort = Literal["number", "variance", "utility", "weakness", "stability"]
Only = Literal["all", "beats chance", "stable", "named", "unnamed"]
SORTS: tuple[str, ...] = get_args(Sort)
FILTERS: tuple[str, ...] = get_args(Only)

EXAMPLES = 8
TALLIED = 20
"""Rows a pole by which categories stand out: the number that `Study.axes` goes by."""

STANDING_OUT = 2
"""Categories named a pole."""

PROMPT_LENGTH, RESPONSE_LENGTH = 220, 280
BINS = 48
FARTHEST = 8.0
"""The histogram ends here, in standard deviations; what lies beyond is counted in its last bins."""


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
    only : {"all", "beats chance", "stable", "named", "unnamed"}
    query : str
        Text that an axis's labels, notes, categories or examples must hold.
    """

    basis: str
    axis: int = 0
    sort: Sort = "number"
    only: Only = "all"
    query: str = ""

    def __post_init__(self) -> None:
        if self.sort not in SORTS:
            raise InputError(f"axes are sorted by one of {', '.join(SORTS)}, not {self.sort!r}")
        if self.only not in FILTERS:
            raise InputError(f"the list shows one of {', '.join(FILTERS)}, not {self.only!r}")


class BasisFacts:
    """What the study knows of a basis, read once so that switching an axis is quick.

    Parameters
    ----------
    study : Study
    name : str
        Name of the basis.

    Attributes
    ----------
    rows : list of dict
        `Study.axes`, one an axis.
    weakness : DataFrame or None
        `Study.weakness`, indexed by axis and pole; None where the probe has no responses.
    z : ndarray, [n_rows, n_axes]
        Coordinates in standard deviations of their axis.
    layer : int, "concat" or None
    """

    def __init__(self, study: Study, name: str) -> None:
        fitted = study.basis(name)
        self.study, self.name = study, name
        self.layer = (fitted.source_ or {}).get("layer")
        table = study.axes(name)
        self.rows = cast(list[Json], table.to_dict("records"))
        has_weakness = "weakness_positive" in table
        self.weakness = study.weakness(name) if has_weakness else None
        spread = np.where(fitted.scale_ > 0, fitted.scale_, 1.0)
        self.z: NDArray[np.floating] = study.coordinates(name) / spread
        self.categories = [example.category for example in study.corpus]

    @property
    def n_axes(self) -> int:
        """Number of axes."""
        return len(self.rows)

    @functools.cached_property
    def ends(self) -> list[Poles]:
        """The rows at both ends of every axis."""
        return [poles(self.z[:, axis], TALLIED) for axis in range(self.n_axes)]

    def standing_out(self, axis: int, sign: int) -> dict[str, float]:
        """Categories that are more frequent at a pole than elsewhere, with their share there."""
        return self._standing_out[axis, sign]

    @functools.cached_property
    def _standing_out(self) -> dict[tuple[int, int], dict[str, float]]:
        return {
            (axis, sign): dict(overrepresented(self.categories, ends.of(sign), STANDING_OUT))
            for axis, ends in enumerate(self.ends)
            for sign in POLES
        }

    @functools.cached_property
    def texts(self) -> list[str]:
        """For every axis what a search looks through, labels apart: in lower case."""
        return [self._text_of(axis) for axis in range(self.n_axes)]

    def _text_of(self, axis: int) -> str:
        shown = [int(row) for sign in POLES for row in self.ends[axis].of(sign)[:EXAMPLES]]
        examples = [self.study.corpus[row] for row in shown]
        parts = [part for e in examples for part in (e.prompt_text, e.response, e.category or "")]
        return "\n".join(parts).lower()


def said_about(study: Study, basis: str) -> Said:
    """Labels, notes and state of the axes that something was said about."""
    table = study.annotations.table()
    mine = table[table["basis"] == basis]
    return {int(row["axis"]): {f: str(row[f]) for f in FIELDS} for _, row in mine.iterrows()}


# --------------------------------------------------------------------------------------- list


def axis_list(facts: BasisFacts, said: Said, state: ExplorerState) -> list[Json]:
    """The axes that the list shows, in its order; see `axis_entry`."""
    entries = [axis_entry(facts, said, axis) for axis in range(facts.n_axes)]
    query = state.query.strip().lower()
    shown = [e for e in entries if _KEPT[state.only](e) and _found(query, e, facts, said)]
    return sorted(shown, key=_ORDER[state.sort])


def axis_entry(facts: BasisFacts, said: Said, axis: int) -> Json:
    """One axis in a line.

    Returns
    -------
    dict
        ``axis variance stability utility weakness badges`` (see `Badge`); for both poles
        ``label`` (empty: unnamed) and ``hint``, the categories that stand out. ``utility`` holds
        ``value low high chance special`` in nats per response token and standard deviation, or
        is None before the proxy was run; ``weakness`` holds ``positive negative``, or is None.
    """
    row = facts.rows[axis]
    words = said.get(axis, {})
    return {
        "axis": axis,
        "variance": _number(row.get("variance")),
        "stability": _number(row.get("stability")),
        "utility": _utility(row),
        "weakness": _weakness(row),
        "badges": [asdict(badge) for badge in badges(row)],
        **{
            pole: {"label": words.get(pole, ""), "hint": ", ".join(facts.standing_out(axis, sign))}
            for sign, pole in POLES.items()
        },
    }


def _utility(row: Json) -> Json | None:
    value = _number(row.get("utility"))
    if value is None:
        return None
    bounds = {name: _number(row.get(name)) for name in ("low", "high")}
    chance = _number(row.get("null_high"))
    return {"value": value, **bounds, "chance": chance, "special": bool(row.get("special"))}


def _weakness(row: Json) -> Json | None:
    both = {pole: _number(row.get(f"weakness_{pole}")) for pole in POLES.values()}
    return None if None in both.values() else both


_KEPT: dict[str, Callable[[Json], bool]] = {
    "all": lambda entry: True,
    "beats chance": lambda entry: bool(entry["utility"] and entry["utility"]["special"]),
    "stable": lambda entry: (entry["stability"] or 0.0) >= STABLE,
    "named": lambda entry: _is_named(entry),
    "unnamed": lambda entry: not _is_named(entry),
}


def _is_named(entry: Json) -> bool:
    return any(entry[pole]["label"] for pole in POLES.values())


_ORDER: dict[str, Callable[[Json], tuple[float, int]]] = {
    "number": lambda entry: (0.0, entry["axis"]),
    "variance": lambda entry: (-(entry["variance"] or 0.0), entry["axis"]),
    "stability": lambda entry: (-(entry["stability"] or 0.0), entry["axis"]),
    "utility": lambda entry: (-_beside_chance(entry["utility"]), entry["axis"]),
    "weakness": lambda entry: (-max((entry["weakness"] or {"": 0.0}).values()), entry["axis"]),
}


def _beside_chance(utility: Json | None) -> float:
    if utility is None:
        return 0.0
    return float(abs(utility["value"]) / (utility["chance"] or 1.0))


def _found(query: str, entry: Json, facts: BasisFacts, said: Said) -> bool:
    if not query:
        return True
    axis = entry["axis"]
    words = [*said.get(axis, {}).values(), *(entry[pole]["hint"] for pole in POLES.values())]
    return query in "\n".join(words).lower() or query in facts.texts[axis]


# --------------------------------------------------------------------------------------- card


def axis_card(facts: BasisFacts, said: Said, axis: int) -> Json:
    """Everything shown of one axis.

    Returns
    -------
    dict
        The axis's entry (see `axis_entry`) with ``basis layer n_axes notes histogram
        mean_error skewness mutual_information``, and for both poles also ``categories``
        (name, share), ``weak`` (value, low, high) and ``examples`` (see `example_brief`).

    Raises
    ------
    InputError
        No such axis.
    """
    if not 0 <= axis < facts.n_axes:
        raise InputError(f"{facts.name} has axes 0 to {facts.n_axes - 1}, not {axis}")
    row = facts.rows[axis]
    entry = axis_entry(facts, said, axis)
    for sign, pole in POLES.items():
        ends = facts.ends[axis].of(sign)
        entry[pole] |= {
            "categories": [
                {"name": name, "share": share}
                for name, share in facts.standing_out(axis, sign).items()
            ],
            "weak": _weak(facts, axis, sign),
            "examples": [example_brief(facts, axis, int(i)) for i in ends[:EXAMPLES]],
        }
    weakness = facts.weakness
    return entry | {
        "basis": facts.name,
        "layer": facts.layer,
        "n_axes": facts.n_axes,
        "notes": said.get(axis, {}).get("notes", ""),
        "skewness": _number(row.get("skewness")),
        "mutual_information": _number(row.get("mutual_information")),
        "mean_error": None if weakness is None else _number(weakness.attrs.get("mean_error")),
        "histogram": histogram(facts.z[:, axis], facts.categories),
    }


def _weak(facts: BasisFacts, axis: int, sign: int) -> Json | None:
    if facts.weakness is None:
        return None
    table = facts.weakness
    row = table[(table["axis"] == axis) & (table["pole"] == sign)].iloc[0]
    names = {"value": "shrunk", "low": "low", "high": "high"}
    return {name: _number(row[column]) for name, column in names.items()}


def example_brief(facts: BasisFacts, axis: int, row: int) -> Json:
    """An example in short: ``row id z category split prompt response cut``.

    ``cut`` says that there is more text than is shown; `example_in_full` has it.
    """
    example = facts.study.corpus[row]
    prompt, prompt_cut = shortened(example.prompt_text, PROMPT_LENGTH)
    response, response_cut = shortened(example.response, RESPONSE_LENGTH)
    return {
        "row": row,
        "id": example.id,
        "z": round(float(facts.z[row, axis]), 3),
        "category": example.category,
        "split": example.meta.get("split"),
        "prompt": prompt,
        "response": response,
        "cut": prompt_cut or response_cut,
    }


def example_in_full(study: Study, row: int) -> Json:
    """The whole text of an example: ``row prompt response``."""
    if not 0 <= row < len(study.corpus):
        raise InputError(f"row {row} is not there; the study has {len(study.corpus)} rows")
    example = study.corpus[row]
    return {"row": row, "prompt": example.prompt_text, "response": example.response}


def shortened(text: str, length: int) -> tuple[str, bool]:
    """The beginning of `text`, cut at a word, and whether it was cut."""
    if len(text) <= length:
        return text, False
    kept = text[:length]
    at_word = kept.rstrip().rpartition(" ")[0]
    # A text without spaces (code, other scripts) is cut where it must be.
    return (at_word if len(at_word) > length // 2 else kept) + " …", True


def histogram(z: NDArray[np.floating], categories: Sequence[str | None]) -> Json:
    """How the rows lie along an axis.

    Parameters
    ----------
    z : ndarray, [n_rows]
        Standard deviations.
    categories : sequence of str or None

    Returns
    -------
    dict
        ``limit``: the bins part -limit ... limit evenly; ``total``: counts; ``categories``:
        ``name`` and ``counts`` of each, the most frequent first. Zero is always in the middle,
        so that the two poles are on one scale.
    """
    limit = float(np.clip(np.ceil(2 * np.abs(z).max(initial=0.0)) / 2, 2.0, FARTHEST))
    bins = np.clip(((z / limit + 1.0) * (BINS / 2)).astype(np.int64), 0, BINS - 1)
    codes, names = pd.factorize(np.array(categories, dtype=object), sort=True)
    by_category = [np.bincount(bins[codes == code], minlength=BINS) for code in range(len(names))]
    ranked = sorted(zip(names, by_category, strict=True), key=lambda pair: -int(pair[1].sum()))
    return {
        "limit": limit,
        "total": np.bincount(bins, minlength=BINS).tolist(),
        "categories": [{"name": str(name), "counts": n.tolist()} for name, n in ranked],
    }


def _number(value: Any) -> float | None:
    """A finite float, or None: JSON knows no NaN."""
    if value is None or not np.isfinite(value):
        return None
    return float(value)
