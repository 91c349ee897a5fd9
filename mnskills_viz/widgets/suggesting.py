"""Labels that the poles of an axis might bear, as the card offers them."""

from typing import Any

import pandas as pd

from ..axes.examples import POLES
from ..study import Study
from .facts import Json

OFFERED = 3
"""Suggestions a pole."""


def suggested(study: Study, basis: str, axis: int) -> Json:
    """Suggestions for both poles, best first; nothing is labelled by them.

    The model is asked too where it is loaded already.

    Returns
    -------
    dict
        ``basis axis python``, and for both poles a list of ``label source auc low high``.
    """
    asks_model = "model" in vars(study)
    table = study.suggest_labels(basis, axis, asks_model)
    more = ", model=True" if asks_model else ""
    return {
        "basis": basis,
        "axis": axis,
        "python": f"study.suggest_labels({basis!r}, {axis}{more})",
        **{pole: [_offer(row) for row in _of_pole(table, sign)] for sign, pole in POLES.items()},
    }


def _of_pole(table: pd.DataFrame, pole: int) -> list[Any]:
    return table[table["pole"] == pole].head(OFFERED).to_dict("records")


def _offer(row: dict[Any, Any]) -> Json:
    score = {name: _number(row[name]) for name in ("auc", "low", "high")}
    return {"label": str(row["label"]), "source": str(row["source"])} | score


def _number(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)
