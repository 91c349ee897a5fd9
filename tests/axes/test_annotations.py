import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mnskills_viz as mn
from mnskills_viz.axes.annotations import Annotations, Change


@pytest.fixture
def notes(tmp_path):
    return Annotations(tmp_path / "annotations.sqlite")


def test_labels_are_there_for_another_process(notes):
    notes.set("pca", 3, "positive", 'carries a digit; "quoted" <b> 🙂')
    code = (
        "import sys; from pathlib import Path; from mnskills_viz.axes.annotations import *;"
        "print(Annotations(Path(sys.argv[1])).labels('pca'))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(notes._path)], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == str(notes.labels("pca"))
    assert notes.labels("pca") == {(3, 1): 'carries a digit; "quoted" <b> 🙂'}


def test_undo_and_redo_walk_through_every_change(notes):
    notes.set("pca", 0, "positive", "a")
    notes.set("pca", 0, "positive", "b")
    notes.set("pca", 1, "notes", "c")
    assert notes.undo() == Change("pca", 1, "notes", "c")
    assert notes.undo() == Change("pca", 0, "positive", "b")
    assert notes.get("pca", 0, "positive") == "a"
    assert notes.redo() == Change("pca", 0, "positive", "b")
    assert notes.get("pca", 0, "positive") == "b"
    notes.set("pca", 0, "positive", "new")  # a change ends what could be redone
    assert notes.redo() is None


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["set", "undo", "redo"]), max_size=15))
def test_the_journal_agrees_with_two_stacks(tmp_path_factory, actions):
    notes = Annotations(tmp_path_factory.mktemp("notes") / "a.sqlite")
    past, future, current = [], [], ""
    for i, action in enumerate(actions):
        if action == "set":
            notes.set("b", 0, "notes", str(i))
            past.append(current)
            current, future = str(i), []
        elif action == "undo":
            assert (notes.undo() is None) == (not past)
            if past:
                future.append(current)
                current = past.pop()
        else:
            assert (notes.redo() is None) == (not future)
            if future:
                past.append(current)
                current = future.pop()
        assert notes.get("b", 0, "notes") == current


def test_two_writers_both_survive(notes):
    other = Annotations(notes._path)
    notes.set("pca", 0, "positive", "mine")
    other.set("pca", 0, "negative", "theirs")
    assert notes.labels("pca") == {(0, 1): "mine", (0, -1): "theirs"}
    assert notes.table()[["axis", "positive", "negative"]].to_numpy().tolist() == [
        [0, "mine", "theirs"]
    ]


def test_wrong_fields_are_refused(notes):
    with pytest.raises(mn.InputError, match="field must be one of"):
        notes.set("pca", 0, "name", "x")
    with pytest.raises(mn.InputError, match="state must be one of"):
        notes.set("pca", 0, "state", "maybe")
    assert notes.table().empty
