"""The examples that show what an axis is about."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import InputError

Rows = NDArray[np.int64]

POLES = {1: "positive", -1: "negative"}


@dataclass(frozen=True, slots=True)
class Poles:
    """The two ends of an axis.

    Attributes
    ----------
    positive, negative : ndarray of int64
        Rows, the most extreme first.
    """

    positive: Rows
    negative: Rows

    def of(self, pole: int) -> Rows:
        """Rows of the pole +1 or -1."""
        return self.positive if pole > 0 else self.negative


@dataclass(frozen=True, slots=True, eq=False)
class CategoryCounts:
    """Categories of all rows as numbers, with how often each occurs; made once, for all axes.

    Attributes
    ----------
    names : list of str
        In order of the alphabet.
    of_row : ndarray of int64, [n_rows]
        Index of a name; -1 for a row without category.
    counts : ndarray of int64, [n_names]
        Rows of each category.
    """

    names: list[str]
    of_row: Rows
    counts: Rows

    @classmethod
    def of(cls, categories: "Sequence[str | None] | CategoryCounts") -> Self:
        """Count the categories of all rows; what is counted already is given back."""
        if isinstance(categories, cls):
            return categories
        codes, names = pd.factorize(np.array(categories, dtype=object), sort=True)
        of_row = codes.astype(np.int64)
        counts = np.bincount(of_row[of_row >= 0], minlength=len(names)).astype(np.int64)
        return cls([str(name) for name in names], of_row, counts)


def poles(coordinates: NDArray[np.floating[Any]], n: int = 10) -> Poles:
    """Find the examples at both ends of an axis.

    Parameters
    ----------
    coordinates : ndarray, [n_rows]
        Coordinates of all rows on one axis.
    n : int
        Examples a pole; at most half the rows, so that none is at both ends.

    Returns
    -------
    Poles
        Ties go to the earlier row.
    """
    _check_number(n)
    n = min(n, max(1, len(coordinates) // 2), len(coordinates))
    return Poles(positive=_lowest(-coordinates, n), negative=_lowest(coordinates, n))


def quantiles(coordinates: NDArray[np.floating[Any]], n: int = 8) -> Rows:
    """Find examples evenly spaced among the rows, from one end of an axis to the other.

    Parameters
    ----------
    coordinates : ndarray, [n_rows]
        Coordinates of all rows on one axis.
    n : int
        Examples: those at the quantiles 0, 1 / (n - 1), ..., 1, both ends among them; a single
        one is the median.

    Returns
    -------
    ndarray of int64, [min(n, n_rows)]
        Rows from lowest to highest, each once. Ties go to the earlier row.
    """
    _check_number(n)
    n_rows = len(coordinates)
    n = min(n, n_rows)
    if n == 0:
        return np.empty(0, dtype=np.int64)
    # The nearest rank to each quantile, in whole numbers: at least one apart, so none comes twice.
    last = max(1, n - 1)
    ranks = (2 * np.arange(n) * (n_rows - 1) + last) // (2 * last)
    if n == 1:
        ranks = np.array([(n_rows - 1) // 2])
    wanted = np.partition(coordinates, ranks)[ranks]
    rows = np.flatnonzero(np.isin(coordinates, wanted))
    rows = rows[np.argsort(coordinates[rows], kind="stable")]
    # Of the rows of one value as many as there are quantiles that ask for it, the earlier first.
    values = coordinates[rows]
    place = np.arange(len(rows)) - np.searchsorted(values, values)
    asked = np.searchsorted(wanted, values, "right") - np.searchsorted(wanted, values)
    return rows[place < asked].astype(np.int64)


def matched_pairs(
    coordinates: NDArray[np.floating[Any]],
    categories: Sequence[str | None] | CategoryCounts,
    lengths: Sequence[int] | NDArray[Any],
    n: int = 8,
    caliper: float = 0.25,
) -> Rows:
    """Find pairs of examples that are alike in all but where they lie on an axis.

    Two rows may pair when they are of one category, or both of none, and the logarithms of their
    lengths differ by no more than the caliper. Greedy: of all pairs that may be, the one whose
    coordinates differ most; then the same among the rows that are left. No pair is passed over:
    where an axis follows length, the rows at its very ends have no partner, others do.

    Parameters
    ----------
    coordinates : ndarray, [n_rows]
        Coordinates of all rows on one axis.
    categories : sequence of str or None, or CategoryCounts
        Of all rows.
    lengths : sequence of int, [n_rows]
        As a rule tokens; what is below 1 counts as 1.
    n : int
        Most pairs to find.
    caliper : float
        0.25: the longer of two texts is at most 1.28 times as long as the other.

    Returns
    -------
    ndarray of int64, [<= n, 2]
        The lower and the higher row of each pair, the most different pair first; each row in one
        pair at most. Equal differences go to the earlier higher row, then to the lower row that
        is lowest, then to the earlier one.

    Raises
    ------
    InputError
        `n` below 1, a caliper below 0, or not one category and length a row.
    """
    _check_number(n)
    if not caliper >= 0:
        raise InputError(f"the caliper must be 0 or more, not {caliper}")
    codes = CategoryCounts.of(categories).of_row
    if not len(coordinates) == len(codes) == len(lengths):
        raise InputError(
            f"{len(coordinates)} rows need as many categories and lengths, "
            f"not {len(codes)} and {len(lengths)}"
        )
    if len(coordinates) == 0:
        return np.empty((0, 2), dtype=np.int64)
    # In order of category and length the partners of a row are a slice: categories lie one after
    # another, farther apart than the caliper.
    logs = np.log(np.maximum(lengths, 1))
    place = logs + (codes + 1) * (logs.max() + caliper + 1.0)
    order = np.argsort(place, kind="stable")
    place = place[order]
    first = np.searchsorted(place, place - caliper)
    end = np.searchsorted(place, place + caliper, "right")
    lower = coordinates[order].astype(np.float64)
    higher = lower.copy()
    difference = higher - _minima(lower, first, end)
    pairs: list[tuple[int, int]] = []
    while len(pairs) < n and (most := difference.max()) > 0:
        high = _earliest(order, np.flatnonzero(difference == most))
        partners = lower[first[high] : end[high]]
        low = _earliest(order, first[high] + np.flatnonzero(partners == partners.min()))
        pairs.append((order[low], order[high]))
        lower[[low, high]], higher[[low, high]] = np.inf, -np.inf
        touched = slice(first[min(low, high)], end[max(low, high)])
        difference[touched] = higher[touched] - _minima(lower, first[touched], end[touched])
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def overrepresented(
    categories: Sequence[str | None] | CategoryCounts,
    rows: Sequence[int] | Rows,
    n: int = 2,
) -> list[tuple[str, float]]:
    """Say which categories stand out among some rows.

    Parameters
    ----------
    categories : sequence of str or None, or CategoryCounts
        Of all rows. Who asks more than once counts them once: `CategoryCounts.of`.
    rows : sequence of int
    n : int
        How many categories to name.

    Returns
    -------
    list of (str, float)
        Category and its share among `rows`, those first whose share exceeds the share in the
        whole the most; only those that exceed it. Ties go by name.
    """
    if len(rows) == 0:
        return []
    whole = CategoryCounts.of(categories)
    codes = whole.of_row[np.asarray(rows)]
    here = np.bincount(codes[codes >= 0], minlength=len(whole.names)) / len(rows)
    excess = here - whole.counts / len(whole.of_row)
    ranked = np.argsort(-excess, kind="stable")[:n]
    return [(whole.names[c], float(here[c])) for c in ranked if excess[c] > 0]


def _lowest(values: NDArray[np.floating[Any]], n: int) -> Rows:
    """The `n` rows of least value in order, as a stable sort gives them, without sorting all."""
    if n == 0:
        return np.empty(0, dtype=np.int64)
    limit = np.partition(values, n - 1)[n - 1]
    # No value is below or equal to NaN, which a sort puts last: then all rows are sorted.
    rows = np.arange(len(values)) if np.isnan(limit) else np.flatnonzero(values <= limit)
    return rows[np.argsort(values[rows], kind="stable")][:n].astype(np.int64)


def _minima(values: NDArray[np.float64], first: Rows, end: Rows) -> NDArray[np.float64]:
    """Least of ``values[first[i]:end[i]]`` for every i; no slice is empty.

    Two runs of a power of two cover a slice, and the minima of runs come from those of runs half
    as long: n log n steps for any slices.
    """
    power = np.frexp(end - first)[1] - 1
    found = np.empty(len(first))
    runs = values
    for k in range(int(power.max()) + 1):
        if k:
            runs = np.minimum(runs[: -(2 ** (k - 1))], runs[2 ** (k - 1) :])
        here = np.flatnonzero(power == k)
        found[here] = np.minimum(runs[first[here]], runs[end[here] - 2**k])
    return found


def _earliest(rows: Rows, places: Rows) -> int:
    """Of some places the one with the smallest row."""
    return int(places[rows[places].argmin()])


def _check_number(n: int) -> None:
    if n < 1:
        raise InputError(f"the number of examples must be at least 1, not {n}")
