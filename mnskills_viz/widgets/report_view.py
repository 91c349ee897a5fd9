"""What the parts of a report on a basis share: what is known of it, names, badges."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..axes.badges import badges
from ..axes.heat import Heat
from ..study import Study
from .markup import GLYPHS, MILLI, Markup, decimals, joined, shortened, tag

Doses = Mapping[int, pd.DataFrame]

SIDES = (("negative", "−", -1), ("positive", "+", 1))  # left to right, as on the scale


@dataclass(frozen=True, slots=True)
class Detail:
    """How much there is room for.

    Attributes
    ----------
    examples, characters : int
        How many a pole, and how much of each.
    curves : int
        Dose curves a basis.
    """

    examples: int
    characters: int
    curves: int


@dataclass(frozen=True, slots=True)
class BasisView:
    """What is known of a basis.

    Attributes
    ----------
    name, id : str
        In the study, and on the page.
    rows : list of dict
        `table` row by row.
    table : DataFrame
        As `Study.axes` gives it.
    z : ndarray, [n_rows, n_axes]
    scale : ndarray, [n_axes]
        Standard deviations.
    said : mapping of int to mapping
        Labels, notes, state and quiz score of the axes that something was said about.
    doses : mapping of int to DataFrame
        Axis -> what was kept of its dose response; see `response_table`.
    heats : callable
        Row of the corpus -> its heat, None where none is kept.
    """

    name: str
    id: str
    rows: list[dict[Any, Any]]
    table: pd.DataFrame
    z: NDArray[np.floating]
    scale: NDArray[np.floating]
    said: Mapping[Any, Mapping[Any, Any]]
    doses: Doses
    heats: Callable[[int], Heat | None]


def study_name(study: Study) -> str:
    """Name of the study's folder, by which commands call it."""
    return study.path.resolve().name


def hint(what: str, command: str) -> Markup:
    """What is missing, and the command that makes it."""
    return tag("p", f"{what}: ", tag("code", f"mnskills {command}"), class_="hint")


def standing(said: Mapping[Any, Any]) -> list[str]:
    """State of an axis's labels, and the score of its quiz, in words."""
    quiz = said.get("quiz")
    return [text for text in (said.get("state"), f"quiz {quiz}" if quiz else "") if text]


def pole_names(row: Mapping[Any, Any]) -> Markup:
    """Both poles, one below the other."""
    return joined(
        tag("div", tag("span", mark, class_=f"mark {pole}"), pole_name(row, pole), class_="pole")
        for pole, mark, _ in SIDES
    )


def pole_name(row: Mapping[Any, Any], pole: str) -> Markup:
    """The label; where there is none, the categories that stand out."""
    if label := row[f"label_{pole}"]:
        return tag("bdi", shortened(label, 120), class_="label")
    return tag("bdi", typical(row, pole) or "unnamed", class_="unnamed")


def typical(row: Mapping[Any, Any], pole: str) -> str:
    """Categories that stand out, each kept on one line with its share."""
    return re.sub(r" (?=\d+%)", "\N{NO-BREAK SPACE}", row[f"categories_{pole}"])


def utility_digits(view: BasisView) -> int:
    """Digits after the point that utilities are shown with."""
    columns = view.table.columns.intersection(["low", "high", "utility"])
    return decimals(MILLI * float(view.table[columns].abs().max().max())) if len(columns) else 0


def badge_list(row: Mapping[Any, Any]) -> Markup:
    """What to trust an axis for, and what not."""
    shown = (
        tag("span", GLYPHS[b.kind] + b.text, class_=f"badge {b.kind}", title=b.explanation)
        for b in badges(row)
    )
    return tag("span", *shown, class_="badges")
