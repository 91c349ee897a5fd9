"""Select examples under a budget, and do it again from the recipe."""

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from .basket import Basket, Pick, Pole
from .near_duplicates import NearDuplicates
from .pool import Inputs, Pool, read_pool
from .recipe import (
    OPTIONS,
    RECIPE_FORMAT,
    Options,
    Selection,
    check_recipe,
    input_differences,
    input_hash,
    package_version,
    write_receipts,
)
from .row_ids import shortened
from .strategies import STRATEGIES, Strategy
from .task import Task

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
    texts: Sequence[str] | NDArray[Any] | None = None,
    coordinates: ArrayLike | None = None,
    include: Sequence[Any] = (),
    exclude: Sequence[Any] = (),
    caps: Mapping[str, int] | None = None,
    text_similarity: float | None = 0.8,
    z_distance: float | None = None,
    seed: int = 0,
) -> Selection:
    """Choose examples for fine-tuning.

    Parameters
    ----------
    Z : array_like, [n, k]
        Coordinates of the pool, ``basis.transform(X)``; for ``"influence"`` its gradients.
    strategy : str
        - ``"random"``: a seeded draw over the ids;
        - ``"top"``: highest z on the poles of `axes`, which take turns: first the best of each,
          then the next best of each that is not yet taken;
        - ``"weakness"``: quotas by how much error gathers at each pole of the probe, weakest pole
          first. When no pole is weak beyond chance the draw is random, with a warning;
        - ``"d_optimal"``, ``"k_center"``, ``"facility_location"``: coverage of the skill space,
          greedy; see `coverage`. |z| is capped at its 99.5 % quantile;
        - ``"category"``: equal shares for all categories, which take turns, drawn at random within
          each. Rows without category are one category more;
        - ``"text_diversity"``: each row the farthest from those before it, by text embeddings;
        - ``"influence"``: highest cosine of a row's gradient with the probe's mean gradient.
    budget : int
        At most so many rows, or tokens where `tokens` is given. In rows it is met exactly; in
        tokens it is never exceeded, and a row that no longer fits is passed over. Where
        near-duplicates leave too few rows it is not met, and the recipe's notes say so.
    ids : sequence, [n], optional
        Unique ids (read as text). With them the result does not depend on the order of the rows:
        draws and ties go by a hash of seed and id. Without, rows are known by their position.
    scale : array_like, [k], optional
        What coordinates (Z and probe) are divided by; default: the standard deviation of each
        column of Z. Gradients are not divided.
    axes : sequence of int or (int, +1 or -1), optional
        Axes or poles to consider; default: all. A bare axis means its positive pole for ``"top"``,
        and both of its poles for ``"weakness"``, which finds the weak one itself. Coverage takes
        whole axes: a pole counts as its axis, with a note.
    probe, error : array_like, [m, k] and [m], optional
        Coordinates of probe examples on the same axes, not divided, and their errors in [0, 1].
        Needed by ``"weakness"``; with any strategy they fill the receipts' weakness. For
        ``"influence"`` the probe holds gradients, and no error is needed.
    utility : array_like, [k], optional
        Signed utility of each axis; ``"weakness"`` multiplies a pole's mass by
        ``max(0, pole * utility)``.
    tokens : array_like of int, [n], optional
        Tokens of each row; then the budget is in tokens.
    categories : sequence of str or None, [n], optional
        Category of each row, for `caps` and ``"category"``.
    texts : sequence of str, [n], or ndarray, [n, d], optional
        Text of each row, for ``"text_diversity"`` and to pass over near-duplicates; or embeddings
        of the texts, for the former alone.
    coordinates : array_like, [n, k], optional
        With ``"influence"`` only: coordinates of the pool on axes, by which the receipts explain
        what the gradients chose. `scale` is theirs.
    include, exclude : sequence of ids
        Rows to take before all others, in that order and within the budget, and rows never to take.
    caps : dict of str to int, optional
        At most so many rows of a category, included ones counted.
    text_similarity : float, optional
        Pass over a row whose text is that similar to one taken before, with any strategy, where
        `texts` are given; see `near_duplicates`. None: texts are not compared.
    z_distance : float, optional
        Pass over a row that lies near one taken before in skill space, as a share of the longer of
        the two; 0 for equal ones. None: coordinates are not compared.
    seed : int
        Seed of draws and ties.

    Returns
    -------
    Selection

    Raises
    ------
    InputError
        Unknown strategy, an empty pool, shapes that do not fit, NaN or infinite numbers, unknown
        ids, what a strategy needs and was not given, or a budget beyond what the pool holds.
    """
    _check_strategy(strategy)
    options = Options(
        strategy, budget, axes, include, exclude, caps, text_similarity, z_distance,
        _whole(seed, "seed"),
    )  # fmt: skip
    inputs = Inputs(ids, scale, probe, error, utility, tokens, categories, texts, coordinates)
    return _select(_pool(Z, inputs, options), options, None)


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
    texts: Sequence[str] | NDArray[Any] | None = None,
    coordinates: ArrayLike | None = None,
) -> Selection:
    """Make a selection again from its recipe and the same inputs.

    Rows may come in another order where ids are given: the same examples are found.

    Raises
    ------
    InputError
        Not a recipe, inputs that are not those it was made with (each that differs is named), or
        a text embedding that is not installed here.
    """
    check_recipe(recipe)
    _check_strategy(recipe["strategy"])
    options = Options(*(recipe[name] for name in OPTIONS))
    _whole(options.seed, "the recipe's seed")
    inputs = Inputs(ids, scale, probe, error, utility, tokens, categories, texts, coordinates)
    pool = _pool(Z, inputs, options)
    differences = input_differences(recipe, pool)
    if differences:
        raise InputError(f"the recipe was made with other inputs: {'; '.join(differences)}")
    return _select(pool, options, recipe["embedding"])


def _pool(Z: ArrayLike, inputs: Inputs, options: Options) -> Pool:
    by_gradients = STRATEGIES[options.strategy].by_gradients
    return read_pool(Z, inputs, options.seed, by_gradients, options.strategy == "weakness")


def _select(pool: Pool, options: Options, embedding: str | None) -> Selection:
    plan = STRATEGIES[options.strategy]
    budget = _whole(options.budget, "budget", least=1)
    # Axes that the strategy does not use are checked all the same: a wrong one is a mistake.
    poles = _poles(options.axes, pool.n_axes, plan.bare_axis or (1,))
    wanted = pool.ids.rows(options.include, "include")
    unwanted = pool.ids.rows(options.exclude, "exclude")
    both = set(wanted) & set(unwanted)
    if both:
        raise InputError(f"{pool.ids[min(both)]!r} is in include and in exclude")
    caps = _caps(options.caps, pool)

    basket = _basket(pool, budget, unwanted, caps, _near_duplicates(pool, options))
    picks = []
    for row in wanted:
        if not basket.include(row):
            raise InputError(
                f"include: {pool.ids[row]!r} goes beyond the budget of {budget} {pool.unit} or the "
                "cap of its category"
            )
        picks.append(Pick(row, None, "Included by id."))
    draw = plan.draw(Task(pool, budget, poles, embedding), basket)
    picks.extend(draw.picks)

    receipts = write_receipts(pool, picks)
    recipe = {
        "format": RECIPE_FORMAT,
        "package": "mnskills_viz",
        "version": package_version(),
        "strategy": options.strategy,
        "how": plan.how,
        "budget": budget,
        "unit": pool.unit,
        "seed": options.seed,
        "axes": None if poles is None else [list(pole) for pole in poles],
        "include": [pool.ids[row] for row in wanted],
        "exclude": [pool.ids[row] for row in unwanted],
        "caps": caps,
        "text_similarity": options.text_similarity,
        "z_distance": options.z_distance,
        "embedding": draw.embedding,
        "pool": {"rows": len(pool.ids), "axes": pool.n_axes, "probe_rows": pool.probe_rows},
        "picked": {"rows": len(picks), pool.unit: budget - basket.left},
        "inputs": pool.hashes,
        "input_hash": input_hash(pool.hashes),
        "notes": [
            *draw.notes,
            *_unused(pool, options, plan),
            *_doubts(pool, options.strategy, draw.picks),
            *_passed_over(basket),
        ],
    }
    return Selection(receipts["index"].to_numpy(), receipts, recipe)


def _near_duplicates(pool: Pool, options: Options) -> NearDuplicates | None:
    """What tells rows that repeat one another apart, where there is anything to tell by."""
    similarity, distance = options.text_similarity, options.z_distance
    for name, limit in (("text_similarity", similarity), ("z_distance", distance)):
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | float)):
            raise InputError(f"{name} must be a number or None, not {shortened(limit)}")
    if pool.texts is None:
        similarity = None
    if similarity is None and distance is None:
        return None
    if distance is not None and pool.Z is None:
        raise InputError(
            'z_distance compares coordinates: with strategy "influence" give them as coordinates'
        )
    z = None if distance is None or pool.Z is None else pool.Z / pool.scale
    return NearDuplicates(pool.texts, z, similarity, distance)


def _unused(pool: Pool, options: Options, plan: Strategy) -> list[str]:
    """What was given and has no effect, as notes."""
    named = f'strategy "{options.strategy}"'
    notes = []
    if options.axes is not None and not plan.bare_axis:
        notes.append(f"axes were given, and {named} does not use them")
    if options.axes is not None and plan.whole_axes:
        named_poles = [tuple(pole) for pole in options.axes if isinstance(pole, tuple | list)]
        if any((axis, -sign) not in named_poles for axis, sign in named_poles):
            notes.append(f"{named} covers whole axes: a pole that was named counts as its axis")
    if pool.utility is not None and not plan.uses_utility:
        notes.append(f"utility was given, and {named} does not use it")
    compared = pool.texts is not None and options.text_similarity is not None
    if pool.hashes["texts"] is not None and not compared and not plan.uses_texts:
        notes.append(f"texts were given, and {named} does not use them")
    if plan.by_gradients and pool.hashes["error"] is not None:
        notes.append(f"error was given, and {named} does not use it")
    return notes


def _doubts(pool: Pool, strategy: str, picks: Sequence[Pick]) -> list[str]:
    """What a reader of the recipe should know before trusting it."""
    notes = []
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
    if pool.weakness is None and pool.hashes["error"] is not None and pool.gradients is None:
        notes.append("all errors of the probe are equal: no pole is weaker than another")
    if (off := pool.off_centre) is not None:
        notes.append(
            f"Z is not centred: its mean lies {off[1]:+.2f} standard deviations from 0 on axis "
            f"{off[0]}, and poles are sides of 0"
        )
    opposite = sum(
        pool.Z is not None and pick.pole[1] * pool.Z[pick.row, pick.pole[0]] <= 0
        for pick in picks
        if pick.pole is not None
    )
    if opposite:
        notes.append(
            f"{opposite} of {len(picks)} rows do not lie on the side of the pole they were taken "
            "for: the pool has too few that do"
        )
    return notes


def _passed_over(basket: Basket) -> list[str]:
    """What skipping near-duplicates did, as notes."""
    repeats = basket.passed_over
    if not repeats:
        return []
    notes = [f"{len(repeats)} rows were passed over: near-duplicates of rows taken before"]
    if basket.cost[repeats].min() <= basket.left:
        notes.append("the budget is not met: without near-duplicates the pool is too small for it")
    return notes


def _check_strategy(strategy: Any) -> None:
    if not isinstance(strategy, str) or strategy not in STRATEGIES:
        raise InputError(
            f"unknown strategy {shortened(strategy)}; available: {', '.join(STRATEGIES)}"
        )


def _whole(value: Any, name: str, least: int | None = None) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise InputError(f"{name} must be a whole number, not {shortened(value)}") from None
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
        if not k:
            raise InputError("axes were named, and there are no coordinates: give them, too")
        if not 0 <= axis < k:
            raise InputError(f"axes names axis {axis}; Z has axes 0 to {k - 1}")
        for sign in signs:
            if not isinstance(sign, int | np.integer) or sign not in (1, -1):
                raise InputError(
                    f"axes: the pole of axis {axis} must be 1 or -1, not {shortened(sign)}"
                )
            poles.append((axis, int(sign)))
    if not poles or len(set(poles)) < len(poles):
        raise InputError("axes must name at least one pole, and none twice")
    return tuple(poles)


def _caps(caps: Mapping[str, int] | None, pool: Pool) -> dict[str, int] | None:
    if caps is None:
        return None
    if not isinstance(caps, Mapping):
        raise InputError(f"caps must be a dict of categories and rows, not {shortened(caps)}")
    caps = {str(name): cap for name, cap in caps.items()}
    known = pool.categories.names
    if not known:
        raise InputError("caps needs categories: the category of each row")
    unknown = [name for name in caps if name not in known]
    if unknown:
        raise InputError(f"caps: no row has category {unknown[0]!r}")
    return {name: _whole(cap, f"the cap of {name!r}", least=0) for name, cap in caps.items()}


def _basket(
    pool: Pool,
    budget: int,
    unwanted: list[int],
    caps: dict[str, int] | None,
    repeats: NearDuplicates | None,
) -> Basket:
    """An empty basket, once it is sure that the pool can fill it, near-duplicates apart."""
    n = len(pool.ids)
    free = np.ones(n, dtype=bool)
    free[unwanted] = False
    # The last room, of index -1, is that of the rows without category.
    room = np.array([(caps or {}).get(name, n) for name in pool.categories.names] + [n])

    available = _available(pool, free, room)
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
    return Basket(pool.cost, budget, free, pool.categories.of_row, room, repeats)


def _available(pool: Pool, free: NDArray[np.bool_], room: NDArray[np.int64]) -> int:
    """What the pool can give at most: of each category the dearest rows that its cap allows."""
    total = int(pool.cost[free].sum())
    for place, limit in enumerate(room[:-1]):
        if limit < len(free):
            costs = np.sort(pool.cost[free & (pool.categories.of_row == place)])[::-1]
            total -= int(costs[limit:].sum())
    return total
