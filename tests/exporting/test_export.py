"""Exports: what the trainer reads, the card, and folders that are whole or not there."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from markdown_it import MarkdownIt

from mnskills_viz.corpus import Corpus, Example, load_corpus
from mnskills_viz.errors import InputError
from mnskills_viz.exporting import FORMATS, export
from mnskills_viz.exporting.card import markdown, yaml_text
from mnskills_viz.selection import replay, select

datasets = pytest.importorskip("datasets")

NASTY = [
    "a | b",
    "line\nbreak\r\n| --- |",
    "<script>alert(1)</script> & <b>",
    "`code` *star* _under_ [link](http://x) $x$ ~~no~~",
    'quote " and \\ backslash \\|',
    "---\nkey: value",
    "tab\tand \x00 \x1b[31m null \u2028 sep \u202e rtl \x85",
    "- [ ] {{x}} %s # head é 漢字 😀",
    "yes",
    "word_with_underscores",
]


def rows(n=40, **meta):
    return [
        {
            "id": f"r{i}",
            "prompt": f"What is {i} + {i}?"
            if i % 2
            else [
                {"role": "system", "content": "Be short."},
                {"role": "user", "content": f"{i} + {i}? 😀 \u2028 next"},
            ],
            "response": f"It is {2 * i}.\nDone.",
            "answer": str(2 * i) if i % 3 else None,
            "category": ["sums", "words"][i % 2],
            "source": "mill",
        }
        | meta
        for i in range(n)
    ]


def chosen(corpus, budget=12, **options):
    draw = np.random.default_rng(0)
    Z, probe = draw.normal(size=(len(corpus), 3)), draw.normal(size=(300, 3))
    error = 1 / (1 + np.exp(-2 * probe[:, 1]))
    given = {"ids": corpus.ids, "probe": probe, "error": error}
    return select(Z, budget=budget, **given, **options), (Z, given)


def read_back(folder, cache):
    return datasets.load_dataset(str(folder), cache_dir=str(cache))["train"]


def every_file(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def front_matter(folder):
    _, head, body = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(head), body


DATA_FILES = dict.fromkeys(FORMATS, "train.jsonl") | {"hf": "data/train-00000-of-00001.parquet"}
CONFIGS = {
    "trl": {"sft.yaml"},
    "openai": {"job.json"},
    "axolotl": {"axolotl.yaml"},
    "llama-factory": {"dataset_info.json", "train.yaml"},
    "hf": {"sft.yaml"},
}
EVERYWHERE = {"README.md", "manifest.json", "receipts.parquet", "recipe.json"}


def messages_of(table):
    """Each row of a loaded folder as (messages before the answer, the answer)."""
    if "messages" in table.column_names:
        return [(row[:-1], row[-1]["content"]) for row in table["messages"]]
    answers = [completion[0]["content"] for completion in table["completion"]]
    return list(zip(table["prompt"], answers, strict=True))


@pytest.fixture(params=sorted(FORMATS))
def fmt(request):
    return request.param


# --------------------------------------------------------------------------------------- rows


def test_trl_lines_are_prompt_and_completion_in_curriculum_order(tmp_path):
    corpus = load_corpus(rows())
    selection, _ = chosen(corpus)
    folder = export(corpus, selection, tmp_path / "out")
    # The strictest of readers: every mark that ends a line somewhere ends one here.
    lines = (folder / "train.jsonl").read_text(encoding="utf-8").splitlines()
    for line, index in zip(lines, selection.indices, strict=True):
        row = json.loads(line)
        assert set(row) == {"prompt", "completion"}
        assert row["prompt"] == corpus[index].messages
        assert row["completion"] == [{"role": "assistant", "content": corpus[index].response}]
        assert [m["role"] for m in row["prompt"]] in (["user"], ["system", "user"])


def test_datasets_reads_the_folder(tmp_path, fmt):
    corpus = load_corpus(rows())
    selection, _ = chosen(corpus)
    folder = export(corpus, selection, tmp_path / "out", fmt)
    table = read_back(folder, tmp_path / "cache")
    expected = list(corpus.take(selection.indices))
    assert messages_of(table) == [(e.messages, e.response) for e in expected]
    if fmt == "hf":
        columns = ["id", "prompt", "completion", "answer", "category", "source"]
        assert table.column_names == columns
        assert table["id"][:] == [e.id for e in expected]
        assert table["answer"][:] == [e.answer for e in expected]
    else:
        assert table.column_names in (["prompt", "completion"], ["messages"])


def test_an_export_that_took_the_place_of_another_is_read_afresh(tmp_path, fmt):
    """The cache of `datasets` must not give the rows of the earlier one."""
    corpus = load_corpus(rows())
    found = []
    for strategy in ("random", "top"):
        selection, _ = chosen(corpus, strategy=strategy)
        folder = export(corpus, selection, tmp_path / "out", fmt)
        table = read_back(folder, tmp_path / "cache")
        prompts = [prompt for prompt, _ in messages_of(table)]
        found.append(["\n\n".join(m["content"] for m in prompt) for prompt in prompts])
        assert found[-1] == [corpus[i].prompt_text for i in selection.indices]
    assert found[0] != found[1]


def test_an_export_is_a_corpus_again(tmp_path, fmt):
    corpus = load_corpus(rows())
    selection, _ = chosen(corpus)
    folder = export(corpus, selection, tmp_path / "out", fmt)
    again = load_corpus(folder / DATA_FILES[fmt])
    if fmt == "hf":
        assert again.ids == selection.receipts["id"].tolist()
    assert [e.response for e in again] == [corpus[i].response for i in selection.indices]


# ------------------------------------------------------------------------- card and manifest


def test_manifest_holds_the_hash_of_every_other_file(tmp_path, fmt):
    corpus = load_corpus(rows())
    selection, _ = chosen(corpus)
    folder = export(corpus, selection, tmp_path / "out", fmt)
    files = every_file(folder)
    manifest = json.loads(files.pop("manifest.json"))
    assert manifest["files"] == {n: hashlib.sha256(b).hexdigest() for n, b in files.items()}
    assert {*EVERYWHERE, *CONFIGS[fmt], DATA_FILES[fmt]} == {*files, "manifest.json"}
    assert manifest["corpus"]["sha256"] == corpus.hash
    assert manifest["selection"]["input_hash"] == selection.recipe["input_hash"]
    assert manifest["selection"]["inputs"] == selection.recipe["inputs"]
    assert manifest["selection"]["examples"] == 12


def test_licences_and_sources_are_carried_through(tmp_path, fmt):
    data = rows()
    for i, row in enumerate(data):
        row["source"] = ["mill", "well", None][i % 3]
        row |= {"license": "CC0-1.0"} if i % 2 else {}
    corpus = load_corpus(data)
    selection, _ = chosen(corpus)
    folder = export(corpus, selection, tmp_path / "out", fmt)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    expected = [corpus[i] for i in selection.indices]
    licences = Counter(e.meta.get("license") or "unknown" for e in expected)
    assert manifest["licenses"] == licences
    assert manifest["sources"] == Counter(e.source or "unknown" for e in expected)
    receipts = pd.read_parquet(folder / "receipts.parquet")
    assert receipts["license"].fillna("unknown").value_counts().to_dict() == licences


def test_receipts_say_which_example_a_line_is_and_why(tmp_path, fmt):
    corpus = load_corpus(rows())
    selection, _ = chosen(corpus)
    folder = export(corpus, selection, tmp_path / "out", fmt)
    receipts = pd.read_parquet(folder / "receipts.parquet")
    assert receipts["rank"].tolist() == list(range(1, 13))
    by_id = {example.id: example for example in corpus}
    lines = messages_of(read_back(folder, tmp_path / "cache"))
    for line, receipt in zip(lines, receipts.to_dict("records"), strict=True):
        example = by_id[receipt["id"]]
        assert line == (example.messages, example.response)
        assert corpus[receipt["index"]].id == receipt["id"]
        assert receipt["reason"]
        assert receipt["source"] == "mill"


def test_the_recipe_in_the_folder_replays(tmp_path):
    corpus = load_corpus(rows())
    selection, (Z, given) = chosen(corpus)
    folder = export(corpus, selection, tmp_path / "out")
    recipe = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
    assert replay(recipe, Z, **given).indices.tolist() == selection.indices.tolist()


def tables(body):
    """Tables of a Markdown text as lists of rows, through a parser that is not ours."""
    found, row, inside = [], [], False
    for token in MarkdownIt("commonmark", {"html": True}).enable("table").parse(body):
        if token.type in ("table_open", "table_close"):
            inside = token.type == "table_open"
            if inside:
                found.append([])
        elif token.type == "tr_open":
            row = []
            found[-1].append(row)
        elif token.type == "inline" and inside:
            row.append("".join(c.content for c in token.children if c.type != "softbreak"))
    return found


def test_the_card_counts_selection_and_pool(tmp_path, fmt):
    corpus = load_corpus(rows(license="CC0-1.0"))
    selection, _ = chosen(corpus)
    folder = export(corpus, selection, tmp_path / "out", fmt, labels={(1, 1): "long sums"})
    head, body = front_matter(folder)
    assert head["license"] == ["CC0-1.0"]
    axes, categories, sources, licences = tables(body)
    weak = next(row for row in axes if row[0] == "axis 1 +")
    assert weak[1] == "long sums"
    assert sum(int(row[2]) for row in axes[1:]) == 12
    sums = [corpus[i].category for i in selection.indices].count("sums")
    assert ["sums", f"{sums} ({sums / 12:.1%})", "20 (50.0%)"] in categories
    assert sources[1] == ["mill", "12 (100.0%)", "40 (100.0%)"]
    assert licences[1][0] == "CC0-1.0"
    for snippet in body.split("```python")[1:]:
        compile(snippet.split("```")[0], "snippet", "exec")


def test_licences_that_are_not_known_are_not_made_up(tmp_path):
    data = rows()
    data[0]["license"] = "mit"
    corpus = load_corpus(data)
    selection, _ = chosen(corpus, include=["r0"])
    head, _ = front_matter(export(corpus, selection, tmp_path / "out"))
    assert head["license"] == ["mit", "unknown"]


def test_a_local_path_does_not_leave_the_machine(tmp_path):
    path = tmp_path / "private place" / "pool.jsonl"
    path.parent.mkdir()
    path.write_text("\n".join(map(json.dumps, rows())))
    corpus = load_corpus(path)
    folder = export(corpus, chosen(corpus)[0], tmp_path / "out")
    assert all(b"private place" not in content for content in every_file(folder).values())


def test_foreign_text_breaks_neither_table_nor_yaml(tmp_path, fmt):
    data = rows(len(NASTY))
    for row, text in zip(data, NASTY, strict=True):
        row |= {"category": text, "source": text, "license": text, "response": text}
    corpus = load_corpus(data)
    selection, _ = chosen(corpus, budget=len(NASTY), strategy="random")
    labels = {(a, s): NASTY[a] + NASTY[s] for a in range(3) for s in (1, -1)}
    folder = export(corpus, selection, tmp_path / "out", fmt, labels=labels)
    head, body = front_matter(folder)
    assert head["license"] == sorted(NASTY)
    assert "<script" not in body
    assert "script" in body
    for table in tables(body):
        assert len({len(row) for row in table}) == 1
    assert [len(table) - 1 for table in tables(body)][1:] == [len(NASTY)] * 3
    table = read_back(folder, tmp_path / "cache")
    assert sorted(answer for _, answer in messages_of(table)) == sorted(NASTY)


@pytest.mark.parametrize("text", NASTY)
def test_escapes_read_back(text):
    assert yaml.safe_load(yaml_text(text)) == text
    shown = tables(f"| a |\n| --- |\n| {markdown(text)} |")[0][1][0]
    assert shown == " ".join("".join(c if c.isprintable() else " " for c in text).split())


# ------------------------------------------------------------------------ whole or not there


def test_same_inputs_same_bytes(tmp_path, fmt):
    corpus = load_corpus(rows())
    first = export(corpus, chosen(corpus)[0], tmp_path / "a", fmt)
    second = export(corpus, chosen(corpus)[0], tmp_path / "b", fmt)
    assert every_file(first) == every_file(second)


def test_a_failure_leaves_nothing_or_what_was_there(tmp_path, fmt, monkeypatch):
    corpus = load_corpus(rows())
    selection, _ = chosen(corpus)
    earlier = every_file(export(corpus, selection, tmp_path / "earlier", fmt))

    def fail(*_):
        raise RuntimeError("in the middle")

    monkeypatch.setattr(import_module("mnskills_viz.exporting.export"), "write_card", fail)
    for name in ("new", "earlier"):
        with pytest.raises(RuntimeError, match="middle"):
            export(corpus, chosen(corpus, budget=5)[0], tmp_path / name, fmt)
    assert [p.name for p in tmp_path.iterdir()] == ["earlier"]
    assert every_file(tmp_path / "earlier") == earlier


def test_killed_in_the_middle_leaves_no_folder(tmp_path):
    script = """
        import importlib, os, signal, sys
        import numpy as np
        from mnskills_viz.corpus import load_corpus
        from mnskills_viz.exporting import export
        from mnskills_viz.selection import select
        corpus = load_corpus([{"prompt": f"p{i}", "response": "r"} for i in range(9)])
        module = importlib.import_module("mnskills_viz.exporting.export")
        module.write_card = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        export(corpus, select(np.eye(9), "random", 5, ids=corpus.ids), sys.argv[1])
    """
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "out")],
        env=os.environ | {"PYTHONPATH": str(root)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()


def test_an_earlier_export_is_replaced(tmp_path):
    corpus = load_corpus(rows())
    export(corpus, chosen(corpus)[0], tmp_path / "out", "hf")
    export(corpus, chosen(corpus, budget=5)[0], tmp_path / "out", "trl")
    assert set(every_file(tmp_path / "out")) == {*EVERYWHERE, "sft.yaml", "train.jsonl"}
    (tmp_path / "empty").mkdir()
    export(corpus, chosen(corpus)[0], tmp_path / "empty")


def test_what_is_not_ours_is_left_alone(tmp_path):
    corpus = load_corpus(rows())
    selection, _ = chosen(corpus)
    thesis = tmp_path / "work" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("years")
    with pytest.raises(InputError, match="not an earlier export"):
        export(corpus, selection, thesis.parent)
    (thesis.parent / "manifest.json").write_text('{"made_by": "someone"}')
    with pytest.raises(InputError, match="not an earlier export"):
        export(corpus, selection, thesis.parent)
    assert thesis.read_text() == "years"

    folder = export(corpus, selection, tmp_path / "out")
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "model.safetensors").write_text("weights")
    (folder / "README.md").write_text("my own words")
    before = every_file(folder)
    with pytest.raises(InputError, match=r"checkpoint/model\.safetensors', 'README\.md"):
        export(corpus, selection, folder)
    assert every_file(folder) == before


def test_a_folder_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    corpus = load_corpus(rows())
    selection, _ = chosen(corpus)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        export(corpus, selection, tmp_path / "file")
    with pytest.raises(InputError, match="cannot write"):
        export(corpus, selection, tmp_path / "file" / "out")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("mnskills_viz.files.tempfile.mkdtemp", refuse)
    with pytest.raises(InputError, match="Permission denied"):
        export(corpus, selection, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------------------------- wrong input


def test_rows_without_response_are_named(tmp_path):
    data = rows()
    for i in (3, 5):
        data[i]["response"] = ""
    corpus = load_corpus(data)
    selection, _ = chosen(corpus, include=["r5", "r3"])
    with pytest.raises(InputError, match=r"2 chosen rows have no response .*'r5', 'r3'") as caught:
        export(corpus, selection, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not any(tmp_path.iterdir())


def test_half_a_surrogate_pair_is_refused(tmp_path):
    corpus = Corpus([Example("bad", "p \ud800", "r"), Example("good", "p", "r")])
    selection = select(np.eye(2), "random", 2, ids=corpus.ids)
    with pytest.raises(InputError, match="'bad'"):
        export(corpus, selection, tmp_path / "out")


def test_another_corpus_is_refused(tmp_path):
    corpus = load_corpus(rows())
    selection, _ = chosen(corpus)
    with pytest.raises(InputError, match="40 rows and the corpus has 39"):
        export(corpus[:39], selection, tmp_path / "out")
    with pytest.raises(InputError, match="in its order"):
        export(corpus[::-1], selection, tmp_path / "out")


def test_an_unknown_format_names_those_there_are(tmp_path):
    corpus = load_corpus(rows())
    with pytest.raises(InputError, match="unknown format 'gguf'; available: trl, openai, axolotl"):
        export(corpus, chosen(corpus)[0], tmp_path / "out", "gguf")
