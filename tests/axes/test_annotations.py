import os
import pickle
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

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


def old_journal(path):
    """As it was before there were steps of many changes, sessions and views."""
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


def test_a_journal_from_before_there_were_steps_is_read_on(tmp_path):
    path = tmp_path / "annotations.sqlite"
    old_journal(path)
    notes = Annotations(path)
    assert notes.get("pca", 0, "notes") == "b"
    notes.undo()
    assert notes.get("pca", 0, "notes") == "a"


def test_another_label_takes_the_score_of_the_quiz_away_in_one_step(notes):
    notes.set("pca", 0, "positive", "tried")
    notes.set_many([("pca", 0, "quiz", "7/10"), ("pca", 1, "quiz", "8/10")])
    notes.set("pca", 0, "notes", "no label")
    notes.set("pca", 0, "positive", "tried")  # the same as before
    assert notes.get("pca", 0, "quiz") == "7/10"
    notes.set("pca", 0, "negative", "another")
    assert notes.get("pca", 0, "quiz") == ""
    assert notes.get("pca", 1, "quiz") == "8/10"
    assert notes.undo() == Change("pca", 0, "negative", "another")
    assert notes.get("pca", 0, "quiz") == "7/10"


def test_a_label_that_comes_with_its_score_keeps_it(notes):
    notes.set_many([("pca", 0, "positive", "old"), ("pca", 0, "quiz", "7/10")])
    notes.set_many([("pca", 0, "quiz", "7/10"), ("pca", 0, "positive", "new")])
    assert notes.get("pca", 0, "quiz") == "7/10"


# ---------------------------------------------------------------------------------- set aside


def test_labels_of_the_old_fit_never_come_to_the_new_one(notes):
    notes.set("pca", 7, "positive", "old fit")
    notes.set_aside("pca", "0123")
    assert notes.undo() is None
    assert notes.redo() is None
    assert notes.labels("pca") == {}
    assert notes.labels("pca@0123") == {(7, 1): "old fit"}
    notes.set("pca", 0, "positive", "new fit")
    notes.undo()
    assert notes.undo() is None
    assert notes.redo() == Change("pca", 0, "positive", "new fit")


def test_what_was_undone_before_it_was_set_aside_is_not_redone_after(notes):
    notes.set("pca", 7, "positive", "old fit")
    notes.undo()
    notes.set_aside("pca", "0123")
    assert notes.redo() is None
    notes.set("pca", 7, "positive", "of the second fit")
    notes.set("pca", 7, "positive", "")
    notes.set_aside("pca", "4567")
    assert notes.undo() is None
    assert notes.table().empty


def test_a_fit_that_came_back_keeps_what_was_set_aside_of_it(notes):
    notes.set("pca", 0, "positive", "kept")
    notes.set_aside("pca", "0123")
    notes.set("pca", 1, "positive", "x")
    notes.undo()
    notes.set_aside("pca", "0123")
    assert notes.redo() is None
    assert notes.labels("pca@0123") == {(0, 1): "kept"}


def test_other_bases_can_be_undone_past_what_was_set_aside(notes):
    notes.set("sae", 0, "positive", "first")
    notes.set_many([("pca", 7, "positive", "old fit"), ("sae", 1, "positive", "second")])
    notes.set("sae", 2, "positive", "third")
    notes.undo()
    notes.set_aside("pca", "0123")
    assert notes.redo() == Change("sae", 2, "positive", "third")
    assert [notes.undo().value for _ in range(3)] == ["third", "second", "first"]
    assert notes.undo() is None
    assert notes.table()["basis"].tolist() == ["pca@0123"]


# ----------------------------------------------------------------------------------- sessions


def test_a_session_undoes_and_redoes_only_its_own_steps(notes):
    notes.set("pca", 0, "positive", "mine", session="a")
    notes.set("pca", 1, "positive", "theirs", session="b")
    assert notes.undo(session="a") == Change("pca", 0, "positive", "mine")
    assert notes.undo(session="a") is None
    assert notes.labels("pca") == {(1, 1): "theirs"}
    assert notes.redo(session="b") is None
    notes.set("pca", 2, "positive", "later", session="b")  # does not end what a can redo
    assert notes.redo(session="a") == Change("pca", 0, "positive", "mine")
    assert notes.undo() == Change("pca", 2, "positive", "later")  # of no session: of all
    assert notes.redo() == Change("pca", 2, "positive", "later")


def test_what_another_session_set_later_survives_undo_and_redo(notes):
    notes.set("pca", 0, "positive", "mine", session="a")
    notes.set("pca", 0, "positive", "theirs", session="b")
    notes.undo(session="a")
    assert notes.get("pca", 0, "positive") == "theirs"
    notes.redo(session="a")
    assert notes.get("pca", 0, "positive") == "theirs"
    notes.undo(session="b")
    assert notes.get("pca", 0, "positive") == "mine"


ACTIONS = st.sampled_from(["set", "undo", "redo", "aside"])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(ACTIONS, st.sampled_from("ab"), st.sampled_from("xy")), max_size=20))
def test_what_stands_is_what_was_not_undone(tmp_path_factory, actions):
    """Sessions a and b, bases x and y; beside it the same, kept as a list of all that was set."""
    notes = Annotations(tmp_path_factory.mktemp("notes") / "a.sqlite")
    log = []  # [session, basis, value, state]; a value of None clears the basis
    undone = {"a": [], "b": []}
    for i, (action, session, basis) in enumerate(actions):
        own = [e for e in log if e[0] == session and e[3] == "stands"]
        if action == "set":
            notes.set(basis, 0, "notes", str(i), session=session)
            log.append([session, basis, str(i), "stands"])
            undone[session] = []
        elif action == "undo":
            said = notes.undo(session=session)
            assert (said and said.value) == (own[-1][2] if own else None)
            if own:
                own[-1][3] = "undone"
                undone[session].append(own[-1])
        elif action == "redo":
            said = notes.redo(session=session)
            expected = undone[session].pop() if undone[session] else None
            assert (said and said.value) == (expected[2] if expected else None)
            if expected:
                expected[3] = "stands"
        else:
            notes.set_aside(basis, str(i))
            log = [entry for entry in log if entry[1] != basis]
            undone = {s: [e for e in es if e[1] != basis] for s, es in undone.items()}
        for name in "xy":
            values = [e[2] for e in log if e[1] == name and e[3] == "stands"]
            assert notes.get(name, 0, "notes") == (values[-1] if values else "")
    assert Annotations(notes._path).table().equals(notes.table())


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


@pytest.mark.parametrize("end", ["", "builtins.kept = notes", "Journal.__new__(Journal)"])
def test_nothing_is_printed_when_the_interpreter_ends(tmp_path, end):
    code = (
        "import builtins, sys; from pathlib import Path;"
        "from mnskills_viz.axes.annotations import Annotations, Journal;"
        f"notes = Annotations(Path(sys.argv[1])); notes.set('pca', 0, 'notes', 'a'); {end}"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.sqlite")]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout + ended.stderr == ""


# ----------------------------------------------------------------------------------- read only


@pytest.fixture
def shut():
    """A folder, and a function that takes away the permission to write in it."""
    with tempfile.TemporaryDirectory() as name:
        folder, user = Path(name), os.geteuid()

        def shut() -> None:
            for file in folder.iterdir():
                file.chmod(0o444)
            folder.chmod(0o555)
            if user == 0:  # whom permissions do not stop
                os.seteuid(65534)

        try:
            yield folder, shut
        finally:
            os.seteuid(user)
            folder.chmod(0o755)


def test_a_study_that_can_only_be_read_is_read(shut):
    folder, shut = shut
    notes = Annotations(folder / "a #1?.sqlite")
    notes.set("pca", 0, "positive", "a")
    notes.record_view("s", {"axis": 3}, "look(3)")
    del notes
    shut()
    notes = Annotations(folder / "a #1?.sqlite")
    assert notes.table()["positive"].tolist() == ["a"]
    assert notes.labels("pca") == {(0, 1): "a"}
    assert notes.get("pca", 0, "positive") == "a"
    assert notes.last_view() == {"axis": 3}
    assert len(notes.history()) == 2
    notes.record_view("s", {"axis": 4}, "look(4)")
    assert notes.last_view() == {"axis": 3}
    for change in (lambda: notes.set("pca", 0, "positive", "b"), notes.undo):
        with pytest.raises(mn.InputError, match=r"cannot write .*sqlite: attempt to write") as said:
            change()
        assert "\n" not in str(said.value)
    assert notes.get("pca", 0, "positive") == "a"
    assert len(list(folder.iterdir())) == 1


def test_what_others_write_is_seen_by_who_can_only_read(shut):
    folder, shut = shut
    writer = Annotations(folder / "a.sqlite")
    writer.set("pca", 0, "positive", "a")
    shut()  # the other goes on with what it holds open
    reader = Annotations(folder / "a.sqlite")
    assert reader.get("pca", 0, "positive") == "a"
    writer.set("pca", 0, "positive", "b")
    assert reader.get("pca", 0, "positive") == "b"


def test_labels_in_a_log_that_cannot_be_read_are_not_passed_over(shut):
    folder, shut = shut
    held = Annotations(folder / "a.sqlite")
    held.set("pca", 0, "positive", "only in the log")
    for ending in ("", "-wal"):
        shutil.copy(folder / f"a.sqlite{ending}", folder / f"b.sqlite{ending}")
    shut()
    with pytest.raises(mn.InputError, match="cannot read"):
        Annotations(folder / "b.sqlite").table()


def test_an_older_journal_that_can_only_be_read_is_read(shut):
    folder, shut = shut
    old_journal(folder / "a.sqlite")
    shut()
    notes = Annotations(folder / "a.sqlite")
    assert notes.get("pca", 0, "notes") == "b"
    assert notes.last_view() is None
    assert len(notes.history()) == 2
    notes.record_view("s", {}, "line")


def test_an_empty_folder_that_can_only_be_read_has_no_labels(shut):
    folder, shut = shut
    shut()
    notes = Annotations(folder / "a.sqlite")
    notes.record_view("s", {}, "line")
    assert notes.table().empty
    with pytest.raises(mn.InputError, match="cannot write"):
        notes.set("pca", 0, "notes", "a")


@pytest.mark.parametrize("opened", [True, False])
def test_a_view_gives_way_to_another_process_that_holds_the_journal(notes, opened):
    notes.record_view("s", {"axis": 0}, "line")
    other = sqlite3.connect(notes._path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    looking = notes if opened else Annotations(notes._path)
    looking.record_view("s", {"axis": 1}, "line")
    assert looking.last_view() == {"axis": 0}
    other.execute("ROLLBACK")
    looking.record_view("s", {"axis": 2}, "line")
    assert looking.last_view() == {"axis": 2}
    other.close()


# ------------------------------------------------------------------------------------- looking


@pytest.mark.parametrize("state", ["[1]", "3", "null", "{", "", "[" * 100_000])
def test_a_view_that_is_no_json_object_is_none(notes, state):
    notes.record_view("s", {"axis": 1}, "line")
    with sqlite3.connect(notes._path) as other:
        other.execute("UPDATE views SET state = ?", (state,))
    other.close()
    assert notes.last_view() is None


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
    notes.set("pca", 4, "notes", "d", session="s")
    notes.set_many([("sae", 1, "notes", "a"), ("sae", 2, "notes", "b")], session="t")
    notes.undo(session="s")
    notes.redo(session="s")
    notes.undo()
    notes.undo(session="s")
    notes.set_aside("pca", "0123")
    notes.redo()
    table = notes.history()
    assert table.columns.tolist() == ["at", "session", "python"]
    assert table["session"].tolist() == ["s", "", "s", "s", "", "", *"stss", "", "s", "", ""]
    assert table["at"].is_monotonic_increasing
    looked = []
    for line in table["python"]:
        eval(line, {"study": study, "look": looked.append})
    assert looked == [0, 1, 2]
    assert study.annotations.table().equals(notes.table())
    assert notes.history(3).equals(table.tail(3).reset_index(drop=True))
    assert notes.history(0).empty
