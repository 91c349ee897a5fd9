"""The report: every figure computed again from the stored results, by pandas and scipy alone."""

import itertools
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks import reproduce
from benchmarks.reproduce.evidence import (
    DOES_NOT,
    HOLDS,
    NOT_JUDGED,
    NOT_RUN,
    TOO_SMALL,
    Evidence,
    judged,
)
from benchmarks.reproduce.report import read_outcomes, write_report
from benchmarks.reproduce.settings import AT_FULL, EVERYWHERE
from benchmarks.reproduce.stored import SHOWN
from mnskills_viz import InputError
from mnskills_viz.files import read_json, write_json

from .made_results import PLANTED, make_results

OUTCOMES = ("logprob", "pass@1", "pass@8")
FOLDER = Path(reproduce.__path__[0], "results")
KEPT = [scale for scale in ("small", "full") if (FOLDER / scale / "safety.json").is_file()]
"""Results in the repository that are whole, whose last part is there, and must have their report;
a random model's are not kept."""


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up results with their report; do not change them."""
    folder = make_results(tmp_path_factory.mktemp("results") / "small")
    write_report(folder)
    return folder


@pytest.fixture(scope="session", params=["made", *KEPT])
def results(request: pytest.FixtureRequest, made: Path) -> Path:
    """Made-up results, and those in the repository, each with its report."""
    folder = made if request.param == "made" else FOLDER / request.param
    assert (folder / "report.md").is_file(), f"{folder} has settings.json and no report: write it"
    return folder


@pytest.fixture(scope="session")
def report(results: Path) -> str:
    return (results / "report.md").read_text(encoding="utf-8")


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copied"))


# ------------------------------------------------------------------- reading the report again


def tables_of(report: str, heading: str) -> list[pd.DataFrame]:
    """All tables below a heading, up to the next of the same rank; cells as text."""
    rank = heading.split()[0]
    body = report.split(f"\n{heading}\n", 1)[1].split(f"\n{rank} ", 1)[0]
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", body, re.MULTILINE):
        rows = [
            [plain(text) for text in re.split(r"(?<!\\)\|", line)[1:-1]]
            for line in block.splitlines()
        ]
        found.append(pd.DataFrame(rows[2:], columns=rows[0]))
    return found


def plain(text: str) -> str:
    text = re.sub(r"\\(.)", r"\1", text.strip()).replace("&lt;", "<")
    return text.replace("**", "").replace("−", "-")


def numbers(text: str) -> list[str]:
    return re.findall(r"[+-]?\d[\d,]*(?:\.\d+)?", plain(text))


def assert_shows(text: str, *values: float) -> None:
    """The text's numbers are these, rounded as the text has them."""
    found = numbers(text)
    assert len(found) == len(values), (text, values)
    for number, value in zip(found, values, strict=True):
        digits = len(number.partition(".")[2])
        room = 0.5001 * 10**-digits + 1e-5 * abs(value)  # six digits are stored
        assert float(number.replace(",", "")) == pytest.approx(value, abs=room), (text, values)


# ---------------------------------------------------------------- computing it all once more


def passed(n: int, c: int, k: int) -> float:
    return 1 - math.comb(n - c, k) / math.comb(n, k)


def cells_of(folder: Path) -> list[dict[str, Any]]:
    """The cells that arms are compared by: of the seeds that all arms have."""
    cells = [read_json(file) for file in sorted((folder / "cells").glob("*.json"))]
    seeds: dict[str, set[int]] = {}
    for cell in cells:
        seeds.setdefault(cell["arm"], set()).add(cell["seed"])
    common = set.intersection(*seeds.values())
    assert len(common) > 1
    return [cell for cell in cells if cell["seed"] in common]


def fallen_arms(folder: Path) -> set[str]:
    """Arms of which a training drew its rows at random in place of what the arm is called."""
    cells = [cell for cell in cells_of(folder) if "recipes" in cell]
    return {cell["arm"] for cell in cells if "drawn at random" in json.dumps(cell["recipes"])}


def long_table(folder: Path) -> pd.DataFrame:
    """A row a cell, outcome and problem; ``attrs["redrawn"]``: arms of more than one selection."""
    problems = read_json(folder / "problems.json")
    rows = []
    picked: dict[str, set[str]] = {}
    for cell in cells_of(folder):
        picked.setdefault(cell["arm"], set()).add(cell.get("picked", ""))
        where = (cell["arm"], cell["seed"])
        for id_, category, value in zip(
            problems["ids"], problems["categories"], cell["logprob"], strict=True
        ):
            rows.append([*where, "logprob", id_, category, value])
        for place, c in zip(problems["sampled"], cell["c"], strict=True):
            about = [problems["ids"][place], problems["categories"][place]]
            rows += [
                [*where, f"pass@{k}", *about, passed(cell["n"], c, k)]
                for k in (1, 8)
                if k <= cell["n"]
            ]
    long = pd.DataFrame(rows, columns=["arm", "seed", "outcome", "id", "category", "value"])
    long.attrs["redrawn"] = {arm for arm, rows in picked.items() if len(rows) > 1}
    return long


@pytest.fixture(scope="session")
def long(results: Path) -> pd.DataFrame:
    return long_table(results)


def trained(long: pd.DataFrame) -> list[str]:
    """All arms that were trained, random first."""
    arms = set(long["arm"]) - {"none"}
    return ["random", *sorted(arms - {"random"})]


def bootstrap(values: np.ndarray) -> tuple[float, float]:
    drawn = np.random.default_rng(0).integers(len(values), size=(2000, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
    return low, high


def ratio(above: np.ndarray, below: np.ndarray) -> tuple[float, float, float]:
    generator = np.random.default_rng(0)
    draws = [generator.integers(len(above), size=len(above)) for _ in range(2000)]
    low, high = np.quantile([above[d].mean() / below[d].mean() for d in draws], [0.025, 0.975])
    return above.mean() / below.mean(), low, high


def residuals(means: pd.DataFrame) -> pd.DataFrame:
    """What is left of arms x seeds once both are taken off."""
    left = means.sub(means.mean(axis=1), axis=0).sub(means.mean(axis=0), axis=1)
    return left + means.to_numpy().mean()


def mean_square(means: pd.DataFrame) -> tuple[float, int]:
    df = (means.shape[0] - 1) * (means.shape[1] - 1)
    return float((residuals(means).to_numpy() ** 2).sum()) / df, df


def classes(means: pd.DataFrame, redrawn: set[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Means of the trained arms that are redrawn by seed, and of those that are not."""
    is_redrawn = means.index.isin(redrawn)
    return means[is_redrawn], means[~is_redrawn]


def of_training(
    means: pd.DataFrame, redrawn: set[str], arm: str, reference: str
) -> tuple[float, float]:
    """Variance of a difference by trainings, and its degrees of freedom."""
    n_seeds = means.shape[1]
    one, two = (next(c for c in classes(means, redrawn) if a in c.index) for a in (arm, reference))
    few, many = sorted((one, two), key=len)
    if arm in two.index:
        v, df = mean_square(one)
        terms = [(2 * v, df)]
    elif len(many) == 1:
        terms = [((one.loc[arm] - two.loc[reference]).var(), n_seeds - 1)]
    elif len(few) == 1:
        v, df = mean_square(many)
        apart = (few.iloc[0] - many.mean(axis=0)).var()
        terms = [(apart, n_seeds - 1), (v - v / len(many), df)]
    else:
        terms = [mean_square(one), mean_square(two)]
    whole = sum(v for v, _ in terms)
    parts = sum(v**2 / df for v, df in terms)
    return whole / n_seeds, whole**2 / parts if parts else math.inf


def compared(long: pd.DataFrame, outcome: str, arm: str, reference: str) -> dict[str, float]:
    """Effect, intervals and p, from the long table."""
    y = long[long["outcome"] == outcome].pivot_table(
        index=["arm", "seed"], columns="id", values="value", sort=False
    )
    # The bootstrap draws problems by their place.
    y = y[long[long["outcome"] == outcome]["id"].drop_duplicates()]
    d = y.loc[arm] - y.loc[reference]
    by_problem, n_seeds = d.mean(axis=0).to_numpy(), len(d)
    means = y.mean(axis=1).unstack("seed").drop("none")
    if "none" in (arm, reference):
        seeds, df = d.mean(axis=1).var(ddof=1) / n_seeds, n_seeds - 1
    else:
        seeds, df = of_training(means, long.attrs["redrawn"], arm, reference)
    both = d.to_numpy() - by_problem - d.mean(axis=1).to_numpy()[:, None] + by_problem.mean()
    shared = (both**2).sum() / ((n_seeds - 1) * (len(by_problem) - 1))
    problems = max(0, by_problem.var(ddof=1) - shared / n_seeds) / len(by_problem)
    df_all = (seeds + problems) ** 2 / (seeds**2 / df + problems**2 / (len(by_problem) - 1))
    value, half = by_problem.mean(), stats.t.ppf(0.975, df) * math.sqrt(seeds)
    low, high = bootstrap(by_problem)
    draws = np.random.default_rng(0).integers(len(by_problem), size=(2000, len(by_problem)))
    drawn = by_problem[draws]
    with np.errstate(invalid="ignore"):
        ratios = np.nan_to_num(drawn.mean(axis=1) / drawn.std(axis=1, ddof=1), posinf=0, neginf=0)
    return {
        "value": value,
        "low": low,
        "high": high,
        "seed_low": value - half,
        "seed_high": value + half,
        "p": 2 * stats.t.sf(abs(value) / math.sqrt(seeds + problems), df_all),
        "d_z": value / by_problem.std(ddof=1) if by_problem.std(ddof=1) else math.nan,
        "d_low": float(np.quantile(ratios, 0.025)),
        "d_high": float(np.quantile(ratios, 0.975)),
        "both": stats.t.ppf(0.975, df_all) * math.sqrt(seeds + problems),
        "own": stats.t.ppf(0.975, n_seeds - 1) * stats.sem(d.mean(axis=1)),
    }


def stepped_down(p: dict[str, float]) -> dict[str, float]:
    adjusted, before = {}, 0.0
    for left, name in zip(range(len(p), 0, -1), sorted(p, key=lambda n: p[n]), strict=True):
        before = adjusted[name] = max(before, min(1.0, left * p[name]))
    return adjusted


def by_problem(long: pd.DataFrame, outcome: str, arm: str) -> np.ndarray:
    rows = long[(long["outcome"] == outcome) & (long["arm"] == arm)]
    return rows.groupby("id", sort=False)["value"].mean().to_numpy()


def assert_p(text: str, p: float) -> None:
    if p < 0.001:
        assert text == "< 0.001"
    else:
        assert_shows(text, p)


def test_the_small_run_is_kept_whole() -> None:
    assert "small" in KEPT
    settings = read_json(FOLDER / "small" / "settings.json")["settings"]
    every = {f"{arm}-{seed}" for arm in settings["arms"] for seed in range(settings["seeds"])}
    assert every == {file.stem for file in (FOLDER / "small" / "cells").iterdir()}


# ------------------------------------------------------------------------------- the figures


@pytest.mark.parametrize(
    ("outcome", "heading"),
    [
        ("logprob", "### Log-probability of the references (nats a token)"),
        ("pass@1", "### pass@1 (points)"),
        ("pass@8", "### pass@8 (points)"),
    ],
)
def test_effects_are_those_of_the_cells(
    report: str, long: pd.DataFrame, outcome: str, heading: str
) -> None:
    if outcome not in set(long["outcome"]):
        pytest.skip("too few samples")
    table = tables_of(report, heading)[0].set_index("arm")
    assert set(table.index) == set(long["arm"]) - {"random"}
    scale = 1 if outcome == "logprob" else 100
    each = {arm: compared(long, outcome, arm, "random") for arm in table.index}
    adjusted = stepped_down({arm: one["p"] for arm, one in each.items() if arm != "none"})
    random, none = (by_problem(long, outcome, arm) for arm in ("random", "none"))
    below = random - none if outcome == "logprob" else random
    for arm, row in table.iterrows():
        one = each[str(arm)]
        assert_shows(row["effect"], scale * one["value"])
        assert_shows(row["over problems"], scale * one["low"], scale * one["high"])
        assert_shows(row["over trainings"], scale * one["seed_low"], scale * one["seed_high"])
        for name, half in (("both", one["both"]), ("its own seeds", one["own"])):
            ends = one["value"] - half, one["value"] + half
            assert_shows(row[name], *(scale * end for end in ends))
        assert_p(row["p"], one["p"])
        if math.isnan(one["d_z"]):
            assert row["d_z"] == "–"
        else:
            assert_shows(row["d_z"], one["d_z"], one["d_low"], one["d_high"])
        if arm == "none":
            assert row["p (Holm)"] == "–"
        else:
            assert_p(row["p (Holm)"], adjusted[str(arm)])
        if (arm, outcome) == ("none", "logprob"):
            assert row["share of training"] == "–"
        else:
            share = ratio(by_problem(long, outcome, str(arm)) - random, below)
            name = "share of training" if outcome == "logprob" else "of random's"
            if bootstrap(below)[0] > 1e-12:
                assert_shows(row[name], *(100 * part for part in share))
            else:
                assert row[name] == "–"


def test_means_are_those_of_the_cells(report: str, long: pd.DataFrame) -> None:
    by_arm, by_category = tables_of(report, "## Means")
    means = long.groupby(["outcome", "arm"])["value"].mean()
    assert set(by_arm["arm"]) == set(long["arm"])
    for _, row in by_arm.iterrows():
        assert_shows(row["Log-probability of the references"], means["logprob", row["arm"]])
        for outcome in set(long["outcome"]) - {"logprob"}:
            assert_shows(row[outcome], 100 * means[outcome, row["arm"]])
    rows = long[long["outcome"] == "logprob"]
    means = rows.groupby(["arm", "category"])["value"].mean()
    counts = rows.groupby("category")["id"].nunique()
    for _, row in by_category.iterrows():
        alike = means[row["arm"]].to_numpy().mean()
        assert_shows(row["alike"], alike)
        for name in by_category.columns[1:-1]:
            category, n = re.fullmatch(r"(.*) \((\d+)\)", name).groups()  # type: ignore[union-attr]
            assert int(n) == counts[category]
            assert_shows(row[name], means[row["arm"], category])


def test_noise_is_what_arms_and_seeds_leave(report: str, long: pd.DataFrame) -> None:
    table = tables_of(report, "### Noise of training")[0].set_index("arm")
    redrawn = long.attrs["redrawn"]
    assert set(table.index) == set(trained(long))
    for outcome, name in zip(OUTCOMES, table.columns[1:], strict=False):
        scale = 1 if outcome == "logprob" else 100
        means = long[long["outcome"] == outcome].groupby(["arm", "seed"])["value"].mean()
        both = classes(means.unstack("seed").drop("none"), redrawn)
        for means, others in (both, both[::-1]):
            if len(means) > 1:
                squares = (residuals(means) ** 2).sum(axis=1)
                squares *= len(means) / ((len(means) - 1) * (means.shape[1] - 1))
            elif len(means) == 1 and len(others) > 1:
                apart = (means.iloc[0] - others.mean(axis=0)).var()
                squares = pd.Series(apart - mean_square(others)[0] / len(others), means.index)
            else:
                squares = pd.Series(math.nan, means.index)
            for arm, square in squares.items():
                assert table.loc[arm, "its rows"] == (
                    "redrawn by seed" if arm in redrawn else "fixed"
                )
                if square >= 0:
                    assert_shows(table.loc[arm, name], scale * math.sqrt(square))
                else:
                    assert table.loc[arm, name] == "–"


def test_costs_are_those_of_the_cells(report: str, results: Path) -> None:
    cells = pd.DataFrame(cells_of(results))
    cells = cells[cells["arm"] != "none"]
    means = cells.groupby("arm")[["rows", "loss_tokens", "optimizer_steps"]].mean()
    table = tables_of(report, "## Equal cost")[0].set_index("arm")
    assert set(table.index) == set(cells["arm"])
    for arm, row in table.iterrows():
        assert_shows(row["rows"], means.loc[arm, "rows"])
        assert_shows(row["loss tokens"], means.loc[arm, "loss_tokens"])
        assert_shows(row["optimizer steps"], means.loc[arm, "optimizer_steps"])
        picked = cells[cells["arm"] == arm]["picked"]
        assert_shows(row["different selections"], picked.nunique(), len(picked))
        random = cells.loc[cells["arm"] == arm, "recipes"].map(
            lambda recipes: "drawn at random" in json.dumps(recipes)
        )
        assert_shows(row["drawn at random instead"], random.sum(), len(picked))
    odd = (means["loss_tokens"] / means.loc["random", "loss_tokens"] - 1).abs()
    odd = odd[~odd.index.str.endswith("_rows")]
    said = re.search(r"in loss tokens is that of `(\w+)`: (\S+) %", report)
    assert said is not None
    assert said[1] == odd.idxmax()
    assert_shows(said[2], 100 * odd.max())
    steps = re.search(r"Steps: (\d+) to (\d+)\.", report)
    assert steps is not None
    low, high = cells["optimizer_steps"].min(), cells["optimizer_steps"].max()
    assert [int(end) for end in steps.groups()] == [low, high]


def detectable(long: pd.DataFrame, outcome: str) -> dict[str, float]:
    y = long[(long["outcome"] == outcome) & (long["arm"] == "random")].pivot_table(
        index="seed", columns="id", values="value"
    )
    pairs = [(y.loc[s] - y.loc[t]).var(ddof=1) for s, t in itertools.combinations(y.index, 2)]
    n_seeds, n = y.shape
    seeds, comparisons = 2 * y.mean(axis=1).var(ddof=1) / n_seeds, len(trained(long)) - 1

    def size(problems: float, level: float, times: float = 1) -> float:
        v = seeds * times
        if v + problems == 0:
            return math.nan
        df_seeds = max(1, comparisons - 1) * (n_seeds - 1)
        df = (v + problems) ** 2 / (v**2 / df_seeds + problems**2 / (n - 1))
        reach = stats.t.ppf(1 - level / 2, df) + stats.t.ppf(0.8, df)
        return float(reach * math.sqrt(v + problems))

    within = float(np.mean(pairs)) / n
    return {
        "problems": n,
        "detectable": size(within / n_seeds, 0.05),
        "after Holm": size(within / n_seeds, 0.05 / comparisons),
        "at most": size(within, 0.05),
        "low": size(within / n_seeds, 0.05, (n_seeds - 1) / stats.chi2.ppf(0.975, n_seeds - 1)),
        "high": size(within / n_seeds, 0.05, (n_seeds - 1) / stats.chi2.ppf(0.025, n_seeds - 1)),
    }


def test_the_plan_is_that_of_none_and_random(report: str, long: pd.DataFrame) -> None:
    table = tables_of(report, "## What this design can find")[0]
    means = long.groupby(["outcome", "arm"])["value"].mean()
    for _, row in table.iterrows():
        outcome = row["outcome"].split()[0]
        scale = 1 if outcome == "logprob" else 100
        said = detectable(long, outcome)
        assert int(row["problems"]) == said.pop("problems")
        ends = [scale * said.pop(name) for name in ("low", "high")]
        if math.isnan(ends[0]):
            assert row["its 95 %"] == "–"
        else:
            assert_shows(row["its 95 %"], *ends)
        for name, value in said.items():
            if math.isnan(value):
                assert row[name] == "–"
            else:
                assert_shows(row[name], scale * value)
        for arm in ("none", "random"):
            assert_shows(row[arm], scale * means[outcome, arm])
    there = [outcome for outcome in OUTCOMES if outcome in set(long["outcome"])]
    assert [row.split()[0] for row in table["outcome"]] == there


def test_the_paragraph_says_what_the_tables_say(
    report: str, results: Path, long: pd.DataFrame
) -> None:
    paragraph = report.split("\n\n")[1]
    rows = long[long["outcome"] == "logprob"]
    means = rows.groupby("arm")["value"].mean()
    others = trained(long)[1:]
    best = means[others].idxmax()
    each = {arm: compared(long, "logprob", arm, "random") for arm in others}
    one = each[best]
    p = stepped_down({arm: one["p"] for arm, one in each.items()})
    said = {word: set[str]() for word in ("above", "below")}
    for names, word in re.findall(r"((?:`\w+`(?:, | and )?)+) lies? (above|below) ", paragraph):
        said[word] = set(re.findall(r"\w+(?=`)", names))
    for word, sign in (("above", 1), ("below", -1)):
        assert said[word] == {a for a in others if p[a] < 0.05 and sign * each[a]["value"] > 0}
    corrections = max(1, len([names for names in said.values() if names]))
    fallen = r"In \d+ of \d+ trainings `(\w+)` drew its rows at random, [\w ]+\."
    assert {*re.findall(fallen, paragraph)} == fallen_arms(results)
    paragraph = re.sub(fallen, "", paragraph)
    verdicts = tables_of(report, "## What is claimed, and what we see")[0]["verdict"]
    assert f"The highest mean is that of `{best}`" in paragraph
    before, after = re.sub("`.*?`", "", paragraph).split(" lines of the table")
    assert_shows(
        before,
        *(len(others) + 1, rows["seed"].nunique(), rows["id"].nunique()),
        *(means["none"], means["random"]),
        *(one["value"], 95, one["low"], one["high"], one["seed_low"], one["seed_high"]),
        *[len(others)] * corrections,
        *(detectable(long, "logprob")["detectable"], 80, len(verdicts)),
    )
    assert sorted(map(int, numbers(after))) == sorted(verdicts.value_counts())


def test_a_planted_effect_is_found_and_no_other(made: Path) -> None:
    paragraph = (made / "report.md").read_text().split("\n\n")[1]
    assert f"`{PLANTED}` lies above random after correction for 8 arms." in paragraph
    assert "below random" not in paragraph


def test_claims_of_arms_are_judged_by_the_rule(
    report: str, results: Path, long: pd.DataFrame
) -> None:
    """What is shown, and the verdict, by the rule written out once more."""
    table = tables_of(report, "## What is claimed, and what we see")[0]
    mean = long.groupby(["outcome", "arm"])["value"].mean()
    gain = mean["logprob", "random"] - mean["logprob", "none"]
    human, native = ("category", "weakest_categories"), ("weakness_pca", "weakness_sae")
    every = {
        "Axes do better than a rotation within their span": ("weakness_pca", "weakness_rotated"),
        "Axes do better than a random subspace": ("weakness_pca", "weakness_subspace"),
        "Influence, without axes, does better than axes": ("influence", "weakness_pca"),
        "SAE axes do better than PCA axes": ("weakness_sae", "weakness_pca"),
        "Measuring errors anew helps": ("curriculum_quarters", "weakness_pca_quarters"),
    }
    ladder = {text: pair for text, pair in every.items() if {*pair} <= set(long["arm"])}
    fallen = fallen_arms(results)
    p_ladder = stepped_down(
        {text: compared(long, "logprob", *pair)["p"] for text, pair in ladder.items()}
    )
    judged_rows = 0
    for _, row in table.iterrows():
        text, measured = row["claim of the paper, or question"], row["measured by"]
        outcome = "logprob" if measured == "log-probability" else measured
        if text.startswith("Model-native selection"):
            arms, rivals, claimed = native, human, 0.03
        elif text.startswith("Selection along the axes"):
            arms, rivals, claimed = native, ("random",), 0.2
        elif text.startswith("The authors' own recipe"):
            arms, rivals, claimed = ("autoskill",), human, 0.03
            if text.endswith("random selection"):
                rivals, claimed = ("random",), 0.2
        elif text in every:
            arms, rivals, claimed = every[text][:1], every[text][1:], math.nan
        else:
            continue
        if row["verdict"] == NOT_RUN:
            assert not {*arms, *rivals} <= set(long["arm"]) or outcome not in set(long["outcome"])
            continue
        judged_rows += 1
        each = {arm: [compared(long, outcome, arm, rival) for rival in rivals] for arm in arms}
        if rivals == ("random",):
            against = {a: compared(long, outcome, a, "random")["p"] for a in trained(long)[1:]}
            p = stepped_down(against)
        elif text in ladder:
            p = {arms[0]: p_ladder[text]}
        else:
            p = stepped_down({arm: max(o["p"] for o in group) for arm, group in each.items()})
        mde = detectable(long, outcome)["detectable"]
        shown, failed = [], []
        seen, *why = re.split(r"; (?=\w+ found no weak pole)", row["what we see"])
        assert {line.split()[0] for line in why} == fallen & {*arms, *rivals}
        parts = seen.rsplit(" [", 1)[0].split("; weakness_sae")
        parts[1:] = [f"weakness_sae{part}" for part in parts[1:]]
        scale = 1 if outcome == "logprob" else 100
        for (arm, group), part in zip(each.items(), parts, strict=True):
            tops = []
            for rival, one in zip(rivals, group, strict=True):
                size = 0.1 * gain if outcome == "logprob" else claimed * mean[outcome, rival]
                top = max(one["high"], one["seed_high"])
                tops.append(top < 0 or top < np.nanmin([size, mde]))
            able = not fallen & {arm, *rivals}
            failed.append(able and any(tops))
            lows = [min(one["low"], one["seed_low"]) for one in group]
            shown.append(able and p[arm] < 0.05 and min(lows) > 0)
            place = min(range(len(group)), key=lambda i: group[i]["value"])
            worst, rival = group[place], rivals[place]
            said = part.split(f"{arm} ", 1)[1]
            assert f"against {rival}, p" in said
            ends = (min(worst["low"], worst["seed_low"]), max(worst["high"], worst["seed_high"]))
            shares = [] if outcome == "logprob" else [worst["value"] / mean[outcome, rival]]
            assert_shows(
                said.split(" against ")[0],
                *(scale * value for value in (worst["value"], *ends)),
                *(100 * share for share in shares),
            )
            assert ("of beating all" in said) == (len(rivals) > 1)
            assert_p(said.rsplit(", p ", 1)[1].removeprefix("of beating all "), p[arm])
        verdict = HOLDS if any(shown) else DOES_NOT if all(failed) else TOO_SMALL
        assert row["verdict"] == verdict, text
    if set(native) | set(human) <= set(long["arm"]):
        assert judged_rows == 4 + len(ladder) + 4 * ("autoskill" in set(long["arm"]))


def test_steering_is_that_of_the_stored_answers(report: str, results: Path) -> None:
    steering = read_json(results / "steering.json")
    ways = {one["name"]: one for one in steering["reported"]}
    rates = {
        (name, k): np.array([passed(one["n"], c, k) for c in one["c"]])
        for name, one in ways.items()
        for k in (1, 8)
    }
    table, candidates = tables_of(report, "## Steering at inference")
    assert table["answered by"].tolist() == list(ways)
    for values in table.to_numpy():
        name = values[0]
        for k, cells in ((1, values[2:5]), (8, values[5:8])):
            assert_shows(cells[0], 100 * rates[name, k].mean())
            if name == "unsteered":
                assert [*cells[1:]] == ["–", "–"]
                continue
            difference = rates[name, k] - rates["unsteered", k]
            assert_shows(cells[1], 100 * difference.mean())
            assert_shows(cells[2], *(100 * end for end in bootstrap(difference)))
    for values, one in zip(candidates.to_numpy(), steering["candidates"], strict=True):
        assert values[0] == one["name"]
        assert_shows(values[2], one["dose"])
        assert_shows(values[3], 1000 * one["utility"])
        assert_shows(values[4], 100 * one["pass@1"])
        assert_shows(values[5], 100 * one["pass@8"])
    claims = tables_of(report, "## What is claimed, and what we see")[0]
    claims = claims.set_index(["claim of the paper, or question", "measured by"])

    def check(text: str, k: int, against: dict[str, np.ndarray], claimed: float) -> None:
        said, verdict = claims.loc[(text, f"pass@{k}"), ["what we see", "verdict"]]
        worst = min(against, key=lambda name: against[name].mean())
        p = max(stats.ttest_1samp(d, 0).pvalue for d in against.values())
        assert f"against {worst}, p" in said
        shown = said.removeprefix(plain(steering["chosen"][f"pass@{k}"])).split(" against ")[0]
        assert_shows(shown, *(100 * v for v in (against[worst].mean(), *bootstrap(against[worst]))))
        level = said.rsplit(", p ", 1)[1].split(" [")[0]
        assert_p(level.removeprefix("of beating all "), p)
        failed = any(bootstrap(d)[1] < claimed for d in against.values())
        holds = p < 0.05 and min(bootstrap(d)[0] for d in against.values()) > 0
        assert verdict == (HOLDS if holds else DOES_NOT if failed else TOO_SMALL)

    chosen = steering["chosen"]["pass@8"]
    twins = [rates[n, 8] for n in ways if n.startswith("random") and n.endswith(f"as {chosen}")]
    assert twins
    axis = rates[chosen, 8]
    check(
        "Steering at inference raises pass@8, more than random vectors of equal length do",
        8,
        {
            "unsteered": axis - rates["unsteered", 8],
            "random vectors of its length": axis - np.mean(twins, axis=0),
        },
        0.048 * rates["unsteered", 8].mean(),
    )
    for k in (8, 1):
        difference = rates[steering["chosen"][f"pass@{k}"], k] - rates["text prompt", k]
        check("Steering beats the text system prompt", k, {"text prompt": difference}, 0.0)


def test_safety_is_that_of_the_stored_table(report: str, results: Path) -> None:
    safety = read_json(results / "safety.json")
    rulers, budgets, held_out = (safety[key] for key in ("rulers", "budgets", "held_out"))
    rows = pd.DataFrame(safety["table"])
    rows["log"] = np.log(rows["radius"])
    keys = ["ruler", "strategy", "family", "budget"]
    families = rows.groupby(keys)[["log", "radius", "log_det", "empty_bins"]].mean()
    means = families.groupby(["ruler", "strategy", "budget"]).mean()
    radii, needed = tables_of(report, "## Safety: coverage of attack families that were not seen")
    assert len(radii) == len(rulers) * 4
    for _, row in radii.iterrows():
        where = (row["ruler"], row["strategy"])
        for budget in budgets:
            assert_shows(row[str(budget)], math.exp(means.loc[(*where, budget), "log"]))
        assert_shows(row[f"log det at {budgets[-1]}"], means.loc[(*where, budgets[-1]), "log_det"])
        assert_shows(
            row[f"empty bins at {budgets[-1]}"], means.loc[(*where, budgets[-1]), "empty_bins"]
        )
    assert len(needed) == len(rulers) * 3
    for _, row in needed.iterrows():
        curve = means.loc[row["ruler"], row["strategy"]]["radius"].to_numpy()
        for budget in budgets:
            wanted = means.loc[(row["ruler"], "text_diversity", budget), "radius"]
            # The first of very many budgets, on straight lines in their logarithm.
            logs = np.linspace(math.log(budgets[0]), math.log(budgets[-1]), 200_001)
            there = np.interp(logs, np.log(budgets), curve) <= wanted
            text = row[str(budget)]
            if not there.any():
                assert text == f"> {budgets[-1]}"
            elif there[0]:
                assert text == f"≤ {budgets[0]}"
            else:
                assert float(text) == pytest.approx(math.exp(logs[there.argmax()]), abs=0.51)
    claims = tables_of(report, "## What is claimed, and what we see")[0].set_index("measured by")
    differences = {}
    for ruler in rulers:
        logs = families["log"].loc[ruler].unstack("budget").mean(axis=1)
        for strategy in ("k_center", "d_optimal"):
            differences[ruler, strategy] = {
                rival: (logs[rival] - logs[strategy])[held_out].to_numpy()
                for rival in ("text_diversity", "random")
            }
    tests = {
        key: [stats.ttest_1samp(d, 0) for d in rivals.values()]
        for key, rivals in differences.items()
    }
    judged_by = [key for key in tests if key[0] != rulers[0]]
    p = stepped_down({str(key): max(t.pvalue for t in tests[key]) for key in judged_by})
    for ruler in rulers:
        text, verdict = claims.loc[f"radius, {ruler}", ["what we see", "verdict"]]
        holds, fails = [], []
        for strategy, said in zip(("k_center", "d_optimal"), text.split("; "), strict=True):
            key = (ruler, strategy)
            assert said.startswith(strategy)
            worst = min(differences[key], key=lambda name: differences[key][name].mean())
            low, high = stats.ttest_1samp(differences[key][worst], 0).confidence_interval()
            ends = [differences[key][worst].mean(), high, low]
            shown, _, level = said.partition(f" against {worst}")
            assert_shows(shown, *(100 * math.expm1(-end) for end in ends))
            intervals = [test.confidence_interval() for test in tests[key]]
            fails.append(any(one.high < 0 for one in intervals))
            if ruler == rulers[0]:
                assert level == ""
            else:
                assert_p(level.removeprefix(", p of beating all "), p[str(key)])
                holds.append(min(one.low for one in intervals) > 0 and p[str(key)] < 0.05)
        expected = HOLDS if any(holds) else DOES_NOT if all(fails) else TOO_SMALL
        assert verdict == (NOT_JUDGED if ruler == rulers[0] else expected)


def test_refusals_are_those_that_are_stored(report: str, results: Path) -> None:
    file = results / "refusals.json"
    if not file.is_file():
        assert "## Safety: refusals after training\n\nNot run.\n" in report
        return
    refusals = read_json(file)
    margins, over = tables_of(report, "## Safety: refusals after training")
    for (_, row), one in zip(margins.iterrows(), refusals["table"], strict=True):
        assert (row["strategy"], row["family"]) == (one["strategy"], one["family"])
        assert_shows(row["seed"], one["seed"])
        assert_shows(row["prompts"], one["n"])
        before, after = one["margin_before"], one["margin_after"]
        assert_shows(row["before"], before)
        assert_shows(row["after"], after)
        assert_shows(row["change"], after - before)
        assert_shows(row["95 %"], one["low"], one["high"])
    for (_, row), one in zip(over.iterrows(), refusals["over_refusal"], strict=True):
        assert row["strategy"] == one["strategy"]
        assert_shows(row["seed"], one["seed"])
        assert_shows(row["requests"], one["n"])
        assert_shows(row["before"], 100 * one["rate_before"])
        assert_shows(row["after"], 100 * one["rate_after"])


def defaults_figure(results: Path) -> str:
    return (results / "figures" / "defaults.svg").read_text(encoding="utf-8")


def test_defaults_are_the_stored_ones(report: str, results: Path) -> None:
    defaults = read_json(results / "defaults.json")
    by_number, by_kind, by_layer, quota = tables_of(
        report, "## What decides the library's defaults"
    )
    said = re.search(r"At layer (\d+), by the number", report)
    title = re.search(r"R² by layer: (\d+) pca axes", defaults_figure(results))
    assert said is not None
    assert title is not None
    layer, number = said[1], title[1]
    shown = []
    for table, key, fixed in (
        (by_number, "n_axes", {"kind": "pca", "layer": layer}),
        (by_layer, "layer", {"kind": "pca", "n_axes": number}),
        (by_kind, "kind", {"layer": layer, "n_axes": number}),
    ):
        for _, row in table.iterrows():
            for column, pooling in (("mean over tokens", "mean"), ("last token", "last")):
                if column in row:
                    where = {**fixed, key: row.iloc[0], "pooling": pooling}
                    shown.append(where)
                    (one,) = (
                        r for r in defaults["r2"] if {name: str(r[name]) for name in where} == where
                    )
                    assert_shows(row[column], one["r2"], one["low"], one["high"])
    # Those of that layer and number of axes stand in two tables.
    assert len(shown) - len(set(by_layer.columns[1:])) == len(defaults["r2"])
    for (_, row), one in zip(quota.iterrows(), defaults["quota"], strict=True):
        assert row["rule"] == one["rule"]
        assert_shows(row["excess error"], one["excess"])
        assert_shows(row["95 % of the ways to halve the probe"], one["from"], one["to"])
    best = defaults["chosen"]
    said = next(line for line in report.splitlines() if line.startswith("Chosen by one half"))
    keys = ("choices", "r2_chosen", "r2_default", "difference", "low", "high", "times", "layer")
    shown = iter(re.findall(r"[-−]?\d+(?:\.\d+)?", said.replace("R²", "")))
    for key in (*keys, "n_axes"):
        assert float(next(shown).replace("−", "-")) == pytest.approx(best[key], abs=0.0006)


def test_time_is_the_sum_of_all_parts(report: str, results: Path) -> None:
    made = [read_json(file).get("made_by") for file in results.rglob("*.json")]
    seconds = [s for one in made if one for s in one["seconds"].values()]
    facts = tables_of(report, "## Made by")[0].set_index("what")["value"]
    assert_shows(facts["hours in all"], sum(seconds) / 3600)


def test_facts_are_the_stored_ones(report: str, results: Path) -> None:
    """Settings, model, corpora, warm-up and bases: a row each value, in their order."""
    start, settings = read_json(results / "start.json"), read_json(results / "settings.json")
    tables = tables_of(report, "## Settings")
    stored = {"setting": {"scale": settings["scale"], **settings["settings"]}}
    stored |= {name: start[name] for name in ("model", "corpus", "warmup") if name in start}
    if start.get("bases"):
        stored["basis"] = start["bases"]
    assert [table.columns[0] for table in tables] == list(stored)
    for table, facts in zip(tables, stored.values(), strict=True):
        known = [value for value in facts.values() if value is not None]
        for shown, value in zip(table["value"], known, strict=True):
            if isinstance(value, dict):
                words = ", ".join(f"{key} {one}" for key, one in value.items())
            elif isinstance(value, list):
                words = ", ".join(map(str, value))
            else:
                words = f"{value:,}" if isinstance(value, int) else str(value)
            assert shown == words


def test_the_machine_is_named(made: Path) -> None:
    facts = tables_of((made / "report.md").read_text(), "## Made by")[0].set_index("what")["value"]
    assert facts["machines"] == "processor Abacus | 2, cores 2"


def test_figures_show_the_numbers_of_the_tables(
    results: Path, report: str, long: pd.DataFrame
) -> None:
    """What a screen reader says of the forest, of both heats and of the curves by layer."""
    texts = {
        file.stem: ElementTree.parse(file).find(".//{*}desc").text or ""  # type: ignore[union-attr]
        for file in (results / "figures").glob("*.svg")
    }
    assert set(texts) == {"effects", "categories", "picked", "steering", "safety", "defaults"}
    there = [outcome for outcome in OUTCOMES if outcome in set(long["outcome"])]
    for part, outcome in zip(texts["effects"].split("; "), there, strict=True):
        scale = 1 if outcome == "logprob" else 100
        shown = dict(item.rsplit(" ", 1) for item in part.split(": ", 1)[1].split(", "))
        assert set(shown) == set(trained(long)[1:])
        for arm, number in shown.items():
            assert_shows(number, scale * compared(long, outcome, arm, "random")["value"])
    rows = long[long["outcome"] == "logprob"]
    means = rows.groupby(["arm", "category"])["value"].mean().unstack()
    for part in texts["categories"].split("; "):
        arm, values = part.split(": ")
        assert_shows(values, *(1000 * (means.loc[arm] - means.loc["random"])))
    cells = cells_of(results)
    taken = pd.DataFrame([{"arm": c["arm"], **c.get("categories", {})} for c in cells])
    sums = taken.groupby("arm").sum().drop("none").sort_index(axis=1)
    for part in texts["picked"].split("; "):
        arm, values = part.split(": ")
        assert_shows(values, *(100 * sums.loc[arm] / sums.loc[arm].sum()))
    ways, _ = tables_of(report, "## Steering at inference")
    ways = ways.set_index("answered by").drop("unsteered")
    effects = ways["against unsteered (points)"]  # a column for each outcome
    for place, part in enumerate(texts["steering"].split("; ")):
        shown = dict(item.rsplit(" ", 1) for item in re.split(r", (?!as )", part.split(": ", 1)[1]))
        assert {*shown} == {*ways.index}
        for name, number in shown.items():
            assert number == effects.loc[name].iloc[place].replace("-", "−")
    radii = tables_of(report, "## Safety: coverage of attack families that were not seen")[0]
    for part, (_, row) in zip(texts["safety"].split("; "), radii.iterrows(), strict=True):
        name, values = part.split(": ", 2)[1:]
        assert name == f"{row['ruler']}, {row['strategy']}"
        for value, shown in zip(values.split(), row.iloc[2:], strict=False):
            assert float(value) == pytest.approx(float(shown), rel=0.0051)
    by_layer = tables_of(report, "## What decides the library's defaults")[2]
    for part, column in zip(texts["defaults"].split("; "), by_layer.columns[1:], strict=True):
        for value, shown in zip(part.split(": ")[1].split(), by_layer[column], strict=True):
            assert float(value) == pytest.approx(float(shown.split()[0]), abs=0.00051)


# --------------------------------------------------------------------------- as a piece of work


def test_equal_results_give_equal_bytes(results: Path, tmp_path: Path) -> None:
    """Those in the repository too: a report is never older than its results."""
    copied = shutil.copytree(results, tmp_path / "copied")
    files = [Path("report.md"), *(Path("figures", f.name) for f in (results / "figures").iterdir())]
    shutil.rmtree(copied / "figures")
    cells = sorted((copied / "cells").iterdir(), reverse=True)
    for file in cells:  # in another order
        text = file.read_text()
        file.unlink()
        file.write_text(text)
    write_report(copied)
    for file in files:
        assert (copied / file).read_bytes() == (results / file).read_bytes(), file


def test_every_figure_of_the_report_is_there_and_none_else(results: Path, report: str) -> None:
    shown = re.findall(r"\]\((figures/[\w.]+)\)", report)
    assert sorted(shown) == sorted(f"figures/{f.name}" for f in (results / "figures").iterdir())
    for name in shown:
        text = (results / name).read_text()
        assert "prefers-color-scheme:dark" in text
        assert "foreignObject" not in text  # pages that show pictures leave it out


def test_tables_have_as_many_cells_in_every_row(report: str) -> None:
    for block in re.findall(r"(?:^\|.*\n)+", report, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, block


def test_parts_that_were_not_run_are_said_to_be_so(copied: Path) -> None:
    for name in ("plan", "steering", "safety", "defaults", "refusals", "start"):
        (copied / f"{name}.json").unlink()
    for seed in range(3):
        (copied / "cells" / f"weakest_categories-{seed}.json").unlink()
    for seed in (1, 2):
        (copied / "cells" / f"influence-{seed}.json").unlink()
    report = write_report(copied).read_text()
    table = tables_of(report, "## What is claimed, and what we see")[0]
    verdicts = table.groupby("claim of the paper, or question")["verdict"].agg(set)
    assert verdicts["Model-native selection beats the best human selection"] == {NOT_RUN}
    assert verdicts["Influence, without axes, does better than axes"] == {NOT_RUN}
    assert verdicts["SAE axes do better than PCA axes"] == {HOLDS}
    assert "Left out, not all seeds are there: `influence` (1 cell)" in report
    assert not (copied / "figures" / "safety.svg").exists()
    assert report.count("\nNot run.\n") == 3


def test_arms_of_a_run_under_way_are_compared_by_the_seeds_that_all_have(copied: Path) -> None:
    (copied / "cells" / "influence-0.json").unlink()
    report = write_report(copied).read_text()
    assert "compared by seeds 1 and 2, which all that are begun have; 0 of random" in report
    assert "Left out" not in report
    table = tables_of(report, "### Log-probability of the references (nats a token)")[0]
    long = long_table(copied)
    assert set(long["seed"]) == {1, 2}
    for arm, row in table.set_index("arm").iterrows():
        one = compared(long, "logprob", str(arm), "random")
        assert_shows(row["over trainings"], one["seed_low"], one["seed_high"])


def test_nothing_rests_on_an_arm_that_drew_at_random(copied: Path) -> None:
    """The planted effect is still there, and is not said to be the strategy's."""
    file = copied / "cells" / f"{PLANTED}-1.json"
    note = "no pole is weaker than the mean error by more than chance explains: "
    recipe = {"strategy": "weakness", "notes": [note + "the rows were drawn at random"]}
    write_json(file, read_json(file) | {"recipes": [recipe]})
    report = write_report(copied).read_text()
    long = long_table(copied)
    test_the_paragraph_says_what_the_tables_say(report, copied, long)
    test_claims_of_arms_are_judged_by_the_rule(report, copied, long)
    table = tables_of(report, "## What is claimed, and what we see")[0]
    rests = table["what we see"].str.contains(
        f"{PLANTED} found no weak pole and drew its rows at random in 1 of 3 trainings"
    )
    assert rests.sum() == 5  # four claims, and SAE axes against PCA axes
    assert set(table[rests]["verdict"]) == {TOO_SMALL}
    cost = tables_of(report, "## Equal cost")[0].set_index("arm")["drawn at random instead"]
    assert cost[PLANTED] == "1 of 3"
    assert set(cost.drop(PLANTED)) == {"0 of 3"}
    assert f"Drawn at random instead: `{PLANTED}` (1 of 3) had nothing to go by" in report


def test_the_authors_recipe_and_measuring_anew_have_lines_of_their_own(copied: Path) -> None:
    copies = {
        "autoskill": PLANTED,
        "curriculum_quarters": PLANTED,
        "weakness_pca_quarters": "category",
    }
    for arm, of in copies.items():
        for seed in range(3):
            cell = read_json(copied / "cells" / f"{of}-{seed}.json")
            write_json(copied / "cells" / f"{arm}-{seed}.json", cell | {"arm": arm})
    report = write_report(copied).read_text()
    test_claims_of_arms_are_judged_by_the_rule(report, copied, long_table(copied))
    table = tables_of(report, "## What is claimed, and what we see")[0]
    verdicts = table.set_index(["claim of the paper, or question", "measured by"])["verdict"]
    for rest in ("the best human selection", "random selection"):
        text = f"The authors' own recipe (autoskill) beats {rest}"
        assert verdicts[text, "log-probability"] == HOLDS
    assert verdicts["Measuring errors anew helps", "log-probability"] == HOLDS


def test_the_plan_says_what_was_there_when_it_was_made(copied: Path) -> None:
    assert (
        "their 6 cells were all there was: no other arm was trained yet"
        in (copied / "report.md").read_text()
    )
    plan = read_json(copied / "plan.json")
    write_json(
        copied / "plan.json", plan | {"cells": [*plan["cells"], "category-0", "influence-1"]}
    )
    report = write_report(copied).read_text()
    assert "of the 8 cells there were then, 2 were of `category` and `influence`" in report
    assert "no other arm was trained yet" not in report
    del plan["cells"]
    write_json(copied / "plan.json", plan)
    report = write_report(copied).read_text()
    assert "there were then" not in report
    assert "no other arm was trained yet" not in report


def test_rows_that_are_equal_in_number_are_no_matter_of_equal_tokens(copied: Path) -> None:
    for seed in range(3):
        cell = read_json(copied / "cells" / f"weakness_pca-{seed}.json")
        new = cell | {"arm": "weakness_pca_rows", "loss_tokens": 20_000}
        write_json(copied / "cells" / f"weakness_pca_rows-{seed}.json", new)
    report = write_report(copied).read_text()
    test_costs_are_those_of_the_cells(report, copied)
    assert "(`weakness_pca_rows` apart: equal rows)" in report


def test_it_is_run_again_by_the_command_that_made_it(copied: Path) -> None:
    made = read_json(copied / "start.json")
    made["made_by"]["command"] += " --behaviours mine.csv"
    write_json(copied / "start.json", made)
    report = write_report(copied).read_text()
    command = "python -m benchmarks.reproduce --scale small"
    again = report.split("## Run it again")[1].split("```")[1].splitlines()[1:]
    assert again[:2] == [command, f"{command} --behaviours mine.csv"]
    assert again[2].startswith(f"{command} --report")


def test_every_arm_that_can_be_asked_for_has_words_and_a_place() -> None:
    assert set(SHOWN) == {*EVERYWHERE, *AT_FULL}
    assert all(about.words for about in SHOWN.values())


def test_a_report_can_be_written_before_anything_is_trained(tmp_path: Path) -> None:
    write_json(tmp_path / "settings.json", {"scale": "tiny", "settings": {"arms": ["none"]}})
    report = write_report(tmp_path).read_text()
    assert "No arm is trained yet" in report
    verdicts = tables_of(report, "## What is claimed, and what we see")[0]["verdict"]
    assert set(verdicts) == {NOT_RUN}


def test_results_that_say_nothing_give_a_report_too(copied: Path) -> None:
    """All answers wrong, two samples, two seeds: what a random model gives."""
    for file in (copied / "cells").iterdir():
        cell = read_json(file)
        if cell["seed"] == 2:
            file.unlink()
            continue
        write_json(file, cell | {"n": 2, "c": [0] * len(cell["c"])})
    steering = read_json(copied / "steering.json")
    steering["reported"] = [
        one | {"n": 2, "c": [0] * len(one["c"])} for one in steering["reported"]
    ]
    write_json(copied / "steering.json", steering)
    report = write_report(copied).read_text()
    table = tables_of(report, "## What is claimed, and what we see")[0]
    assert set(table[table["measured by"] == "pass@1"]["verdict"]) == {TOO_SMALL}
    assert set(table[table["measured by"] == "pass@8"]["verdict"]) == {NOT_RUN}
    assert "nan" not in report


def test_names_from_data_are_no_markup(copied: Path) -> None:
    problems = read_json(copied / "problems.json")
    problems["categories"] = ["<script>|![x](y)`"] * len(problems["ids"])
    write_json(copied / "problems.json", problems)
    report = write_report(copied).read_text()
    assert "<script>" not in report
    assert r"&lt;script\>\|!\[x\](y)\`" in report
    assert "<script>" not in (copied / "figures" / "categories.svg").read_text()


@pytest.mark.parametrize("name", ["settings", "problems", "cells/random-0", "safety"])
def test_damaged_results_are_named(copied: Path, name: str) -> None:
    (copied / f"{name}.json").write_text('{"half')
    with pytest.raises(InputError, match=rf"{Path(name).name}.json is damaged"):
        write_report(copied)


def test_a_folder_without_settings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no settings\.json"):
        read_outcomes(tmp_path)


def test_a_cell_without_a_value_is_refused_and_the_old_report_stays(copied: Path) -> None:
    cell: dict[str, Any] = read_json(copied / "cells" / "category-1.json")
    cell["logprob"][5] = None
    (copied / "cells" / "category-1.json").write_text(json.dumps(cell))
    before = (copied / "report.md").read_bytes()
    with pytest.raises(InputError, match="cell category-1: logprob of problem p5 is missing"):
        write_report(copied)
    assert (copied / "report.md").read_bytes() == before


# ---------------------------------------------------------------------------------- the rule


def seen(value: float, low: float, high: float, p: float, *limits: float) -> Evidence:
    return Evidence("a", "b", value, ((low, high), (low - 0.01, high + 0.01)), p, limits)


@pytest.mark.parametrize(
    ("groups", "verdict"),
    [
        ([[seen(0.5, 0.1, 0.9, 0.01)]], HOLDS),
        ([[seen(0.5, 0.1, 0.9, 0.06)]], TOO_SMALL),  # p
        ([[seen(0.5, 0.005, 0.9, 0.01)]], TOO_SMALL),  # the other interval holds 0
        ([[seen(-0.5, -0.9, -0.1, 0.01)]], DOES_NOT),
        ([[seen(0.0, -0.2, 0.2, 0.9)]], TOO_SMALL),  # no size to rule out
        ([[seen(0.0, -0.2, 0.2, 0.9, 0.3)]], DOES_NOT),
        ([[seen(0.0, -0.2, 0.2, 0.9, 0.3, 0.205)]], TOO_SMALL),  # only one of two sizes
        ([[seen(0.5, 0.1, 0.9, 0.01), seen(0.1, -0.2, 0.4, 0.5)]], TOO_SMALL),  # beats one of two
        ([[seen(0.5, 0.1, 0.9, 0.01), seen(-0.5, -0.9, -0.1, 0.01)]], DOES_NOT),
        ([[seen(-0.5, -0.9, -0.1, 0.01)], [seen(0.5, 0.1, 0.9, 0.01)]], HOLDS),  # one is enough
        ([[seen(-0.5, -0.9, -0.1, 0.01)], [seen(0.5, 0.1, 0.9, 0.04)]], HOLDS),  # second step
        ([[seen(0.1, -0.2, 0.4, 0.5)], [seen(0.5, 0.1, 0.9, 0.04)]], TOO_SMALL),  # first step
        ([[Evidence("a", "b", 0.0, ((0.0, 0.0),), 1.0, (0.3,))]], TOO_SMALL),  # all alike
        ([[seen(0.5, math.nan, math.nan, math.nan, 1.0)]], TOO_SMALL),
        ([], NOT_RUN),
    ],
)
def test_the_rule(groups: list[list[Evidence]], verdict: str) -> None:
    assert judged(groups)[0] == verdict
