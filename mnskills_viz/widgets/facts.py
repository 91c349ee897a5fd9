"""What a study knows of a basis, read once so that switching an axis is quick."""

import functools
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ..axes.annotations import FIELDS
from ..axes.examples import (
    POLES,
    CategoryCounts,
    Poles,
    matched_pairs,
    overrepresented,
    poles,
    quantiles,
)
from ..study import Study

Json = dict[str, Any]
Said = dict[int, dict[str, str]]

EXAMPLES = 8
"""Examples shown a pole, quantiles, or pairs."""

TALLIED = 20
"""Rows a pole by which categories stand out: the number that `Study.axes` goes by."""

STANDING_OUT = 2
"""Categories named a pole."""


class BasisFacts:
    """What is shown of a basis, axes one by one when they are looked at.

    Parameters
    ----------
    study : Study
    name : str
        Name of the basis.

    Attributes
    ----------
    rows : list of dict
        `Study.axes`, one an axis.
    is_judged : bool
        Whether quality is in them; what was never computed is left to `judge`.
    weakness : DataFrame or None
        `Study.weakness`, indexed by axis and pole; None where the probe has no responses.
    z : ndarray, [n_rows, n_axes]
        Coordinates in standard deviations of their axis, an axis after the other in memory.
    layer : int, "concat" or None
    categories : CategoryCounts
    """

    def __init__(self, study: Study, name: str) -> None:
        fitted = study.basis(name)
        self.study, self.name = study, name
        self.fingerprint = fitted.fingerprint
        self.layer = (fitted.source_ or {}).get("layer")
        self._read_axes()
        has_weakness = "weakness_positive" in self.rows[0]
        self.weakness = study.weakness(name).set_index(["axis", "pole"]) if has_weakness else None
        self.z: NDArray[np.floating] = np.asfortranarray(study.z(name))
        self.categories = CategoryCounts.of([example.category for example in study.corpus])
        self._ends: dict[int, Poles] = {}
        self._standing_out: dict[tuple[int, int], dict[str, float]] = {}

    def _read_axes(self) -> None:
        table = self.study.axes(self.name, kept=True)
        self.rows = cast(list[Json], table.to_dict("records"))
        self.is_judged = "variance" in table

    def judge(self) -> None:
        """Have the quality of the axes computed and kept, which takes long."""
        self.study.quality(self.name)
        if self.study.basis(self.name).fingerprint == self.fingerprint:
            self._read_axes()

    @property
    def n_axes(self) -> int:
        """Number of axes."""
        return len(self.rows)

    def ends(self, axis: int) -> Poles:
        """The rows at both ends of an axis."""
        if axis not in self._ends:
            self._ends[axis] = poles(self.z[:, axis], TALLIED)
        return self._ends[axis]

    def quantiles(self, axis: int) -> NDArray[np.int64]:
        """Rows evenly spaced along an axis, the lowest first."""
        return quantiles(self.z[:, axis], EXAMPLES)

    def pairs(self, axis: int) -> NDArray[np.int64]:
        """Pairs of one category and length at opposite ends: [n, 2], the lower row first."""
        lengths = self.study.activations.n_counted
        return matched_pairs(self.z[:, axis], self.categories, lengths, EXAMPLES)

    def standing_out(self, axis: int, sign: int) -> dict[str, float]:
        """Categories that are more frequent at a pole than elsewhere, with their share there."""
        if (axis, sign) not in self._standing_out:
            at_pole = self.ends(axis).of(sign)
            named = overrepresented(self.categories, at_pole, STANDING_OUT)
            self._standing_out[axis, sign] = dict(named)
        return self._standing_out[axis, sign]

    @functools.cached_property
    def texts(self) -> list[str]:
        """For every axis what a search looks through, labels apart: in lower case."""
        return [self._text_of(axis) for axis in range(self.n_axes)]

    def _text_of(self, axis: int) -> str:
        shown = [int(row) for sign in POLES for row in self.ends(axis).of(sign)[:EXAMPLES]]
        examples = [self.study.corpus[row] for row in shown]
        parts = [part for e in examples for part in (e.prompt_text, e.response, e.category or "")]
        return "\n".join(parts).lower()


def said_about(study: Study, basis: str) -> Said:
    """Labels, notes, state and quiz of the axes that something was said about."""
    table = study.annotations.table()
    mine = table[table["basis"] == basis]
    return {int(row["axis"]): {f: str(row[f]) for f in FIELDS} for _, row in mine.iterrows()}
