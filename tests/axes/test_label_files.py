"""Labels leave and come back as they were, and bad files change nothing."""

import csv
import json

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mnskills_viz as mn
from mnskills_viz.axes.annotations import Annotations

AWKWARD = [
    "=1+1",
    "+44",
    "-x",
    "@SUM(A1)",
    "\t=1",
    "\r",
    "'",
    "'=1",
    "''=1",
    "'tis",
    "''quoted''",
    'say "hi", then\nleave\r\nnow',
    "שלום \u202e abc",
    "👩‍🚀 é ｆ",
    "7/10",
    "＝1",
    "\x00",
    " ",
    "#N/A",
    "x" * 200_000,
]
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


@pytest.fixture
def notes(tmp_path):
    return Annotations(tmp_path / "annotations.sqlite")


def filled(path, texts) -> Annotations:
    notes = Annotations(path)
    notes.set_many([("-pca", i, "positive", text) for i, text in enumerate(texts)])
    notes.set_many([("sae", i, "notes", text) for i, text in enumerate(texts)])
    notes.set_many([("sae", 0, "state", "draft"), ("sae", 0, "quiz", "7/10")])
    return notes


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_everything_comes_back_as_it_was(tmp_path, kind):
    notes = filled(tmp_path / "a", AWKWARD)
    file = notes.export(tmp_path / f"labels.{kind}")
    other = Annotations(tmp_path / "b")
    assert other.read(file, {"-pca": 100, "sae": 100}) == 2 * len(AWKWARD) + 2
    assert other.table().equals(notes.table())
    assert other.export(tmp_path / f"again.{kind}").read_bytes() == file.read_bytes()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.text(alphabet="='+-@\t\r\n\"',;7/x\u05d0🙂\x00\\") | st.text(), max_size=6))
def test_any_text_comes_back_from_csv_and_json(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("labels")
    notes = filled(folder / "a", texts)
    for kind in ("csv", "json"):
        other = Annotations(folder / kind)
        other.read(notes.export(folder / f"labels.{kind}"))
        assert other.table().equals(notes.table())


def test_no_cell_of_the_csv_begins_as_a_formula(tmp_path):
    file = filled(tmp_path / "a", AWKWARD).export(tmp_path / "labels.csv")
    csv.field_size_limit(1_000_000)
    with file.open(encoding="utf-8", newline="") as text:
        cells = [cell for row in csv.reader(text) for cell in row]
    assert len(cells) > 7 * len(AWKWARD)
    assert not [cell for cell in cells if cell.startswith(FORMULA)]


def test_pandas_reads_the_csv(notes, tmp_path):
    notes.set("pca", 3, "positive", 'two\nlines, "quoted" שלום 🙂')
    table = pd.read_csv(notes.export(tmp_path / "labels.csv"), keep_default_na=False)
    assert table.equals(notes.table())


def test_json_says_where_the_labels_come_from(notes, tmp_path):
    notes.set("pca", 3, "positive", "שלום")
    about = {"bases": {"pca": "0123"}, "model": "tiny", "corpus": "89ab"}
    file = notes.export(tmp_path / "labels.json", about)
    whole = json.loads(file.read_text("utf-8"))
    assert whole["about"] == about
    assert whole["labels"][0]["positive"] == "שלום"
    assert "שלום" in file.read_text("utf-8")


def test_reading_is_one_step_of_undo_and_leaves_the_rest_alone(notes, tmp_path):
    notes.set("pca", 0, "positive", "mine")
    notes.set("pca", 0, "notes", "kept")
    notes.set("pca", 5, "positive", "kept too")
    before = notes.table()
    file = tmp_path / "labels.csv"
    # As by hand: some columns, in another order, with the mark that spreadsheets put first.
    file.write_text("\ufeffaxis,Basis ,positive\n0,pca,theirs\n1,pca,new\n\n", "utf-8")
    assert notes.read(file) == 2
    assert notes.table()["positive"].tolist() == ["theirs", "new", "kept too"]
    assert notes.get("pca", 0, "notes") == "kept"
    notes.undo()
    pd.testing.assert_frame_equal(notes.table(), before)


HEAD = "basis,axis,positive,state,quiz\n"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (HEAD + "pca,0,a,,\npca,x,a,,", 3, "axis must be the number of an axis, from 0 on"),
        (HEAD + "pca,-1,a,,", 2, "axis must be the number of an axis"),
        (HEAD + "pca,8,a,,", 2, "pca has axes 0 to 7, not 8"),
        (HEAD + "ica,0,a,,", 2, "no basis 'ica'; there are: pca"),
        (HEAD + ",0,a,,", 2, "basis must be the name"),
        (HEAD + 'pca,0,"two\nlines",,\npca,1,a,maybe,', 4, "state must be one of"),
        (HEAD + "pca,0,a,,11/10", 2, "quiz must be right answers of all"),
        (HEAD + "pca,0,a,,\npca,1,a,,\npca,0,b,,", 4, "axis 0 of pca is in line 2 already"),
        (HEAD + "pca,0,a", 2, "3 cells, and the first line has 5"),
        (HEAD + 'pca,0,"a,,', 2, "unexpected end of data"),
        ("basis,axis,colour\npca,0,red", 1, "'colour' is none of basis, axis, positive"),
        ("basis,positive\npca,a", 1, "no axis; needed are: basis, axis"),
        ("basis,axis,axis\npca,1,2", 1, "a column is there twice"),
        ("", 1, "no basis and no axis"),
    ],
)
def test_a_bad_csv_is_refused_with_its_line_and_changes_nothing(notes, tmp_path, text, line, said):
    file = tmp_path / "labels.csv"
    file.write_text(text, "utf-8")
    with pytest.raises(mn.InputError) as refused:
        notes.read(file, {"pca": 8})
    assert str(refused.value).startswith(f"{file}, line {line}: {said}")
    assert "\n" not in str(refused.value)
    assert notes.table().empty


def as_json(*labels: str, about: str = "{}", version: int = 1) -> str:
    head = f'{{"format": "mnskills labels", "version": {version},\n "about": {about},\n'
    return f'{head} "labels": [\n  {(chr(44) + chr(10) + "  ").join(labels)}\n]}}'


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (
            as_json('{"basis": "pca", "axis": 0}', '{"basis": "pca", "axis": 9}'),
            5,
            "pca has axes 0 to 7, not 9",
        ),
        (as_json('{"basis": "pca", "axis": "0"}'), 4, "axis must be the number"),
        (as_json('{"basis": "pca", "axis": true}'), 4, "axis must be the number"),
        (as_json('{"basis": "pca", "axis": 0, "positive": 3}'), 4, "the positive of axis 0 must"),
        (as_json('{"basis": "pca"}', about='{"labels": [\n{}]}'), 5, "no axis"),
        (as_json("[]"), 4, "an object was expected"),
    ],
)
def test_a_bad_json_is_refused_with_its_line(notes, tmp_path, text, line, said):
    file = tmp_path / "labels.json"
    file.write_text(text, "utf-8")
    with pytest.raises(mn.InputError) as refused:
        notes.read(file, {"pca": 8})
    assert str(refused.value).startswith(f"{file}, line {line}: {said}")
    assert notes.table().empty


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "is not JSON"),
        (b"[]", 'a list "labels" were expected'),
        (as_json(version=2).encode(), '"version": 1 and'),
        (b'{"labels": 1, "labels": 2}', "a name is there twice among labels, labels"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"[" * 100_000, "is not JSON"),
    ],
)
def test_what_is_no_file_of_labels_is_refused_in_one_line(notes, tmp_path, content, said):
    file = tmp_path / "labels.json"
    file.write_bytes(content)
    with pytest.raises(mn.InputError, match=said) as refused:
        notes.read(file)
    assert str(file) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_other_endings_and_missing_files_are_refused(notes, tmp_path):
    with pytest.raises(mn.InputError, match=r"ends in \.csv or \.json was expected"):
        notes.export(tmp_path / "labels.xlsx")
    assert list(tmp_path.glob("*.xlsx")) == []
    with pytest.raises(mn.InputError, match="cannot read"):
        notes.read(tmp_path / "none.csv")


def test_what_was_said_of_an_earlier_fit_comes_back_too(notes, tmp_path):
    notes.set("pca", 9, "positive", "of the first fit")
    notes.set_aside("pca", "0123")
    file = notes.export(tmp_path / "labels.csv")
    other = Annotations(tmp_path / "other")
    assert other.read(file, {"pca": 4}) == 1
    assert other.get("pca@0123", 9, "positive") == "of the first fit"
