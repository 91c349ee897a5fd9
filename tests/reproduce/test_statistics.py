"""Effects, their intervals, and what the design can detect, against definitions and simulation."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks.reproduce.formulas import (
    holm,
    ratio_interval,
    residual_mean_square,
    satterthwaite,
    standardized_interval,
    two_sided_p,
    variance_interval,
)
from benchmarks.reproduce.outcomes import Outcomes, outcomes
from benchmarks.reproduce.statistics import (
    effect,
    effects,
    mde_range,
    plan,
    planned,
    relative,
    share_of_training,
    standardized,
    training_noise,
    training_terms,
)
from mnskills_viz import InputError
from mnskills_viz.evaluation.intervals import mean_interval
from mnskills_viz.evaluation.pass_at_k import pass_at_k
from mnskills_viz.files import write_json

ARMS = ["none", "random", "a", "b", "c", "d"]
N_SEEDS, N_PROBLEMS = 3, 60


def made_cells(
    generator: np.random.Generator,
    shifts: dict[str, float] | None = None,
    seeds_sd: float = 0.02,
    problems_sd: float = 0.1,
    blocks_sd: float = 0.05,
    arms: list[str] = ARMS,
    n_seeds: int = N_SEEDS,
    n_problems: int = N_PROBLEMS,
    redrawn: tuple[str, ...] = (),
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Cells of an additive world: arm + seed + problem + noise of trainings and of problems."""
    level = generator.normal(-1.0, 0.4, n_problems)
    block = generator.normal(0, blocks_sd, n_seeds)
    cells = []
    for arm in arms:
        for seed in range(n_seeds):
            y = level + 0.0
            if arm != "none":
                training = block[seed] + generator.normal(0, seeds_sd)
                noise = generator.normal(0, problems_sd, n_problems)
                y = level + 0.3 + (shifts or {}).get(arm, 0.0) + training + noise
            cells.append(
                {
                    "arm": arm,
                    "seed": seed,
                    "logprob": y.tolist(),
                    "n": 8,
                    "c": generator.binomial(8, 0.3, n_problems // 2).tolist(),
                    "picked": f"{arm}-{seed if arm in redrawn else 0}",
                }
            )
    ids = [f"p{i}" for i in range(n_problems)]
    return cells, {"ids": ids, "sampled": list(range(0, n_problems, 2))}


@pytest.fixture
def made() -> tuple[list[dict[str, Any]], dict[str, Any]]:
    return made_cells(np.random.default_rng(0), {"a": 0.1})


@pytest.fixture
def found(made: tuple[list[dict[str, Any]], dict[str, Any]]) -> Outcomes:
    return outcomes(*made)


# -------------------------------------------------------------------------------- formulas


def test_holm_of_a_hand_example() -> None:
    # 0.01 x 4, 0.02 x 3, then 0.03 x 2 = 0.06 again, and 0.04 x 1 may not be less than it.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert holm([0.01, math.nan, 0.02])[[0, 2]] == pytest.approx([0.02, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.floats(0.001, 0.999))
def test_holm_rejects_as_its_steps_do(p: list[float], level: float) -> None:
    """An adjusted p is below the level exactly where the step-down procedure rejects."""
    rejected: set[int] = set()
    for step, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        if p[i] * (len(p) - step) >= level:
            break
        rejected.add(i)
    assert {i for i, value in enumerate(holm(p)) if value < level} == rejected


def test_residual_mean_square_is_that_of_least_squares() -> None:
    y = np.random.default_rng(1).normal(size=(4, 3))
    arm, seed = np.indices(y.shape)
    design = np.concatenate(
        [np.eye(4)[arm.ravel()], np.eye(3)[seed.ravel()][:, 1:]], axis=1
    )  # arms, and seeds but the first
    _, left, rank, _ = np.linalg.lstsq(design, y.ravel(), rcond=None)
    mean_square, df = residual_mean_square(y)
    assert df == y.size - rank == 6
    assert mean_square == pytest.approx(left[0] / df)


def test_residual_mean_square_of_two_arms_is_that_of_the_paired_t_test() -> None:
    y = np.random.default_rng(2).normal(size=(2, 5))
    mean_square, df = residual_mean_square(y)
    t = (y[0] - y[1]).mean() / math.sqrt(2 * mean_square / 5)
    assert df == 4
    assert t == pytest.approx(stats.ttest_rel(y[0], y[1]).statistic)


def test_satterthwaite_of_two_samples_is_welch() -> None:
    generator = np.random.default_rng(3)
    x, y = generator.normal(0, 1, 12), generator.normal(0.5, 3, 7)
    se, df = satterthwaite((x.var(ddof=1) / 12, 11), (y.var(ddof=1) / 7, 6))
    welch = stats.ttest_ind(x, y, equal_var=False)
    assert df == pytest.approx(welch.df)
    assert two_sided_p(x.mean() - y.mean(), se, df) == pytest.approx(welch.pvalue)


def test_ratio_interval_without_a_denominator_above_zero_is_unknown() -> None:
    generator = np.random.default_rng(4)
    assert all(math.isnan(v) for v in ratio_interval(np.ones(50), generator.normal(0, 1, 50)))


def test_ratio_interval_agrees_with_fieller() -> None:
    generator = np.random.default_rng(5)
    below = generator.normal(2, 0.8, 400)
    above = 0.5 * below + generator.normal(0, 0.6, 400)
    value, low, high = ratio_interval(above, below)
    # Fieller: all r with (mean above - r mean below)^2 <= z^2 var(above - r below) / n
    ratios = np.linspace(0.3, 0.7, 4001)
    left = above[None] - ratios[:, None] * below[None]
    inside = ratios[
        np.abs(left.mean(axis=1)) <= 1.96 * left.std(axis=1, ddof=1) / math.sqrt(len(below))
    ]
    assert value == pytest.approx(above.mean() / below.mean())
    assert [low, high] == pytest.approx([inside.min(), inside.max()], abs=0.004)


def test_the_interval_of_a_standardized_mean_is_that_of_the_noncentral_t() -> None:
    values = np.random.default_rng(10).normal(0.4, 1, 400)
    value, low, high = standardized_interval(values)
    t = value * math.sqrt(400)
    # All d whose t = d sqrt(n) has the t that was seen within its central 95 %.
    near = np.linspace(0.1, 0.8, 7001)
    inside = near[np.abs(stats.nct.cdf(t, 399, near * math.sqrt(400)) - 0.5) <= 0.475]
    assert value == pytest.approx(values.mean() / values.std(ddof=1))
    assert [low, high] == pytest.approx([inside.min(), inside.max()], abs=0.02)
    assert all(math.isnan(one) for one in standardized_interval(np.ones(20)))


def test_the_interval_of_a_variance_holds_it_19_times_in_20() -> None:
    generator = np.random.default_rng(11)
    spreads = generator.normal(0, 3, (2000, 3)).var(axis=1, ddof=1)
    held = [low <= 9 <= high for low, high in (variance_interval(v, 2) for v in spreads)]
    low, high = stats.binom.interval(0.999, 2000, 0.95)
    assert low <= sum(held) <= high


# --------------------------------------------------------------------------------- effects


def test_outcomes_are_those_of_the_cells(
    made: tuple[list[dict[str, Any]], dict[str, Any]], found: Outcomes
) -> None:
    cells, _ = made
    cell = next(c for c in cells if (c["arm"], c["seed"]) == ("b", 2))
    assert found.of("logprob", "b")[2].tolist() == cell["logprob"]
    assert found.of("pass@1", "b")[2] == pytest.approx(np.array(cell["c"]) / 8)
    assert found.of("pass@8", "b")[2] == pytest.approx([pass_at_k(8, c, 8) for c in cell["c"]])


def test_an_effect_is_the_mean_of_paired_differences_with_both_intervals(found: Outcomes) -> None:
    one = effect(found, "logprob", "a")
    y = found.values["logprob"]
    difference = y[2] - y[1]
    assert one.value == pytest.approx(difference.mean())
    assert (one.low, one.high) == mean_interval(difference.mean(axis=0), 0)[1:]
    mean_square, df = residual_mean_square(y[1:].mean(axis=2))
    assert df == 8
    half = stats.t.ppf(0.975, df) * math.sqrt(2 * mean_square / N_SEEDS)
    assert [one.seed_low, one.seed_high] == pytest.approx([one.value - half, one.value + half])
    by_problem = difference.mean(axis=0)
    left = difference - by_problem - difference.mean(axis=1, keepdims=True) + one.value
    shared = (left**2).sum() / ((N_SEEDS - 1) * (N_PROBLEMS - 1))
    problems = by_problem.var(ddof=1) - shared / N_SEEDS
    assert one.se**2 == pytest.approx(2 * mean_square / N_SEEDS + max(0, problems) / N_PROBLEMS)


def test_the_untrained_model_is_compared_by_paired_t_over_seeds(found: Outcomes) -> None:
    one = effect(found, "logprob", "none")
    y = found.values["logprob"].mean(axis=2)
    interval = stats.ttest_rel(y[0], y[1]).confidence_interval()
    assert [one.seed_low, one.seed_high] == pytest.approx([interval.low, interval.high])


# Classes of several arms each, an arm that is alone in its class, and two such arms.
@pytest.mark.parametrize(
    ("redrawn", "fixed"),
    [(("random", "a", "b"), ("c", "d", "e")), (("random",), ("c", "d")), (("random",), ("c",))],
)
def test_two_classes_have_each_their_own_noise(
    redrawn: tuple[str, ...], fixed: tuple[str, ...]
) -> None:
    arms = ["none", *redrawn, *fixed]
    cells, problems = made_cells(np.random.default_rng(12), arms=arms, n_seeds=4, redrawn=redrawn)
    found = outcomes(cells, problems)
    assert found.redrawn == {*redrawn}
    y = {arm: found.of("logprob", arm).mean(axis=1) for arm in arms}
    terms = sorted(training_terms(found, "logprob", "c", "random"))
    assert terms == sorted(training_terms(found, "logprob", "random", "c"))
    apart = np.stack([y[arm] for arm in fixed]).mean(axis=0)
    mean_square, df = residual_mean_square([y[arm] for arm in fixed])
    if len(redrawn) > 1:
        ours, df_ours = residual_mean_square([y[arm] for arm in redrawn])
        expected = [(ours / 4, df_ours), (mean_square / 4, df)]
        within = training_terms(found, "logprob", "a", "random")
        assert within == [(pytest.approx(2 * ours / 4), df_ours)]
    elif len(fixed) > 1:
        alone = (y["random"] - apart).var(ddof=1)
        expected = [(alone / 4, 3), (mean_square / 4 / 2, df)]
    else:
        expected = [((y["random"] - y["c"]).var(ddof=1) / 4, 3)]
    assert np.array(terms) == pytest.approx(np.array(sorted(expected)))
    noise = training_noise(found, "logprob")
    if len(fixed) > 1:
        assert np.mean([noise[arm] ** 2 for arm in fixed]) == pytest.approx(mean_square)
    if len(redrawn) > 1:
        assert np.mean([noise[arm] ** 2 for arm in redrawn]) == pytest.approx(ours)
    elif len(fixed) > 1:
        assert noise["random"] ** 2 == pytest.approx(alone - mean_square / 2)


def test_effects_are_adjusted_for_the_trained_arms(found: Outcomes) -> None:
    each = {one.arm: one for one in effects(found, "logprob")}
    assert list(each) == ["none", "a", "b", "c", "d"]
    assert math.isnan(each["none"].p_holm)
    trained = ["a", "b", "c", "d"]
    assert [each[arm].p_holm for arm in trained] == holm([each[a].p for a in trained]).tolist()
    assert each["a"].p_holm < 0.05


def test_effects_do_not_depend_on_the_order_of_cells(
    made: tuple[list[dict[str, Any]], dict[str, Any]],
) -> None:
    cells, problems = made
    order = np.random.default_rng(6).permutation(len(cells))
    shuffled = outcomes([cells[i] for i in order], problems)
    for arm in ("a", "b", "none"):
        assert effect(shuffled, "pass@1", arm) == effect(outcomes(cells, problems), "pass@1", arm)


def test_an_effect_turned_round_is_its_negative(found: Outcomes) -> None:
    one, other = effect(found, "logprob", "a", "b"), effect(found, "logprob", "b", "a")
    assert one.value == pytest.approx(-other.value)
    assert [one.seed_low, one.p] == pytest.approx([-other.seed_high, other.p])


def test_relative_sizes_are_ratios_of_means(found: Outcomes) -> None:
    mean = {arm: found.of("logprob", arm).mean() for arm in found.arms}
    share, low, high = share_of_training(found, "logprob", "a")
    gain = mean["random"] - mean["none"]
    assert share == pytest.approx((mean["a"] - mean["random"]) / gain)
    assert low < share < high
    by_problem = (found.of("logprob", "a") - found.of("logprob", "random")).mean(axis=0)
    d_z, low, high = standardized(found, "logprob", "a")
    assert low < d_z < high
    assert d_z == pytest.approx(by_problem.mean() / by_problem.std(ddof=1))
    passed = {arm: found.of("pass@1", arm).mean() for arm in found.arms}
    assert relative(found, "pass@1", "b")[0] == pytest.approx(passed["b"] / passed["random"] - 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda cells: cells.pop(7), "cell a-1 is missing"),
        (lambda cells: cells[7]["logprob"].__setitem__(3, None), "cell a-1: .*problem p3 is miss"),
        (lambda cells: cells[7]["c"].__setitem__(1, math.nan), "cell a-1: c of problem p2 is miss"),
        (lambda cells: cells[7]["c"].pop(), "cell a-1: c has 29 values, expected one for each"),
        (lambda cells: cells[7].__setitem__("n", 4), "different numbers of samples"),
        (lambda cells: cells.append(cells[0]), "cell none-0 is there twice"),
        (lambda cells: cells.clear(), "no cells"),
    ],
)
def test_cells_that_are_wanting_are_named_in_one_line(
    made: tuple[list[dict[str, Any]], dict[str, Any]], change: Any, said: str
) -> None:
    cells, problems = made
    change(cells)
    with pytest.raises(InputError, match=said) as raised:
        outcomes(cells, problems)
    assert "\n" not in str(raised.value)


def test_of_one_seed_only_the_problems_are_known() -> None:
    one = effect(outcomes(*made_cells(np.random.default_rng(7), n_seeds=1)), "logprob", "a")
    assert one.low < one.value < one.high
    assert all(math.isnan(value) for value in (one.seed_low, one.seed_high, one.p))


# ------------------------------------------------------------------------------ simulation


def test_intervals_cover_what_they_are_of() -> None:
    """Over problems with no noise of training, over trainings with fixed problems, 95 % each."""
    generator = np.random.default_rng(8)
    worlds = 300
    over_problems = over_seeds = false = 0
    for _ in range(worlds):
        quiet = outcomes(*made_cells(generator, {"a": 0.05}, seeds_sd=0.0))
        one = effect(quiet, "logprob", "a")
        over_problems += one.low <= 0.05 <= one.high
        still = outcomes(*made_cells(generator, {"a": 0.05}, problems_sd=0.0))
        one = effect(still, "logprob", "a")
        over_seeds += one.seed_low <= 0.05 <= one.seed_high
        both = outcomes(*made_cells(generator))
        false += effect(both, "logprob", "b").p < 0.05
    # Binomial limits of 300 at 0.95, but for one in a thousand; p errs to the large side.
    low, high = stats.binom.interval(0.999, worlds, 0.95)
    assert low <= over_problems
    assert low <= over_seeds <= high
    assert false <= stats.binom.ppf(0.9995, worlds, 0.05)


@pytest.mark.parametrize("ratio", [1, 2, 3])
def test_unequal_noise_leaves_the_level_where_it_is(ratio: float) -> None:
    """The other noise is of arms whose rows are redrawn; seeds are all that is looked at."""
    generator = np.random.default_rng(13)
    redrawn, fixed, worlds = ("random", "p", "q", "r"), ("a", "b", "c", "d", "e"), 1500
    arms = ("none", *redrawn, *fixed)
    sd = np.array([0.0, *[ratio] * len(redrawn), *[1.0] * len(fixed)])
    pairs = [("a", "random"), ("p", "random"), ("a", "b")]
    false = dict.fromkeys(pairs, 0)
    for _ in range(worlds):
        y = generator.normal(0, 2, N_SEEDS) + sd[:, None] * generator.normal(size=(10, N_SEEDS))
        seeds = tuple(range(N_SEEDS))
        found = Outcomes(arms, seeds, {"logprob": y[:, :, None]}, frozenset(redrawn))
        for pair in pairs:
            value = y[arms.index(pair[0])].mean() - y[arms.index(pair[1])].mean()
            se, df = satterthwaite(*training_terms(found, "logprob", *pair))
            false[pair] += two_sided_p(value, se, df) < 0.05
    # Satterthwaite's degrees of freedom are estimates: up to 6 % and what chance adds.
    most = stats.binom.ppf(0.9995, worlds, 0.06)
    assert max(false.values()) <= most, false
    assert min(false.values()) >= stats.binom.ppf(0.0005, worlds, 0.04), false


def test_an_effect_of_the_detectable_size_is_found_four_times_in_five_or_a_little_more() -> None:
    generator = np.random.default_rng(9)
    arms = ["none", "random", *"abcdefgh"]

    def world(shift: float) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        # Without what all arms of a seed share, which V_s would hold too.
        noise = {"seeds_sd": 0.02, "problems_sd": 0.1, "blocks_sd": 0.0}
        return made_cells(generator, {"a": shift}, arms=arms, n_seeds=4, **noise)  # type: ignore[arg-type]

    said = [planned(*world(0.0), arms)["outcomes"]["logprob"] for _ in range(200)]
    for size, level in (("mde", 0.05), ("mde_holm", 0.05 / 8)):
        detectable = math.sqrt(np.mean([one[size] ** 2 for one in said]))
        worlds = 300
        hits = sum(
            effect(outcomes(*world(detectable)), "logprob", "a").p < level for _ in range(worlds)
        )
        assert 0.75 <= hits / worlds <= 0.95  # V_p has noise of the seeds in it, too


def test_the_plan_is_computed_from_none_and_random_alone(
    made: tuple[list[dict[str, Any]], dict[str, Any]], found: Outcomes
) -> None:
    cells, problems = made
    said = planned(cells, problems, ARMS)
    assert said == planned(cells[: 2 * N_SEEDS], problems, ARMS)
    one, y = said["outcomes"]["logprob"], found.of("logprob", "random")
    pairs = [np.var(y[s] - y[t], ddof=1) for s, t in ((0, 1), (0, 2), (1, 2))]
    seeds, problem = 2 * y.mean(axis=1).var(ddof=1) / 3, np.mean(pairs) / 3 / N_PROBLEMS
    df = (seeds + problem) ** 2 / (seeds**2 / 6 + problem**2 / (N_PROBLEMS - 1))
    t = stats.t(df)
    se = math.sqrt(seeds + problem)
    assert one["mde"] == pytest.approx((t.ppf(0.975) + t.ppf(0.8)) * se, rel=1e-5)
    assert one["mde_holm"] == pytest.approx((t.ppf(1 - 0.05 / 8) + t.ppf(0.8)) * se, rel=1e-5)
    assert one["mde"] < one["mde_most"]
    ends = []
    for tail in (0.975, 0.025):
        v = 2 * seeds / stats.chi2.ppf(tail, 2)
        t = stats.t((v + problem) ** 2 / (v**2 / 6 + problem**2 / (N_PROBLEMS - 1)))
        ends.append((t.ppf(0.975) + t.ppf(0.8)) * math.sqrt(v + problem))
    assert mde_range(said, "logprob") == pytest.approx(ends, rel=1e-4)
    assert (one["seeds_df"], said["comparisons"]) == (2, 4)
    assert json.loads(json.dumps(said, allow_nan=False)) == said


def test_seeds_that_are_all_alike_plan_nothing(
    made: tuple[list[dict[str, Any]], dict[str, Any]],
) -> None:
    cells, problems = made
    wrong = [cell | {"c": [0] * len(cell["c"])} for cell in cells]
    said = planned(wrong, problems, ARMS)
    assert said["outcomes"]["pass@1"]["mde"] is None
    assert all(math.isnan(end) for end in mde_range(said, "pass@1"))


def test_the_plan_of_a_folder_is_that_of_its_cells(
    made: tuple[list[dict[str, Any]], dict[str, Any]], tmp_path: Path
) -> None:
    cells, problems = made
    write_json(tmp_path / "settings.json", {"scale": "tiny", "settings": {"arms": ARMS}})
    write_json(tmp_path / "problems.json", problems)
    for cell in cells:
        write_json(tmp_path / "cells" / f"{cell['arm']}-{cell['seed']}.json", cell)
    write_json(tmp_path / "cells" / "random-rows-0.json", {"arm": "another"})
    there = sorted([*(f"{arm}-{seed}" for arm in ARMS for seed in range(3)), "random-rows-0"])
    assert plan(tmp_path) == planned(cells, problems, ARMS) | {"cells": there}
