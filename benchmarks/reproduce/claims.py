"""The claims of the paper, and our own questions, each with a verdict from stored results.

The rule is `evidence.RULE`. Which arms may show a claim is written here, not read off results.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .evidence import (
    NOT_RUN,
    Evidence,
    chosen_axes,
    judged,
    log_radii,
    of_effect,
    of_families,
    of_problems,
    steered,
)
from .formulas import holm
from .statistics import REFERENCE, UNTRAINED, Outcomes, effect, effects
from .stored import Stored
from .words import UNITS, between, cell, chance, change, percent

NATIVE = ("weakness_pca", "weakness_sae")
"""The model-native arms that claims are judged by."""

HUMAN = ("category", "weakest_categories")
SKILL_COVERAGE = ("k_center", "d_optimal")

BEST_SELECTION = 0.030
"""38.4 to 39.6 % and 56 to 57.7 %: at least 3.0 % of what the human selection reaches."""
ON_MATH, STEERED = 0.20, 0.048

WORTHWHILE = 0.1
"""Of what training on random rows gives: an effect on the log-probability that would count."""

LADDER = (
    ("Axes do better than a rotation within their span", "weakness_pca", "weakness_rotated"),
    ("Axes do better than a random subspace", "weakness_pca", "weakness_subspace"),
    ("Influence, without axes, does better than axes", "influence", "weakness_pca"),
    ("SAE axes do better than PCA axes", "weakness_sae", "weakness_pca"),
)


@dataclass(frozen=True, slots=True)
class Claim:
    """A line of the table.

    Attributes
    ----------
    text : str
    figure : str
        The paper's; empty for a question of our own.
    outcome : str
    seen : str
    verdict : str
    """

    text: str
    figure: str
    outcome: str
    seen: str
    verdict: str


def claims(stored: Stored) -> list[Claim]:
    """All claims and questions, in the order of the table."""
    return [
        *_selection(stored),
        *_steering(stored.steering),
        *_safety(stored.safety),
        *_ladder(stored),
    ]


def detectable(plan: Mapping[str, Any] | None, outcome: str) -> float | None:
    """The smallest effect that was to be found, at 0.05."""
    found: float | None = (plan or {}).get("outcomes", {}).get(outcome, {}).get("mde")
    return found


def worthwhile(found: Outcomes) -> float | None:
    """A log-probability that would count; None if training on random rows gives nothing."""
    if not {UNTRAINED, REFERENCE} <= set(found.arms):
        return None
    gain = found.of("logprob", REFERENCE).mean() - found.of("logprob", UNTRAINED).mean()
    return WORTHWHILE * float(gain) if gain > 0 else None


# --------------------------------------------------------------------------------- selection


def _selection(stored: Stored) -> Iterator[Claim]:
    best = "Model-native selection beats the best human selection"
    chance_arm = "Selection along the axes beats random selection"
    for outcome in ("logprob", "pass@1"):
        figure = "38.4 → 39.6 %, 56 → 57.7 %" if outcome == "pass@1" else ""
        yield _claim(best, figure, outcome, stored, NATIVE, HUMAN, BEST_SELECTION)
    for outcome in ("logprob", "pass@1"):
        figure = "up to +20 % (MATH), +41 % (AMC)" if outcome == "pass@1" else ""
        yield _claim(chance_arm, figure, outcome, stored, NATIVE, (REFERENCE,), ON_MATH)


def _claim(
    text: str,
    figure: str,
    outcome: str,
    stored: Stored,
    arms: Sequence[str],
    rivals: Sequence[str],
    claimed: float,
) -> Claim:
    """A claim that one of some arms shows by beating all its rivals."""
    found = stored.found
    if found is None or outcome not in found.values or not set(rivals) <= set(found.arms):
        return Claim(text, figure, outcome, NOT_RUN, NOT_RUN)
    there = [arm for arm in arms if arm in found.arms]
    mde = detectable(stored.plan, outcome)

    def one(arm: str, rival: str) -> Evidence:
        size = claimed * float(found.of(outcome, rival).mean()) if figure else worthwhile(found)
        return of_effect(effect(found, outcome, arm, rival), size, mde)

    groups = [[one(arm, rival) for rival in rivals] for arm in there]
    adjusted = None
    if tuple(rivals) == (REFERENCE,):  # corrected for all arms, not for these alone
        by_arm = {e.arm: e.p_holm for e in effects(found, outcome)}
        adjusted = [by_arm[arm] for arm in there]
    verdict, p = judged(groups, adjusted)

    def whole(item: Evidence) -> float:
        return float(found.of(outcome, item.theirs).mean()) if figure else math.nan

    return Claim(text, figure, outcome, _seen(groups, p, outcome, whole), verdict)


def _ladder(stored: Stored) -> Iterator[Claim]:
    """Questions of our own on the primary outcome; p adjusted for all that can be answered."""
    found, mde = stored.found, detectable(stored.plan, "logprob")
    there: dict[str, Evidence] = {}
    for text, arm, rival in LADDER:
        if found is not None and {arm, rival} <= set(found.arms):
            there[text] = of_effect(effect(found, "logprob", arm, rival), worthwhile(found), mde)
    adjusted = dict(zip(there, holm([one.p for one in there.values()]), strict=True))
    for text, _, _ in LADDER:
        groups = [[there[text]]] if text in there else []
        verdict, p = judged(groups, [float(adjusted[text])] if groups else None)
        yield Claim(text, "", "logprob", _seen(groups, p, "logprob"), verdict)


def _seen(
    groups: Sequence[Sequence[Evidence]],
    p: Sequence[float],
    outcome: str,
    whole: Callable[[Evidence], float] = lambda _: math.nan,
) -> str:
    """What each arm does against the rival that it does worst against."""
    if not groups:
        return NOT_RUN
    said = []
    for group, level in zip(groups, p, strict=True):
        one = min(group, key=lambda item: item.value)
        share = percent(one.value / whole(one), 1) if whole(one) > 0 else ""
        said.append(
            f"{cell(one.ours)} {change(one.value, outcome)} "
            f"({between(one.low, one.high, outcome)}{f'; {share}' if share else ''}) against "
            f"{cell(one.theirs)}, p {chance(level)}"
        )
    return "; ".join(said) + f" [{UNITS[outcome]}]"


# ----------------------------------------------------------------------- steering and safety


def _steering(steering: Mapping[str, Any] | None) -> Iterator[Claim]:
    """Steering must beat no steering, and random vectors of its length."""
    text = "Steering at inference raises pass@8, more than random vectors of equal length do"
    figure = "up to +4.8 % (MATH)"
    passed = steered(steering, "pass@8") if steering else None
    if not steering or passed is None:
        yield Claim(text, figure, "pass@8", NOT_RUN, NOT_RUN)
        return
    plainly = next(one["name"] for one in steering["reported"] if one["kind"] == "unsteered")
    random = [passed[one["name"]] for one in steering["reported"] if one["kind"] == "random"]
    size = STEERED * float(passed[plainly].mean())
    groups = []
    for axis in chosen_axes(steering, "pass@8"):
        group = [of_problems(axis, plainly, passed[axis] - passed[plainly], size)]
        if random:
            by_chance = passed[axis] - np.mean(random, axis=0)
            group.append(of_problems(axis, "random vectors", by_chance, size))
        groups.append(group)
    verdict, p = judged(groups)
    yield Claim(text, figure, "pass@8", _seen(groups, p, "pass@8"), verdict)


def _safety(safety: Mapping[str, Any] | None) -> Iterator[Claim]:
    """Log ratios of covering radii over held-out families, for each ruler."""
    text = "Skill coverage covers unseen attack families with fewer examples than textual diversity"
    figure = "more sample-efficient"
    if not safety:
        yield Claim(text, figure, "radius", NOT_RUN, NOT_RUN)
        return
    for ruler in safety["rulers"]:
        radii = log_radii(safety, ruler)
        groups = [
            [
                of_families(
                    strategy,
                    "text_diversity",
                    (radii["text_diversity"] - radii[strategy]).mean(axis=1),
                )
            ]
            for strategy in SKILL_COVERAGE
            if {strategy, "text_diversity"} <= set(radii)
        ]
        verdict, p = judged(groups)
        said = [
            f"{cell(one.ours)}: radius {percent(math.expm1(-one.value), 1)} "
            f"({percent(math.expm1(-one.high), 1)} to {percent(math.expm1(-one.low), 1)}), "
            f"p {chance(level)}"
            for (one,), level in zip(groups, p, strict=True)
        ]
        yield Claim(text, figure, f"radius, {ruler}", "; ".join(said) or NOT_RUN, verdict)
