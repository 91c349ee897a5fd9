"""The whole comparison on a random model: figures mean nothing, and all of them are there."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import mnskills_viz as mn
from benchmarks.reproduce.__main__ import main
from benchmarks.reproduce.arms import ARMS, Ask
from benchmarks.reproduce.ground import Ground, corpora
from benchmarks.reproduce.results import Results, rounded
from benchmarks.reproduce.settings import AT_FULL, EVERYWHERE, settings_of
from benchmarks.reproduce.trained import cell_name

ROOT = Path(__file__).parents[2]
TINY = settings_of("tiny")


def run(folder: Path, *more: str) -> int:
    places = ["--results", str(folder / "results"), "--work", str(folder / "work")]
    return main(["--scale", "tiny", *places, *more])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run of scale tiny."""
    folder = tmp_path_factory.mktemp("reproduce")
    assert run(folder) == 0
    return folder


@pytest.fixture(scope="module")
def ground(tiny: Path) -> Ground:
    return Ground(TINY, tiny / "work", progress=False)


def cells(folder: Path) -> dict[str, dict]:
    found = sorted((folder / "results" / "cells").glob("*.json"))
    return {path.stem: json.loads(path.read_text()) for path in found}


def test_every_arm_was_trained_with_every_seed(tiny: Path):
    every = {f"{arm}-{seed}" for arm in (*EVERYWHERE, *AT_FULL) for seed in range(TINY.seeds)}
    assert set(cells(tiny)) == every
    assert set(ARMS) == {*EVERYWHERE, *AT_FULL}


def test_arms_spend_equal_tokens_in_equal_steps(tiny: Path):
    longest = max(len(e.response) for e in mn.load_corpus("demo"))
    for name, cell in cells(tiny).items():
        if cell["arm"] == "none" or cell["arm"].endswith("_rows"):
            continue
        # Beside its response each row has an end mark and a line break; the last row need not fit.
        spent = cell["loss_tokens"] - 2 * cell["rows"]
        assert TINY.budget - longest < spent <= TINY.budget, name
        rounds = ARMS[cell["arm"]].rounds
        assert cell["optimizer_steps"] == max(rounds, TINY.steps), name


def test_arms_at_equal_rows_have_as_many_as_the_random_draw(tiny: Path):
    found = cells(tiny)
    for seed in range(TINY.seeds):
        rows = found[f"random-{seed}"]["rows"]
        assert found[f"random_rows-{seed}"]["rows"] == rows
        assert found[f"weakness_pca_rows-{seed}"]["rows"] == rows


def test_the_start_is_the_same_for_all_and_nobody_is_trained_on_what_is_measured(ground: Ground):
    parts = corpora(TINY)
    ids = [{*part.ids} for part in (parts.warmup, parts.pool, parts.probe, parts.test)]
    assert sum(map(len, ids)) == len(set.union(*ids))
    assert len(parts.warmup) == TINY.warmup_rows
    record = json.loads((ground.work / "warmup" / "training.json").read_text())
    assert record["rows"] == TINY.warmup_rows
    assert ground.study.about["model"]["name"] == str(ground.work / "warmup")


def test_a_pool_without_rows_to_spare_goes_without_those_of_the_warm_up():
    parts = corpora(settings_of("tiny", pool_rows=5000))
    assert len(parts.pool) == 5000 - TINY.warmup_rows
    assert not {*parts.pool.ids} & {*parts.warmup.ids}


def test_outcomes_are_those_of_the_models_that_were_trained(tiny: Path, ground: Ground):
    """The cell of the start, measured here with the library alone."""
    cell = cells(tiny)["none-1"]
    acts = mn.collect(
        ground.study.model, ground.study.test, layers=[0], errors=True, progress=False
    )
    np.testing.assert_allclose(cell["logprob"], acts.logprobs, rtol=1e-5)
    others = [c["logprob"] for name, c in cells(tiny).items() if c["arm"] != "none"]
    assert all(np.abs(np.subtract(other, cell["logprob"])).max() > 1e-4 for other in others)


def test_the_plan_was_made_before_any_other_arm(tiny: Path):
    folder = tiny / "results"
    made = (folder / "plan.json").stat().st_mtime_ns
    for path in folder.glob("cells/*.json"):
        is_control = path.stem.rpartition("-")[0] in ("none", "random")
        assert (path.stat().st_mtime_ns < made) == is_control, path


def test_weakest_categories_are_the_curriculum_with_categories_as_poles(ground: Ground):
    study = ground.study
    ask = Ask(ground, 0, TINY.budget, ground.start, [])
    chosen = ARMS["weakest_categories"].choose(ask)
    categories = np.array([study.corpus[int(i)].category for i in study.probe_rows])
    error = study.probe_errors()
    worst = {str(c) for c in np.unique(categories) if error[categories == c].mean() > error.mean()}
    picked = [study.pool[int(i)].category for i in chosen.indices]
    weak = chosen.receipts["weakness"] > error.mean()
    assert {c for c, is_weak in zip(picked, weak, strict=True) if is_weak} <= worst


def test_the_ladder_differs_in_its_axes_alone(ground: Ground):
    axes, turned, blind = (
        ground.study.basis(ground.basis(kind)) for kind in ("pca", "rotated", "subspace")
    )
    overlap = np.linalg.svd(turned.components_ @ axes.components_.T, compute_uv=False)
    np.testing.assert_allclose(overlap, 1.0, atol=1e-4)
    assert np.linalg.svd(blind.components_ @ axes.components_.T, compute_uv=False).min() < 0.9
    assert turned.n_axes_ == blind.n_axes_ == axes.n_axes_


def test_nothing_that_is_kept_says_what_the_examples_say(tiny: Path):
    texts = [e.prompt_text for e in mn.load_corpus("demo")[:400]]
    kept = "".join(path.read_text() for path in (tiny / "results").rglob("*.json"))
    assert not any(text in kept for text in texts)


def test_a_second_run_has_nothing_to_do(tiny: Path, capsys: pytest.CaptureFixture[str]):
    before = {path: path.stat().st_mtime_ns for path in (tiny / "results").rglob("*.json")}
    assert run(tiny) == 0
    assert "all parts are done" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_other_settings_are_refused_in_one_line(tiny: Path, capsys: pytest.CaptureFixture[str]):
    assert run(tiny, "--seeds", "3") == 2
    said = capsys.readouterr().err
    assert "settings.json was made otherwise (settings differ)" in said
    assert said.count("\n") == 1


def test_cells_of_two_starts_are_not_mixed(tiny: Path, ground: Ground):
    start = Results(tiny / "results").read("start")
    ground.require(start)
    other = start | {"model": start["model"] | {"weights": "0123456789abcdef"}}
    with pytest.raises(
        mn.InputError, match=r"not the start that the results are of \(model differ"
    ):
        ground.require(other)


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--arms", "none", "weakness_pca"], "the arms must hold 'random'"),
        (["--arms", "none", "random", "luck"], "no arm is called 'luck'"),
        (["--seeds", "1"], "seeds must be at least 2"),
    ],
)
def test_settings_that_cannot_be_compared_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], complaint: str
):
    assert run(tmp_path, *more) == 2
    assert complaint in capsys.readouterr().err


def test_killed_and_run_again_it_finds_the_same(tmp_path: Path, tiny: Path):
    """SIGKILL once the first cells are there; the rest comes out as in a run of one piece."""
    arms = ["--arms", "none", "random", "weakness_pca"]
    places = ["--results", str(tmp_path / "results"), "--work", str(tmp_path / "work")]
    command = [sys.executable, "-m", "benchmarks.reproduce", "--scale", "tiny", *arms, *places]
    first = tmp_path / "results" / "cells" / "random-0.json"
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not first.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert first.exists()
    assert not (tmp_path / "results" / "plan.json").exists()

    assert run(tmp_path, *arms) == 0
    whole, again = cells(tiny), cells(tmp_path)
    assert set(again) == {n for n in whole if n.rpartition("-")[0] in arms}
    for name, cell in again.items():
        assert cell["picked" if cell["arm"] != "none" else "arm"] == whole[name].get(
            "picked", cell["arm"]
        )
        np.testing.assert_allclose(cell["logprob"], whole[name]["logprob"], rtol=1e-4)


def test_numbers_are_kept_to_six_digits_and_what_is_none_is_null(tmp_path: Path):
    results = Results(tmp_path)
    results.write("a", {"x": np.float32(1 / 3), "y": [np.nan, 2**40], "z": np.arange(2)})
    assert results.read("a") == {"x": 0.333333, "y": [None, 2**40], "z": [0, 1]}
    assert rounded(123456789.0) == 123457000.0
    with pytest.raises(TypeError, match="no JSON for object"):
        rounded(object())


def test_cells_have_names_that_lead_nowhere_else():
    assert cell_name("random", 2) == "cells/random-2"
