"""Killed at any moment, or two at once: what is resumed equals what was never disturbed.

Run as a script, this file is the driver: it loads the model once and forks the processes that are
killed, since importing torch in each would take far longer than what they do. It must not call
Lance itself: a fork does not take its threads along.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import lance
import numpy as np
import pytest

import mnskills_viz as mn
from mnskills_viz.activations import collect, collector, statistics, store

KILLS = 20
FIRST, ALL = [0, 2], [0, 1, 2, 3]
OPTIONS = {"progress": False, "token_budget": 64}
BUSY = "is being written by another process"


# ---------------------------------------------------------------------------------- the driver


class Backwards:
    """An engine whose rows come in another order."""

    def read(self, model, job, corpus, batches):
        return collector.Here().read(model, job, corpus, batches[::-1])


class Driver:
    """Forks children that collect, kills them, and looks at what they left."""

    def __init__(self, folder, model):
        self.folder = Path(folder)
        self.model = mn.load_model(model, dtype="float32")
        text = (self.folder / "corpus.jsonl").read_text()
        self.corpus = mn.Corpus.from_jsonl(text, "demo")
        self.chance = random.Random(0)
        collect.BYTES_A_COMMIT = 1  # an append a batch
        statistics.SECONDS_A_CHECKPOINT, statistics.WRITING_SHARE = 0.0, 1.0

    def rows(self, path):
        """Two layers, then the others and the errors, which are computed beside and merged."""
        mn.collect(self.model, self.corpus, layers=FIRST, store=path, **OPTIONS)
        mn.collect(self.model, self.corpus, errors=True, engine=Backwards(), store=path, **OPTIONS)

    def rows_or_refusal(self, path):
        try:
            self.rows(path)
        except mn.InputError as error:
            return str(error)
        return "finished"

    def rows_at_last(self, path):
        while BUSY in (said := self.rows_or_refusal(path)):
            time.sleep(0.003)
        return said

    def rows_on_one_processor(self, path):
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
        signal.alarm(20)
        return self.rows_or_refusal(path)

    def moments(self, path):
        mn.collect_moments(self.model, self.corpus, store=path, **OPTIONS)

    def rows_there(self, path):
        """Rows in the store, None without a store; the same of the one beside; whether merged."""
        found = []
        for place in (path, path.with_name(f".{path.name}.added")):
            dataset = store.open_dataset(place) if store.is_there(place) else None
            found.append(dataset and (dataset.count_rows(), store.layers_of(dataset.schema)))
        main, beside = found
        return [main and main[0], beside and beside[0], bool(main) and main[1] == ALL]

    def rows_summed(self, path):
        from safetensors.numpy import load_file

        return int(load_file(path)["done"].sum()) if path.exists() else 0

    def within(self, counts):
        """The counts of rows that are neither none nor all."""
        return {count for count in counts if count and count < len(self.corpus)}

    def is_every_phase_in(self, seen):
        return all(len(self.within(counts)) >= 2 for counts in list(zip(*seen, strict=True))[:2])

    def is_one_within(self, seen):
        return bool(self.within(seen))

    def start(self, work, path):
        """Fork a child that writes down what `work` returns."""
        answer = self.folder / f"answer-{self.chance.random()}.json"
        child = os.fork()
        if not child:
            signal.alarm(120)  # one that hangs must not outlive the test
            try:
                answer.write_text(json.dumps(work(path)))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        return child, answer

    def end(self, child, answer):
        _, status = os.waitpid(child, 0)
        return f"ended by {status}" if status else json.loads(answer.read_text())

    def run(self, work, path):
        return self.end(*self.start(work, path))

    def complete(self, work, path):
        if said := self.run(work, path):
            raise RuntimeError(f"{path}: a process that was left alone {said}")

    def is_killed(self, work, path, moment):
        """Whether the kill found it running."""
        child, _ = self.start(work, path)
        time.sleep(moment)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        return os.WIFSIGNALED(status)

    def kill_and_finish(self, work, look, name, kills, is_enough):
        """Kill at random moments, some stores several times in a row; then finish them.

        A machine with other work may stretch one phase over all the moments that were drawn: it
        goes on until they fell where they show something, and gives up at five times as many.
        """
        folder = self.folder / f"{name} killed"
        whole = folder / "whole" / name
        begun = time.monotonic()
        self.complete(work, whole)
        seconds = time.monotonic() - begun
        seen, paths, in_a_row = [], [], 0
        while len(seen) < kills or not (is_enough(seen) or len(seen) >= 5 * kills):
            fifth = len(paths) % 5  # none is left to chance
            paths.append(folder / f"{len(paths)}" / name)
            for already in range(self.chance.choice([1, 1, 2, 3])):
                share = self.chance.random() / 2 if already else (fifth + self.chance.random()) / 5
                if not self.is_killed(work, paths[-1], share * seconds):
                    break
                seen.append(self.run(look, paths[-1]))
                in_a_row = max(in_a_row, already + 1)
            self.complete(work, paths[-1])
        finished = [str(path) for path in paths]
        return {"whole": str(whole), "seen": seen, "in_a_row": in_a_row, "finished": finished}

    def two_at_once(self, work, name):
        path = self.folder / name / "a.lance"
        both = [self.start(work, path) for _ in range(2)]
        return {"path": str(path), "said": [self.end(*child) for child in both]}


def drive(folder, model):
    driver = Driver(folder, model)
    alone = driver.folder / "alone" / "a.lance"
    return {
        "alone": {"path": str(alone), "said": driver.run(driver.rows_on_one_processor, alone)},
        "refused": driver.two_at_once(driver.rows_or_refusal, "refused"),
        "waiting": driver.two_at_once(driver.rows_at_last, "waiting"),
        "rows": driver.kill_and_finish(
            driver.rows, driver.rows_there, "a.lance", KILLS, driver.is_every_phase_in
        ),
        "moments": driver.kill_and_finish(
            driver.moments, driver.rows_summed, "moments.safetensors", 6, driver.is_one_within
        ),
    }


if __name__ == "__main__":
    print(json.dumps(drive(*sys.argv[1:])))
    sys.exit()


# ----------------------------------------------------------------------------------- the claims


@pytest.fixture(scope="module")
def corpus(demo_rows):
    return demo_rows[::3]


@pytest.fixture(scope="module")
def driven(tmp_path_factory, tiny_folder, corpus):
    folder = tmp_path_factory.mktemp("killed")
    (folder / "corpus.jsonl").write_text(corpus.to_jsonl())
    run = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, str(folder), str(tiny_folder)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout)


def assert_same(path, whole, corpus):
    found, expected = mn.Activations.open(path), mn.Activations.open(whole)
    assert found.ids == expected.ids == corpus.ids
    assert found.layers == expected.layers == ALL
    np.testing.assert_array_equal(found.logprobs, expected.logprobs)
    for layer in ALL:
        np.testing.assert_array_equal(found.matrix(layer), expected.matrix(layer))
    tables = [lance.dataset(str(p)).to_table().sort_by("position") for p in (path, whole)]
    assert tables[0].select(tables[1].column_names).equals(tables[1])  # tokens, roles, sinks
    left = {p.name for p in Path(path).parent.iterdir()}
    assert left == {"a.lance", ".a.lance.lock"}


def test_killed_at_random_moments_and_resumed_equals_uninterrupted(driven, corpus):
    rows = driven["rows"]
    assert len(rows["seen"]) >= KILLS
    assert rows["in_a_row"] > 1
    for path in rows["finished"]:
        assert_same(path, rows["whole"], corpus)


def test_the_kills_fell_into_every_phase(driven, corpus):
    """Or the test above would show nothing."""
    seen = driven["rows"]["seen"]
    collecting = [main for main, _, _ in seen if main and main < len(corpus)]
    adding = [beside for _, beside, _ in seen if beside and beside < len(corpus)]
    assert len(set(collecting)) >= 2, seen
    assert len(set(adding)) >= 2, seen


def test_moments_killed_between_checkpoints_equal_uninterrupted(driven, corpus):
    from safetensors.numpy import load_file

    found = driven["moments"]
    assert any(0 < rows < len(corpus) for rows in found["seen"]), found["seen"]
    whole = load_file(found["whole"])
    assert whole["000.count"] == len(corpus)
    for path in found["finished"]:
        arrays = load_file(path)
        assert arrays.keys() == whole.keys()
        for name, array in arrays.items():
            scale = np.abs(whole[name]).max()
            np.testing.assert_allclose(array, whole[name], rtol=0, atol=1e-12 * scale)


def test_of_two_processes_on_a_store_one_finishes_and_the_other_is_refused(driven, corpus):
    said = driven["refused"]["said"]
    assert "finished" in said
    assert all(one == "finished" or BUSY in one for one in said)
    assert_same(driven["refused"]["path"], driven["rows"]["whole"], corpus)


def test_two_processes_that_wait_for_each_other_both_finish(driven, corpus):
    assert driven["waiting"]["said"] == ["finished", "finished"]
    assert_same(driven["waiting"]["path"], driven["rows"]["whole"], corpus)


def test_one_processor_is_enough(driven, corpus):
    assert driven["alone"]["said"] == "finished"
    assert_same(driven["alone"]["path"], driven["rows"]["whole"], corpus)


class Killed(BaseException):
    """Leaves on disk what a kill leaves there."""


def test_killed_while_the_first_rows_are_committed(tiny_model, corpus, tmp_path):
    """Lance writes a manifest under a name of its own, and then renames it."""
    whole = mn.collect(tiny_model, corpus, layers=[0], store=tmp_path / "a.lance", **OPTIONS)
    shutil.copytree(tmp_path / "a.lance", tmp_path / "b.lance")
    for file in (tmp_path / "b.lance" / "_versions").iterdir():
        if file.suffix == ".manifest":
            file.rename(f"{file}#1")
        else:
            file.unlink()
    resumed = mn.collect(tiny_model, corpus, layers=[0], store=tmp_path / "b.lance", **OPTIONS)
    np.testing.assert_array_equal(resumed.matrix(0), whole.matrix(0))


@pytest.mark.parametrize("gone", ["nothing", "data", "_versions"])
def test_killed_while_the_store_beside_is_removed(tiny_model, corpus, tmp_path, monkeypatch, gone):
    path = tmp_path / "a.lance"
    mn.collect(tiny_model, corpus, layers=[0], store=path, **OPTIONS)
    rmtree = store.shutil.rmtree

    def killed(folder, **_):
        if (folder / gone).exists():
            rmtree(folder / gone)
        raise Killed

    monkeypatch.setattr(store.shutil, "rmtree", killed)
    with pytest.raises(Killed):
        mn.collect(tiny_model, corpus, layers=[0, 1], store=path, **OPTIONS)
    monkeypatch.undo()
    resumed = mn.collect(tiny_model, corpus, layers=[0, 1], store=path, **OPTIONS)
    whole = mn.collect(tiny_model, corpus, layers=[0, 1], store=tmp_path / "b.lance", **OPTIONS)
    np.testing.assert_array_equal(resumed.matrix(1), whole.matrix(1))
    assert {p.name for p in tmp_path.glob(".a*")} == {".a.lance.lock"}


def test_a_study_killed_before_the_store_beside_is_removed_removes_it(
    tiny_folder, corpus, tmp_path, monkeypatch
):
    study = mn.Study.create(tmp_path / "study", str(tiny_folder), corpus, dtype="float32")
    study.collect(progress=False, layers=[0])

    def killed(folder, **_):
        raise Killed

    monkeypatch.setattr(store.shutil, "rmtree", killed)
    with pytest.raises(Killed):
        study.collect(progress=False)
    monkeypatch.undo()
    study.collect(progress=False)
    assert {p.name for p in study.path.glob(".*")} == {".activations.lance.lock"}


def test_a_checkpoint_that_was_killed_leaves_nothing_behind(tiny_model, corpus, tmp_path):
    """As large as the checkpoint, and one more for every kill."""
    file = tmp_path / "m.safetensors"
    (tmp_path / ".m.safetensors.x1y2z3.tmp").write_bytes(b"the part that was written")
    mn.collect_moments(tiny_model, corpus, layers=[1], store=file, **OPTIONS)
    assert {p.name for p in tmp_path.iterdir()} == {"m.safetensors", ".m.safetensors.lock"}
