"""The select panel: what a strategy buys, and whether a trainer would take it."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pandas as pd

from ...errors import InputError
from ...exporting.preflight import preflight
from ...progress import tell
from ...selection import pole_name
from ...selection.difference import by_quantile, composition
from ...selection.recipe import Selection
from ...study import Study
from ..markup import Markup, joined, shortened, tag
from ..selection_figures import composition_figure
from .naming import Json
from .telling import each_pass

FIRST = 5
"""Rows shown, with their receipts."""

PROMPT_LENGTH = 180
SAID = 20
"""Findings of the preflight that are listed; all are counted."""

LENGTH_GROUPS = 5
POLES_SHOWN = 10
OTHERS = "(other poles)"

# ------------------------------------------------------------------------------------- select


def selected(study: Study, basis: str, strategy: str, budget: int, unit: str, name: str) -> Json:
    """Choose examples and keep them under `name`; see `Study.select`.

    Parameters
    ----------
    study : Study
    basis : str
    strategy : str
    budget : int
        In `unit`.
    unit : {"rows", "tokens"}
    name : str
        Empty: that of the strategy.

    Returns
    -------
    dict
        As `selection_shown` gives it.
    """
    if budget < 1:
        raise InputError(f"the budget must be at least 1, not {budget}")
    with _passes(study, basis, strategy):
        study.select(strategy, budget, basis, name or None, unit=unit)  # type: ignore[arg-type]
    return selection_shown(study, name or strategy)


@contextmanager
def _passes(study: Study, basis: str, strategy: str) -> Iterator[None]:
    """A context in which passes of the model are told of, if there will be any."""
    layer = (study.basis(basis).source_ or {}).get("layer")
    reads = strategy == "weakness" and layer is not None and not study.has_prompt_rows(layer)
    passes = 0

    def count(_: int | None) -> None:
        nonlocal passes
        passes += 1
        tell(passes, 0)

    with each_pass(study.model, count) if reads or strategy == "influence" else nullcontext():
        yield


def selection_shown(study: Study, name: str) -> Json:
    """A kept selection for people.

    Returns
    -------
    dict
        ``name basis strategy budget unit n_rows n_tokens`` (of the responses) ``how notes``;
        ``figure``: markup, what it is made of by category, length and pole; ``overlap``: with the
        other selections, ``name n shared jaccard chance``; ``first``: the first rows, ``row id
        category prompt why``; ``python``: lines that do the same; and as they are before an
        export, ``problems rules exported format checked``.
    """
    chosen = study.selection(name)
    recipe = chosen.recipe
    rows = study.pool_rows[chosen.indices]
    return {
        "busy": False,
        "name": name,
        "basis": recipe.get("basis"),
        "strategy": recipe["strategy"],
        "budget": recipe["budget"],
        "unit": recipe["unit"],
        "n_rows": len(chosen),
        "n_tokens": int(study.activations.n_response[rows].sum()),
        "how": recipe.get("how", ""),
        "notes": list(recipe.get("notes", [])),
        "figure": _made_of(study, chosen),
        "overlap": _overlap(study, name, chosen),
        "first": _first(study, chosen),
        "problems": None,
        "rules": [],
        "exported": "",
        "format": "",
        "checked": "",
        "python": [_select_line(name, recipe)],
    }


def _select_line(name: str, recipe: Json) -> str:
    strategy, unit = recipe["strategy"], recipe["unit"]
    parts = [repr(strategy), str(recipe["budget"]), repr(recipe.get("basis"))]
    parts += [f"name={name!r}"] if name != strategy else []
    parts += [f"unit={unit!r}"] if unit != "rows" else []
    return f"study.select({', '.join(parts)})"


# --------------------------------------------------------------------------------- composition


def _made_of(study: Study, chosen: Selection) -> str:
    """What a selection is made of, against the pool: the first way in sight, others folded."""
    ways = _ways(study, chosen)
    picked = {f"{chosen.recipe['strategy']}": chosen.indices}
    parts = []
    for number, (title, labels) in enumerate(ways.items()):
        figure = Markup(composition_figure(composition(labels, picked)))
        parts.append(tag("details", tag("summary", title), figure, open=number == 0))
    return joined(parts)


def _ways(study: Study, chosen: Selection) -> dict[str, Any]:
    """Title -> group of each row of the pool."""
    categories = [study.corpus[int(row)].category for row in study.pool_rows]
    ways: dict[str, Any] = {"by category": categories} if any(categories) else {}
    tokens = study.activations.n_response[study.pool_rows]
    ways["by length, in tokens of the response"] = by_quantile(tokens, LENGTH_GROUPS)
    if study.is_current(chosen):
        ways["by the pole on which a row lies farthest out"] = _poles(study, chosen)
    return ways


def _poles(study: Study, chosen: Selection) -> "pd.Categorical[str]":
    """The pole each row of the pool lies farthest out on; the rest of many poles as one group.

    Those are kept apart whose share of the selection is farthest from that of the pool.
    """
    basis = str(chosen.recipe["basis"])
    z = study.coordinates(basis)[study.pool_rows] / study.basis(basis).scale_
    axis = np.abs(z).argmax(axis=1)
    code = 2 * axis + (z[np.arange(len(z)), axis] < 0)
    n_codes = 2 * z.shape[1]
    pool = np.bincount(code, minlength=n_codes) / len(code)
    share = np.bincount(code[chosen.indices], minlength=n_codes) / len(chosen)
    apart = np.argsort(-np.abs(share - pool), kind="stable")
    kept = [int(k) for k in apart[:POLES_SHOWN] if pool[k] > 0]
    labels = study.annotations.labels(basis)
    names = [_pole_label(k, labels) for k in kept]
    place = np.full(n_codes, len(kept))
    place[kept] = np.arange(len(kept))
    groups = [*names, OTHERS] if (place[code] == len(kept)).any() else names
    return pd.Categorical.from_codes(place[code], pd.Index(groups), ordered=True)


def _pole_label(code: int, labels: dict[tuple[int, int], str]) -> str:
    axis, sign = code // 2, -1 if code % 2 else 1
    said = labels.get((axis, sign), "")
    return f"{axis} {'+' if sign > 0 else '−'} {said}" if said else pole_name(axis, sign)


def _overlap(study: Study, name: str, chosen: Selection) -> list[Json]:
    """Rows in common with the other selections, most alike first."""
    mine, n_pool = {*chosen.receipts["id"]}, len(study.pool_rows)
    found = []
    for other in study.selection_names:
        if other == name:
            continue
        theirs = {*study.selection(other).receipts["id"]}
        both = len(mine) * len(theirs) / n_pool
        shared = len(mine & theirs)
        found.append(
            {
                "name": other,
                "n": len(theirs),
                "shared": shared,
                "jaccard": shared / (len(mine | theirs) or 1),
                "chance": both / ((len(mine) + len(theirs) - both) or 1),
            }
        )
    return sorted(found, key=lambda one: (-one["jaccard"], one["name"]))


def _first(study: Study, chosen: Selection) -> list[Json]:
    rows = study.pool_rows[chosen.indices[:FIRST]].tolist()
    examples = [study.corpus[row] for row in rows]
    return [
        {
            "row": row,
            "id": example.id,
            "category": example.category,
            "prompt": shortened(example.prompt_text, PROMPT_LENGTH),
            "why": str(why),
        }
        for row, example, why in zip(rows, examples, chosen.receipts["reason"], strict=False)
    ]


# ------------------------------------------------------------------------------------- export


def exported(study: Study, selection: str, format: str) -> Json:  # noqa: A002 - as `Study.export`
    """Write a selection for a trainer and check it by the trainer's own rules.

    Rules that count tokens are gone by only where the study's model is loaded already.

    Parameters
    ----------
    study : Study
    selection : str
    format : str
        As `Study.export` takes it.

    Returns
    -------
    dict
        As `selection_shown` gives it, with ``exported``: the folder; ``problems``: how many
        findings; ``rules``: the first of them, ``row rule message``; ``checked``: what by.
    """
    folder = study.export(selection, format)
    model = study.model if "model" in vars(study) else None
    findings = preflight(folder, model)
    shown = selection_shown(study, selection)
    lines = [
        f"study.export({selection!r}, {format!r})",
        f"study.preflight({folder.name!r})",
    ]
    return shown | {
        "exported": str(folder),
        "format": format,
        "problems": len(findings),
        "rules": [_finding(row) for row in findings.head(SAID).to_dict("records")],
        "checked": "its rules and the model's tokens"
        if model is not None
        else "its rules; tokens are not counted before the model is loaded",
        "python": [*shown["python"], *lines],
    }


def _finding(row: dict[Any, Any]) -> Json:
    number = row["row"]
    return {
        "row": None if pd.isna(number) else int(number),
        "rule": row["rule"],
        "message": row["message"],
    }
