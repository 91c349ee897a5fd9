"""Small exports of every format, and ways to spoil them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mnskills_viz.corpus import load_corpus
from mnskills_viz.exporting import FORMATS, export, preflight
from mnskills_viz.selection import select

LINES = "train.jsonl"
PARQUET = "data/train-00000-of-00001.parquet"


def questions(n=12):
    return [{"id": f"r{i}", "prompt": f"What is {i} + {i}?", "response": f"{2 * i}"}
            for i in range(n)]  # fmt: skip


def export_all(data, folder, fmt) -> Path:
    """All of `data`, in an order of the selection's own."""
    corpus = load_corpus(data)
    selection = select(np.eye(len(corpus), 2), "random", len(corpus), ids=corpus.ids)
    return export(corpus, selection, folder, fmt)


@pytest.fixture(scope="session")
def pristine(tmp_path_factory):
    """A dozen of questions in each format, written once; to be copied, not changed."""
    folder = tmp_path_factory.mktemp("exports")
    return {fmt: export_all(questions(), folder / fmt, fmt) for fmt in FORMATS}


@pytest.fixture
def exported(tmp_path, pristine):
    """Exports rows (default: a dozen of questions) to a format."""

    def make(fmt, data=None):
        if data is not None:
            return export_all(data, tmp_path / fmt, fmt)
        shutil.rmtree(tmp_path / fmt, ignore_errors=True)
        return shutil.copytree(pristine[fmt], tmp_path / fmt)

    return make


def read_rows(folder):
    if (folder / LINES).is_file():
        return [json.loads(line) for line in (folder / LINES).read_text().splitlines()]
    table = pd.read_parquet(folder / PARQUET)
    return json.loads(table.to_json(orient="records"))


def write_rows(folder, rows):
    if (folder / LINES).is_file():
        (folder / LINES).write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pd.DataFrame(rows).to_parquet(folder / PARQUET)


def spoil(folder, change, number=3):
    """Change a row of a folder by hand."""
    rows = read_rows(folder)
    change(rows[number])
    write_rows(folder, rows)


def found(folder, *args, **options):
    """Preflight's findings as (row, rule), but for the notice that a person was at work."""
    table = preflight(folder, *args, **options)
    rows = [None if row is pd.NA else int(row) for row in table["row"]]
    pairs = list(zip(rows, table["rule"], strict=True))
    return [pair for pair in pairs if pair != (None, "edited")]
