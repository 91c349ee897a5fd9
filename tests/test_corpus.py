import csv
import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mnskills_viz as mn

SHARED = Path(__file__).parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="no ../shared/data beside the project"
)


def write_lines(path: Path, rows: list) -> Path:
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows) + "\n")
    return path


SHAPES = {
    "plain": (
        {"prompt": "2+2?", "response": "It is 4.", "answer": "4", "category": "sums"},
        ("2+2?", "It is 4.", "4", "sums"),
    ),
    "GSM8K": (
        {"question": "2+2?", "answer": "2+2 = <<2+2=4>>4\n#### 1,004"},
        ("2+2?", "2+2 = <<2+2=4>>4\n#### 1,004", "1004", None),
    ),
    "question and answer": (
        {"question": "2+2?", "answer": "It is 4."},
        ("2+2?", "It is 4.", None, None),
    ),
    "SVAMP": (
        {"ID": "c-1", "Body": "I have 2.", "Question": "And 2 more?", "Answer": 4.0, "Type": "Add"},
        ("I have 2. And 2 more?", "4", "4", "Add"),
    ),
    "MATH": (
        {"problem": "2+2?", "solution": r"So \boxed{\frac{4}{1}}.", "type": "Algebra"},
        ("2+2?", r"So \boxed{\frac{4}{1}}.", r"\frac{4}{1}", "Algebra"),
    ),
    "Alpaca": (
        {"instruction": "Add.", "input": "2 and 2", "output": "4"},
        ("Add.\n\n2 and 2", "4", None, None),
    ),
    "ShareGPT": (
        {"conversations": [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}]},
        ("2+2?", "4", None, None),
    ),
    "messages": (
        {
            "messages": [
                {"role": "system", "content": "Add."},
                {"role": "user", "content": "2+2?"},
                {"role": "assistant", "content": "4"},
            ]
        },
        (
            [{"role": "system", "content": "Add."}, {"role": "user", "content": "2+2?"}],
            "4",
            None,
            None,
        ),
    ),
    "TRL": (
        {
            "prompt": [{"role": "user", "content": "2+2?"}],
            "completion": [{"role": "assistant", "content": "4"}],
        },
        ([{"role": "user", "content": "2+2?"}], "4", None, None),
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_that_people_have_are_recognised(shape, tmp_path):
    row, expected = SHAPES[shape]
    example = mn.load_corpus(write_lines(tmp_path / "x.jsonl", [row]))[0]
    assert (example.prompt, example.response, example.answer, example.category) == expected


def test_every_bad_row_is_named_by_line_and_reason(tmp_path):
    file = write_lines(
        tmp_path / "x.jsonl",
        [
            {"prompt": "fine", "response": "yes"},
            "{not json",
            {"response": "no prompt"},
            {"prompt": "   "},
            {"prompt": 3.5},
            "[1]",
            {"prompt": ["not a message"]},
        ],
    )
    with pytest.raises(mn.InputError) as caught:
        mn.load_corpus(file)
    message = str(caught.value)
    assert "\n" not in message
    for said in (
        "5 bad rows",
        "not JSON: line 2",
        "no prompt column among 'response'",
        ": line 3",
        "'prompt' is empty: line 4",
        "not an object but list: line 6",
        "line 7",
    ):
        assert said in message


def test_bad_rows_can_be_skipped_and_are_counted(tmp_path):
    file = write_lines(tmp_path / "x.jsonl", [{"prompt": "a"}, "{", "{", {"prompt": "b"}])
    corpus = mn.load_corpus(file, on_error="skip")
    assert [e.prompt for e in corpus] == ["a", "b"]
    assert corpus.skipped == {"not JSON": ["line 2", "line 3"]}


def test_wrong_encoding_names_the_line(tmp_path):
    (tmp_path / "x.jsonl").write_bytes(b'{"prompt": "a"}\n{"prompt": "caf\xe9"}\n')
    with pytest.raises(mn.InputError, match="not UTF-8: line 2"):
        mn.load_corpus(tmp_path / "x.jsonl")
    (tmp_path / "x.csv").write_bytes(b"prompt\na\ncaf\xe9\n")
    with pytest.raises(mn.InputError, match="line 3 is not UTF-8"):
        mn.load_corpus(tmp_path / "x.csv")


def test_csv_lines_are_those_of_the_file(tmp_path):
    with (tmp_path / "x.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["prompt", "response"], ["two\nlines", "x"], ["", "y"], ["a", "b", "c"]])
    with pytest.raises(mn.InputError, match=r"is empty: line 4; .*header has: line 5"):
        mn.load_corpus(tmp_path / "x.csv")


def test_parquet_json_and_lists_read_alike(tmp_path):
    rows = [{"prompt": f"q{i}", "response": f"r{i}", "level": i} for i in range(5)]
    pd.DataFrame(rows).to_parquet(tmp_path / "x.parquet")
    (tmp_path / "x.json").write_text(json.dumps(rows))
    write_lines(tmp_path / "x.jsonl", rows)
    pd.DataFrame(rows).to_csv(tmp_path / "x.csv", index=False)
    whole = mn.load_corpus(rows)
    for name in ("x.parquet", "x.json", "x.jsonl"):
        assert mn.load_corpus(tmp_path / name).hash == whole.hash
    assert mn.load_corpus(tmp_path / "x.csv").ids == whole.ids  # csv has no numbers: meta differs
    assert whole[3].meta == {"level": 3}


def test_columns_are_mapped_by_keyword(tmp_path):
    rows = [{"goal": "do it", "target": "Sure", "kind": "x"}]
    example = mn.load_corpus(rows, prompt="goal", response="target", category="kind")[0]
    assert (example.prompt, example.response, example.category) == ("do it", "Sure", "x")
    with pytest.raises(mn.InputError, match="no column 'nope'"):
        mn.load_corpus(rows, prompt="nope")
    with pytest.raises(mn.InputError, match="unknown column keyword"):
        mn.load_corpus(rows, promt="goal")  # type: ignore[call-arg]


def test_identical_rows_are_kept_once_and_counted():
    corpus = mn.load_corpus([{"prompt": "a"}, {"prompt": "b"}, {"prompt": "a"}])
    assert len(corpus) == 2
    assert corpus.duplicates == 1


def test_one_id_with_two_contents_is_an_error():
    with pytest.raises(mn.InputError, match="id 'x' has other content than at row 0: row 2"):
        mn.load_corpus(
            [{"id": "x", "prompt": "a"}, {"id": "y", "prompt": "a"}, {"id": "x", "prompt": "b"}]
        )


def test_one_example_under_two_categories_is_one_example():
    rows = [{"prompt": "a", "category": "x"}, {"prompt": "a", "category": "y"}]
    corpus = mn.load_corpus(rows)
    assert (len(corpus), corpus.duplicates) == (1, 1)


def test_one_example_in_two_splits_is_an_error():
    rows = [{"prompt": "a", "split": "pool"}, {"prompt": "a", "split": "test"}]
    with pytest.raises(mn.InputError, match="is in split 'pool' at row 0: row 1"):
        mn.load_corpus(rows)


def test_half_a_surrogate_pair_is_a_bad_row(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"prompt": "a"}\n{"prompt": "\\ud800"}\n')
    with pytest.raises(mn.InputError, match="not Unicode: half a surrogate pair: line 2"):
        mn.load_corpus(tmp_path / "x.jsonl")


def test_ids_depend_on_content_not_on_place():
    rows = [{"prompt": "a", "response": "1"}, {"prompt": "b", "response": "2"}]
    assert mn.load_corpus(rows).ids == mn.load_corpus(rows[::-1]).ids[::-1]


@given(
    st.lists(
        st.fixed_dictionaries(
            {"prompt": st.text(min_size=1).filter(str.strip), "response": st.text()},
            optional={"note": st.text(), "completion": st.text(), "conversations": st.text()},
        ),
        min_size=1,
        max_size=8,
    )
)
def test_what_is_written_is_read_back(rows):
    corpus = mn.load_corpus(rows)
    again = mn.Corpus.from_jsonl(corpus.to_jsonl(), corpus.name)
    assert list(again) == list(corpus)
    assert again.hash == corpus.hash


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nowhere.jsonl", "no such file"),
        ("x.txt", "cannot read a .txt"),
        ("empty.jsonl", "the file is empty"),
        ("folder", "is a folder"),
        ("bad.json", "line 2"),
        ("object.json", "expected an array"),
    ],
)
def test_wrong_sources_say_what_to_do(source, said, tmp_path):
    (tmp_path / "x.txt").write_text("hello")
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "bad.json").write_text('{"a": 1}\n{"a": 2}')
    (tmp_path / "object.json").write_text('{"a": 1}')
    with pytest.raises(mn.InputError, match=said) as caught:
        mn.load_corpus(tmp_path / source)
    assert "\n" not in str(caught.value)


def test_the_demo_corpus_and_its_splits():
    assert len(mn.load_corpus("demo", split="probe")) == 500
    assert mn.load_corpus("demo", limit=7).ids == mn.load_corpus("demo").ids[:7]
    with pytest.raises(mn.InputError, match="no row has split 'nope'"):
        mn.load_corpus("demo", split="nope")


@needs_shared
def test_real_files_are_read_whole():
    assert len(mn.load_corpus(SHARED / "gsm8k_train.jsonl")) == 7473
    maths = mn.load_corpus(SHARED / "math_train.jsonl")
    assert len(maths) == 7500
    assert len({e.category for e in maths}) == 7
    assert len(mn.load_corpus(SHARED / "xstest.csv")) == 450
    assert len(mn.load_corpus(SHARED / "jailbreak_templates.csv", prompt="text")) == 77
    advbench = mn.load_corpus(SHARED / "advbench.csv", prompt="goal", response="target")
    assert len(advbench) + advbench.duplicates == 520
