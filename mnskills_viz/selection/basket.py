"""What a strategy fills: a basket that refuses what may not be taken, and the picks in it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..progress import tell

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.int64]
Pole = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Pick:
    """A row, the pole it was taken for (None: for no pole), and why, as a sentence."""

    row: int
    pole: Pole | None
    why: str


@dataclass(frozen=True, slots=True)
class Draw:
    """What a strategy chose, in curriculum order, and what has to be said about it."""

    picks: tuple[Pick, ...]
    notes: tuple[str, ...] = ()
    embedding: str | None = None
    """The text embedding that the picks depend on."""


class Repeats(Protocol):
    """Knows which rows repeat one that was added; see `near_duplicates.NearDuplicates`."""

    def admits(self, row: int) -> bool:
        """Whether the row repeats none."""

    def add(self, row: int) -> None:
        """Note that the row was taken."""


class Basket:
    """What is taken so far; it refuses a row twice, and one beyond the budget or beyond a cap.

    A refusal is for good: what is left only shrinks.

    Parameters
    ----------
    cost : ndarray of int, [n]
        What each row costs: 1, or its tokens.
    budget : int
        What all rows may cost together.
    free : ndarray of bool, [n]
        Rows that may be taken.
    category : ndarray of int, [n]
        Category of each row, an index of `room`.
    room : ndarray of int, [n_categories]
        How many rows of each category may be taken.
    repeats : Repeats or None
        Refuses near-duplicates of rows taken before.

    Attributes
    ----------
    left : int
        What is left of the budget.
    taken : list of int
        Rows, in the order taken.
    passed_over : list of int
        Rows refused as near-duplicates.
    """

    def __init__(
        self,
        cost: IntArray,
        budget: int,
        free: NDArray[np.bool_],
        category: IntArray,
        room: IntArray,
        repeats: Repeats | None = None,
    ) -> None:
        self.cost = cost
        self.left = self._budget = budget
        self.taken: list[int] = []
        self.passed_over: list[int] = []
        self._free = free.copy()
        self._category = category
        self._room = room.copy()
        self._repeats = repeats
        rows = np.flatnonzero(free)
        cheapest_first = rows if cost.min() == cost.max() else rows[np.argsort(cost[rows])]
        self._cheapest_first = iter(cheapest_first)
        self._cheapest: int | None = next(self._cheapest_first, None)

    def is_full(self) -> bool:
        """Whether there is no row any more that could be taken, near-duplicates apart."""
        while self._cheapest is not None and not self._is_open(self._cheapest):
            self._cheapest = next(self._cheapest_first, None)
        return self._cheapest is None or bool(self.cost[self._cheapest] > self.left)

    def _is_open(self, row: int) -> bool:
        return bool(self._free[row] and self._room[self._category[row]] > 0)

    def fitting(self, rows: IntArray) -> IntArray:
        """Those of some rows that could be taken now, near-duplicates apart."""
        rows = rows[self._free[rows]]
        fit = (self.cost[rows] <= self.left) & (self._room[self._category[rows]] > 0)
        fitting: IntArray = rows[fit]
        return fitting

    def take(self, row: int) -> bool:
        """Take a row if it may be taken; say whether it was."""
        tell(self._budget - self.left, self._budget)
        if not self._fits(row):
            return False
        if self._repeats is not None and not self._repeats.admits(row):
            self._free[row] = False
            self.passed_over.append(row)
            return False
        self._put(row)
        return True

    def include(self, row: int) -> bool:
        """Take a row that was asked for by name: a near-duplicate too."""
        if not self._fits(row):
            return False
        self._put(row)
        return True

    def _fits(self, row: int) -> bool:
        return self._is_open(row) and bool(self.cost[row] <= self.left)

    def _put(self, row: int) -> None:
        self._free[row] = False
        self._room[self._category[row]] -= 1
        self.left -= int(self.cost[row])
        self.taken.append(row)
        if self._repeats is not None:
            self._repeats.add(row)

    def take_each(self, chunks: Iterable[IntArray]) -> Iterator[int]:
        """Take rows, best first, until the basket is full; give those that were taken.

        A row that does not fit is passed over for the next that does.
        """
        if self.is_full():
            return
        for rows in chunks:
            for row in map(int, self.fitting(rows)):
                if self.take(row):
                    yield row
                if self.is_full():
                    return

    def take_share(self, chunks: Iterable[IntArray], share: int) -> Iterator[int]:
        """Take rows, best first, while each brings what they cost nearer to `share`.

        So the share is missed by half a row at most, either way, and long rows have the same
        chance as short ones: looking for a row that just fits would prefer the short. Only rows
        that cost more than twice the whole share are passed over.
        """
        whole = share
        if share < 1:
            return
        for rows in chunks:
            for row in map(int, rows[self._free[rows] & (self.cost[rows] <= 2 * whole)]):
                if self.cost[row] > min(2 * share, self.left):
                    return
                if self.take(row):
                    share -= int(self.cost[row])
                    yield row
                if share < 1:
                    return


def pole_name(axis: int, pole: int) -> str:
    """``axis 7 -``: a pole as people read it."""
    return f"axis {axis} {'+' if pole > 0 else '-'}"
