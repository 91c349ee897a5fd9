"""From comparisons to a verdict, by one rule."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnskills_viz.evaluation.intervals import mean_interval
from mnskills_viz.evaluation.pass_at_k import pass_at_k

from .formulas import BOOTSTRAP_SEED, holm, t_quantile, two_sided_p, variance
from .statistics import LEVEL, Effect

Array = NDArray[np.float64]
Verdict = str

HOLDS, DOES_NOT, TOO_SMALL, NOT_RUN = "holds", "does not hold", "too small to tell", "not run"
NOT_JUDGED = "not judged: rows were selected by this ruler"

RULE = (
    "**holds**: the difference is above 0, its p, adjusted for the number of comparisons, is "
    "below 0.05, and all its intervals lie above 0. **does not hold**: the upper ends of its "
    "intervals lie below 0, or below each size that would count: what the paper claims; for the "
    "log-probability, which it does not report, a tenth of what training on random rows gives; "
    "and the smallest effect that this design was to detect. **too small to tell**: anything "
    "else. Where an arm has to beat several others, it has to beat each of them "
    "(intersection-union), and it fails where it fails against one. Where several arms may show "
    "a statement, they were named beforehand, one is enough, and p is adjusted for them by Holm's "
    "method; the statement fails where all of them fail. An arm some of whose trainings drew their "
    "rows at random, for want of a weak pole, shows nothing and fails nothing, and neither does a "
    "comparison with such an arm."
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """One comparison, as the rule reads it.

    Attributes
    ----------
    ours, theirs : str
    value : float
        Above 0 where ours is better.
    intervals : tuple of (float, float)
        95 % each; with unknown ends nothing is decided.
    p : float
        Two-sided, unadjusted.
    limits : tuple of float
        Sizes that would count, as far as there are such; see `RULE`.
    barred : bool
        One of both drew rows at random in place of what its name says: it decides nothing.
    """

    ours: str
    theirs: str
    value: float
    intervals: tuple[tuple[float, float], ...]
    p: float
    limits: tuple[float, ...] = ()
    barred: bool = False

    @property
    def low(self) -> float:
        """The lowest end of its intervals."""
        return float(np.min([low for low, _ in self.intervals]))

    @property
    def high(self) -> float:
        """The highest end of its intervals."""
        return float(np.max([high for _, high in self.intervals]))

    def shown(self) -> bool:
        """Whether it is above 0, as far as its intervals say."""
        return self.value > 0 and self.low > 0

    def excluded(self) -> bool:
        """Whether what is claimed can be ruled out; not by values that are all alike."""
        if self.low == self.high:
            return False
        return self.high < 0 or bool(self.limits and self.high < min(self.limits))


def judged(
    alternatives: Sequence[Sequence[Evidence]], adjusted: Sequence[float] | None = None
) -> tuple[Verdict, list[float]]:
    """The verdict on a statement by `RULE`.

    Parameters
    ----------
    alternatives : sequence of sequence of Evidence
        For each arm that may show it, what it has to beat.
    adjusted : sequence of float, optional
        P of each alternative, adjusted already; otherwise Holm over the largest p of each.

    Returns
    -------
    verdict, adjusted : str, list of float
    """
    if not alternatives:
        return NOT_RUN, []
    p = list(holm([largest(group) for group in alternatives])) if adjusted is None else adjusted
    able = [not any(one.barred for one in group) for group in alternatives]
    shown = [
        may and level < LEVEL and all(one.shown() for one in group)
        for group, level, may in zip(alternatives, p, able, strict=True)
    ]
    failed = [
        may and any(one.excluded() for one in group)
        for group, may in zip(alternatives, able, strict=True)
    ]
    verdict = HOLDS if any(shown) else DOES_NOT if all(failed) else TOO_SMALL
    return verdict, list(p)


def largest(group: Sequence[Evidence]) -> float:
    """The p of beating all of a group: the largest (Berger 1982)."""
    return float(np.max([one.p for one in group]))


def of_effect(one: Effect, *limits: float | None, barred: bool = False) -> Evidence:
    """What an effect of one trained arm against another is evidence for."""
    intervals = ((one.low, one.high), (one.seed_low, one.seed_high))
    return Evidence(one.arm, one.reference, one.value, intervals, one.p, _known(limits), barred)


def of_problems(ours: str, theirs: str, difference: Array, *limits: float | None) -> Evidence:
    """Paired differences over problems [n], of models without training: bootstrap, and paired t."""
    value, low, high = mean_interval(difference, BOOTSTRAP_SEED)
    n = len(difference)
    p = two_sided_p(value, math.sqrt(variance(difference) / n), n - 1)
    return Evidence(ours, theirs, value, ((low, high),), p, _known(limits))


def of_families(ours: str, theirs: str, difference: Array) -> Evidence:
    """Paired differences over a few families [n]: the interval and p of Student's t."""
    value, n = float(difference.mean()), len(difference)
    se = math.sqrt(variance(difference) / n)
    half = t_quantile(1 - LEVEL / 2, n - 1) * se
    return Evidence(
        ours, theirs, value, ((value - half, value + half),), two_sided_p(value, se, n - 1)
    )


def _known(limits: Sequence[float | None]) -> tuple[float, ...]:
    return tuple(one for one in limits if one is not None and math.isfinite(one))


# ----------------------------------------------------------------- of steering and of safety


def steered(steering: Mapping[str, Any], outcome: str) -> dict[str, Array] | None:
    """Name of each way to answer -> pass@k of every problem, [n]; None of too few samples."""
    k = int(outcome.removeprefix("pass@"))
    if any(one["n"] < k for one in steering["reported"]):
        return None
    return {
        one["name"]: np.asarray(pass_at_k(one["n"], one["c"], k), dtype=np.float64)
        for one in steering["reported"]
    }


def chosen_axes(steering: Mapping[str, Any], outcome: str) -> list[str]:
    """The steered axes that an outcome is judged by: the one chosen for it, on other problems."""
    axes = [one["name"] for one in steering["reported"] if one["kind"] == "axis"]
    best = steering.get("chosen", {}).get(outcome)
    return [best] if best in axes else axes


def twins(steering: Mapping[str, Any], axis: str) -> list[str]:
    """The random vectors that are as long as an axis's, by their names."""
    named = re.compile(rf"random\W*\d*, as long as {re.escape(axis)}(?:[\s,(#]+\d+\)?)?")
    return [
        one["name"]
        for one in steering["reported"]
        if one["kind"] == "random" and named.fullmatch(one["name"])
    ]


def log_radii(safety: Mapping[str, Any], ruler: str) -> dict[str, Array]:
    """Strategy -> log covering radius [n_families, n_budgets], the mean over its seeds."""
    radii: dict[tuple[str, str, int], list[float]] = {}
    for row in safety["table"]:
        if row["ruler"] == ruler:
            key = (row["strategy"], row["family"], row["budget"])
            radii.setdefault(key, []).append(math.log(max(row["radius"], 1e-12)))
    return {
        strategy: np.array(
            [
                [np.mean(radii[strategy, family, budget]) for budget in safety["budgets"]]
                for family in safety["held_out"]
            ]
        )
        for strategy in dict.fromkeys(strategy for strategy, _, _ in radii)
    }
