"""Effects of arms with their intervals, and what the design could detect at all.

An arm is a way to choose training data; a cell is one arm trained with one seed. Everything is
paired: cells of one seed share the training's noise, and all of them answer the same problems.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnskills_viz.errors import InputError
from mnskills_viz.evaluation.intervals import mean_interval
from mnskills_viz.evaluation.pass_at_k import pass_at_k
from mnskills_viz.files import read_json

from .formulas import (
    BOOTSTRAP_SEED,
    holm,
    ratio_interval,
    residual_mean_square,
    satterthwaite,
    t_quantile,
    two_sided_p,
    variance,
)

Array = NDArray[np.float64]

OUTCOMES = ("logprob", "pass@1", "pass@8")
"""The first is the primary one."""

UNTRAINED = "none"
REFERENCE = "random"

LEVEL = 0.05
POWER = 0.8


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Outcomes of every problem for every cell.

    Attributes
    ----------
    arms : tuple of str
    seeds : tuple of int
    values : dict of str to ndarray, [n_arms, n_seeds, n_problems]
        By outcome. Log-probabilities are of all test problems, in nats a response token; pass@k
        is of the problems whose answers were sampled.
    """

    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    values: dict[str, Array]

    def of(self, outcome: str, arm: str) -> Array:
        """One outcome of one arm, [n_seeds, n_problems]."""
        if arm not in self.arms:
            raise InputError(f"no cells of arm {arm!r}; there are {', '.join(self.arms)}")
        if outcome not in self.values:
            raise InputError(f"no outcome {outcome!r}; there are {', '.join(self.values)}")
        found: Array = self.values[outcome][self.arms.index(arm)]
        return found

    @property
    def trained(self) -> list[str]:
        """The arms that were trained."""
        return [arm for arm in self.arms if arm != UNTRAINED]


@dataclass(frozen=True, slots=True)
class Effect:
    """How much better one arm is than another on one outcome; NaN where it cannot be known."""

    arm: str
    reference: str
    outcome: str
    value: float
    """Mean over seeds and problems of the paired differences."""
    low: float
    high: float
    """95 %, over problems like these: bootstrap over problems within seeds."""
    seed_low: float
    seed_high: float
    """95 %, over trainings like these on the same problems."""
    se: float
    df: float
    p: float
    """Two-sided, over both: its standard error and degrees of freedom are `se` and `df`."""
    d_z: float
    """Cohen's d_z: mean over problems by their standard deviation."""
    p_holm: float = math.nan
    """Adjusted for all arms that are compared with the reference."""


# ------------------------------------------------------------------------------ from cells


def outcomes(cells: Iterable[Mapping[str, Any]], problems: Mapping[str, Any]) -> Outcomes:
    """Line up the cells of arms x seeds.

    Parameters
    ----------
    cells : iterable of mapping
        Each with ``arm seed logprob n c``, as stored.
    problems : mapping
        ``ids``, and ``sampled``: places in them whose answers are sampled.

    Raises
    ------
    InputError
        A cell is missing or there twice, or a value of one is missing.
    """
    found: dict[tuple[str, int], Mapping[str, Any]] = {}
    for cell in cells:
        key = (str(cell["arm"]), int(cell["seed"]))
        if key in found:
            raise InputError(f"cell {key[0]}-{key[1]} is there twice; leave one")
        found[key] = cell
    if not found:
        raise InputError("no cells: nothing was trained yet")
    arms = tuple(dict.fromkeys(arm for arm, _ in found))
    seeds = tuple(sorted({seed for _, seed in found}))
    for arm in arms:
        for seed in seeds:
            if (arm, seed) not in found:
                raise InputError(f"cell {arm}-{seed} is missing; run it, or leave out its arm")
    ids = problems["ids"]
    sampled = [ids[place] for place in problems["sampled"]]
    values = {"logprob": _lined_up(found, arms, seeds, "logprob", ids)}
    right = _lined_up(found, arms, seeds, "c", sampled)
    drawn = {int(cell["n"]) for cell in found.values()}
    if len(drawn) > 1:
        raise InputError(f"cells have different numbers of samples: {sorted(drawn)}; redo some")
    n = drawn.pop()
    for outcome in OUTCOMES[1:]:
        k = int(outcome.removeprefix("pass@"))
        if k <= n and sampled:
            values[outcome] = np.asarray(pass_at_k(n, right, k), dtype=np.float64)
    return Outcomes(arms, seeds, values)


def _lined_up(
    cells: Mapping[tuple[str, int], Mapping[str, Any]],
    arms: Sequence[str],
    seeds: Sequence[int],
    key: str,
    ids: Sequence[str],
) -> Array:
    """What all cells have under `key`, [n_arms, n_seeds, n_problems]."""
    whole = np.empty((len(arms), len(seeds), len(ids)))
    for i, arm in enumerate(arms):
        for j, seed in enumerate(seeds):
            row = np.asarray(cells[arm, seed][key], dtype=np.float64)
            if row.shape != (len(ids),):
                raise InputError(
                    f"cell {arm}-{seed}: {key} has {row.size} values, expected one for each of "
                    f"{len(ids)} problems; measure it again"
                )
            if (odd := np.flatnonzero(~np.isfinite(row))).size:
                raise InputError(
                    f"cell {arm}-{seed}: {key} of problem {ids[odd[0]]} is missing; measure it "
                    "again"
                )
            whole[i, j] = row
    return whole


# ---------------------------------------------------------------------------------- effects


def effect(found: Outcomes, outcome: str, arm: str, reference: str = REFERENCE) -> Effect:
    """How much better an arm is than another, with an interval for problems and one for seeds.

    With ``d[s, p]`` the paired difference, and its mean over both as the value:

    - over problems: percentile bootstrap of ``mean_s d[s, p]``, the same problems drawn for every
      seed and for both arms;
    - over trainings: randomized blocks (Fisher 1935, *The Design of Experiments*), a seed a
      block: ``SE^2 = 2 MSE / S`` with MSE of all trained arms, see `residual_mean_square`;
    - p: t on ``SE^2 = 2 MSE / S + max(0, Var_p(mean_s d) - R / S) / P``, with Satterthwaite's
      degrees of freedom. R is the residual mean square of seeds x problems: what is left of it in
      the mean over seeds is in the first term already. That is the crossed random-effects model
      (Searle, Casella & McCulloch 1992, *Variance Components*).

    The untrained model has no training's noise and shares no block: against it, the seeds' term
    is the variance over seeds of the paired differences themselves by S, on S - 1 degrees.
    With one seed the intervals over trainings and p are unknown.
    """
    ours, theirs = found.of(outcome, arm), found.of(outcome, reference)
    difference = ours - theirs
    by_problem, by_seed = difference.mean(axis=0), difference.mean(axis=1)
    value, low, high = mean_interval(by_problem, BOOTSTRAP_SEED)
    if UNTRAINED in (arm, reference):
        seeds_variance, seeds_df = variance(by_seed) / len(by_seed), len(by_seed) - 1
    else:
        means = np.stack([found.of(outcome, one).mean(axis=1) for one in found.trained])
        residual, seeds_df = residual_mean_square(means)
        seeds_variance = 2 * residual / len(found.seeds)
    shared, _ = residual_mean_square(difference)
    problems_variance = max(0.0, variance(by_problem) - shared / len(by_seed)) / len(by_problem)
    half = t_quantile(1 - LEVEL / 2, seeds_df) * math.sqrt(seeds_variance)
    se, df = satterthwaite((seeds_variance, seeds_df), (problems_variance, len(by_problem) - 1))
    return Effect(
        arm,
        reference,
        outcome,
        value,
        low,
        high,
        value - half,
        value + half,
        se,
        df,
        two_sided_p(value, se, df),
        _share(value, math.sqrt(variance(by_problem))),
    )


def effects(found: Outcomes, outcome: str, reference: str = REFERENCE) -> list[Effect]:
    """Effects of all other arms against one, their p adjusted by Holm's method.

    The untrained model comes too, unadjusted and not counted: that it differs says that training
    does something, which is not among the questions.
    """
    each = [effect(found, outcome, arm, reference) for arm in found.arms if arm != reference]
    family = [one for one in each if one.arm != UNTRAINED]
    adjusted = dict(zip([e.arm for e in family], holm([e.p for e in family]), strict=True))
    return [replaced(one, adjusted.get(one.arm, math.nan)) for one in each]


def replaced(one: Effect, p_holm: float) -> Effect:
    """The same effect with its adjusted p."""
    return replace(one, p_holm=float(p_holm))


# --------------------------------------------------------------------------- relative sizes


def share_of_training(
    found: Outcomes, outcome: str, arm: str, reference: str = REFERENCE
) -> tuple[float, float, float]:
    """An effect as a share of what training on random data does: effect / (random - none).

    Returns
    -------
    share, low, high : float
        See `ratio_interval`.
    """
    if UNTRAINED not in found.arms or arm == UNTRAINED:
        return math.nan, math.nan, math.nan
    ours, theirs, before = (
        found.of(outcome, name).mean(axis=0) for name in (arm, reference, UNTRAINED)
    )
    random = found.of(outcome, REFERENCE).mean(axis=0)
    return ratio_interval(ours - theirs, random - before)


def relative(
    found: Outcomes, outcome: str, arm: str, reference: str = REFERENCE
) -> tuple[float, float, float]:
    """An effect as a share of the reference's own value, for pass@k; see `ratio_interval`."""
    ours, theirs = (found.of(outcome, name).mean(axis=0) for name in (arm, reference))
    return ratio_interval(ours - theirs, theirs)


# ------------------------------------------------------------------------------------- plan


def plan(folder: Path) -> dict[str, Any]:
    """`planned` of a folder of results, for the arms that its settings name."""
    arms = read_json(folder / "settings.json")["settings"]["arms"]
    cells = [
        read_json(file)
        for arm in (UNTRAINED, REFERENCE)
        for file in sorted((folder / "cells").glob(f"{arm}-*.json"))
        if file.stem.removeprefix(f"{arm}-").isdigit()
    ]
    return planned(cells, read_json(folder / "problems.json"), arms)


def planned(
    cells: Iterable[Mapping[str, Any]], problems: Mapping[str, Any], arms: Sequence[str]
) -> dict[str, Any]:
    """The smallest effects that the design will find, said before other arms are looked at.

    From the cells of `none` and `random` alone; others are not read.
    ``MDE = (t[1 - alpha / 2] + t[0.8]) SE`` (Bloom 1995) with
    ``SE^2 = 2 V_s / S + V_p / (S P)``: ``V_s`` the variance over seeds of random's means, in the
    place of MSE; ``V_p`` the variance over problems of the difference of two of random's own
    seeds, averaged over pairs. What `effect` takes off for the noise that both terms hold is left
    in: the figure errs to the large side.

    Parameters
    ----------
    cells, problems
        As for `outcomes`.
    arms : sequence of str
        All arms that are planned; `none` and `random` may be among them.

    Returns
    -------
    dict
        JSON-ready. ``outcomes`` has for each outcome what it was computed from, ``mde`` at 0.05,
        ``mde_holm`` at the first step of Holm's method, and ``mde_most``, see ``how``.
    """
    read = [cell for cell in cells if cell["arm"] in (UNTRAINED, REFERENCE)]
    found = outcomes(read, problems)
    others = [arm for arm in dict.fromkeys(arms) if arm not in (UNTRAINED, REFERENCE)]
    if not others:
        raise InputError("plan: no arms to compare with random; name those that will be trained")
    n_seeds = len(found.seeds)
    said = {
        outcome: {key: _figures(value) for key, value in one.items()}
        for outcome in found.values
        for one in [_detectable(found, outcome, len(others))]
    }
    return {
        "arms": others,
        "comparisons": len(others),
        "seeds": n_seeds,
        "level": LEVEL,
        "level_holm": _figures(LEVEL / len(others)),
        "power": POWER,
        "outcomes": said,
        "how": (
            "Smallest true difference between an arm and random that has an 80 % chance to be "
            f"found, from the cells of none and random alone: (t(1 - alpha/2) + t(0.8)) x SE, "
            f"SE^2 = 2 V_s / {n_seeds} + V_p / ({n_seeds} P). V_s is the variance over seeds of "
            f"random's means ({n_seeds - 1} degrees of freedom as found; planned with "
            f"{len(others) * (n_seeds - 1)}, those of {len(others) + 1} arms x {n_seeds} seeds); "
            "it holds what all arms of a seed share too, so it errs to the large side. V_p is the "
            "variance over problems of the difference between two of random's own seeds. "
            "mde: alpha 0.05; mde_holm: alpha 0.05 by the number of comparisons; mde_most: as "
            "mde, if no difference between problems averages out over seeds, as when all of it "
            "comes from what was picked."
        ),
    }


def _detectable(found: Outcomes, outcome: str, comparisons: int) -> dict[str, float]:
    """What `plan` says of one outcome."""
    random = found.of(outcome, REFERENCE)
    n_seeds, n_problems = random.shape
    gain = float((random.mean(axis=0) - found.of(outcome, UNTRAINED).mean(axis=0)).mean())
    seeds = variance(random.mean(axis=1))
    pairs = [variance(random[s] - random[t]) for s, t in combinations(range(n_seeds), 2)]
    problems = float(np.mean(pairs)) if pairs else math.nan
    planned = (2 * seeds / n_seeds, comparisons * (n_seeds - 1))
    se, df = satterthwaite(planned, (problems / n_seeds / n_problems, n_problems - 1))
    most, most_df = satterthwaite(planned, (problems / n_problems, n_problems - 1))
    # Seeds that are all alike, such as nothing but wrong answers, say nothing of the spread.
    se, most = (one if one > 0 else math.nan for one in (se, most))
    mde = _reach(LEVEL, df) * se
    return {
        "problems": n_problems,
        "none": float(found.of(outcome, UNTRAINED).mean()),
        "random": float(random.mean()),
        "seeds_sd": math.sqrt(seeds),
        "seeds_df": n_seeds - 1,
        "problems_sd": math.sqrt(problems),
        "se_seeds": math.sqrt(planned[0]),
        "se_problems": math.sqrt(problems / n_seeds / n_problems),
        "se": se,
        "df": df,
        "mde": mde,
        "mde_holm": _reach(LEVEL / comparisons, df) * se,
        "mde_most": _reach(LEVEL, most_df) * most,
        "share_of_training": mde / gain if gain > 0 else math.nan,
    }


def _reach(level: float, df: float) -> float:
    return t_quantile(1 - level / 2, df) + t_quantile(POWER, df)


def _figures(value: float) -> float | int | None:
    """A number to six significant figures, as JSON can hold it."""
    if isinstance(value, int):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan
