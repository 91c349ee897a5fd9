"""What the explorer shows of axes and examples, as JSON: functions of facts, labels and state.

The same values feed the live explorer, its static twin and the tests.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..axes.badges import STABLE, badges
from ..axes.examples import POLES, CategoryCounts
from ..errors import InputError
from ..study import Study
from .facts import EXAMPLES, BasisFacts, Json, Said
from .groups import LOOKS, with_looks
from .state import ExplorerState, python_of_card

PROMPT_LENGTH, RESPONSE_LENGTH = 220, 280
BINS = 48
FARTHEST = 8.0
"""The histogram ends here, in standard deviations; what lies beyond is counted in its last bins."""

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
        ``axis variance stability utility weakness badges`` (see `Badge`) and ``state``; for both
        poles ``label`` (empty: unnamed) and ``hint``, the categories that stand out. ``utility``
        holds ``value low high chance special`` in nats per response token and standard deviation,
        or is None before the proxy was run; ``weakness`` holds ``positive negative``, or is None.
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
        "state": words.get("state", ""),
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
    "confirmed": lambda entry: entry["state"] == "confirmed",
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


def axis_card(facts: BasisFacts, said: Said, state: ExplorerState) -> Json:
    """Everything shown of the axis that is looked at.

    Returns
    -------
    dict
        The axis's entry (see `axis_entry`) with ``basis layer n_axes notes quiz histogram
        mean_error skewness mutual_information mode quantiles pairs python``, and for both poles
        also ``categories`` (name, share), ``weak`` (value, low, high) and ``examples`` (see
        `example_brief`). Of examples, quantiles and pairs those of the mode are there; the poles'
        examples always, for the ticks under the histogram.

    Raises
    ------
    InputError
        No such axis.
    """
    axis = state.axis
    if not 0 <= axis < facts.n_axes:
        raise InputError(f"{facts.name} has axes 0 to {facts.n_axes - 1}, not {axis}")
    row, words = facts.rows[axis], said.get(axis, {})
    entry = axis_entry(facts, said, axis)
    for sign, pole in POLES.items():
        ends = facts.ends(axis).of(sign)
        entry[pole] |= {
            "categories": [
                {"name": name, "share": share}
                for name, share in facts.standing_out(axis, sign).items()
            ],
            "weak": _weak(facts, axis, sign),
            "examples": briefs(facts, axis, ends[:EXAMPLES]),
        }
    weakness, mode = facts.weakness, state.mode
    pairs: Any = facts.pairs(axis) if mode == "matched" else []
    return entry | {
        "basis": facts.name,
        "layer": facts.layer,
        "n_axes": facts.n_axes,
        "notes": words.get("notes", ""),
        "quiz": words.get("quiz", ""),
        "skewness": _number(row.get("skewness")),
        "mutual_information": _number(row.get("mutual_information")),
        "mean_error": None if weakness is None else _number(weakness.attrs.get("mean_error")),
        "histogram": histogram(facts.z[:, axis], facts.categories),
        "mode": mode,
        "quantiles": briefs(facts, axis, facts.quantiles(axis)) if mode == "quantiles" else [],
        "pairs": [briefs(facts, axis, pair) for pair in pairs],
        "python": python_of_card(state),
    }


def rows_of_card(card: Json) -> list[int]:
    """Rows whose text a card shows."""
    if card["mode"] == "quantiles":
        shown = card["quantiles"]
    elif card["mode"] == "matched":
        shown = [example for pair in card["pairs"] for example in pair]
    else:
        shown = [example for pole in POLES.values() for example in card[pole]["examples"]]
    return [example["row"] for example in shown]


def _weak(facts: BasisFacts, axis: int, sign: int) -> Json | None:
    if facts.weakness is None:
        return None
    row = facts.weakness.loc[[(axis, sign)]].iloc[0]
    names = {"value": "shrunk", "low": "low", "high": "high"}
    return {name: _number(row[column]) for name, column in names.items()}


def briefs(facts: BasisFacts, axis: int, rows: Any) -> list[Json]:
    """Examples in short, in the order of `rows`."""
    return [example_brief(facts, axis, int(row)) for row in rows]


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


def histogram(z: NDArray[np.floating], categories: CategoryCounts) -> Json:
    """How the rows lie along an axis.

    Parameters
    ----------
    z : ndarray, [n_rows]
        Standard deviations.
    categories : CategoryCounts

    Returns
    -------
    dict
        ``limit``: the bins part -limit ... limit evenly; ``total``: counts; ``categories``:
        ``name`` and ``counts`` of each, the most frequent first, which have also ``colour`` and
        ``symbol``: those of the map. Zero is always in the middle, so that the two poles are on
        one scale.
    """
    limit = float(np.clip(np.ceil(2 * np.abs(z).max(initial=0.0)) / 2, 2.0, FARTHEST))
    bins = np.clip(((z / limit + 1.0) * (BINS / 2)).astype(np.int64), 0, BINS - 1)
    n = len(categories.names)
    counts = np.bincount((categories.of_row + 1) * BINS + bins, minlength=(n + 1) * BINS)
    table = counts.reshape(n + 1, BINS)  # first the rows without category
    ranked = np.argsort(-categories.counts, kind="stable")
    looks = dict(zip(with_looks(categories.counts).tolist(), LOOKS, strict=False))
    return {
        "limit": limit,
        "total": table.sum(axis=0).tolist(),
        "categories": [
            {"name": categories.names[c], "counts": table[c + 1].tolist()}
            | dict(zip(("colour", "symbol"), looks.get(int(c), ()), strict=False))
            for c in ranked
        ],
    }


def _number(value: Any) -> float | None:
    """A finite float, or None: JSON knows no NaN."""
    if value is None or not np.isfinite(value):
        return None
    return float(value)
