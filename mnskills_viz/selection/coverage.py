"""Coverage of the skill space: three greedy choices over whitened coordinates.

`d_optimal`, `k_center` and `facility_location` all take

- ``z``, ndarray of float32 or float64, [n, k]: coordinates, see `whitened`;
- ``take(row) -> bool``: tries to take a row and says whether it could. It is asked once a row: a
  refusal is for good;
- ``full() -> bool``: whether nothing can be taken any more;
- ``taken``, ndarray of int64: rows that were taken before. They count as chosen, and are neither
  asked for nor returned

and give a `Covered`. Each takes the row with the largest gain, of equal gains the first row, until
the basket is full or every row was asked for.
"""

import numpy as np
from numpy.typing import NDArray

from ..progress import tell
from .facility_location import facility_location
from .greedy import Covered, FloatArray, Full, IntArray, Take, greedy, in_blocks, on_one_thread

__all__ = ["Covered", "d_optimal", "facility_location", "k_center", "whitened"]

CAP = 0.995
"""The quantile of |z| beyond which no row counts as farther out."""

PENDING = 256
"""Picks whose distances to a block of rows are worked out at once."""

NO_DISTANCE = 1e-13
"""Squared distances below this share of a row's squared length are rounding."""


def whitened(z: FloatArray) -> FloatArray:
    """Coordinates with |z| capped at its 99.5 % quantile, column by column.

    Without the cap coverage is a search for outliers.

    Parameters
    ----------
    z : ndarray, [n, k]
        Coordinates divided by their scale.

    Returns
    -------
    ndarray, [n, k]
        Of the same type.
    """
    capped = np.empty_like(z)
    for j in range(z.shape[1]):
        tell()
        column = np.ascontiguousarray(z[:, j])
        cap = np.quantile(np.abs(column), CAP).astype(z.dtype)
        capped[:, j] = np.clip(column, -cap, cap)
    return capped


def d_optimal(z: FloatArray, ridge: float, take: Take, full: Full, taken: IntArray) -> Covered:
    """Rows that spread in all directions: greedy on ``log det(ridge * I + sum z z')``.

    Parameters
    ----------
    z, take, full, taken
        As above.
    ridge : float
        Above 0: the expected number of picks / k.

    Returns
    -------
    Covered
        A gain is the rise of the log determinant; the objective is the log determinant over all
        rows chosen, the ridge included.
    """
    gains = _Information(z, ridge, taken)
    picks = greedy(gains, _others(z, taken), take, full)
    return Covered(picks, float(np.linalg.slogdet(gains.matrix)[1]))


def k_center(z: FloatArray, take: Take, full: Full, taken: IntArray) -> Covered:
    """Rows far from each other: each the farthest from those already taken (Gonzalez 1985).

    With nothing taken before, the first is the row farthest from the mean.

    Parameters
    ----------
    z, take, full, taken
        As above.

    Returns
    -------
    Covered
        A gain is the row's distance from the nearest row taken before it (of the first: from the
        mean); the objective is the covering radius, the largest distance of any row from the
        nearest one chosen (of none, from the mean): small is good.
    """
    free = _others(z, taken)
    gains = _Distance(z, taken)
    picks: list[tuple[int, float]] = []
    if not len(taken):
        picks += greedy(gains, free, take, lambda: gains.begun or full())
    picks += greedy(gains, free, take, full)
    return Covered(picks, float(np.sqrt(gains.bounds().max(initial=0.0))))


def _others(z: FloatArray, taken: IntArray) -> NDArray[np.bool_]:
    free = np.ones(len(z), dtype=bool)
    free[taken] = False
    return free


class _Information:
    """Gains in information: ``q = z' A^-1 z`` of a row z, which adds ``log(1 + q)`` to log det A.

    (The matrix determinant lemma.) q is what is compared.
    """

    blur = 0.0

    def __init__(self, z: FloatArray, ridge: float, taken: IntArray) -> None:
        self._z = z
        before = z[taken].astype(np.float64)
        self.matrix = ridge * np.eye(z.shape[1]) + before.T @ before

    def bounds(self) -> FloatArray:
        gains = np.empty(len(self._z))
        root = np.linalg.inv(np.linalg.cholesky(self.matrix)).T  # A^-1 = root @ root.T

        def work(block: slice) -> None:
            spread = self._z[block].astype(np.float64) @ root
            gains[block] = np.einsum("ij,ij->i", spread, spread)

        in_blocks(work, len(gains))
        return gains

    def watch(self, rows: IntArray) -> None:
        self._watched = self._z[rows].astype(np.float64)

    def exact(self, rows: IntArray, bounds: FloatArray) -> FloatArray:
        return bounds

    def add(self, row: int, gain: float, watched: FloatArray) -> float:
        z = self._z[row].astype(np.float64)
        with on_one_thread():
            solved = np.linalg.solve(self.matrix, z)
            gain = float(z @ solved)
            # A^-1 loses the outer product of this vector with itself (Sherman & Morrison).
            watched -= np.square(self._watched @ (solved / np.sqrt(1 + gain)))
        self.matrix += np.outer(z, z)
        return float(np.log1p(gain))


class _Distance:
    """Gains in distance: the squared distance of each row from the nearest one chosen.

    With none chosen, from the mean of all.
    """

    blur = 0.0

    def __init__(self, z: FloatArray, taken: IntArray) -> None:
        self._z = z
        self._mean = z.mean(axis=0, dtype=np.float64)
        self._nearest = np.full(len(z), np.inf)
        self._pending = self._about_mean(taken)
        self.begun = len(taken) > 0

    def _about_mean(self, rows: slice | IntArray) -> FloatArray:
        about: FloatArray = self._z[rows].astype(np.float64) - self._mean
        return about

    def bounds(self) -> FloatArray:
        if self.begun:
            self._settle()
            return self._nearest.copy()
        from_mean = np.empty(len(self._z))

        def work(block: slice) -> None:
            rows = self._about_mean(block)
            from_mean[block] = np.einsum("ij,ij->i", rows, rows)

        in_blocks(work, len(from_mean))
        return from_mean

    def watch(self, rows: IntArray) -> None:
        self._watched = self._about_mean(rows)

    def exact(self, rows: IntArray, bounds: FloatArray) -> FloatArray:
        return bounds

    def add(self, row: int, gain: float, watched: FloatArray) -> float:
        chosen = self._about_mean(np.array([row]))
        self._pending = np.concatenate([self._pending, chosen])
        with on_one_thread():
            np.minimum(watched, _nearest(self._watched, chosen), out=watched)
        self.begun = True
        return float(np.sqrt(gain))

    def _settle(self) -> None:
        """Take the pending picks into account, for all rows."""
        for start in range(0, len(self._pending), PENDING):
            chosen = self._pending[start : start + PENDING]

            def work(block: slice, chosen: FloatArray = chosen) -> None:
                distance = _nearest(self._about_mean(block), chosen)
                np.minimum(self._nearest[block], distance, out=self._nearest[block])

            in_blocks(work, len(self._nearest))
        self._pending = self._pending[:0]


def _nearest(rows: FloatArray, chosen: FloatArray) -> FloatArray:
    """Squared distance of each row from the nearest of those chosen."""
    products = rows @ (-2 * chosen.T)
    products += np.einsum("ij,ij->i", chosen, chosen)
    squares = np.einsum("ij,ij->i", rows, rows)
    distances: FloatArray = products.min(axis=1) + squares
    distances[distances <= NO_DISTANCE * squares] = 0
    return distances
