"""What a trainer is to us: what it reads, its configuration, its rules, how to run it."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..corpus import Example
from ..errors import InputError
from .conversation import Conversation, FileRule, Finding, Row, RowRule
from .tokens import TokenRule

TRAIN = "train.jsonl"
PLACEHOLDER = "MODEL"

LORA_RANK = 16
LORA_ALPHA = 2 * LORA_RANK
LEARNING_RATE = 0.0002
BATCH = 8
EPOCHS = 1
# Beside the export, so that the folder stays as it was written.
OUTPUT = "../trained"


@dataclass(frozen=True, slots=True)
class Job:
    """What a configuration needs to know of the data.

    Attributes
    ----------
    model : str
        A Hugging Face id, or `PLACEHOLDER`.
    longest : int
        Bytes of the longest row. A byte-level tokenizer makes no more tokens than bytes, and the
        JSON around the messages is longer than a chat template's marks: a limit in tokens that
        cuts no row.
    data_sha256 : str
        Of the data file.
    """

    model: str
    longest: int
    data_sha256: str


@dataclass(frozen=True, slots=True)
class Limit:
    """The most tokens of a row, and who says so. `tokens` None: no limit."""

    tokens: int | None
    said_by: str


@dataclass(frozen=True, slots=True)
class Settings:
    """How a trainer would read a folder, by the configuration in it.

    Attributes
    ----------
    data : list of Path
        The data files.
    read : callable
        A row as a conversation; raises UnreadableRowError.
    limit : Limit
    findings : list of Finding
        What is wrong with the configuration.
    """

    data: Sequence[Path]
    read: Callable[[dict[str, Any]], Conversation]
    limit: Limit
    findings: Sequence[Finding] = field(default=())


@dataclass(frozen=True, slots=True)
class Trainer:
    """A format of `export`.

    Attributes
    ----------
    name : str
        For people.
    write : callable
        Writes the data file into a folder, and returns its path and the bytes of its longest row.
    configs : callable
        Configuration files: name -> text.
    config_files : tuple of str
        Their names.
    settings : callable
        How the trainer would read a folder.
    row_rules, file_rules, token_rules : mapping of str to callable
        What the trainer refuses, skips or cuts: name -> check of a row, of all rows, and of a
        row's tokens.
    how_to_train : str
        Markdown for the card.
    needs_template : bool
        Whether rows of messages need the tokenizer's chat template.
    """

    name: str
    write: Callable[[Sequence[Example], Path], tuple[Path, int]]
    configs: Callable[[Job], Mapping[str, str]]
    config_files: tuple[str, ...]
    settings: Callable[[Path], Settings]
    row_rules: Mapping[str, RowRule]
    file_rules: Mapping[str, FileRule]
    token_rules: Mapping[str, TokenRule]
    how_to_train: str
    needs_template: bool = True


def room_for(longest: int) -> int:
    """A limit in tokens, a round number, that rows of `longest` bytes do not reach."""
    step = 1024
    # The template may add a system text of its own.
    return max(2 * step, -(-(longest + 256) // step) * step)


def read_yaml(path: Path) -> dict[str, Any]:
    """A configuration file as a dict; empty where there is none.

    Raises
    ------
    InputError
        It cannot be read, or is no YAML mapping.
    """
    import yaml

    if not path.is_file():
        return {}
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read as YAML ({_first_line(error)})") from error
    if value is not None and not isinstance(value, dict):
        raise InputError(f"{path}: expected a YAML mapping, found {type(value).__name__}")
    return value or {}


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0]


def whole_number(config: Mapping[str, Any], name: str, default: int | None) -> int | None:
    """A limit of a configuration; what is not a whole number above 0 is no limit."""
    value = config.get(name, default)
    is_count = isinstance(value, int) and not isinstance(value, bool) and value > 0
    return value if is_count else None


_TRAINED = ("prompt", "completion", "messages", "conversations", "text")


def duplicate(rows: Sequence[Row]) -> Iterator[Finding]:
    """Rows that repeat an earlier one: trained on twice."""
    first: dict[str, int] = {}
    for row in rows:
        if row.problem is None:
            trained = {name: row.value[name] for name in _TRAINED if name in row.value}
            key = json.dumps(trained or row.value, sort_keys=True, default=str)
            there = first.setdefault(key, row.number)
            if there != row.number:
                yield Finding(row.number, "duplicate", f"the same as row {there}")
