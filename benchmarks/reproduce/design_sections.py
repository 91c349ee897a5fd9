"""The parts of the report on the design: what it can find, and what each arm spent."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .outcomes import REFERENCE, UNTRAINED
from .statistics import mde_range
from .stored import Stored
from .words import UNITS, cell, counted, level, listed, plain, table

# -------------------------------------------------------------------------------------- plan


def plan_part(stored: Stored) -> Iterator[str]:
    """What the design can find, and what was there when that was said."""
    yield "## What this design can find\n"
    plan = stored.plan
    if not plan:
        yield "Not computed yet: it needs all cells of `none` and `random`.\n"
        return
    yield (
        "The smallest true difference from random that has an "
        f"{100 * plan['power']:.0f} % chance to be found, with {counted(plan['seeds'], 'seed')} "
        f"and {counted(plan['comparisons'], 'comparison')}, computed from `none` and `random` "
        f"alone.{_when(plan)}\n"
    )
    head = ["outcome", "problems", "none", "random", "detectable", "its 95 %", "after Holm"]
    rows = []
    for outcome, one in plan["outcomes"].items():
        scale = 1 if outcome == "logprob" else 100
        digits = 4 if outcome == "logprob" else 1

        def size(value: float | None, scale: int = scale, digits: int = digits) -> str:
            return plain(None if value is None else scale * value, digits)

        ends = [level(one[key], outcome) for key in ("none", "random")]
        low, high = mde_range(plan, outcome)
        between = f"{size(low)} to {size(high)}" if low == low else plain(None)
        sizes = [size(one["mde"]), between, size(one["mde_holm"]), size(one["mde_most"])]
        rows.append([f"{outcome} ({UNITS[outcome]})", str(one["problems"]), *ends, *sizes])
    yield from table([*head, "at most"], rows)
    yield (
        f"{plan['how']} Its 95 %: the detectable effect at both ends of the chi-square interval "
        "of V_s, which is all that so few seeds say of it.\n"
    )


def _when(plan: Mapping[str, Any]) -> str:
    """What was there when a plan was made; plans of earlier versions do not tell."""
    if "cells" not in plan:
        return ""
    others = [
        name for name in plan["cells"] if name.rpartition("-")[0] not in (UNTRAINED, REFERENCE)
    ]
    there = counted(len(plan["cells"]), "cell")
    if not others:
        return f" When it was made, their {there} were all there was: no other arm was trained yet."
    arms = list(dict.fromkeys(name.rpartition("-")[0] for name in others))
    return (
        f" It was not made before other arms were trained: of the {there} there were then, "
        f"{len(others)} were of {listed([f'`{arm}`' for arm in arms])}. They were not read for it."
    )


# -------------------------------------------------------------------------------------- cost


def cost_part(stored: Stored) -> Iterator[str]:
    """What each arm spent."""
    spent = {c["arm"]: stored.of_arm(c["arm"]) for c in stored.cells if "loss_tokens" in c}
    if not spent:
        return
    yield "## Equal cost\n"
    yield (
        "Budgets are equal in tokens of the responses; each row costs an end mark and a line break "
        "more, so loss tokens differ with the number of rows. Optimizer steps are as equal as "
        "whole batches allow. All arms are trained in shuffled order: rows are compared, not "
        "orders, and the curriculum's order is not tested.\n"
    )
    tokens = {arm: _mean_of(cells, "loss_tokens") for arm, cells in spent.items()}
    steps = [c["optimizer_steps"] for cells in spent.values() for c in cells]
    if REFERENCE in tokens:
        equal = {arm: n for arm, n in tokens.items() if not arm.endswith("_rows")}
        odd = {arm: abs(n / tokens[REFERENCE] - 1) for arm, n in equal.items()}
        most = max(odd, key=lambda arm: odd[arm])
        rows = [arm for arm in tokens if arm not in equal]
        without = f" ({listed([f'`{arm}`' for arm in rows])} apart: equal rows)" if rows else ""
        said = (
            f"The largest difference from random in loss tokens is that of `{most}`: "
            f"{100 * odd[most]:.1f} %{without}."
            if odd[most] > 0
            else f"All arms have the same number of loss tokens{without}."
        )
        yield f"{said} Steps: {min(steps)} to {max(steps)}.\n"
    head = ["arm", "rows", "loss tokens", "optimizer steps", "different selections"]
    instead = {arm: stored.drawn_instead(arm) for arm in spent}
    lines = []
    for arm, cells in spent.items():
        means = [_mean_of(cells, key) for key in ("rows", "loss_tokens", "optimizer_steps")]
        picked = {c["picked"] for c in cells if "picked" in c}
        different = f"{len(picked)} of {len(cells)}" if picked else plain(None)
        random = f"{instead[arm]} of {len(cells)}"
        lines.append([cell(arm), *(plain(one, 1) for one in means), different, random])
    yield from table([*head, "drawn at random instead"], lines)
    yield (
        "Means over seeds. Where all seeds train on one selection, they differ in the training "
        "only, and the intervals do not hold for other selections of the kind.\n"
    )
    if fallen := [f"`{arm}` ({n} of {len(spent[arm])})" for arm, n in instead.items() if n]:
        yield (
            f"Drawn at random instead: {listed(fallen)} had nothing to go by (no pole weaker than "
            "the mean error beyond chance) and took random rows. Those trainings say nothing of "
            "the strategy, and no verdict rests on an arm that has such.\n"
        )


def _mean_of(cells: Sequence[dict[str, float]], key: str) -> float:
    return float(np.mean([one[key] for one in cells]))
