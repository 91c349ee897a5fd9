"""The skill panel: a human skill taken apart into a model's own axes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd

from ...axes.heat import Heat
from ...axes.paths import skill_of_rows
from ...errors import InputError
from ...progress import tell
from ...study import Study
from ..skill_figures import Line, running_figure, skill_figure
from .naming import Json, PoleNames, finite
from .telling import each_pass

KINDS = ("category", "text", "row")

SHOWN_AXES = 8
LINES = 4
"""Axes whose running coordinate is drawn."""


def skill(study: Study, basis: str, kind: str, value: str | int) -> Json:
    """A human skill taken apart into a model's own axes.

    Parameters
    ----------
    study : Study
    basis : str
    kind : {"category", "text", "row"}
        What the skill is given as: all rows of a category; a description in words, which the
        model reads as one text; or one row of the corpus.
    value : str or int
        The category, the text, or the number of the row.

    Returns
    -------
    dict
        ``basis kind value n``; ``said``: a line; ``axes``: the largest, ``axis name mean low high
        share sure``, in standard deviations, None where there is no interval; ``figure``, and
        ``running`` for one text: markup; ``python``.

    Raises
    ------
    InputError
        An unknown kind or category, an empty text, a row that is not there, or what the model
        cannot read.
    """
    tokens = None
    if kind == "category":
        table = study.skill(basis, category=str(value))
    elif kind == "row":
        tokens = _read_row(study, basis, value)
        table = study.skill(basis, row=int(value))
    elif kind == "text":
        with _told(study):
            tokens, z = study.read_text(basis, str(value))
        table = skill_of_rows(z[None], [0])
    else:
        raise InputError(f"a skill is given as one of {', '.join(KINDS)}, not {kind!r}")
    names = PoleNames(study, basis)
    axes = [_axis(row, names) for row in table.head(SHOWN_AXES).to_dict("records")]
    return {
        "busy": False,
        "basis": basis,
        "kind": kind,
        "value": value,
        "said": _said(kind, table, tokens),
        "n": int(table.attrs["n"]),
        "axes": axes,
        "figure": skill_figure(axes),
        "running": "" if tokens is None else _running(study, basis, tokens, axes),
        "python": f"study.skill({basis!r}, {kind}={value!r})",
    }


def _read_row(study: Study, basis: str, row: str | int) -> Heat:
    if isinstance(row, str):
        raise InputError(f"a row is a number, not {row!r}")
    kept = study.kept_heat(basis, row)
    if kept is not None:
        return kept
    with _told(study):
        return study.heat(basis, [row])[0]


@contextmanager
def _told(study: Study) -> Iterator[None]:
    """A context in which the one pass over a text is told of."""
    passes = 0

    def count(_: int | None) -> None:
        nonlocal passes
        tell(min(passes, 1), 1)
        passes += 1

    with each_pass(study.model, count):
        yield


def _axis(row: dict[Any, Any], names: PoleNames) -> Json:
    axis, mean = int(row["axis"]), float(row["mean"])
    return {
        "axis": axis,
        "name": names.of(axis, 1 if mean >= 0 else -1),
        "mean": mean,
        "low": finite(row["low"]),
        "high": finite(row["high"]),
        "share": float(row["share"]),
        "sure": bool(row["sure"]),
    }


def _said(kind: str, table: pd.DataFrame, tokens: Heat | None) -> str:
    first = table.head(SHOWN_AXES)
    part = f"{first['share'].sum():.0%} of its direction lies on the {len(first)} axes shown"
    if tokens is not None:
        what = "One response" if kind == "row" else "One text"
        n = int(tokens.counted.sum())
        return f"{what} of {n:,} token{'s' * (n != 1)}: {part}. One text has no interval."
    sure = int(table["sure"].sum())
    return f"{sure} of {len(table)} axes differ from the mean of all rows beyond chance; {part}."


def _running(study: Study, basis: str, tokens: Heat, axes: Sequence[Json]) -> str:
    scale = study.basis(basis).scale_
    z = tokens.running / np.where(scale > 0, scale, 1.0)
    lines = [Line(f"{a['axis']} {a['name']}", z[:, a["axis"]]) for a in axes[:LINES]]
    return running_figure(tokens.tokens, lines, tokens.roles)
