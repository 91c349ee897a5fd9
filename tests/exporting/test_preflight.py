"""Preflight without a model: each trainer's rules, each by a row that breaks it."""

import json
import re
import subprocess
import sys

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnskills_viz.errors import InputError
from mnskills_viz.exporting import FORMATS, preflight
from mnskills_viz.exporting.conversation import conversation_of
from mnskills_viz.exporting.jsonl import read_json_lines
from mnskills_viz.exporting.llama_factory import alternation, even_count

from .conftest import LINES, found, questions, read_rows, spoil, write_rows


@pytest.fixture(params=sorted(FORMATS))
def fmt(request):
    return request.param


# ------------------------------------------------------------------------------- what is in order


def test_an_export_is_in_order(exported, fmt):
    table = preflight(exported(fmt))
    assert list(table.columns) == ["row", "rule", "message"]
    assert table.empty


def test_a_system_message_and_earlier_turns_are_in_order(exported, fmt):
    prompt = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "And 2 + 2?"},
    ]
    rows = [{"prompt": prompt, "response": "4", "id": "x"}, *questions(11)]
    assert preflight(exported(fmt, rows)).empty


def test_the_configuration_may_be_edited(exported, fmt):
    folder = exported(fmt)
    for name in FORMATS[fmt].config_files:
        (folder / name).write_text((folder / name).read_text().replace("MODEL", "org/model"))
    (folder / "README.md").write_text("my words")
    assert preflight(folder).empty


# -------------------------------------------------------------------------- rows that break a rule


def put(where, value):
    """A change of a row: the value at a path such as ``"messages.-1.role"``; None deletes it."""

    def change(row):
        *path, last = [int(p) if re.fullmatch(r"-?\d+", p) else p for p in where.split(".")]
        for step in path:
            row = row[step]
        if value is None:
            del row[last]
        else:
            row[last] = value

    return change


def both(*changes):
    def change(row):
        for one in changes:
            one(row)

    return change


USER = {"role": "user", "content": "And?"}
ANSWER = {"role": "assistant", "content": "Yes."}
PARTS = [{"type": "text", "text": "What?"}]

BROKEN = {
    "trl": [
        ("shape", put("completion", None)),
        ("shape", put("prompt", [])),
        ("shape", put("prompt.0", "What?")),
        ("shape", put("prompt.0.content", None)),
        ("shape", put("completion", "text beside messages")),
        ("stray-column", put("messages", [USER, ANSWER])),
        ("stray-column", put("input_ids", [1, 2])),
        ("stray-column", put("tools", [{"name": "x"}])),
        ("role", put("prompt.0.role", "human")),
        ("empty-turn", put("completion.0.content", " \n")),
        ("empty-turn", put("prompt.0.content", "")),
        ("empty-turn", put("prompt.0.content", [])),
        ("empty-turn", put("prompt.0.content", [{"type": "text", "text": " "}])),
        ("content-parts", put("prompt.0.content", PARTS)),
        ("last-turn", put("completion.0.role", "user")),
    ],
    "openai": [
        ("shape", put("messages", None)),
        ("shape", put("messages", [])),
        ("shape", put("messages", "text")),
        ("shape", put("messages.0.role", None)),
        ("shape", put("messages.1.content", None)),
        ("unknown-column", put("id", "r3")),
        ("unknown-column", put("prompt", "What?")),
        ("unknown-column", put("completion", "That.")),
        ("unknown-key", put("messages.1.score", 3)),
        ("role", put("messages.0.role", "human")),
        ("empty-turn", put("messages.1.content", "")),
        ("empty-turn", put("messages.0.content", [])),
        ("last-turn", lambda row: row["messages"].append(USER)),
        ("weight", put("messages.1.weight", 2)),
        ("weight", put("messages.0.weight", 1)),
        ("weight", put("messages.1.weight", 0)),
        ("tool-answer", put("messages.0.role", "tool")),
    ],
    "axolotl": [
        ("shape", put("messages", None)),
        ("shape", put("messages", [])),
        ("shape", put("messages.1.content", None)),
        ("stray-column", put("system", "Be short.")),
        ("role", put("messages.0.role", "narrator")),
        ("empty-turn", put("messages.1.content", "")),
        ("empty-turn", put("messages.0.content", [])),
        ("empty-turn", put("messages.0.content", [{"type": "text", "text": " "}])),
        ("content-parts", put("messages.0.content", PARTS)),
        ("last-turn", lambda row: row["messages"].append(USER)),
    ],
    "llama-factory": [
        ("shape", put("messages", None)),
        ("shape", put("messages.1.role", None)),
        ("alternation", both(lambda row: row["messages"].append(ANSWER),
                             lambda row: row["messages"].append(ANSWER))),
        ("alternation", lambda row: row["messages"].reverse()),
        ("alternation", put("messages.0.role", "human")),
        ("even-count", lambda row: row["messages"].append(USER)),
        ("empty-turn", put("messages.1.content", "")),
        ("empty-turn", put("messages.0.content", [])),
        ("empty-turn", put("messages.0.content", [{"type": "text", "text": " "}])),
        ("content-parts", put("messages.0.content", PARTS)),
    ],
    "hf": [
        ("shape", put("prompt.0.content", None)),
        ("role", put("prompt.0.role", "human")),
        ("empty-turn", put("completion.0.content", "")),
        ("last-turn", put("completion.0.role", "user")),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("fmt", "rule", "change"),
    [(fmt, *case) for fmt, cases in BROKEN.items() for case in cases],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_row_that_breaks_a_rule_is_named(exported, fmt, rule, change):
    folder = exported(fmt)
    spoil(folder, change)
    pairs = found(folder)
    assert (3, rule) in pairs
    assert {row for row, _ in pairs} == {3}


def test_every_rule_of_a_row_has_a_row_that_breaks_it():
    for fmt, trainer in FORMATS.items():
        if fmt == "hf":  # TRL's
            continue
        assert set(trainer.row_rules) <= {rule for rule, _ in BROKEN[fmt]}


def test_several_problems_are_all_said(exported):
    folder = exported("openai")
    spoil(folder, put("messages.1.content", ""), 2)
    spoil(folder, put("id", "x"), 7)
    spoil(folder, put("messages.1.role", "user"), 7)
    pairs = found(folder)
    assert {(2, "empty-turn"), (7, "unknown-column"), (7, "last-turn")} <= set(pairs)


def test_openai_takes_content_in_parts(exported):
    folder = exported("openai")
    spoil(folder, put("messages.0.content", PARTS), 2)
    image = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}
    spoil(folder, put("messages.0.content", [image]), 3)
    assert found(folder) == []


@given(st.text(alphabet="suatfx", max_size=7))
def test_llama_factory_takes_a_row_exactly_if_questions_and_answers_alternate(word):
    """Against a regular expression over the roles: system? (user|tool, assistant|call)+."""
    names = dict(
        zip("suatf", ("system", "user", "assistant", "tool", "function_call"), strict=True)
    )
    messages = [{"role": names.get(letter, "x"), "content": "text"} for letter in word]
    conversation = conversation_of(messages, {})
    taken = not (alternation(conversation) or even_count(conversation))
    assert taken == bool(re.fullmatch("s?([ut][af])+", word))


# ------------------------------------------------------------------------------- the whole file


def test_openai_takes_ten_rows_or_more(exported):
    assert found(exported("openai", questions(9))) == [(None, "too-few")]
    assert found(exported("openai", questions(10))) == []
    assert found(exported("trl", questions(9))) == []


def test_rows_that_say_the_same_are_named(exported, fmt):
    folder = exported(fmt)
    rows = read_rows(folder)
    rows[8] = rows[2] | ({"id": "r8"} if fmt == "hf" else {})
    write_rows(folder, rows)
    assert found(folder) == [(8, "duplicate")]


def test_all_rows_of_a_trl_file_are_of_one_type(exported):
    folder = exported("trl")
    rows = read_rows(folder)
    rows[4] = {"messages": rows[4]["prompt"] + rows[4]["completion"]}
    rows[5] = {"prompt": "What?", "completion": "That."}
    write_rows(folder, rows)
    assert found(folder) == [(4, "one-type"), (5, "one-type")]


def test_lines_that_are_no_objects_are_named(exported):
    folder = exported("trl")
    lines = (folder / LINES).read_bytes().split(b"\n")
    lines[1] = b'{"prompt": '
    lines[2] = b"[1, 2]"
    lines[3] = lines[3].replace(b"What", b"Wh\xe4t")
    (folder / LINES).write_bytes(b"\n".join(lines))
    table = preflight(folder).dropna()
    assert table["row"].tolist() == [1, 2, 3]
    assert set(table["rule"]) == {"unreadable"}
    assert [
        word in said
        for word, said in zip(("JSON", "object", "UTF-8"), table["message"], strict=True)
    ]


SPELLINGS = {
    "line feed": lambda text: text,
    "carriage return": lambda text: text.replace("\n", "\r"),
    "both": lambda text: text.replace("\n", "\r\n"),
    "one of each": lambda text: text.replace("\n", "\r", 5),
    "no end of the last line": lambda text: text.removesuffix("\n"),
    "byte order mark": lambda text: "\ufeff" + text,
    "a pair of surrogates": lambda text: text.replace("What", "\\ud83d\\ude00", 3),
    "half a pair": lambda text: text.replace("What", "\\ud83d", 1),
    "the other half": lambda text: text.replace("What", "\\uDE00", 1),
    "half a pair in a name": lambda text: text.replace('{"prompt"', '{"\\ud83d": 1, "prompt"', 1),
    "a form feed between lines": lambda text: text.replace("\n", "\n\f\n", 1),
    "a byte order mark inside": lambda text: text.replace("\n", "\n\ufeff", 1),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_file_is_readable_exactly_if_datasets_reads_it(exported, tmp_path, spelling):
    datasets = pytest.importorskip("datasets")
    folder = exported("trl")
    text = SPELLINGS[spelling]((folder / LINES).read_text())
    (folder / LINES).write_bytes(text.encode())
    try:
        theirs = datasets.load_dataset(
            "json", data_files=str(folder / LINES), split="train", cache_dir=str(tmp_path / "cache")
        ).to_list()
    except datasets.exceptions.DatasetGenerationError:
        assert "unreadable" in {rule for _, rule in found(folder)}
    else:
        assert found(folder) == []
        assert [row.value for row in read_json_lines(text.encode())] == theirs


def test_half_a_character_is_named_also_with_a_model(exported, tiny_folder):
    folder = exported("trl")
    spoil(folder, put("prompt.0.content", "\ud800 hi"))
    table = preflight(folder, str(tiny_folder)).dropna()
    assert table[["row", "rule"]].to_numpy().tolist() == [[3, "unreadable"]]
    assert table["message"].iloc[0] == r"not Unicode (\ud800 is half of a character)"


def test_an_empty_line_is_a_fault_only_where_the_trainer_minds(exported):
    for fmt, expected in (
        ("openai", [(2, "blank-line"), (None, "row-count")]),
        ("axolotl", [(None, "row-count")]),
    ):
        folder = exported(fmt)
        lines = (folder / LINES).read_text().split("\n")
        (folder / LINES).write_text("\n".join([*lines[:2], "", *lines[2:]]))
        assert sorted(found(folder), key=str) == sorted(expected, key=str)


# ----------------------------------------------------------------------------------- the manifest


def test_what_was_edited_after_the_export_is_said(exported, fmt):
    folder = exported(fmt)
    table = read_rows(folder)
    for row in table:
        row["completion" if "completion" in row else "messages"][-1]["content"] += "!"
    write_rows(folder, table)
    edited = preflight(folder)
    assert edited["rule"].tolist() == ["edited"]
    assert edited["row"].isna().all()


def test_rows_that_are_missing_are_counted(exported, fmt):
    folder = exported(fmt)
    write_rows(folder, read_rows(folder)[:-1])
    table = preflight(folder)
    (message,) = table["message"][table["rule"] == "row-count"]
    assert message == "11 rows, 12 were exported"


def test_a_file_that_is_gone_is_said(exported):
    folder = exported("trl")
    (folder / "receipts.parquet").unlink()
    assert found(folder) == [(None, "missing-file")]


def test_a_manifest_cannot_point_outside(exported, tmp_path):
    folder = exported("trl")
    (tmp_path / "secret").write_text("mine")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["../secret"] = "00"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    table = preflight(folder)
    assert "outside the folder" in table["message"].iloc[0]


# ------------------------------------------------------------------------- configurations by hand


def llama_factory_info(folder, change):
    info = json.loads((folder / "dataset_info.json").read_text())
    change(info["mnskills"])
    (folder / "dataset_info.json").write_text(json.dumps(info))


def test_a_tag_left_out_is_no_tag(exported):
    folder = exported("llama-factory")
    llama_factory_info(folder, lambda entry: entry["tags"].pop("observation_tag"))
    assert found(folder) == [(None, "config")]
    llama_factory_info(folder, lambda entry: entry.pop("tags"))  # then those of ShareGPT hold
    assert {rule for _, rule in found(folder)} == {"shape"}


def test_llama_factory_reads_other_names_as_described(tmp_path):
    rows = [
        {"conversations": [{"from": "human", "value": f"{i}?"}, {"from": "gpt", "value": "Yes."}]}
        for i in range(3)
    ]
    rows[1]["conversations"][1]["from"] = "human"
    (tmp_path / "talks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    info = {"talks": {"file_name": "talks.jsonl", "formatting": "sharegpt"}}
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    assert found(tmp_path) == [(1, "alternation")]


def test_a_description_cannot_point_outside(exported):
    folder = exported("llama-factory")
    llama_factory_info(folder, lambda entry: entry.update(file_name="../secret.jsonl"))
    with pytest.raises(InputError, match="outside the folder"):
        preflight(folder)


def test_llama_factory_needs_its_description(exported):
    folder = exported("llama-factory")
    (folder / "dataset_info.json").unlink()
    assert (None, "config") in found(folder)


def test_axolotl_reads_the_names_that_its_configuration_gives(exported):
    folder = exported("axolotl")
    rows = [
        {"talk": [{"from": m["role"], "value": m["content"]} for m in row["messages"]]}
        for row in read_rows(folder)
    ]
    write_rows(folder, rows)
    assert {rule for _, rule in found(folder)} == {"shape"}
    config = (folder / "axolotl.yaml").read_text()
    config = config.replace("field_messages: messages", "field_messages: talk")
    config = config.replace("role: role", "role: from").replace(
        "content: content", "content: value"
    )
    (folder / "axolotl.yaml").write_text(config)
    assert found(folder) == []


def test_a_dataset_type_that_axolotl_no_longer_has_is_said(exported):
    folder = exported("axolotl")
    config = (folder / "axolotl.yaml").read_text()
    (folder / "axolotl.yaml").write_text(config.replace("type: chat_template", "type: sharegpt"))
    assert found(folder) == [(None, "config")]


# ------------------------------------------------------------------- folders that are not exports


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({"messages": [USER]}, "last-turn"),
        ({"prompt": [USER], "completion": [USER]}, "last-turn"),
        ({"conversations": [{"from": "human", "value": "What?"}]}, "config"),
    ],
)
def test_a_folder_without_manifest_is_known_by_its_rows(tmp_path, row, rule):
    write = "".join(json.dumps(row | {"n": i}) + "\n" for i in range(10))
    (tmp_path / LINES).write_text(write)
    assert rule in {rule for _, rule in found(tmp_path)}


def test_what_is_no_export_is_refused_in_one_line(tmp_path, exported):
    nowhere = tmp_path / "nowhere"
    empty = tmp_path / "empty"
    empty.mkdir()
    blank = exported("trl")
    (blank / LINES).write_text(" \n\n")
    broken = exported("hf")
    (broken / "data/train-00000-of-00001.parquet").write_text("no parquet")
    yaml = exported("axolotl")
    (yaml / "axolotl.yaml").write_text("a: [")
    for folder, reason in (
        (nowhere, "not an exported folder"),
        (empty, "not an exported folder"),
        (blank, "no rows"),
        (broken, "cannot be read as Parquet"),
        (yaml, "cannot be read as YAML"),
    ):
        with pytest.raises(InputError, match=reason) as caught:
            preflight(folder)
        assert "\n" not in str(caught.value)
        assert str(folder) in str(caught.value)


def test_a_length_without_a_model_is_refused(exported):
    with pytest.raises(InputError, match="max_length"):
        preflight(exported("trl"), max_length=100)


def test_the_table_is_typed_when_it_is_empty_and_when_it_is_not(exported):
    good, bad = exported("trl"), exported("openai", questions(3))
    for table in (preflight(good), preflight(bad)):
        assert table["row"].dtype == pd.Int64Dtype()
        assert list(table.columns) == ["row", "rule", "message"]


def test_without_a_model_no_model_library_is_loaded(exported):
    script = (
        "import sys; from mnskills_viz.exporting import preflight; "
        "assert preflight(sys.argv[1]).empty; "
        "assert not {'torch', 'transformers', 'trl', 'datasets'} & set(sys.modules)"
    )
    folder = exported("trl")
    subprocess.run([sys.executable, "-c", script, str(folder)], check=True)


def test_every_row_is_looked_at(exported):
    folder = exported("axolotl")
    rows = read_rows(folder)
    for row in rows[::2]:
        row["messages"][-1]["content"] = ""
    rows = [row | {"n": i} for i, row in enumerate(rows)]
    write_rows(folder, rows)
    assert found(folder) == [(i, "empty-turn") for i in range(0, 12, 2)]
