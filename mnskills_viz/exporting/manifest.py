"""``manifest.json``: what an exported folder holds and what it was made from."""

import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from ..corpus import Corpus, Example
from ..files import read_json, sha256
from ..selection import Selection
from .card import UNKNOWN, corpus_name, licence_of
from .conversation import Finding

MANIFEST = "manifest.json"
MAKER = "mnskills_viz"


def manifest_of(
    corpus: Corpus, selection: Selection, chosen: Sequence[Example], name: str, folder: Path
) -> dict[str, Any]:
    """The manifest of a folder that is complete but for it.

    Parameters
    ----------
    corpus : Corpus
        The pool.
    selection : Selection
    chosen : sequence of Example
        What was selected from it.
    name : str
        The format.
    folder : Path
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        "made_by": MAKER,
        "format": name,
        "files": {path.relative_to(folder).as_posix(): sha256(path) for path in files},
        "corpus": {"name": corpus_name(corpus), "sha256": corpus.hash, "examples": len(corpus)},
        "selection": {
            "strategy": selection.recipe["strategy"],
            "input_hash": selection.recipe["input_hash"],
            "inputs": selection.recipe["inputs"],
            "examples": len(selection),
        },
        "licenses": _counts(licence_of(example) for example in chosen),
        "sources": _counts(example.source for example in chosen),
        "model": selection.recipe.get("model"),
        "versions": {
            MAKER: selection.recipe["version"],
            "python": platform.python_version(),
            "pyarrow": metadata.version("pyarrow"),
        },
    }


def _counts(values: Iterable[str | None]) -> dict[str, int]:
    """How often each value occurs, the most frequent first."""
    counts = Counter(value or UNKNOWN for value in values)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of an export of ours, None where there is none."""
    if not (folder / MANIFEST).is_file():
        return None
    found = read_json(folder / MANIFEST)
    return found if isinstance(found, dict) and found.get("made_by") == MAKER else None


def changes(
    folder: Path, manifest: dict[str, Any], n_rows: int, configs: Iterable[str]
) -> Iterator[Finding]:
    """What is not as it was exported; `configs` and the card are there to be edited."""
    files = manifest.get("files")
    for name, written in files.items() if isinstance(files, dict) else ():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            yield Finding(None, "edited", f"{MANIFEST} names {name!r}, outside the folder")
        elif not path.is_file():
            yield Finding(None, "missing-file", f"{name} is not there any more")
        elif name not in {*configs, "README.md"} and sha256(path) != written:
            yield Finding(None, "edited", f"{name} is not as it was exported: its SHA-256 differs")
    selection = manifest.get("selection")
    exported = selection.get("examples") if isinstance(selection, dict) else None
    if isinstance(exported, int) and n_rows != exported:
        yield Finding(None, "row-count", f"{n_rows} rows, {exported} were exported")
