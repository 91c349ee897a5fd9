import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

import mnskills_viz as mn


def write_rows(folder: Path, examples: Iterable[mn.Example]) -> Path:
    """A folder as ``export(..., format="trl")`` fills it, without card and manifest."""
    folder.mkdir(parents=True)
    rows = (
        {"prompt": e.messages, "completion": [{"role": "assistant", "content": e.response}]}
        for e in examples
    )
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="session")
def rows_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    def write(examples: Iterable[mn.Example]) -> Path:
        return write_rows(tmp_path_factory.mktemp("rows") / "export", examples)

    return write


@pytest.fixture(scope="session")
def pool() -> mn.Corpus:
    return mn.load_corpus("demo").split("pool")


@pytest.fixture(scope="session")
def forty_rows(rows_folder, pool) -> Path:
    return rows_folder(pool[:40])


@pytest.fixture(scope="session")
def dropout_folder(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """The tiny model with dropout in its attention: training then draws random numbers."""
    folder = tmp_path_factory.mktemp("models") / "dropout"
    shutil.copytree(tiny_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"attention_dropout": 0.2}))
    return folder
