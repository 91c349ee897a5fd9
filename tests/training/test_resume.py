"""Killed or interrupted at any step, a training ends with the weights of an undisturbed one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import mnskills_viz as mn
from mnskills_viz.training import trainer
from mnskills_viz.training.sft import sft, training_log

# Two epochs of three steps, shuffled anew in each, with dropout: order and random states matter.
OPTIONS = {"epochs": 2, "batch_size": 16, "order": "shuffled", "save_every": 0.0, "progress": False}

CALL = f"""
import sys
from mnskills_viz.training import trainer
from mnskills_viz.training.sft import sft

model, data, out, last = sys.argv[1:]
step = trainer.ResumableTrainer.training_step

def waiting(self, *args, **kwargs):
    if self.state.global_step == int(last):
        print("ready", flush=True)
        sys.stdin.read()  # until it is killed
    return step(self, *args, **kwargs)

trainer.ResumableTrainer.training_step = waiting
sft(model, data, out, **{OPTIONS})
"""


def checkpoint_of(out: Path) -> Path:
    return out.with_name(f".{out.name}.checkpoint")


def weights(out: Path) -> bytes:
    return (out / "adapter_model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(dropout_folder, forty_rows, tmp_path_factory) -> Path:
    return sft(str(dropout_folder), forty_rows, tmp_path_factory.mktemp("out") / "a", **OPTIONS)


@pytest.fixture
def at_step(monkeypatch):
    """Do something before the step that follows so many."""

    def arrange(number, action):
        step = trainer.ResumableTrainer.training_step

        def disturbed(self, *args, **kwargs):
            if self.state.global_step == number:
                action()
            return step(self, *args, **kwargs)

        monkeypatch.setattr(trainer.ResumableTrainer, "training_step", disturbed)

    return arrange


def test_a_killed_training_ends_with_the_same_bits(
    dropout_folder, forty_rows, undisturbed, tmp_path
):
    out = tmp_path / "b"
    command = [sys.executable, "-c", CALL, dropout_folder, forty_rows, out, "4"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not out.exists()
    assert checkpoint_of(out).is_dir()
    sft(str(dropout_folder), forty_rows, out, **OPTIONS)
    assert weights(out) == weights(undisturbed)
    assert not checkpoint_of(out).exists()
    same = ["step", "loss", "learning_rate", "tokens"]
    pd.testing.assert_frame_equal(training_log(out)[same], training_log(undisturbed)[same])


class CutError(Exception):
    pass


def cut():
    raise CutError


@pytest.fixture
def cut_at(at_step, dropout_folder, forty_rows, tmp_path, monkeypatch):
    """Train until that many steps are done, and leave what a killed process leaves."""

    def run(number, **options):
        at_step(number, cut)
        with pytest.raises(CutError):
            sft(str(dropout_folder), forty_rows, tmp_path / "b", **OPTIONS | options)
        monkeypatch.undo()
        return tmp_path / "b"

    return run


@pytest.mark.parametrize("number", [1, 3])  # within an epoch, and between two
def test_cut_at_a_step_it_ends_with_the_same_bits(
    number, cut_at, dropout_folder, forty_rows, undisturbed
):
    out = cut_at(number)
    assert {path.suffix for path in checkpoint_of(out).iterdir()} == {".safetensors", ".json"}
    sft(str(dropout_folder), forty_rows, out, **OPTIONS)
    assert weights(out) == weights(undisturbed)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("state.safetensors", "is damaged"),
        ("state.json", "is damaged"),
        ("trainer_state.json", "is damaged"),
        ("training.json", "is damaged or not of this package"),
    ],
)
def test_a_damaged_checkpoint_is_said_with_the_folder_to_delete(
    name, said, cut_at, dropout_folder, forty_rows
):
    out = cut_at(1)
    place = checkpoint_of(out)
    whole = (place / name).read_bytes()
    for content in (whole[:50], b"[]"):
        (place / name).write_bytes(content)
        with pytest.raises(mn.InputError, match=rf"{name} {said}: delete {place} to") as caught:
            sft(str(dropout_folder), forty_rows, out, **OPTIONS)
        assert "\n" not in str(caught.value)


def test_killed_while_a_checkpoint_took_the_place_of_another(
    cut_at, dropout_folder, forty_rows, undisturbed
):
    """Between the two renames of `folder_in_place` the old one is under another name."""
    place = checkpoint_of(cut_at(2))
    place.rename(place.with_name(f".{place.name}.abcdefgh.tmp.old"))
    half = place.with_name(f".{place.name}.abcdefgh.tmp")
    half.mkdir()
    (half / "state.safetensors").write_bytes(b"half")
    out = sft(str(dropout_folder), forty_rows, place.parent / "b", **OPTIONS)
    assert weights(out) == weights(undisturbed)
    assert {path.name for path in out.parent.iterdir()} == {"b", ".b.lock"}


def test_ctrl_c_ends_the_step_and_says_how_to_go_on(
    at_step, dropout_folder, forty_rows, undisturbed, tmp_path, monkeypatch
):
    before = signal.getsignal(signal.SIGINT)
    at_step(3, lambda: os.kill(os.getpid(), signal.SIGINT))
    late = OPTIONS | {"save_every": 1e9}
    with pytest.raises(KeyboardInterrupt, match="stopped after step 4 of 6; the same call goes"):
        sft(str(dropout_folder), forty_rows, tmp_path / "b", **late)
    assert signal.getsignal(signal.SIGINT) is before
    assert not (tmp_path / "b").exists()
    monkeypatch.undo()
    at_step(3, cut)  # it must not come back there
    sft(str(dropout_folder), forty_rows, tmp_path / "b", **late)
    assert weights(tmp_path / "b") == weights(undisturbed)


def test_another_training_does_not_go_on_from_it(cut_at, dropout_folder, forty_rows, undisturbed):
    out = cut_at(2, learning_rate=1e-2)
    with pytest.warns(UserWarning, match=r"is of another training \(options.learning_rate: 0.01"):
        sft(str(dropout_folder), forty_rows, out, **OPTIONS)
    assert weights(out) == weights(undisturbed)


def test_what_is_done_is_not_done_again(dropout_folder, forty_rows, undisturbed, monkeypatch):
    monkeypatch.setattr(trainer.ResumableTrainer, "run", cut)
    assert sft(str(dropout_folder), forty_rows, undisturbed, **OPTIONS) == undisturbed
    with (  # other options: it would train
        pytest.raises(TypeError),
        pytest.warns(UserWarning, match="holds another training"),
    ):
        sft(str(dropout_folder), forty_rows, undisturbed, **OPTIONS | {"seed": 1})


def test_a_second_process_is_refused(dropout_folder, forty_rows, tmp_path, at_step):
    said = []

    def again():
        with pytest.raises(mn.InputError) as caught:
            sft(str(dropout_folder), forty_rows, tmp_path / "b", **OPTIONS)
        said.append(str(caught.value))
        raise CutError

    at_step(1, again)
    with pytest.raises(CutError):
        sft(str(dropout_folder), forty_rows, tmp_path / "b", **OPTIONS)
    assert "is being written by another process" in said[0]
