"""Ways to fill a budget. Each is a function from a task and a basket to picks, and one table entry.

A draw over the ids (`Pool.order`) settles ties, so that "the order of the rows" is fair wherever it
matters: taking rows as they come in it is random selection.
"""

import heapq
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..errors import InputError
from .basket import Basket, Draw, FloatArray, IntArray, Pick, Pole, pole_name
from .covering import d_optimal, facility_location, k_center, text_diversity
from .influence import gradient_cosines, mean_gradient
from .pool import Pool
from .ranking import Ranking
from .task import Task

__all__ = ["STRATEGIES", "FloatArray", "Strategy", "apportion", "pole_name"]


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


# ----------------------------------------------------------------------------- draws and rankings


def random(task: Task, basket: Basket) -> Draw:
    """Rows by a seeded draw over their ids."""
    taken = basket.take_each([task.pool.order])
    return Draw(tuple(Pick(row, None, "Drawn at random.") for row in taken))


def category(task: Task, basket: Basket) -> Draw:
    """As much of each category as of every other, drawn at random within each.

    The next row comes from the category that has cost least so far, so every beginning of the
    curriculum is balanced, and what a small category cannot fill passes on to the others. Counted
    in rows these are equal quotas by largest remainder. Included rows count. Rows without category
    are one category more.
    """
    found = task.pool.categories
    if not found.names:
        raise InputError('strategy "category" needs categories: the category of each row')
    queues = _by_category(task.pool)
    spent = np.zeros(len(queues), dtype=np.int64)
    np.add.at(spent, found.of_row[basket.taken], task.pool.cost[basket.taken])
    least_first = [(int(spent[place]), place) for place in range(len(queues))]
    heapq.heapify(least_first)
    why = [
        f"Drawn at random from {'rows without category' if name is None else f'category {name!r}'}."
        for name in [*found.names, None]
    ]
    drawn = [basket.take_each([queue]) for queue in queues]
    picks: list[Pick] = []
    while least_first:
        cost, place = heapq.heappop(least_first)
        row = next(drawn[place], None)
        if row is not None:
            picks.append(Pick(row, None, why[place]))
            heapq.heappush(least_first, (cost + int(task.pool.cost[row]), place))
    return Draw(tuple(picks))


def _by_category(pool: Pool) -> list[IntArray]:
    """Rows of each category in the order drawn; those without category are the last."""
    n_names = len(pool.categories.names)
    place = pool.categories.of_row[pool.order]
    place = np.where(place < 0, n_names, place)
    rows = pool.order[np.argsort(place, kind="stable")]
    ends = np.bincount(place, minlength=n_names + 1).cumsum()
    return [rows[start:end] for start, end in pairwise([0, *ends.tolist()])]


def top(task: Task, basket: Basket) -> Draw:
    """Rows that project highest on the poles, which take turns: each its best row not yet taken."""
    poles = task.poles or tuple((axis, 1) for axis in range(task.pool.n_axes))
    depth = int(2 * task.rows / len(poles)) + 1
    ranking = Ranking(task.coordinates, task.pool.place, dict.fromkeys(poles, depth))
    queues = {pole: _one_by_one(ranking, pole, basket) for pole in poles}
    picks: list[Pick] = []
    while queues and not basket.is_full():
        for pole, queue in list(queues.items()):
            row = next((row for row in queue if basket.take(row)), None)
            if row is None:
                del queues[pole]
            else:
                why = f"Highest on {pole_name(*pole)} of the rows not yet taken."
                picks.append(Pick(row, pole, why))
    return Draw(tuple(picks))


def _one_by_one(ranking: Ranking, pole: Pole, basket: Basket) -> Iterator[int]:
    for rows in ranking.chunks(pole):
        for row in basket.fitting(rows).tolist():
            if basket.is_full():
                return
            yield row


def influence(task: Task, basket: Basket) -> Draw:
    """Rows whose gradient points most nearly where the probe's mean gradient does."""
    gradients = task.pool.gradients
    assert gradients is not None  # noqa: S101 - only influence has them, and always
    if not mean_gradient(gradients.of_probe).any():
        return _random_instead(
            task, basket, "the mean gradient of the probe is zero: the rows were drawn at random"
        )
    score = gradient_cosines(*gradients)
    ranking = Ranking(score[:, None], task.pool.place, {(0, 1): int(2 * task.rows) + 1})
    return Draw(
        tuple(
            Pick(
                row,
                None,
                f"Its gradient has cosine {score[row]:+.3f} with the probe's mean gradient.",
            )
            for row in basket.take_each(ranking.chunks((0, 1)))
        )
    )


def _random_instead(task: Task, basket: Basket, note: str) -> Draw:
    warnings.warn(note, stacklevel=5)
    return Draw(random(task, basket).picks, (note,))


# --------------------------------------------------------------------------------------- weakness


def weakness(task: Task, basket: Basket) -> Draw:
    """Rows from the poles where the model errs most: the representation-error curriculum.

    Each pole's quota is proportional to its mass, times ``max(0, pole * utility)`` where a utility
    is known, and filled with the highest-projecting rows on its side that are not yet taken; what
    it could not use passes on to the next. What is left of the budget then goes to the weakest
    pole that has rows on its side, and once no weak pole has, to the highest-projecting rows that
    remain. Weakest pole first, and within a pole the highest projection first, is the order of
    the curriculum.
    """
    table = task.pool.weakness
    if table is None:
        raise InputError(
            'strategy "weakness" needs probe [m, n_axes] and error [m]: '
            "coordinates of examples whose errors are known"
        )
    every_pole: list[Pole] = list(zip(table["axis"].tolist(), table["pole"].tolist(), strict=True))
    named = np.array([task.poles is None or pole in task.poles for pole in every_pole])
    mass = table["mass"].to_numpy() * named
    if not mass.any():
        return _random_instead(
            task,
            basket,
            "no pole is weaker than the mean error by more than chance explains: "
            "the rows were drawn at random",
        )
    weights, notes = _useful(mass, every_pole, task.pool.utility)

    shrunk = table["shrunk"].to_numpy()
    weakest_first = [i for i in np.argsort(-shrunk, kind="stable") if weights[i] > 0]
    poles = [every_pole[i] for i in weakest_first]
    quotas = apportion(basket.left, weights[weakest_first])
    taken = _fill(task, basket, poles, quotas)
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
    task: Task, basket: Basket, poles: list[Pole], quotas: IntArray
) -> list[tuple[int, Pole]]:
    """Rows and the pole each is taken for, by pole and then by projection."""
    Z, row_cost = task.coordinates, float(task.pool.cost.mean())
    depths = [int(2 * quota / row_cost) + 1 for quota in quotas]
    ranking = Ranking(Z, task.pool.place, dict(zip(poles, depths, strict=True)))
    taken: list[list[tuple[int, Pole]]] = [[] for _ in poles]
    last: list[tuple[int, Pole]] = []
    budget, due = basket.left, 0
    for pole, quota, rows_taken in zip(poles, quotas.tolist(), taken, strict=True):
        due += quota
        share = due - (budget - basket.left)
        rows_taken += [(row, pole) for row in basket.take_share(ranking.on_side(pole), share)]
    for pole, rows_taken in zip(poles, taken, strict=True):
        if not basket.is_full():
            rows_taken += [(row, pole) for row in basket.take_each(ranking.on_side(pole))]
            # A row of the second round may project higher: it was too dear for the first.
            rows_taken.sort(key=lambda pick: -pick[1][1] * Z[pick[0], pick[1][0]])
    for pole in poles:
        if not basket.is_full():
            last += [(row, pole) for row in basket.take_each(ranking.chunks(pole))]
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
    whole_axes : bool
        Whether a pole counts as its axis.
    uses_utility : bool
        Whether utilities change what is drawn.
    uses_texts : bool
        Whether texts do so, beyond telling near-duplicates.
    by_gradients : bool
        Whether Z and probe are gradients.
    """

    draw: Callable[[Task, Basket], Draw]
    how: str
    bare_axis: tuple[int, ...] = ()
    whole_axes: bool = False
    uses_utility: bool = False
    uses_texts: bool = False
    by_gradients: bool = False


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
    "d_optimal": Strategy(
        d_optimal,
        "Each row is the one that adds most to the log-determinant of the coordinates' second "
        "moments: rows that spread in all directions of skill space.",
        bare_axis=(1, -1),
        whole_axes=True,
    ),
    "k_center": Strategy(
        k_center,
        "Each row is the one farthest from all taken before it, in whitened coordinates.",
        bare_axis=(1, -1),
        whole_axes=True,
    ),
    "facility_location": Strategy(
        facility_location,
        "Each row is the one that adds most to the likeness (cosine of whitened coordinates, not "
        "below 0) of every row of the pool to its nearest pick.",
        bare_axis=(1, -1),
        whole_axes=True,
    ),
    "category": Strategy(
        category,
        "Categories got equal shares of the budget and took turns; within a category rows were "
        "drawn at random.",
    ),
    "text_diversity": Strategy(
        text_diversity,
        "Each row is the one whose text is farthest from all taken before it.",
        uses_texts=True,
    ),
    "influence": Strategy(
        influence,
        "The rows whose gradient has the highest cosine with the mean gradient of the probe.",
        by_gradients=True,
    ),
}
