"""What a trainer would refuse, skip or cut, said before it is started."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import InputError
from ..progress import tell
from . import axolotl, huggingface, llama_factory, openai, trl
from .conversation import Conversation, Finding, Row, RowRule, UnreadableRowError
from .jsonl import BLANK, read_json_lines
from .manifest import MANIFEST, changes, read_manifest
from .tokenizer import tokenizer_and_context
from .tokens import Ruler
from .trainer import TRAIN, Limit, Trainer
from .trainers import FORMATS


def preflight(folder: str | Path, model: Any = None, max_length: int | None = None) -> pd.DataFrame:
    """Check an exported folder by its trainer's own rules.

    Parameters
    ----------
    folder : path
        What `export` wrote, also when it was edited since, or a folder of the same layout that
        somebody else wrote.
    model : str, TransformersModel or tokenizer, optional
        Whose chat template and tokenizer to measure with: a name as `load_model` takes it, a
        model that it gave, or a transformers tokenizer. No weights are loaded. Without it the
        rules that count tokens are left out.
    max_length : int, optional
        The most tokens of a row. Default: what the folder's configuration says (where it says
        nothing, the trainer's own default) or the model's context, whichever is less.

    Returns
    -------
    DataFrame
        ``row`` (Int64, from 0; for JSON lines the line; ``<NA>`` for the folder as a whole),
        ``rule``, ``message``. Empty when the trainer would take every row whole.

    Raises
    ------
    InputError
        Not an exported folder, no rows in it, files that cannot be read, an unknown model, or
        `max_length` without a model.
    """
    folder = Path(folder)
    if max_length is not None and (model is None or max_length < 1):
        raise InputError(
            f"max_length is {max_length}: expected at least 1, and a model to count tokens with"
        )
    manifest = read_manifest(folder) if folder.is_dir() else None
    trainer = FORMATS[format_of(folder, manifest)]
    settings = trainer.settings(folder)
    rows = read_rows(settings.data)
    findings = list(settings.findings)
    if manifest is not None:
        findings += changes(folder, manifest, len(rows), trainer.config_files)
    conversations, unreadable = read_conversations(rows, settings.read)
    findings += unreadable
    # A rule over tokens takes the place of that of the same name over rows, which guesses.
    known_better = trainer.token_rules if model is not None else ()
    rules = {name: rule for name, rule in trainer.row_rules.items() if name not in known_better}
    findings += findings_of_rows(rules, conversations)
    for file_rule in trainer.file_rules.values():
        findings += file_rule(rows)
    if model is not None:
        tokenizer, context = tokenizer_and_context(model)
        ruler = _ruler(tokenizer, settings.limit, context, max_length)
        findings += findings_of_tokens(trainer, conversations, ruler)
    return _table(findings)


def _table(findings: Sequence[Finding]) -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "row": pd.array([finding.row for finding in findings], dtype="Int64"),
            "rule": pd.Series([finding.rule for finding in findings], dtype="str"),
            "message": pd.Series([finding.message for finding in findings], dtype="str"),
        }
    )
    return table.sort_values("row", kind="stable", na_position="first", ignore_index=True)


# ----------------------------------------------------------------------------- reading the folder


def format_of(folder: Path, manifest: dict[str, Any] | None) -> str:
    """The format of a folder: as its manifest says, else as its files look.

    Raises
    ------
    InputError
        No files of any format.
    """
    if manifest is not None and manifest.get("format") in FORMATS:
        return str(manifest["format"])
    marks = {
        llama_factory.DATASET_INFO: "llama-factory",
        axolotl.CONFIG: "axolotl",
        openai.CONFIG: "openai",
    }
    for file, name in marks.items():
        if (folder / file).is_file():
            return name
    if any(folder.glob(huggingface.DATA_FILES)):
        return "hf"
    if not (folder / TRAIN).is_file():
        raise InputError(
            f"{folder}: not an exported folder (no {MANIFEST}, {TRAIN} or {huggingface.DATA_FILES})"
        )
    if (folder / trl.CONFIG).is_file():
        return "trl"
    return _format_of_rows(read_rows([folder / TRAIN]))


def _format_of_rows(rows: Sequence[Row]) -> str:
    first: dict[str, Any] = next((row.value for row in rows if row.problem is None), {})
    if "prompt" not in first and "conversations" in first:
        return "llama-factory"
    return "openai" if "messages" in first and "prompt" not in first else "trl"


def read_rows(files: Sequence[Path]) -> list[Row]:
    """All rows of the data files, numbered through.

    Raises
    ------
    InputError
        A file that cannot be read, or no rows.
    """
    rows: list[Row] = []
    for file in files:
        found = _parquet_rows(file) if file.suffix == ".parquet" else _line_rows(file)
        start = len(rows)
        rows += (Row(start + row.number, row.value, row.problem) for row in found)
    if all(row.problem == BLANK for row in rows):
        raise InputError(f"{files[0]}: no rows; export again")
    return rows


def _line_rows(file: Path) -> list[Row]:
    try:
        return read_json_lines(file.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error


def _parquet_rows(file: Path) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        values = pyarrow.parquet.read_table(file).to_pylist()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).split("\n")[0]
        raise InputError(f"{file}: cannot be read as Parquet ({reason})") from error
    return [Row(number, value) for number, value in enumerate(values)]


# --------------------------------------------------------------------------------- applying rules

Numbered = tuple[int, Conversation]


def read_conversations(rows: Sequence[Row], read: Any) -> tuple[list[Numbered], list[Finding]]:
    """Rows that the trainer can take apart, with their numbers, and those that it cannot."""
    readable: list[Numbered] = []
    unreadable: list[Finding] = []
    for row in rows:
        tell()
        if row.problem == BLANK:  # `datasets` passes over it
            continue
        if row.problem is not None:
            unreadable.append(Finding(row.number, "unreadable", row.problem))
            continue
        try:
            readable.append((row.number, read(row.value)))
        except UnreadableRowError as error:
            unreadable.append(Finding(row.number, "shape", str(error)))
    return readable, unreadable


def findings_of_rows(
    rules: Mapping[str, RowRule], conversations: Sequence[Numbered]
) -> Iterator[Finding]:
    """What rules say of the rows as they stand."""
    for name, rule in rules.items():
        for number, conversation in conversations:
            tell()
            if message := rule(conversation):
                yield Finding(number, name, message)


def findings_of_tokens(
    trainer: Trainer, conversations: Sequence[Numbered], ruler: Ruler
) -> Iterator[Finding]:
    """What the trainer's rules say of the rows' tokens."""
    has_turns = any(conversation.turns for _, conversation in conversations)
    if trainer.needs_template and has_turns and ruler.tokenizer.chat_template is None:
        yield Finding(None, "no-template", "the tokenizer has no chat template")
        return
    measured = ruler.tokens([conversation for _, conversation in conversations])
    for done, ((number, _), (conversation, tokens)) in enumerate(
        zip(conversations, measured, strict=True)
    ):
        tell(done, len(conversations))
        if isinstance(tokens, str):
            yield Finding(number, "template-error", f"the chat template refuses it: {tokens}")
            continue
        for name, rule in trainer.token_rules.items():
            if message := rule(conversation, tokens, ruler):
                yield Finding(number, name, message)


def _ruler(tokenizer: Any, limit: Limit, context: int | None, max_length: int | None) -> Ruler:
    """The least of what was asked for, or else of what configuration and model allow."""
    if max_length is not None:
        return Ruler.of(tokenizer, max_length, "max_length")
    if context is not None and (limit.tokens is None or context < limit.tokens):
        return Ruler.of(tokenizer, context, "the model's context", is_context=True)
    return Ruler.of(tokenizer, limit.tokens, limit.said_by)
