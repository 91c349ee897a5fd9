"""The claims of the paper, and our own questions, each with a verdict from stored results.

The rule is `evidence.RULE`. Which arms may show a claim is written here, not read off results.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .evidence import (
    NOT_JUDGED,
    NOT_RUN,
    Evidence,
    chosen_axes,
    judged,
    largest,
    log_radii,
    of_effect,
    of_families,
    of_problems,
    steered,
    twins,
)
from .formulas import holm
from .outcomes import REFERENCE, UNTRAINED, Array, Outcomes
from .statistics import effect, effects
from .stored import GROUPS, Stored
from .words import UNITS, between, cell, chance, change, counted, percent

NATIVE = ("weakness_pca", "weakness_sae")
"""The model-native arms that claims are judged by; those of `full` alone are not among them."""

HUMAN = GROUPS["human taxonomy"]
AUTHORS = "autoskill"
SKILL_COVERAGE = ("k_center", "d_optimal")

BEST_SELECTION = ("38.4 → 39.6 %, 56 → 57.7 %", 0.030)
"""The paper's figure of pass@1, and what it claims at least as a share of the rival's value."""
ON_MATH = ("up to +20 % (MATH), +41 % (AMC)", 0.20)
STEERED = ("up to +4.8 % (MATH)", 0.048)

WORTHWHILE = 0.1
"""Of what training on random rows gives: an effect on the log-probability that would count."""

LADDER = (
    ("Axes do better than a rotation within their span", "weakness_pca", "weakness_rotated"),
    ("Axes do better than a random subspace", "weakness_pca", "weakness_subspace"),
    ("Influence, without axes, does better than axes", "influence", "weakness_pca"),
    ("SAE axes do better than PCA axes", "weakness_sae", "weakness_pca"),
    ("Measuring errors anew helps", "curriculum_quarters", "weakness_pca_quarters"),
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
        *_authors(stored),
        *_steering(stored.steering),
        *_prompted(stored.steering),
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
        yield _claim(best, BEST_SELECTION, outcome, stored, NATIVE, HUMAN)
    for outcome in ("logprob", "pass@1"):
        yield _claim(chance_arm, ON_MATH, outcome, stored, NATIVE, (REFERENCE,))


def _authors(stored: Stored) -> Iterator[Claim]:
    """The paper's own recipe, where it is among the arms."""
    planned = stored.settings.get("settings", {}).get("arms", ())
    if AUTHORS not in planned and not stored.of_arm(AUTHORS):
        return
    human = f"The authors' own recipe ({AUTHORS}) beats the best human selection"
    chance_arm = f"The authors' own recipe ({AUTHORS}) beats random selection"
    for outcome in ("logprob", "pass@1"):
        yield _claim(human, BEST_SELECTION, outcome, stored, (AUTHORS,), HUMAN)
    for outcome in ("logprob", "pass@1"):
        yield _claim(chance_arm, ON_MATH, outcome, stored, (AUTHORS,), (REFERENCE,))


def _claim(
    text: str,
    claimed: tuple[str, float],
    outcome: str,
    stored: Stored,
    arms: Sequence[str],
    rivals: Sequence[str],
) -> Claim:
    """A claim that one of some arms shows by beating all its rivals."""
    found = stored.found
    figure = claimed[0] if outcome == "pass@1" else ""
    there = [arm for arm in arms if found is not None and arm in found.arms]
    if (
        found is None
        or not there
        or outcome not in found.values
        or not set(rivals) <= set(found.arms)
    ):
        return Claim(text, figure, outcome, NOT_RUN, NOT_RUN)
    mde = detectable(stored.plan, outcome)

    def whole(item: Evidence) -> float:
        return float(found.of(outcome, item.theirs).mean()) if figure else math.nan

    def one(arm: str, rival: str) -> Evidence:
        reached = float(found.of(outcome, rival).mean())
        size = claimed[1] * reached if figure else worthwhile(found)
        barred = bool(_instead(stored, (arm, rival)))
        return of_effect(effect(found, outcome, arm, rival), size, mde, barred=barred)

    groups = [[one(arm, rival) for rival in rivals] for arm in there]
    adjusted = None
    if tuple(rivals) == (REFERENCE,):  # corrected for all arms, not for these alone
        by_arm = {e.arm: e.p_holm for e in effects(found, outcome)}
        adjusted = [by_arm[arm] for arm in there]
    verdict, p = judged(groups, adjusted)
    seen = _seen(groups, p, outcome, whole) + _instead(stored, (*there, *rivals))
    return Claim(text, figure, outcome, seen, verdict)


def _instead(stored: Stored, arms: Sequence[str]) -> str:
    """Which of some arms drew rows at random, as "what we see" has it; empty where none did."""
    return "".join(
        f"; {cell(arm)} found no weak pole and drew its rows at random in {n} of "
        f"{counted(len(stored.of_arm(arm)), 'training')}, so it decides nothing"
        for arm in dict.fromkeys(arms)
        if (n := stored.drawn_instead(arm))
    )


def _ladder(stored: Stored) -> Iterator[Claim]:
    """Questions of our own on the primary outcome; p adjusted for all that can be answered."""
    found, mde = stored.found, detectable(stored.plan, "logprob")
    there: dict[str, Evidence] = {}
    for text, arm, rival in LADDER:
        if found is not None and {arm, rival} <= set(found.arms):
            one, barred = effect(found, "logprob", arm, rival), bool(_instead(stored, (arm, rival)))
            there[text] = of_effect(one, worthwhile(found), mde, barred=barred)
    adjusted = dict(zip(there, holm([one.p for one in there.values()]), strict=True))
    for text, arm, rival in LADDER:
        groups = [[there[text]]] if text in there else []
        verdict, p = judged(groups, [float(adjusted[text])] if groups else None)
        why = _instead(stored, (arm, rival)) if groups else ""
        yield Claim(text, "", "logprob", _seen(groups, p, "logprob") + why, verdict)


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
            f"{cell(one.theirs)}, {_p(group, level)}"
        )
    return "; ".join(said) + f" [{UNITS[outcome]}]"


def _p(group: Sequence[Evidence], level: float) -> str:
    """A p-value, and what it is of where several are to be beaten."""
    return f"p {'of beating all ' if len(group) > 1 else ''}{chance(level)}"


# ----------------------------------------------------------------------- steering and safety


def _steering(steering: Mapping[str, Any] | None) -> Iterator[Claim]:
    """Steering must beat no steering, and random vectors as long as the very axis."""
    text = "Steering at inference raises pass@8, more than random vectors of equal length do"
    figure, share = STEERED
    passed = steered(steering, "pass@8") if steering else None
    if not steering or passed is None:
        yield Claim(text, figure, "pass@8", NOT_RUN, NOT_RUN)
        return
    plainly = _only(steering, "unsteered")
    size = share * float(passed[plainly].mean())
    groups = []
    for axis in chosen_axes(steering, "pass@8"):
        if controls := twins(steering, axis):
            by_chance = passed[axis] - np.mean([passed[name] for name in controls], axis=0)
            groups.append(
                [
                    of_problems(axis, plainly, passed[axis] - passed[plainly], size),
                    of_problems(axis, "random vectors of its length", by_chance, size),
                ]
            )
    verdict, p = judged(groups)
    yield Claim(text, figure, "pass@8", _seen(groups, p, "pass@8"), verdict)


def _prompted(steering: Mapping[str, Any] | None) -> Iterator[Claim]:
    """Whether the axis beats what it is to replace; a question of our own."""
    for outcome in ("pass@8", "pass@1"):
        groups = []
        passed = steered(steering, outcome) if steering else None
        if steering and passed and (prompt := _only(steering, "text prompt")):
            groups = [
                [of_problems(axis, prompt, passed[axis] - passed[prompt])]
                for axis in chosen_axes(steering, outcome)
            ]
        verdict, p = judged(groups)
        seen = _seen(groups, p, outcome)
        yield Claim("Steering beats the text system prompt", "", outcome, seen, verdict)


def _only(steering: Mapping[str, Any], kind: str) -> str:
    """The name of the one way to answer of a kind; empty where there is none."""
    return next((one["name"] for one in steering["reported"] if one["kind"] == kind), "")


def _safety(safety: Mapping[str, Any] | None) -> Iterator[Claim]:
    """Log ratios of covering radii over held-out families, by each ruler.

    Coverage has to beat textual diversity and random draws. The first ruler is the space that
    rows were selected in: a rule that spreads there is near there, so it is shown and not judged.
    By all others p is adjusted for rulers and strategies together.
    """
    text = "Skill coverage covers unseen attack families with fewer examples than textual diversity"
    figure = "more sample-efficient"
    if not safety:
        yield Claim(text, figure, "radius", NOT_RUN, NOT_RUN)
        return
    own = safety["rulers"][0]
    groups = {ruler: _coverage(log_radii(safety, ruler)) for ruler in safety["rulers"]}
    tests = [(ruler, i) for ruler in groups if ruler != own for i in range(len(groups[ruler]))]
    p = dict(zip(tests, holm([largest(groups[ruler][i]) for ruler, i in tests]), strict=True))
    for ruler, each in groups.items():
        adjusted = [float(p[ruler, i]) for i in range(len(each)) if (ruler, i) in p]
        verdict = NOT_JUDGED if ruler == own else judged(each, adjusted)[0]
        said = "; ".join(map(_radius_seen, each, adjusted or [math.nan] * len(each)))
        yield Claim(text, figure, f"radius, {ruler}", said or NOT_RUN, verdict if each else NOT_RUN)


def _coverage(radii: Mapping[str, Array]) -> list[list[Evidence]]:
    """What each rule of skill coverage has to beat, by one ruler."""
    rivals = ("text_diversity", "random")
    return [
        [
            of_families(strategy, rival, (radii[rival] - radii[strategy]).mean(axis=1))
            for rival in rivals
        ]
        for strategy in SKILL_COVERAGE
        if {strategy, *rivals} <= set(radii)
    ]


def _radius_seen(group: Sequence[Evidence], p: float) -> str:
    """What a rule does to the radius, against the rival that it does worst against."""
    one = min(group, key=lambda item: item.value)
    level = f", {_p(group, p)}" if math.isfinite(p) else ""
    return (
        f"{cell(one.ours)}: radius {percent(math.expm1(-one.value), 1)} "
        f"({percent(math.expm1(-one.high), 1)} to {percent(math.expm1(-one.low), 1)}) "
        f"against {cell(one.theirs)}{level}"
    )
