"""Ways to fill a budget. Each is a function from a task and a basket to picks, and one table entry.

Rows reach a strategy in a seeded order that depends on their ids alone, so that "the order of the
rows" is already a fair draw: a stable sort settles ties by it, and taking rows as they come is
random selection.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import InputError

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.int64]
Pole = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Task:
    """What a strategy may look at.

    Attributes
    ----------
    z : ndarray, [n, k]
        Coordinates divided by their scale.
    poles : tuple of (axis, +1 or -1), or None
        The poles that were named; None stands for all that the strategy considers.
    weakness : DataFrame or None
        `pole_weakness` of the probe, where one was given.
    utility : ndarray, [k], or None
        Signed utility of each axis.
    """

    z: FloatArray
    poles: tuple[Pole, ...] | None
    weakness: pd.DataFrame | None
    utility: FloatArray | None


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


class Basket:
    """What is taken so far; it refuses a row twice, a row beyond the budget or beyond a cap.

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
    """

    def __init__(
        self,
        cost: IntArray,
        budget: int,
        free: NDArray[np.bool_],
        category: IntArray,
        room: IntArray,
    ) -> None:
        self.cost = cost
        self.left = budget
        self._free = free.copy()
        self._category = category
        self._room = room.copy()
        self._cheapest = int(cost[free].min()) if free.any() else budget + 1

    @property
    def full(self) -> bool:
        """Whether nothing can be taken any more, as far as the budget tells."""
        return self.left < self._cheapest

    def take(self, row: int) -> bool:
        """Take a row if it may be taken; say whether it was."""
        category = self._category[row]
        if not self._free[row] or self.cost[row] > self.left or self._room[category] == 0:
            return False
        self._free[row] = False
        self._room[category] -= 1
        self.left -= int(self.cost[row])
        return True

    def take_each(self, rows: IntArray) -> Iterator[int]:
        """Take rows, best first, until the basket is full; give those that were taken.

        A row that does not fit is passed over for the next that does.
        """
        for row in map(int, rows[self._free[rows]]):
            if self.full:
                return
            if self.take(row):
                yield row

    def take_share(self, rows: IntArray, share: int) -> Iterator[int]:
        """Take rows, best first, while each brings what they cost nearer to `share`.

        So the share is missed by half a row at most, either way, and long rows have the same
        chance as short ones: looking for a row that just fits would prefer the short. Only rows
        that cost more than twice the whole share are passed over.
        """
        for row in map(int, rows[self._free[rows] & (self.cost[rows] <= 2 * share)]):
            if self.cost[row] > min(2 * share, self.left):
                return
            if self.take(row):
                share -= int(self.cost[row])
                yield row


def pole_name(axis: int, pole: int) -> str:
    """``axis 7 -``: a pole as people read it."""
    return f"axis {axis} {'+' if pole > 0 else '-'}"


def apportion(budget: int, weights: FloatArray) -> IntArray:
    """Whole shares of a budget in proportion to weights, by largest remainder (Hamilton).

    Parameters
    ----------
    budget : int
        What is shared out, whole.
    weights : ndarray, [p]
        Not negative, not all zero.

    Returns
    -------
    ndarray of int, [p]
        Shares that add up to the budget, each within one of its exact share; equal remainders go
        to the earlier one.
    """
    exact = budget * (weights / weights.sum())
    shares: IntArray = np.floor(exact).astype(np.int64)
    by_remainder = np.argsort(shares - exact, kind="stable")
    shares[by_remainder[: budget - int(shares.sum())]] += 1
    return shares


def _ranked(z: FloatArray, pole: Pole) -> IntArray:
    """Rows by their projection on a pole, highest first, ties in the order of the rows."""
    axis, sign = pole
    rows: IntArray = np.argsort(-sign * z[:, axis], kind="stable")
    return rows


def _on_side(z: FloatArray, pole: Pole) -> IntArray:
    """The same, without rows that project on the other pole or on neither."""
    axis, sign = pole
    rows = _ranked(z, pole)
    on_side: IntArray = rows[sign * z[rows, axis] > 0]
    return on_side


# ------------------------------------------------------------------------------- the strategies


def random(task: Task, basket: Basket) -> Draw:
    """Rows by a seeded draw over their ids."""
    every_row = np.arange(len(task.z))
    taken = basket.take_each(every_row)
    return Draw(tuple(Pick(row, None, "Drawn at random.") for row in taken))


def top(task: Task, basket: Basket) -> Draw:
    """Rows that project highest on the poles, which take turns: each its best row not yet taken."""
    poles = task.poles or tuple((axis, 1) for axis in range(task.z.shape[1]))
    queues = {pole: map(int, _ranked(task.z, pole)) for pole in poles}
    picks: list[Pick] = []
    while queues and not basket.full:
        for pole, queue in list(queues.items()):
            row = next((row for row in queue if basket.take(row)), None)
            if row is None:
                del queues[pole]
            else:
                why = f"Highest on {pole_name(*pole)} of the rows not yet taken."
                picks.append(Pick(row, pole, why))
    return Draw(tuple(picks))


def weakness(task: Task, basket: Basket) -> Draw:
    """Rows from the poles where the model errs most: the representation-error curriculum.

    Each pole's quota is proportional to its mass, times ``max(0, pole * utility)`` where a utility
    is known, and filled with the highest-projecting rows on its side that are not yet taken; what
    it could not use passes on to the next. What is left of the budget then goes to the weakest
    pole that has rows on its side, and once no weak pole has, to the highest-projecting rows that
    remain. Weakest pole first, and within a pole the highest projection first, is the order of
    the curriculum.
    """
    if task.weakness is None:
        raise InputError(
            'strategy "weakness" needs probe [m, n_axes] and error [m]: '
            "coordinates of examples whose errors are known"
        )
    table = task.weakness
    every_pole: list[Pole] = list(zip(table["axis"].tolist(), table["pole"].tolist(), strict=True))
    named = np.array([task.poles is None or pole in task.poles for pole in every_pole])
    mass = table["mass"].to_numpy() * named
    if not mass.any():
        note = (
            "no pole is weaker than the mean error by more than chance explains: "
            "the rows were drawn at random"
        )
        warnings.warn(note, stacklevel=4)
        return Draw(random(task, basket).picks, (note,))
    weights, notes = _useful(mass, every_pole, task.utility)

    shrunk = table["shrunk"].to_numpy()
    weakest_first = [i for i in np.argsort(-shrunk, kind="stable") if weights[i] > 0]
    poles = [every_pole[i] for i in weakest_first]
    quotas = apportion(basket.left, weights[weakest_first])
    taken = _fill(task.z, basket, poles, quotas)
    why = {
        every_pole[i]: (
            f"{pole_name(*every_pole[i]).capitalize()} is weak: error {shrunk[i]:.2f}, "
            f"{table.attrs['mean_error']:.2f} on average."
        )
        for i in weakest_first
    }
    return Draw(tuple(Pick(row, pole, why[pole]) for row, pole in taken), notes)


def _useful(
    mass: FloatArray, poles: list[Pole], utility: FloatArray | None
) -> tuple[FloatArray, tuple[str, ...]]:
    """Mass times the pole's utility, where that leaves any; and what is to be said about it."""
    if utility is None:
        return mass, ()
    weights = mass * [max(0.0, sign * float(utility[axis])) for axis, sign in poles]
    if weights.any():
        return weights, ()
    return mass, ("no weak pole has a positive utility: quotas follow the mass alone",)


def _fill(
    z: FloatArray, basket: Basket, poles: list[Pole], quotas: IntArray
) -> list[tuple[int, Pole]]:
    """Rows and the pole each is taken for, by pole and then by projection."""
    taken: list[list[tuple[int, Pole]]] = [[] for _ in poles]
    last: list[tuple[int, Pole]] = []
    budget, due = basket.left, 0
    for pole, quota, rows_taken in zip(poles, quotas.tolist(), taken, strict=True):
        due += quota
        share = due - (budget - basket.left)
        rows_taken += [(row, pole) for row in basket.take_share(_on_side(z, pole), share)]
    for pole, rows_taken in zip(poles, taken, strict=True):
        if not basket.full:
            rows_taken += [(row, pole) for row in basket.take_each(_on_side(z, pole))]
            # A row of the second round may project higher: it was too dear for the first.
            rows_taken.sort(key=lambda pick: -pick[1][1] * z[pick[0], pick[1][0]])
    for pole in poles:
        if not basket.full:
            last += [(row, pole) for row in basket.take_each(_ranked(z, pole))]
    return [pick for rows_taken in taken for pick in rows_taken] + last


@dataclass(frozen=True, slots=True)
class Strategy:
    """A way to fill a budget, and how it reads its arguments.

    Attributes
    ----------
    draw : callable
        Takes a `Task` and a `Basket`, gives a `Draw`.
    how : str
        For the recipe and the data card: how rows are chosen, as sentences.
    bare_axis : tuple of int
        The poles that an axis named without a sign stands for; empty where axes are not used.
    uses_utility : bool
        Whether utilities change what is drawn.
    """

    draw: Callable[[Task, Basket], Draw]
    how: str
    bare_axis: tuple[int, ...] = ()
    uses_utility: bool = False


STRATEGIES: Mapping[str, Strategy] = {
    "random": Strategy(random, "Rows were drawn at random."),
    "top": Strategy(
        top,
        "The rows that project highest on the named poles, which took turns.",
        bare_axis=(1,),
    ),
    "weakness": Strategy(
        weakness,
        "Each pole got a share of the budget in proportion to the excess error that a probe set "
        "shows there, filled with the rows that project highest on it; the weakest pole comes "
        "first.",
        bare_axis=(1, -1),
        uses_utility=True,
    ),
}
