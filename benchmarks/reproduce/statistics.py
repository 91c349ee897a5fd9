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

from mnskills_viz.errors import InputError
from mnskills_viz.evaluation.intervals import mean_interval
from mnskills_viz.files import read_json

from .formulas import (
    BOOTSTRAP_SEED,
    holm,
    ratio_interval,
    residual_mean_square,
    satterthwaite,
    standardized_interval,
    t_quantile,
    two_sided_p,
    variance,
    variance_interval,
)
from .outcomes import REFERENCE, UNTRAINED, Array, Outcomes, outcomes

LEVEL = 0.05
POWER = 0.8


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
    p_holm: float = math.nan
    """Adjusted for all arms that are compared with the reference."""


# ---------------------------------------------------------------------------------- effects


def effect(found: Outcomes, outcome: str, arm: str, reference: str = REFERENCE) -> Effect:
    """How much better an arm is than another, with an interval for problems and one for seeds.

    With ``d[s, p]`` the paired difference, and its mean over both as the value:

    - over problems: percentile bootstrap of ``mean_s d[s, p]``, the same problems drawn for every
      seed and for both arms;
    - over trainings: Student's t on the variances of `training_terms`;
    - p: t on those and ``max(0, Var_p(mean_s d) - R / S) / P``, with Satterthwaite's degrees of
      freedom. R is the residual mean square of seeds x problems: what is left of it in the mean
      over seeds is in the other terms already. That is the crossed random-effects model
      (Searle, Casella & McCulloch 1992, *Variance Components*).

    With one seed the intervals over trainings and p are unknown.
    """
    difference = found.of(outcome, arm) - found.of(outcome, reference)
    by_problem, n_seeds = difference.mean(axis=0), len(difference)
    value, low, high = mean_interval(by_problem, BOOTSTRAP_SEED)
    training = training_terms(found, outcome, arm, reference)
    shared, _ = residual_mean_square(difference)
    problems = max(0.0, variance(by_problem) - shared / n_seeds) / len(by_problem)
    seeds_se, seeds_df = satterthwaite(*training)
    half = t_quantile(1 - LEVEL / 2, seeds_df) * seeds_se
    se, df = satterthwaite(*training, (problems, len(by_problem) - 1))
    ends = (low, high, value - half, value + half)
    return Effect(arm, reference, outcome, value, *ends, se, df, two_sided_p(value, se, df))


def both(one: Effect) -> tuple[float, float]:
    """95 % over problems and trainings together: the interval that belongs to `p`."""
    half = t_quantile(1 - LEVEL / 2, one.df) * one.se
    return one.value - half, one.value + half


def own_seeds(
    found: Outcomes, outcome: str, arm: str, reference: str = REFERENCE
) -> tuple[float, float]:
    """95 % over trainings from the differences of two arms alone: Student's t, paired by seed."""
    difference = (found.of(outcome, arm) - found.of(outcome, reference)).mean(axis=1)
    half = t_quantile(1 - LEVEL / 2, len(difference) - 1) * math.sqrt(
        variance(difference) / len(difference)
    )
    return float(difference.mean()) - half, float(difference.mean()) + half


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


# ------------------------------------------------------------------------- noise of training


def training_terms(
    found: Outcomes, outcome: str, arm: str, reference: str
) -> list[tuple[float, float]]:
    """What trainings add to the variance of an effect, each term with its degrees of freedom.

    Arms whose rows are redrawn by seed have more noise than those that train on fixed rows, so
    one residual for all would be too small for some effects and too large for others. A seed is
    a block within each class (randomized blocks, Fisher 1935, *The Design of Experiments*), and
    with S seeds the terms are

    - of two arms of one class: ``2 MSE / S``, MSE its `residual_mean_square`;
    - of two classes: ``MSE_g / S`` and ``MSE_h / S``;
    - where arm g is alone in its class and the other one has H arms: ``Var_s(y_g - mean_h y_h) /
      S`` and ``MSE_h (1 - 1 / H) / S``, which are independent, and add up to the same;
    - of two arms that are each alone, and against the untrained model, which has no noise of
      training and shares no block: the variance of the paired differences by S.

    [Simulated without a difference, 3 seeds, noise of the redrawn arms 1 / 1.5 / 2 / 3 times the
    others': p < 0.05 in 5.5 / 6.6 / 7.0 / 7.5 % where random alone is redrawn among nine arms, 4.4
    / 10.7 / 15.0 / 23.6 % by one residual for all; 4.5 to 5.5 % of four redrawn and five fixed.]
    """
    n_seeds = len(found.seeds)
    if UNTRAINED in (arm, reference):
        difference = found.of(outcome, arm) - found.of(outcome, reference)
        return [(variance(difference.mean(axis=1)) / n_seeds, n_seeds - 1)]
    ours, theirs = (_means(found, outcome, found.class_of(one)) for one in (arm, reference))
    if (arm in found.redrawn) == (reference in found.redrawn):
        residual, df = residual_mean_square(ours)
        return [(2 * residual / n_seeds, df)]
    alone, others = sorted((ours, theirs), key=len)
    if len(others) == 1:
        return [(variance(alone[0] - others[0]) / n_seeds, n_seeds - 1)]
    residual, df = residual_mean_square(others)
    if len(alone) == 1:
        apart = variance(alone[0] - others.mean(axis=0))
        return [(apart / n_seeds, n_seeds - 1), ((1 - 1 / len(others)) * residual / n_seeds, df)]
    residual_ours, df_ours = residual_mean_square(alone)
    return [(residual_ours / n_seeds, df_ours), (residual / n_seeds, df)]


def _means(found: Outcomes, outcome: str, arms: Sequence[str]) -> Array:
    """Means over problems, [n_arms, n_seeds]."""
    return np.stack([found.of(outcome, arm).mean(axis=1) for arm in arms])


def training_noise(found: Outcomes, outcome: str) -> dict[str, float]:
    """Standard deviation over seeds of each trained arm, once its class's seeds are taken off.

    Their mean square over a class is its residual mean square. An arm that is alone in its class
    is held against the mean of the other class, whose own noise is taken off; NaN where that
    leaves nothing, or there is no other class of two arms.
    """
    noise = dict.fromkeys(found.trained, math.nan)
    for arm in noise:
        members = found.class_of(arm)
        means = _means(found, outcome, members)
        if len(members) > 1:
            left = means - means.mean(axis=1, keepdims=True) - means.mean(axis=0) + means.mean()
            spread = variance(left[members.index(arm)]) * len(members) / (len(members) - 1)
        else:
            others = [one for one in found.trained if one not in members]
            if len(others) < 2:
                continue
            rest = _means(found, outcome, others)
            residual, _ = residual_mean_square(rest)
            spread = variance(means[0] - rest.mean(axis=0)) - residual / len(others)
        noise[arm] = math.sqrt(spread) if spread >= 0 else math.nan
    return noise


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


def standardized(
    found: Outcomes, outcome: str, arm: str, reference: str = REFERENCE
) -> tuple[float, float, float]:
    """Cohen's d_z, mean over problems by their standard deviation; see `standardized_interval`."""
    ours, theirs = (found.of(outcome, name).mean(axis=0) for name in (arm, reference))
    return standardized_interval(ours - theirs)


# ------------------------------------------------------------------------------------- plan


def plan(folder: Path) -> dict[str, Any]:
    """`planned` of a folder of results, for the arms that its settings name.

    ``cells`` has the names of all cells that are there, those of other arms too: whether the plan
    came before them can be read off it.
    """
    arms = read_json(folder / "settings.json")["settings"]["arms"]
    cells = [
        read_json(file)
        for arm in (UNTRAINED, REFERENCE)
        for file in sorted((folder / "cells").glob(f"{arm}-*.json"))
        if file.stem.removeprefix(f"{arm}-").isdigit()
    ]
    there = sorted(file.stem for file in (folder / "cells").glob("*.json"))
    return planned(cells, read_json(folder / "problems.json"), arms) | {"cells": there}


def planned(
    cells: Iterable[Mapping[str, Any]], problems: Mapping[str, Any], arms: Sequence[str]
) -> dict[str, Any]:
    """The smallest effects that the design will find, said before other arms are looked at.

    From the cells of `none` and `random` alone; others are not read.
    ``MDE = (t[1 - alpha / 2] + t[0.8]) SE`` (Bloom 1995) with
    ``SE^2 = 2 V_s / S + V_p / (S P)``: ``V_s`` the variance over seeds of random's means, in the
    place of both classes' MSE; ``V_p`` the variance over problems of the difference of two of
    random's own seeds, averaged over pairs. What `effect` takes off for the noise that both terms
    hold is left in: the figure errs to the large side.

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
            f"{_planned_df(len(others), n_seeds)}, those of {len(others) + 1} arms x {n_seeds} "
            "seeds in two classes of equal size, rows redrawn by seed or fixed); it holds what all "
            "arms of a seed share too, so it errs to the large side. V_p is the "
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
    planned = (2 * seeds / n_seeds, _planned_df(comparisons, n_seeds))
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


def _planned_df(comparisons: int, n_seeds: int) -> int:
    """What two classes of equal size leave for one of each; with one comparison paired seeds."""
    return max(1, comparisons - 1) * (n_seeds - 1)


def mde_range(plan: Mapping[str, Any], outcome: str) -> tuple[float, float]:
    """Where the detectable effect may lie, for all that a few seeds say of their spread.

    The effect at both ends of the 95 % interval of V_s (chi-square, on S - 1 degrees of freedom),
    at 0.05; NaN where there is nothing to plan with. For plans of earlier versions too.
    """
    one, n_seeds = plan["outcomes"][outcome], plan["seeds"]
    if one["mde"] is None:
        return math.nan, math.nan
    problems = (one["se_problems"] ** 2, one["problems"] - 1)
    ends = []
    for spread in variance_interval(one["seeds_sd"] ** 2, one["seeds_df"]):
        seeds = (2 * spread / n_seeds, _planned_df(plan["comparisons"], n_seeds))
        se, df = satterthwaite(seeds, problems)
        ends.append(_reach(LEVEL, df) * se)
    return ends[0], ends[1]


def _reach(level: float, df: float) -> float:
    return t_quantile(1 - level / 2, df) + t_quantile(POWER, df)


def _figures(value: float) -> float | int | None:
    """A number to six significant figures, as JSON can hold it."""
    if isinstance(value, int):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None
