"""The parts of the report on trained arms: lines of markdown from stored results, and figures."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from . import figures
from .claims import Claim, detectable
from .evidence import DOES_NOT, HOLDS, NOT_RUN, RULE, TOO_SMALL
from .figures import Column, Dot, Heat
from .statistics import (
    REFERENCE,
    UNTRAINED,
    Effect,
    Outcomes,
    effects,
    relative,
    share_of_training,
)
from .stored import ABOUT, GROUPS, Stored, group_of
from .words import (
    UNITS,
    UNKNOWN,
    between,
    cell,
    chance,
    change,
    counted,
    level,
    listed,
    percent,
    plain,
    table,
)

NAMES = {"logprob": "Log-probability of the references", "pass@1": "pass@1", "pass@8": "pass@8"}
MOST_COLUMNS = 9
VERDICTS = {
    HOLDS: (HOLDS, "hold"),
    DOES_NOT: (DOES_NOT, "do not hold"),
    TOO_SMALL: ("is too small to tell", "are too small to tell"),
    NOT_RUN: ("was not run", "were not run"),
}
"""Of one, and of several."""

Drawings = dict[str, str]
"""Name of a figure -> its SVG."""


# ------------------------------------------------------------------------------ what was found


def found_in_words(stored: Stored, told: Sequence[Claim]) -> Iterator[str]:
    """One paragraph, computed like everything else."""
    found = stored.found
    if found is None or REFERENCE not in found.arms:
        yield "No arm is trained yet: the parts below say what is there.\n"
        return
    mean = {arm: float(found.of("logprob", arm).mean()) for arm in found.arms}
    n_seeds, n_problems = found.values["logprob"].shape[1:]
    said = [
        f"{counted(len(found.trained), 'arm')} with {counted(n_seeds, 'training')} each, measured "
        f"on {counted(n_problems, 'test problem')}."
    ]
    if UNTRAINED in mean:
        said.append(
            "Training on random rows moves the mean log-probability of the references from "
            f"{level(mean[UNTRAINED], 'logprob')} to {level(mean[REFERENCE], 'logprob')} nats a "
            "token."
        )
    each = [one for one in effects(found, "logprob") if one.arm != UNTRAINED]
    if each:
        said += _against_random(each)
    if (mde := detectable(stored.plan, "logprob")) is not None:
        said.append(
            f"The design was to find effects of {plain(mde, 4)} nats a token with a chance of "
            "80 %; of smaller ones it can say little."
        )
    counts = Counter(claim.verdict for claim in told)
    tally = [f"{n} {VERDICTS[v][n > 1]}" for v, n in counts.most_common()]
    said.append(f"Of the {len(told)} lines of the table below, {listed(tally)}.")
    if stored.settings.get("scale") == "tiny":
        said.append("At this scale the model is random: figures prove that the machinery works.")
    yield " ".join(said) + "\n"


def _against_random(each: Sequence[Effect]) -> Iterator[str]:
    best = max(each, key=lambda one: one.value)
    better = [one.arm for one in each if one.p_holm < 0.05 and one.value > 0]
    worse = [one.arm for one in each if one.p_holm < 0.05 and one.value < 0]
    yield (
        f"The highest mean is that of `{best.arm}`, {change(best.value, 'logprob')} against random "
        f"(95 %: {between(best.low, best.high, 'logprob')} over problems, "
        f"{between(best.seed_low, best.seed_high, 'logprob')} over trainings)."
    )
    for arms, word in ((better, "above"), (worse, "below")):
        if arms:
            names = listed([f"`{arm}`" for arm in arms])
            verb = "lies" if len(arms) == 1 else "lie"
            yield f"{names} {verb} {word} random after correction for {len(each)} arms."
    if not better and not worse:
        yield f"No arm differs from random after correction for {len(each)} arms."


def claim_table(told: Sequence[Claim]) -> Iterator[str]:
    """Claims and questions with their verdicts, and the rule."""
    yield "## What is claimed, and what we see\n"
    outcomes = {"logprob": "log-probability"}
    rows = [
        [
            c.text,
            c.figure or UNKNOWN,
            outcomes.get(c.outcome, c.outcome),
            c.seen,
            c.verdict if c.verdict == NOT_RUN else f"**{c.verdict}**",
        ]
        for c in told
    ]
    yield from table(
        ["claim of the paper, or question", "its figure", "measured by", "what we see", "verdict"],
        rows,
        words=5,
    )
    yield (
        "In brackets: from the lowest to the highest end of the 95 % intervals over problems and "
        "over trainings. Against several arms the worst comparison is shown; p is that of beating "
        "all, adjusted. The paper's figures are pass@1 and pass@8 of models of 3 and 8 billion "
        "parameters; they are taken as relative to what they are compared with.\n"
    )
    yield f"The rule. {RULE}\n"


# -------------------------------------------------------------------------------------- plan


def plan_part(stored: Stored) -> Iterator[str]:
    """What the design can find, as it was said before other arms were trained."""
    yield "## What this design can find\n"
    plan = stored.plan
    if not plan:
        yield "Not computed yet: it needs all cells of `none` and `random`.\n"
        return
    yield (
        f"Computed from `none` and `random` alone, before any other arm was trained: the smallest "
        f"true difference from random that has an {100 * plan['power']:.0f} % chance to be found, "
        f"with {counted(plan['seeds'], 'seed')} and {counted(plan['comparisons'], 'comparison')}."
        "\n"
    )
    head = ["outcome", "problems", "none", "random", "detectable", "after Holm", "at most"]
    rows = []
    for outcome, one in plan["outcomes"].items():
        scale = 1 if outcome == "logprob" else 100
        digits = 4 if outcome == "logprob" else 1
        sizes = [one[key] for key in ("mde", "mde_holm", "mde_most")]
        shown = [plain(None if size is None else scale * size, digits) for size in sizes]
        ends = [level(one[key], outcome) for key in ("none", "random")]
        rows.append([f"{outcome} ({UNITS[outcome]})", str(one["problems"]), *ends, *shown])
    yield from table(head, rows)
    yield f"{plan['how']}\n"


# ----------------------------------------------------------------------------------- effects


def effect_part(stored: Stored, drawn: Drawings) -> Iterator[str]:
    """Effects of all arms on all outcomes: a figure, and a table an outcome."""
    found = stored.found
    yield "## Every arm against random\n"
    if found is None or REFERENCE not in found.arms:
        yield f"{NOT_RUN.capitalize()}.\n"
        return
    each = {outcome: effects(found, outcome) for outcome in found.values}
    trained = [one for one in found.trained if one != REFERENCE]
    if trained:
        groups = {g: [arm for arm in trained if group_of(arm) == g] for g in GROUPS}
        columns = [_column(stored, outcome, rows) for outcome, rows in each.items()]
        drawn["effects"] = figures.forest("Effect against random", groups, columns)
        yield "![Effect of every arm against random](figures/effects.svg)\n"
    for outcome, rows in each.items():
        yield f"### {NAMES[outcome]} ({UNITS[outcome]})\n"
        yield from _effect_table(found, outcome, rows)
    yield (
        "Over problems: bootstrap, the same problems drawn for both arms and all seeds. Over "
        "trainings: Student's t on the residual of arms x seeds. p: both together; Holm: adjusted "
        "for all trained arms (`none` is not counted: that training does something is not the "
        "question). Share of training: the effect as a share of what training on random rows "
        "gives, random less none, over problems. d_z: mean over problems by their standard "
        "deviation.\n"
    )
    if stored.incomplete:
        names = [f"`{arm}` ({counted(n, 'cell')})" for arm, n in stored.incomplete.items()]
        yield f"Left out, not all seeds are there: {listed(names)}.\n"


def _column(stored: Stored, outcome: str, rows: Sequence[Effect]) -> Column:
    scale = 1.0 if outcome == "logprob" else 100.0
    mde = detectable(stored.plan, outcome)
    dots = {
        one.arm: Dot(
            scale * one.value,
            [
                (scale * one.low, scale * one.high),
                (scale * one.seed_low, scale * one.seed_high),
            ],
        )
        for one in rows
        if one.arm != UNTRAINED
    }
    name = "log-probability" if outcome == "logprob" else outcome
    digits = 4 if outcome == "logprob" else 1
    return Column(name, UNITS[outcome], dots, None if mde is None else scale * mde, digits)


def _effect_table(found: Outcomes, outcome: str, rows: Sequence[Effect]) -> Iterator[str]:
    head = ["arm", "effect", "over problems", "over trainings", "p", "p (Holm)"]
    head += ["share of training", "d_z"] if outcome == "logprob" else ["of random's", "d_z"]
    lines = []
    for one in rows:
        size = share_of_training if outcome == "logprob" else relative
        share, low, high = size(found, outcome, one.arm)
        known = f"{percent(share)} ({percent(low)} to {percent(high)})"
        lines.append(
            [
                cell(one.arm),
                change(one.value, outcome),
                between(one.low, one.high, outcome),
                between(one.seed_low, one.seed_high, outcome),
                chance(one.p),
                chance(one.p_holm),
                known if math.isfinite(share) else percent(math.nan),
                plain(one.d_z, 2),
            ]
        )
    yield from table(head, lines)


# ------------------------------------------------------------------------------------- means


def mean_part(stored: Stored, drawn: Drawings) -> Iterator[str]:
    """Means by arm, and by arm and category."""
    found, problems = stored.found, stored.problems
    if found is None or problems is None:
        return
    yield "## Means\n"
    head = ["arm", "what it takes", *(NAMES[outcome] for outcome in found.values)]
    yield from table(
        head,
        ([cell(arm), ABOUT.get(arm, ""), *_means(found, arm)] for arm in found.arms),
        words=2,
    )
    names = columns_of(problems["categories"])
    shown = [name if name in names else "others" for name in map(str, problems["categories"])]
    members = {name: np.array([one == name for one in shown]) for name in names}
    yield "Mean log-probability by category of the test problems, nats a token:\n"
    yield from table(
        ["arm", *(f"{cell(name)} ({int(rows.sum())})" for name, rows in members.items())],
        (
            [
                cell(arm),
                *(
                    level(float(found.of("logprob", arm)[:, rows].mean()), "logprob")
                    for rows in members.values()
                ),
            ]
            for arm in found.arms
        ),
    )
    others = [arm for arm in found.trained if arm != REFERENCE]
    if others and REFERENCE in found.arms:
        random = found.of("logprob", REFERENCE)
        values = {
            arm: [
                1000 * float((found.of("logprob", arm) - random)[:, rows].mean())
                for rows in members.values()
            ]
            for arm in others
        }
        said = "log-probability, thousandths of a nat a token; blue better, orange worse"
        drawn["categories"] = figures.heat(
            "Effect against random by category", said, Heat(names, values, sign=True)
        )
        yield "![Effect against random by category](figures/categories.svg)\n"


def _means(found: Outcomes, arm: str) -> list[str]:
    return [level(float(found.of(outcome, arm).mean()), outcome) for outcome in found.values]


def columns_of(categories: Sequence[str]) -> list[str]:
    """Names of categories in order; of many the most frequent, and others."""
    counts = Counter(map(str, categories))
    if len(counts) <= MOST_COLUMNS:
        return sorted(counts)
    ranked = sorted(counts, key=lambda name: (-counts[name], name))
    return [*sorted(ranked[: MOST_COLUMNS - 1]), "others"]


# -------------------------------------------------------------------------- cost and choices


def cost_part(stored: Stored) -> Iterator[str]:
    """What each arm spent."""
    spent = {c["arm"]: stored.of_arm(c["arm"]) for c in stored.cells if "loss_tokens" in c}
    if not spent:
        return
    yield "## Equal cost\n"
    tokens = {arm: _mean_of(cells, "loss_tokens") for arm, cells in spent.items()}
    if REFERENCE in tokens:
        odd = {arm: abs(n / tokens[REFERENCE] - 1) for arm, n in tokens.items()}
        most = max(odd, key=lambda arm: odd[arm])
        yield (
            f"Arms spend equal trained tokens in equal optimizer steps. The largest difference "
            f"from random is that of `{most}`: {100 * odd[most]:.1f} % of the tokens.\n"
            if odd[most] > 0
            else "All arms spend the same number of trained tokens.\n"
        )
    head = ["arm", "rows", "trained tokens", "optimizer steps", "different selections"]
    rows = []
    for arm, cells in spent.items():
        means = [_mean_of(cells, key) for key in ("rows", "loss_tokens", "optimizer_steps")]
        picked = {c["picked"] for c in cells if "picked" in c}
        different = f"{len(picked)} of {len(cells)}" if picked else plain(None)
        rows.append([cell(arm), *(plain(one, 1) for one in means), different])
    yield from table(head, rows)
    yield (
        "Means over seeds. Where all seeds train on one selection, they differ in the training "
        "only, and the intervals do not hold for other selections of the kind.\n"
    )


def _mean_of(cells: Sequence[dict[str, float]], key: str) -> float:
    return float(np.mean([one[key] for one in cells]))


def picked_part(stored: Stored, drawn: Drawings) -> Iterator[str]:
    """Of which categories the rows are that each arm took."""
    counts: dict[str, Counter[str]] = {}
    for one in stored.cells:
        if one.get("categories"):
            counts.setdefault(one["arm"], Counter()).update(one["categories"])
    if not counts:
        return
    whole = sum(counts.values(), Counter[str]())
    names = columns_of([*whole.elements()])
    values = {}
    for arm, taken in counts.items():
        share = {name: 100 * taken[name] / taken.total() for name in names if name != "others"}
        values[arm] = [share.get(name, 100 - sum(share.values())) for name in names]
    drawn["picked"] = figures.heat(
        "What each arm picked", "per cent of its rows, by category, all seeds", Heat(names, values)
    )
    yield "## What each arm picked\n"
    yield "![Share of categories among the rows of each arm](figures/picked.svg)\n"
