"""Select examples under a budget, and do it again from the recipe."""

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from .pool import Inputs, Pool, read_pool
from .recipe import (
    OPTIONS,
    RECIPE_FORMAT,
    Selection,
    check_recipe,
    input_differences,
    input_hash,
    package_version,
    write_receipts,
)
from .strategies import STRATEGIES, Basket, Pick, Pole, Task

ENOUGH_PROBE_EXAMPLES = 400
"""Below this, the weakest poles of two halves of a probe hardly agree (method.md: 0.4 at 100)."""


def select(
    Z: ArrayLike,
    strategy: str = "weakness",
    budget: int = 1000,
    *,
    ids: Sequence[Any] | None = None,
    scale: ArrayLike | None = None,
    axes: Sequence[int | Pole] | None = None,
    probe: ArrayLike | None = None,
    error: ArrayLike | None = None,
    utility: ArrayLike | None = None,
    tokens: ArrayLike | None = None,
    categories: Sequence[str | None] | None = None,
    include: Sequence[Any] = (),
    exclude: Sequence[Any] = (),
    caps: Mapping[str, int] | None = None,
    seed: int = 0,
) -> Selection:
    """Choose examples for fine-tuning.

    Parameters
    ----------
    Z : array_like, [n, k]
        Coordinates of the pool, ``basis.transform(X)``.
    strategy : str
        - ``"random"``: a seeded draw over the ids;
        - ``"top"``: highest z on the poles of `axes`, which take turns: first the best of each,
          then the next best of each that is not yet taken;
        - ``"weakness"``: quotas by how much error gathers at each pole of the probe, weakest pole
          first. When no pole is weak beyond chance the draw is random, with a warning.
    budget : int
        At most so many rows, or tokens where `tokens` is given. In rows it is met exactly; in
        tokens it is never exceeded, and a row that no longer fits is passed over.
    ids : sequence, [n], optional
        Unique ids (read as text). With them the result does not depend on the order of the rows:
        draws and ties go by a hash of seed and id. Without, rows are known by their position.
    scale : array_like, [k], optional
        What Z and probe are divided by; default: the standard deviation of each column of Z.
    axes : sequence of int or (int, +1 or -1), optional
        Axes or poles to consider; default: all. A bare axis means its positive pole for ``"top"``,
        and both of its poles for ``"weakness"``, which finds the weak one itself.
    probe, error : array_like, [m, k] and [m], optional
        Coordinates of probe examples on the same axes, not divided, and their errors in [0, 1].
        Needed by ``"weakness"``; with any strategy they fill the receipts' weakness.
    utility : array_like, [k], optional
        Signed utility of each axis; ``"weakness"`` multiplies a pole's mass by
        ``max(0, pole * utility)``.
    tokens : array_like of int, [n], optional
        Tokens of each row; then the budget is in tokens.
    categories : sequence of str or None, [n], optional
        Category of each row, for `caps`.
    include, exclude : sequence of ids
        Rows to take before all others, in that order and within the budget, and rows never to take.
    caps : dict of str to int, optional
        At most so many rows of a category, included ones counted.
    seed : int
        Seed of draws and ties.

    Returns
    -------
    Selection

    Raises
    ------
    InputError
        Unknown strategy, an empty pool, shapes that do not fit, NaN or infinite numbers, unknown
        ids, or a budget beyond what the pool holds.
    """
    _check_strategy(strategy)
    seed = _whole(seed, "seed")
    inputs = Inputs(ids, scale, probe, error, utility, tokens, categories)
    pool = read_pool(Z, inputs, seed)
    return _select(pool, strategy, budget, axes, include, exclude, caps, seed)


def replay(
    recipe: dict[str, Any],
    Z: ArrayLike,
    *,
    ids: Sequence[Any] | None = None,
    scale: ArrayLike | None = None,
    probe: ArrayLike | None = None,
    error: ArrayLike | None = None,
    utility: ArrayLike | None = None,
    tokens: ArrayLike | None = None,
    categories: Sequence[str | None] | None = None,
) -> Selection:
    """Make a selection again from its recipe and the same inputs.

    Rows may come in another order where ids are given: the same examples are found.

    Raises
    ------
    InputError
        Not a recipe, or inputs that are not those it was made with: each that differs is named.
    """
    check_recipe(recipe)
    _check_strategy(recipe["strategy"])
    inputs = Inputs(ids, scale, probe, error, utility, tokens, categories)
    pool = read_pool(Z, inputs, recipe["seed"])
    differences = input_differences(recipe, pool)
    if differences:
        raise InputError(f"the recipe was made with other inputs: {'; '.join(differences)}")
    return _select(pool, *(recipe[name] for name in OPTIONS))


def _select(
    pool: Pool,
    strategy: str,
    budget: int,
    axes: Sequence[int | Pole] | None,
    include: Sequence[Any],
    exclude: Sequence[Any],
    caps: Mapping[str, int] | None,
    seed: int,
) -> Selection:
    plan = STRATEGIES[strategy]
    budget = _whole(budget, "budget", least=1)
    # Axes that the strategy does not use are checked all the same: a wrong one is a mistake.
    poles = _poles(axes, pool.z.shape[1], plan.bare_axis or (1,))
    rows = {name: row for row, name in enumerate(pool.ids)}
    wanted = _rows(include, rows, "include")
    unwanted = _rows(exclude, rows, "exclude")
    both = set(wanted) & set(unwanted)
    if both:
        raise InputError(f"{pool.ids[min(both)]!r} is in include and in exclude")
    caps = _caps(caps, pool)

    basket = _basket(pool, budget, unwanted, caps)
    picks = []
    for row in wanted:
        if not basket.take(row):
            raise InputError(
                f"include: {pool.ids[row]!r} goes beyond the budget of {budget} {pool.unit} or the "
                "cap of its category"
            )
        picks.append(Pick(row, None, "Included by id."))
    draw = plan.draw(Task(pool.z, poles, pool.weakness, pool.utility), basket)
    picks.extend(draw.picks)

    receipts = write_receipts(pool, picks)
    recipe = {
        "format": RECIPE_FORMAT,
        "package": "mnskills_viz",
        "version": package_version(),
        "strategy": strategy,
        "how": plan.how,
        "budget": budget,
        "unit": pool.unit,
        "seed": seed,
        "axes": None if poles is None else [list(pole) for pole in poles],
        "include": [pool.ids[row] for row in wanted],
        "exclude": [pool.ids[row] for row in unwanted],
        "caps": caps,
        "pool": {"rows": len(pool.ids), "axes": pool.z.shape[1], "probe_rows": pool.probe_rows},
        "picked": {"rows": len(picks), pool.unit: budget - basket.left},
        "inputs": pool.hashes,
        "input_hash": input_hash(pool.hashes),
        "notes": [*draw.notes, *_notes(pool, strategy, axes, draw.picks)],
    }
    return Selection(receipts["index"].to_numpy(), receipts, recipe)


def _notes(
    pool: Pool, strategy: str, axes: Sequence[int | Pole] | None, picks: Sequence[Pick]
) -> list[str]:
    """What a reader of the recipe should know before trusting it."""
    notes = []
    plan = STRATEGIES[strategy]
    if axes is not None and not plan.bare_axis:
        notes.append(f'axes were given, and strategy "{strategy}" does not use them')
    if pool.utility is not None and not plan.uses_utility:
        notes.append(f'utility was given, and strategy "{strategy}" does not use it')
    if strategy == "weakness" and pool.probe_rows is not None and pool.probe_shift is not None:
        if pool.probe_rows < ENOUGH_PROBE_EXAMPLES:
            notes.append(
                f"the probe has {pool.probe_rows} examples; weak poles are reliable from about "
                f"{ENOUGH_PROBE_EXAMPLES}"
            )
        farthest = int(np.abs(pool.probe_shift).argmax())
        notes.append(
            f"the probe's mean lies {pool.probe_shift[farthest]:+.2f} standard deviations from the "
            f"pool's on axis {farthest}, the largest shift of all axes"
        )
    opposite = sum(
        pick.pole is not None and pick.pole[1] * pool.z[pick.row, pick.pole[0]] <= 0
        for pick in picks
    )
    if opposite:
        notes.append(
            f"{opposite} of {len(picks)} rows do not lie on the side of the pole they were taken "
            "for: the pool has too few that do"
        )
    return notes


def _check_strategy(strategy: Any) -> None:
    if strategy not in STRATEGIES:
        raise InputError(f"unknown strategy {strategy!r}; available: {', '.join(STRATEGIES)}")


def _whole(value: Any, name: str, least: int | None = None) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise InputError(f"{name} must be a whole number, not {value!r}") from None
    if least is not None and number < least:
        raise InputError(f"{name} must be at least {least}, not {number}")
    return number


def _poles(
    axes: Sequence[int | Pole] | None, k: int, bare: tuple[int, ...]
) -> tuple[Pole, ...] | None:
    """Named poles, in the order named; `bare` are the signs that an axis alone stands for."""
    if axes is None:
        return None
    if not isinstance(axes, list | tuple | range | np.ndarray):
        raise InputError(f"axes must be a list of axes or poles, not {axes!r}")
    poles: list[Pole] = []
    for named in axes:
        axis, signs = named, bare
        if isinstance(named, tuple | list):
            if len(named) != 2:
                raise InputError(f"axes: expected an axis or (axis, 1 or -1), not {named!r}")
            axis, signs = named[0], (named[1],)
        axis = _whole(axis, "an axis")
        if not 0 <= axis < k:
            raise InputError(f"axes names axis {axis}; Z has axes 0 to {k - 1}")
        for sign in signs:
            if sign not in (1, -1):
                raise InputError(f"axes: the pole of axis {axis} must be 1 or -1, not {sign!r}")
            poles.append((axis, int(sign)))
    if not poles or len(set(poles)) < len(poles):
        raise InputError("axes must name at least one pole, and none twice")
    return tuple(poles)


def _rows(wanted: Sequence[Any], rows: Mapping[str, int], name: str) -> list[int]:
    if isinstance(wanted, str):
        raise InputError(f"{name} must be a list of ids, not one text")
    ids = list(dict.fromkeys(map(str, wanted)))
    unknown = [i for i in ids if i not in rows]
    if unknown:
        raise InputError(
            f"{name}: {len(unknown)} ids are not in the pool, the first is {unknown[0]!r}"
        )
    return [rows[i] for i in ids]


def _caps(caps: Mapping[str, int] | None, pool: Pool) -> dict[str, int] | None:
    if caps is None:
        return None
    known = set(pool.categories) - {None}
    if not known:
        raise InputError("caps needs categories: the category of each row")
    unknown = [name for name in caps if name not in known]
    if unknown:
        raise InputError(f"caps: no row has category {unknown[0]!r}")
    return {name: _whole(cap, f"the cap of {name!r}", least=0) for name, cap in caps.items()}


def _basket(pool: Pool, budget: int, unwanted: list[int], caps: dict[str, int] | None) -> Basket:
    """An empty basket, once it is sure that the pool can fill it."""
    n = len(pool.ids)
    free = np.ones(n, dtype=bool)
    free[unwanted] = False
    capped = list(caps or {})
    places = {name: place for place, name in enumerate(capped)}
    # The last category is that of all rows without a cap.
    category = np.array(
        [len(capped) if c is None else places.get(c, len(capped)) for c in pool.categories]
    )
    room = np.array([*(caps or {}).values(), n], dtype=np.int64)

    available = _available(pool, free, category, room)
    if budget > available:
        raise InputError(
            f"the budget of {budget} {pool.unit} is more than the pool's {available}"
            + (" once exclude and caps are kept" if unwanted or caps else "")
        )
    if budget < pool.cost[free].min():
        raise InputError(
            f"the budget of {budget} {pool.unit} is less than the shortest row's "
            f"{pool.cost[free].min()}"
        )
    return Basket(pool.cost, budget, free, category, room)


def _available(
    pool: Pool, free: NDArray[np.bool_], category: NDArray[Any], room: NDArray[np.int64]
) -> int:
    """What the pool can give at most: of each category the dearest rows that its cap allows."""
    total = 0
    for place, limit in enumerate(room):
        costs = np.sort(pool.cost[free & (category == place)])[::-1]
        total += int(costs[:limit].sum())
    return total
