"""The examples that show what an axis is about."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

POLES = {1: "positive", -1: "negative"}


@dataclass(frozen=True, slots=True)
class Poles:
    """The two ends of an axis.

    Attributes
    ----------
    positive, negative : ndarray of int64
        Rows, the most extreme first.
    """

    positive: NDArray[np.int64]
    negative: NDArray[np.int64]

    def of(self, pole: int) -> NDArray[np.int64]:
        """Rows of the pole +1 or -1."""
        return self.positive if pole > 0 else self.negative


def poles(coordinates: NDArray[np.floating], n: int = 10) -> Poles:
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
    if n < 1:
        raise InputError(f"the number of examples must be at least 1, not {n}")
    n = min(n, max(1, len(coordinates) // 2))
    rising = np.argsort(coordinates, kind="stable")
    falling = np.argsort(-coordinates, kind="stable")
    return Poles(positive=falling[:n], negative=rising[:n])


def overrepresented(
    categories: Sequence[str | None], rows: Sequence[int] | NDArray[np.int64], n: int = 2
) -> list[tuple[str, float]]:
    """Say which categories stand out among some rows.

    Parameters
    ----------
    categories : sequence of str or None
        Of all rows.
    rows : sequence of int
    n : int
        How many categories to name.

    Returns
    -------
    list of (str, float)
        Category and its share among `rows`, those first whose share exceeds the share in the
        whole the most; only those that exceed it.
    """
    everywhere = Counter(c for c in categories if c is not None)
    here = Counter(c for c in (categories[int(i)] for i in rows) if c is not None)
    excess = {c: count / len(rows) - everywhere[c] / len(categories) for c, count in here.items()}
    ranked = sorted((c for c in excess if excess[c] > 0), key=lambda c: (-excess[c], c))
    return [(c, here[c] / len(rows)) for c in ranked[:n]]
