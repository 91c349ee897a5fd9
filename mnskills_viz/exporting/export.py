"""Write a selection as a folder that a trainer reads, whole or not at all."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..corpus import Corpus, Example
from ..errors import InputError
from ..files import folder_in_place, read_json, sha256, write_json, write_text
from ..selection import Selection
from .card import write_card
from .manifest import MAKER, MANIFEST, manifest_of
from .receipts import write_receipts
from .trainer import PLACEHOLDER, Job
from .trainers import FORMATS


def export(
    corpus: Corpus,
    selection: Selection,
    folder: str | Path,
    format: str = "trl",  # noqa: A002 - the public surface calls it so
    *,
    labels: Mapping[tuple[int, int], str] | None = None,
) -> Path:
    """Write the chosen examples in curriculum order, with all that a trainer needs beside them.

    Every folder holds the data, the trainer's configuration, ``receipts.parquet`` (row i: which
    example line i is, and why it was chosen), ``recipe.json``, a card and ``manifest.json``, and
    ``datasets.load_dataset(folder)`` gives the rows. Equal inputs give equal bytes under equal
    versions.

    Parameters
    ----------
    corpus : Corpus
        The pool that was selected from, in the order of Z's rows.
    selection : Selection
        What `select` gave.
    folder : path
        Where it shall lie. An earlier export there is replaced in one step; anything else that
        is not empty is left alone.
    format : {"trl", "openai", "axolotl", "llama-factory", "hf"}
        - ``"trl"``: ``train.jsonl`` with conversational prompt and completion, ``sft.yaml``;
        - ``"openai"``: ``train.jsonl`` with messages, ``job.json``;
        - ``"axolotl"``: ``train.jsonl`` with messages, ``axolotl.yaml``;
        - ``"llama-factory"``: ``train.jsonl`` with messages, ``dataset_info.json`` and
          ``train.yaml``;
        - ``"hf"``: Parquet under ``data/`` with id, prompt, completion, answer, category and
          source, ``sft.yaml``.
    labels : mapping of (axis, +1 or -1) to str, optional
        Names of poles, for the card.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        Unknown format, a selection from another corpus, rows without response or with text that
        is not Unicode, a folder that holds something else, or one that cannot be written.
    """
    if format not in FORMATS:
        raise InputError(f"unknown format {format!r}; available: {', '.join(FORMATS)}")
    folder = Path(folder)
    _check_origin(corpus, selection)
    chosen = [corpus[int(index)] for index in selection.indices]
    _check_rows(chosen)
    _check_folder(folder)
    trainer = FORMATS[format]
    # Through a link: the folder that it points to is replaced, the link stays.
    with folder_in_place(folder.resolve()) as building, _only_unicode(chosen):
        data, longest = trainer.write(chosen, building)
        job = Job(_model(selection), longest, sha256(data))
        for name, text in trainer.configs(job).items():
            write_text(building / name, text)
        card = write_card(corpus, selection, labels or {}, trainer.how_to_train)
        write_text(building / "README.md", card)
        write_receipts(selection, chosen, building)
        write_json(building / "recipe.json", selection.recipe)
        manifest = manifest_of(corpus, selection, chosen, format, building)
        write_json(building / MANIFEST, manifest)
    return folder


def _model(selection: Selection) -> str:
    """The model that the axes are of, where trainers can load it by name."""
    model = selection.recipe.get("model")
    name = str(model["name"]) if model else ""
    return name if re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", name) else PLACEHOLDER


def _check_origin(corpus: Corpus, selection: Selection) -> None:
    n_pool = selection.recipe["pool"]["rows"]
    if n_pool != len(corpus):
        raise InputError(
            f"the selection was made from {n_pool} rows and the corpus has {len(corpus)}; export "
            "with the corpus that Z belongs to"
        )
    if not len(selection):
        raise InputError("the selection is empty: nothing to export")
    # Without ids the receipts name rows by position, which says nothing about the corpus.
    if selection.recipe["inputs"]["ids"] is None:
        return
    for index, chosen in zip(selection.indices, selection.receipts["id"], strict=True):
        if corpus[int(index)].id != chosen:
            raise InputError(
                f"row {index} of the corpus is {corpus[int(index)].id!r} and the selection has "
                f"{chosen!r} there; export with the corpus that Z belongs to, in its order"
            )


def _check_rows(chosen: Sequence[Example]) -> None:
    mute = [example.id for example in chosen if not example.response.strip()]
    if mute:
        raise InputError(
            f"{len(mute)} chosen rows have no response to train on: {_named(mute)}; exclude them "
            "in select, or give the corpus responses"
        )


@contextmanager
def _only_unicode(chosen: Sequence[Example]) -> Iterator[None]:
    """Name the rows that no file can hold. Only then: most exports have none."""
    try:
        yield
    except UnicodeEncodeError as error:
        broken = [example.id for example in chosen if not _is_unicode(example)]
        if not broken:
            raise
        raise InputError(
            f"{len(broken)} chosen rows hold half a surrogate pair, which no file can: "
            f"{_named(broken)}; exclude or correct them"
        ) from error


def _is_unicode(example: Example) -> bool:
    texts = [example.id, example.response, example.answer, example.category, example.source]
    texts += [message["content"] for message in example.messages]
    try:
        "".join(text for text in texts if text).encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_folder(folder: Path) -> None:
    """Refuse to replace anything that this function's own export did not write."""
    try:
        if not folder.is_dir():
            return
        present = {
            path.relative_to(folder).as_posix()
            for path in folder.rglob("*")
            if not path.is_dir() or path.is_symlink()
        }
        empty = not any(folder.iterdir())
    except OSError as error:
        raise InputError(f"cannot read {folder}: {error.strerror}") from error
    if empty:
        return
    manifest = read_json(folder / MANIFEST) if MANIFEST in present else None
    if not isinstance(manifest, dict) or manifest.get("made_by") != MAKER:
        raise InputError(
            f"{folder} is not empty and not an earlier export (no {MANIFEST} of ours); choose "
            "another folder"
        )
    written: dict[str, str] = manifest.get("files", {})
    added = sorted(present - set(written) - {MANIFEST})
    changed = sorted(
        name for name in present & set(written) if sha256(folder / name) != written[name]
    )
    if added or changed:
        raise InputError(
            f"{folder} holds an earlier export and what came after it ({_named(added + changed)}); "
            "move that away or choose another folder"
        )


def _named(names: list[str]) -> str:
    """The first few of many names."""
    shown = ", ".join(map(repr, names[:10]))
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10} more"
