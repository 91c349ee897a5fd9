"""The parts of the report on trained arms: lines of markdown from stored results, and figures."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from . import figures
from .claims import Claim, detectable
from .evidence import DOES_NOT, HOLDS, NOT_JUDGED, NOT_RUN, RULE, TOO_SMALL
from .figures import Column, Dot, Heat
from .outcomes import REFERENCE, UNTRAINED, Outcomes
from .statistics import (
    Effect,
    both,
    effects,
    own_seeds,
    relative,
    share_of_training,
    standardized,
    training_noise,
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
    NOT_JUDGED: ("is not judged", "are not judged"),
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
    said += _drawn_instead(stored)
    if (mde := detectable(stored.plan, "logprob")) is not None:
        said.append(
            f"The design was to find effects of {plain(mde, 4)} nats a token with a chance of "
            "80 %, before any correction for several arms; of smaller ones it can say little."
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
    n = counted(len(each), "arm")
    for arms, word in ((better, "above"), (worse, "below")):
        if arms:
            names = listed([f"`{arm}`" for arm in arms])
            verb = "lies" if len(arms) == 1 else "lie"
            yield f"{names} {verb} {word} random after correction for {n}."
    if not better and not worse:
        yield (f"No difference was found between any arm and random after correction for {n}.")


def _drawn_instead(stored: Stored) -> Iterator[str]:
    """Arms that are not what they are called in all of their trainings."""
    for arm in stored.found.trained if stored.found else ():
        if n := stored.drawn_instead(arm):
            yield (
                f"In {n} of {counted(len(stored.of_arm(arm)), 'training')} `{arm}` drew its rows "
                "at random, for want of a weak pole."
            )


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
        "over trainings. Against several arms the worst comparison is shown, and p is of beating "
        "each of them. p is two-sided and adjusted: beside a difference below 0 a small one says "
        "that it is worse. The paper's figures are pass@1 and pass@8 of models of 3 and 8 billion "
        "parameters; they are taken as relative to what they are compared with.\n"
    )
    yield f"The rule. {RULE}\n"
    yield (
        "What the rule does not do: its intervals are not adjusted for the number of comparisons, "
        "and those over problems and over trainings are each taken as if the other stood still; "
        "the tables below have the interval of both. That something does not hold means that less "
        "was seen than would count, not that there is nothing.\n"
    )


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
        "trainings: Student's t on the residuals of arms x seeds, one for arms whose rows are "
        "redrawn by seed and one for those with fixed rows. Both: the interval that belongs to p. "
        "Its own seeds: Student's t on the differences of its own trainings from random's, as if "
        "no other arm told how far trainings lie apart (added once two trainings an arm were "
        "known; no verdict rests on it). Holm: p adjusted for all trained arms (`none` is not "
        "counted: that training does something is not the question). Share of training: the "
        "effect as a share of what training on random rows gives, random less none, over "
        "problems. d_z: mean over problems by their standard deviation, and its bootstrap. The "
        "log-probability of a reference is in good part style: most of its tokens are wording "
        "that another right answer need not share, so pass@k stands beside it.\n"
    )
    yield from _noise_table(found)
    if stored.waiting:
        yield (
            f"The run is under way: arms are compared by seeds {_seeds(found.seeds)}, which all "
            f"that are begun have; {_seeds(stored.waiting)} of random are left out.\n"
        )
    if stored.incomplete:
        names = [f"`{arm}` ({counted(n, 'cell')})" for arm, n in stored.incomplete.items()]
        yield f"Left out, not all seeds are there: {listed(names)}.\n"


def _seeds(seeds: Sequence[int]) -> str:
    return listed([str(seed) for seed in seeds])


def _noise_table(found: Outcomes) -> Iterator[str]:
    """How far the trainings of each arm lie apart."""
    noise = {outcome: training_noise(found, outcome) for outcome in found.values}
    yield "### Noise of training\n"
    yield (
        "Standard deviation over seeds of each arm's mean, once what all arms of its class share "
        "by seed is taken off (an arm that is alone in its class: what all of the other class "
        "share, and the other class's own noise):\n"
    )
    yield from table(
        ["arm", "its rows", *(f"{outcome} ({UNITS[outcome]})" for outcome in noise)],
        (
            [
                cell(arm),
                "redrawn by seed" if arm in found.redrawn else "fixed",
                *(
                    plain(one[arm], 4) if outcome == "logprob" else plain(100 * one[arm], 2)
                    for outcome, one in noise.items()
                ),
            ]
            for arm in found.trained
        ),
        words=2,
    )


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
    head = ["arm", "effect", "over problems", "over trainings", "both", "its own seeds"]
    head += ["p", "p (Holm)"]
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
                between(*both(one), outcome),
                between(*own_seeds(found, outcome, one.arm), outcome),
                chance(one.p),
                chance(one.p_holm),
                known if math.isfinite(share) else percent(math.nan),
                _standardized(*standardized(found, outcome, one.arm)),
            ]
        )
    yield from table(head, lines)


def _standardized(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        return UNKNOWN
    return f"{plain(value, 2)} ({plain(low, 2)} to {plain(high, 2)})"


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
    yield (
        "Mean log-probability by category of the test problems, nats a token; the last column is "
        "the mean of the others, each category counted alike:\n"
    )
    yield from table(
        ["arm", *(f"{cell(name)} ({int(rows.sum())})" for name, rows in members.items()), "alike"],
        (
            [cell(arm), *(level(one, "logprob") for one in [*means, float(np.mean(means))])]
            for arm in found.arms
            for values in [found.of("logprob", arm)]
            for means in [[float(values[:, rows].mean()) for rows in members.values()]]
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


# ----------------------------------------------------------------------------------- choices


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
