"""Rows by their projection on poles, without sorting a million rows for each pole."""

from collections.abc import Iterator, Mapping

import numpy as np

from .basket import FloatArray, IntArray, Pole
from .matrix import Columns, each_column_block

SAMPLE = 2**14
"""Rows that tell about where a pole's highest rows begin; only the speed depends on it."""

GROWTH = 8
"""How much deeper each look into a pole is than the one before."""


class Ranking:
    """Rows of poles, highest projection first, found as deep as they are asked for.

    Parameters
    ----------
    Z : ndarray, [n, k]
        Coordinates, scaled or not: a positive scale changes no rank.
    place : ndarray of int, [n]
        Settles ties: the lower first.
    depths : dict of (axis, +1 or -1) to int
        The poles, and about how many rows of each will be asked for.
    """

    def __init__(self, Z: FloatArray, place: IntArray, depths: Mapping[Pole, int]) -> None:
        self._z = Z
        self._place = place
        self._depths = {pole: max(16, depth) for pole, depth in depths.items()}
        self._bounds = _bounds(Z, self._depths)
        self._heads = {
            pole: self._sorted(rows, pole) for pole, rows in _heads(Z, self._bounds).items()
        }

    def chunks(self, pole: Pole) -> Iterator[IntArray]:
        """All rows, highest first, some at a time."""
        axis, sign = pole
        size = self._depths[pole]
        rest = None
        if pole in self._heads:
            yield self._heads[pole]
            rest = np.flatnonzero(sign * self._z[:, axis] <= sign * self._bounds[pole])
            size *= GROWTH
        if rest is None:
            rest = np.arange(len(self._z))
        values = sign * self._z[rest, axis]
        while len(rest):
            now = np.ones(len(rest), dtype=bool)
            if size < len(rest):
                now = values >= np.partition(values, -size)[-size]
            yield self._sorted(rest[now], pole)
            rest, values = rest[~now], values[~now]
            size *= GROWTH

    def on_side(self, pole: Pole) -> Iterator[IntArray]:
        """The same, without rows that project on the other pole or on neither."""
        axis, sign = pole
        for rows in self.chunks(pole):
            on_side = sign * self._z[rows, axis] > 0
            yield rows[on_side]
            if not on_side.all():
                return

    def _sorted(self, rows: IntArray, pole: Pole) -> IntArray:
        axis, sign = pole
        ranked: IntArray = rows[np.lexsort((self._place[rows], -sign * self._z[rows, axis]))]
        return ranked


def quantiles(Z: FloatArray, rows: IntArray, axis: IntArray, pole: IntArray) -> FloatArray:
    """For each of some rows, the share of all that project no higher on the pole named for it.

    Parameters
    ----------
    Z : ndarray, [n, k]
    rows, axis, pole : ndarray of int, [m]

    Returns
    -------
    ndarray of float64, [m]
        1 for the highest.
    """
    steps: dict[Pole, FloatArray] = {}
    above: dict[Pole, IntArray] = {}
    mine: dict[Pole, IntArray] = {}
    for a, s in sorted(set(zip(axis.tolist(), pole.tolist(), strict=True))):
        mine[a, s] = np.flatnonzero((axis == a) & (pole == s))
        steps[a, s] = np.unique(s * Z[rows[mine[a, s]], a])
        above[a, s] = np.zeros(len(steps[a, s]) + 1, dtype=np.int64)

    def count(columns: Columns, _: int) -> list[tuple[Pole, IntArray]]:
        found = []
        for key, ladder in steps.items():
            # Rows no higher than the lowest of those in question need no closer look.
            values = key[1] * columns[key[0]]
            passed = np.searchsorted(ladder, values[values > ladder[0]], side="left")
            found.append((key, np.bincount(passed, minlength=len(ladder) + 1)))
        return found

    for found in each_column_block(count, Z, sorted({axis for axis, _ in steps})):
        for key, counts in found:
            above[key] += counts
    result = np.empty(len(rows))
    for key, places in mine.items():
        a, s = key
        # above[key][j]: rows above j steps and not above the next.
        higher = above[key][::-1].cumsum()[::-1]
        at = np.searchsorted(steps[key], s * Z[rows[places], a])
        result[places] = (len(Z) - higher[at + 1]) / len(Z)
    return result


def _bounds(Z: FloatArray, depths: Mapping[Pole, int]) -> dict[Pole, float]:
    """For each pole a coordinate that somewhat more than its depth of rows lie beyond.

    Poles of which much of the pool may be asked for have none, nor has any in a small pool.
    """
    if len(Z) <= 4 * SAMPLE:
        return {}
    ladder = np.sort(Z[:: len(Z) // SAMPLE].T, axis=1)
    size = ladder.shape[1]
    bounds = {}
    for (axis, sign), depth in depths.items():
        expected = depth * size / len(Z)
        enough = int(1.5 * expected + 4 * expected**0.5) + 8
        if enough < size // 4:
            bounds[axis, sign] = ladder[axis, -enough if sign > 0 else enough - 1]
    return bounds


def _heads(Z: FloatArray, bounds: Mapping[Pole, float]) -> dict[Pole, IntArray]:
    """All rows that project higher on each pole than its bound."""
    if not bounds:
        return {}

    def find(columns: Columns, start: int) -> list[IntArray]:
        return [
            start + np.flatnonzero(sign * columns[axis] > sign * bound)
            for (axis, sign), bound in bounds.items()
        ]

    found = each_column_block(find, Z, sorted({axis for axis, _ in bounds}))
    return {
        pole: np.concatenate(parts)
        for pole, parts in zip(bounds, zip(*found, strict=True), strict=True)
    }
