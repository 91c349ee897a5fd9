import os
import pickle
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading

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


def test_many_changes_are_one_step_of_undo(notes):
    notes.set("pca", 0, "positive", "old")
    changes = [Change("pca", axis, "positive", f"new {axis}") for axis in range(3)]
    assert notes.set_many([*changes, ("pca", 3, "quiz", "7/10")]) == 4
    assert notes.set_many(changes) == 0  # nothing new: no step
    assert notes.undo() == changes[0]
    assert notes.labels("pca") == {(0, 1): "old"}
    assert notes.redo() == changes[0]
    assert notes.get("pca", 3, "quiz") == "7/10"
    assert notes.undo() == changes[0]
    assert notes.undo() == Change("pca", 0, "positive", "old")
    assert notes.table().empty


def test_of_many_changes_one_bad_one_stops_all(notes):
    for bad in (("pca", 1, "state", "maybe"), ("pca", 1, "quiz", "11/10"), ("pca", 1, "x", "")):
        with pytest.raises(mn.InputError, match="must be"):
            notes.set_many([("pca", 0, "positive", "good"), bad])
    assert notes.labels("pca") == {}


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from([1, 2, 3, "undo", "redo"]), max_size=12))
def test_two_copies_of_one_journal_see_the_same(tmp_path_factory, actions):
    """One has read from the beginning, the other reads what is new after each step."""
    path = tmp_path_factory.mktemp("notes") / "a.sqlite"
    follower = Annotations(path)
    for i, action in enumerate(actions):
        writer = Annotations(path)
        if isinstance(action, int):
            writer.set_many([("b", axis, "notes", f"{i}") for axis in range(action)])
        else:
            getattr(writer, action)()
        assert follower.table().equals(Annotations(path).table())


def test_what_is_handed_out_can_be_changed_without_harm(notes):
    notes.set("pca", 0, "notes", "a")
    table = notes.table()
    table.loc[0, "notes"] = "b"
    assert notes.table()["notes"].tolist() == ["a"]


def test_a_journal_from_before_there_were_steps_is_read_on(tmp_path):
    path = tmp_path / "annotations.sqlite"
    with sqlite3.connect(path) as old:
        old.execute(
            "CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, "
            "kind TEXT NOT NULL CHECK (kind IN ('set', 'undo', 'redo')), "
            "basis TEXT, axis INTEGER, field TEXT, value TEXT)"
        )
        insert = "INSERT INTO events (at, kind, basis, axis, field, value) VALUES (?,?,?,?,?,?)"
        old.execute(insert, ("2026-01-01T00:00:00.000+00:00", "set", "pca", 0, "notes", "a"))
        old.execute(insert, ("2026-01-01T00:00:01.000+00:00", "set", "pca", 0, "notes", "b"))
    old.close()
    notes = Annotations(path)
    assert notes.get("pca", 0, "notes") == "b"
    notes.undo()
    assert notes.get("pca", 0, "notes") == "a"


# ------------------------------------------------------------------- threads, processes, crashes


def test_threads_lose_nothing(notes):
    def write(thread):
        for i in range(20):
            notes.set(f"basis {thread}", i, "positive", "x")
            notes.record_view("s", {"axis": i}, "line")

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(notes.table()) == 80
    assert len(notes.history()) == 160


WRITER = """
import sys
from pathlib import Path
from mnskills_viz.axes.annotations import Annotations
notes = Annotations(Path(sys.argv[1]))
for i in range(int(sys.argv[3])):
    notes.set(sys.argv[2], i, "positive", "x")
    notes.record_view(sys.argv[2], {"axis": i}, "line")
    print(i, flush=True)
"""


def writer(path, name, n):
    command = [sys.executable, "-c", WRITER, str(path), name, str(n)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_that_write_at_once_lose_nothing(notes):
    others = [writer(notes._path, name, 30) for name in ("a", "b")]
    for i in range(30):
        notes.set("c", i, "positive", "x")
    for other in others:
        other.communicate()
        assert other.returncode == 0
    assert notes.table()["basis"].value_counts().to_dict() == {"a": 30, "b": 30, "c": 30}


def test_what_a_killed_process_said_was_saved_is_there(notes):
    other = writer(notes._path, "a", 100_000)
    said = [int(other.stdout.readline()) for _ in range(50)]
    other.send_signal(signal.SIGKILL)
    said += [int(line) for line in other.communicate()[0].split()]
    assert set(said) <= {axis for axis, _ in notes.labels("a")}
    assert notes.last_view()["axis"] >= said[-1]


@pytest.mark.filterwarnings("ignore:.*fork")
def test_a_forked_process_and_its_parent_both_write(notes):
    notes.set("pca", 0, "positive", "before")
    child = os.fork()
    if child == 0:
        try:
            notes.set("pca", 1, "positive", "child")
            os._exit(0 if notes.get("pca", 0, "positive") == "before" else 1)
        finally:
            os._exit(2)
    notes.set("pca", 2, "positive", "parent")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert notes.labels("pca") == {(0, 1): "before", (1, 1): "child", (2, 1): "parent"}


def test_a_folder_that_was_put_in_its_place_is_read_anew(tmp_path):
    for name in ("a", "b"):
        Annotations(tmp_path / name).set("pca", 0, "notes", name)
    notes = Annotations(tmp_path / "a")
    assert notes.get("pca", 0, "notes") == "a"
    for part in tmp_path.glob("a*"):
        part.unlink()
    assert notes.table().empty
    shutil.move(tmp_path / "b", tmp_path / "a")
    assert notes.get("pca", 0, "notes") == "b"


def test_a_copy_to_another_process_opens_the_file_itself(notes):
    notes.set("pca", 0, "notes", "a")
    assert pickle.loads(pickle.dumps(notes)).get("pca", 0, "notes") == "a"


def test_a_file_that_is_no_journal_is_refused_in_one_line(tmp_path):
    (tmp_path / "a.sqlite").write_text("not a database, but long enough to look like one" * 10)
    notes = Annotations(tmp_path / "a.sqlite")
    for act in (notes.table, lambda: notes.set("pca", 0, "notes", "a")):
        with pytest.raises(mn.InputError, match=r"a\.sqlite: file is not a database"):
            act()


# ------------------------------------------------------------------------------------- looking


def test_the_last_view_comes_back_as_it_was(notes):
    assert notes.last_view() is None
    assert notes.history().empty
    state = {"basis": "pca", "axis": 3, "query": 'a "b" 🙂 \ud83d', "range": [-1.5, None]}
    notes.record_view("one", {"axis": 1}, "mn.explore(study)")
    notes.record_view("two", state, 'mn.explore(study, "pca")')
    assert notes.last_view() == state
    assert Annotations(notes._path).last_view() == state


def test_history_tells_views_and_changes_in_order_as_python(notes):
    study = type("Study", (), {"annotations": Annotations(notes._path.with_name("again"))})
    notes.record_view("s", {}, "look(0)")
    notes.set("pca", 0, "positive", 'it\'s "so"\n')
    notes.record_view("s", {}, "look(1)")
    notes.record_view("s", {}, "look(2)")
    notes.set_many([("pca", 1, "notes", "a"), ("pca", 2, "notes", "b")])
    notes.set("pca", 3, "notes", "c")
    notes.undo()
    table = notes.history()
    assert table.columns.tolist() == ["at", "session", "python"]
    assert table["session"].tolist() == ["s", "", "s", "s", "", "", ""]
    assert table["at"].is_monotonic_increasing
    looked = []
    for line in table["python"]:
        eval(line, {"study": study, "look": looked.append})
    assert looked == [0, 1, 2]
    assert study.annotations.table().equals(notes.table())
    assert notes.history(3).equals(table.tail(3).reset_index(drop=True))
    assert notes.history(0).empty
