"""The whole comparison on a random model: figures mean nothing, and all of them are there."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import mnskills_viz as mn
from benchmarks.reproduce.__main__ import main
from benchmarks.reproduce.arms import ARMS, Ask
from benchmarks.reproduce.ground import Ground, corpora
from benchmarks.reproduce.results import Results, rounded
from benchmarks.reproduce.settings import AT_FULL, EVERYWHERE, settings_of
from mnskills_viz.models import torch_module

ROOT = Path(__file__).parents[2]
TINY = settings_of("tiny")


def run(folder: Path, *more: str) -> int:
    places = ["--results", str(folder / "results"), "--work", str(folder / "work")]
    return main(["--scale", "tiny", *places, *more])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
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
        assert abs(cell["optimizer_steps"] - max(ARMS[cell["arm"]].rounds, TINY.steps)) <= 1, name


def test_the_arm_at_equal_rows_has_as_many_as_the_random_draw(tiny: Path):
    found = cells(tiny)
    for seed in range(TINY.seeds):
        assert found[f"weakness_pca_rows-{seed}"]["rows"] == found[f"random-{seed}"]["rows"]


@pytest.mark.parametrize("rows", [128, 178, 193, 257, 800])
@pytest.mark.parametrize("steps", [16, 64])
def test_batches_are_of_the_size_that_comes_nearest_to_the_steps(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rows: int, steps: int
):
    (tmp_path / "train.jsonl").write_text("{}\n" * rows)
    asked = {}
    monkeypatch.setattr(mn, "sft", lambda *_, **options: asked.update(options))
    ground.train("model", tmp_path, tmp_path / "out", seed=0, steps=steps)
    taken = {size: -(-rows // size) for size in range(1, rows + 1)}
    off = {size: abs(number - steps) for size, number in taken.items()}
    assert off[asked["batch_size"]] == min(off.values())
    assert min(off.values()) <= 0.16 * steps


def test_a_pool_below_ten_budgets_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run(tmp_path, "--budget", "400") == 2
    assert "arms would overlap too much to differ; lower --budget to 335" in capsys.readouterr().err


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


def test_the_weakest_category_is_bought_where_errors_are_its_own(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
):
    study = ground.study
    wrong = [study.corpus[int(i)].category == "strings" for i in study.probe_rows]
    monkeypatch.setattr(study, "probe_errors", lambda *_: np.where(wrong, 0.9, 0.1))
    chosen = ARMS["weakest_categories"].choose(Ask(ground, 0, TINY.budget, ground.start, []))
    assert {study.pool[int(i)].category for i in chosen.indices} == {"strings"}


def test_the_ladder_differs_in_its_axes_alone(ground: Ground):
    axes, turned, blind, other = (
        ground.study.basis(ground.basis(kind, seed))
        for kind, seed in (("pca", None), ("rotated", 0), ("subspace", 0), ("rotated", 1))
    )
    assert np.abs(turned.components_ - other.components_).max() > 0.01  # drawn for every seed
    overlap = np.linalg.svd(turned.components_ @ axes.components_.T, compute_uv=False)
    np.testing.assert_allclose(overlap, 1.0, atol=1e-4)
    assert np.linalg.svd(blind.components_ @ axes.components_.T, compute_uv=False).min() < 0.9
    assert turned.n_axes_ == blind.n_axes_ == axes.n_axes_


def test_the_authors_recipe_reads_texts_without_the_template(ground: Ground):
    acts, example = ground.without_template, ground.study.corpus[0]
    assert acts.layers == ground.study.activations.layers[1:-1]
    model = mn.load_model(ground.start)
    text = f"{example.prompt_text}\n{example.response}"
    with torch.inference_mode():
        read = torch_module(model)(
            **model.tokenizer(text, return_tensors="pt"), output_hidden_states=True
        )
    for layer in acts.layers:
        expected = read.hidden_states[layer + 1][0, 1:].float().mean(dim=0)
        np.testing.assert_allclose(acts.matrix(layer)[0], expected, rtol=0.01, atol=0.02)


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
        (["--pool", "mine.jsonl"], "pool 'mine.jsonl' and test 'demo' do not belong together"),
    ],
)
def test_settings_that_cannot_be_compared_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], complaint: str
):
    assert run(tmp_path, *more) == 2
    assert complaint in capsys.readouterr().err


ARMS_OF_A_SHORT_RUN = ("none", "random", "weakness_pca")


def started(folder: Path) -> subprocess.Popen:
    """A process of its own at a comparison of few arms."""
    places = ["--results", str(folder / "results"), "--work", str(folder / "work")]
    command = [sys.executable, "-m", "benchmarks.reproduce", "--scale", "tiny", *places]
    return subprocess.Popen(
        [*command, "--arms", *ARMS_OF_A_SHORT_RUN],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_share_the_work_and_one_ends_what_the_other_was_killed_in(
    tmp_path: Path, tiny: Path
):
    processes = [started(tmp_path) for _ in range(2)]
    chosen = tmp_path / "work" / "cells" / "weakness_pca-0" / "rows-0" / "manifest.json"
    busy = tmp_path / "work" / "locks" / "cells" / "weakness_pca-0.lock"
    deadline = time.monotonic() + 240
    while not chosen.exists() and time.monotonic() < deadline:
        assert not any(process.poll() for process in processes)
        time.sleep(0.01)
    assert chosen.exists()
    assert not (tmp_path / "results" / "cells" / "weakness_pca-0.json").exists()
    killed = next(process for process in processes if holds(process, busy))
    killed.kill()  # between selection and training
    assert killed.wait() == -signal.SIGKILL
    processes = [process for process in processes if process is not killed] + [started(tmp_path)]
    complaints = [process.communicate(timeout=240)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], complaints

    whole, found = cells(tiny), cells(tmp_path)
    assert set(found) == {n for n in whole if n.rpartition("-")[0] in ARMS_OF_A_SHORT_RUN}
    for name, cell in found.items():
        assert cell.get("picked") == whole[name].get("picked"), name
        np.testing.assert_allclose(cell["logprob"], whole[name]["logprob"], rtol=1e-4)


def holds(process: subprocess.Popen, file: Path) -> bool:
    """Whether a process has a file open; others may be closed while one looks."""
    opened = Path(f"/proc/{process.pid}/fd").iterdir()
    return any(os.path.realpath(place) == str(file.resolve()) for place in opened)


def test_numbers_are_kept_to_six_digits_and_what_is_none_is_null(tmp_path: Path):
    results = Results(tmp_path)
    results.write("a", {"x": np.float32(1 / 3), "y": [np.nan, 2**40], "z": np.arange(2)})
    assert results.read("a") == {"x": 0.333333, "y": [None, 2**40], "z": [0, 1]}
    assert rounded(123456789.0) == 123457000.0
    with pytest.raises(TypeError, match="no JSON for object"):
        rounded(object())
