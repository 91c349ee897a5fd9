"""The rows of an exported folder, as TRL's trainer takes them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..corpus import Message
from ..errors import InputError
from ..files import read_json, sha256

Order = Literal["sequential", "shuffled"]

DATA_FILE, PARQUET = "train.jsonl", "data/*.parquet"
RECIPE, MANIFEST = "recipe.json", "manifest.json"
CURRICULUM = "weakness"
"""The strategy whose order is one to train in; others pick greedily, by rank, or at random."""

_EXPECTED = 'export it with mn.export(..., format="trl") or "hf"'


@dataclass(frozen=True, slots=True)
class Rows:
    """What a folder gives to train on.

    Attributes
    ----------
    prompts : list of list of dict
        Chat messages.
    completions : list of str
    sha256 : str
        Of the file that they come from.
    manifest : str or None
        SHA-256 of the export's manifest.
    strategy : str or None
        How the rows were selected, where a recipe says.
    """

    prompts: list[list[Message]]
    completions: list[str]
    sha256: str
    manifest: str | None
    strategy: str | None

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def order(self) -> Order:
        """Sequential where the selection is a curriculum."""
        return "sequential" if self.strategy == CURRICULUM else "shuffled"

    def for_trainer(self, chat: bool) -> list[dict[str, Any]]:
        """Rows for TRL: conversations, or plain text for a model without a chat template.

        The text is what `activations.tokens.tokenize` reads: prompt, line break, response.
        """
        both = zip(self.prompts, self.completions, strict=True)
        if chat:
            return [
                {"prompt": prompt, "completion": [{"role": "assistant", "content": response}]}
                for prompt, response in both
            ]
        return [
            {
                "prompt": "\n\n".join(message["content"] for message in prompt) + "\n",
                "completion": response,
            }
            for prompt, response in both
        ]


def read_rows(folder: Path) -> Rows:
    """Read ``train.jsonl`` or ``data/*.parquet``.

    Raises
    ------
    InputError
        No such folder or file, rows of another format, or a row that cannot be trained on.
    """
    path = _data_file(folder)
    prompts, completions = [], []
    for place, row in _raw_rows(path):
        prompt, completion = _checked(row, place)
        prompts.append(prompt)
        completions.append(completion)
    if not prompts:
        raise InputError(f"{path} is empty: there is nothing to train on")
    manifest = folder / MANIFEST
    return Rows(
        prompts,
        completions,
        sha256(path),
        sha256(manifest) if manifest.is_file() else None,
        _strategy(folder / RECIPE),
    )


def _strategy(recipe: Path) -> str | None:
    if not recipe.is_file():
        return None
    found = read_json(recipe)
    if not isinstance(found, dict):
        raise InputError(f"{recipe} is damaged: no JSON object; {_EXPECTED}")
    return found.get("strategy")


def _data_file(folder: Path) -> Path:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected one that mn.export wrote")
    tables = sorted(folder.glob(PARQUET))
    if (folder / DATA_FILE).is_file():
        return folder / DATA_FILE
    if len(tables) != 1:
        raise InputError(f"{folder}: {len(tables)} of {PARQUET} and no {DATA_FILE}; {_EXPECTED}")
    return tables[0]


def _raw_rows(path: Path) -> Iterator[tuple[str, Any]]:
    if path.name != DATA_FILE:
        import pyarrow
        import pyarrow.parquet

        try:
            table = pyarrow.parquet.read_table(path)
        except (OSError, pyarrow.ArrowException) as error:
            raise InputError(f"{path} cannot be read as Parquet ({error})") from error
        yield from ((f"{path}, row {i}", row) for i, row in enumerate(table.to_pylist(), 1))
        return
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error})") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            place = f"{path}, line {number}"
            try:
                yield place, json.loads(line)
            except ValueError as error:
                raise InputError(f"{place}: not JSON ({error})") from error


def _checked(row: Any, place: str) -> tuple[list[Message], str]:
    keys = sorted(row) if isinstance(row, dict) else type(row).__name__
    if not isinstance(row, dict) or not {"prompt", "completion"} <= row.keys():
        raise InputError(f"{place}: no prompt and completion (found {keys}); {_EXPECTED}")
    prompt, completion = row["prompt"], row["completion"]
    if not (_is_chat(prompt) and _is_chat(completion) and len(completion) == 1):
        raise InputError(
            f"{place}: prompt and completion must be lists of messages, each with a role and text; "
            f"{_EXPECTED}"
        )
    if completion[0]["role"] != "assistant" or not completion[0]["content"].strip():
        raise InputError(f"{place}: the completion is not a response of the assistant with text")
    if not all(_is_unicode(message) for message in (*prompt, *completion)):
        raise InputError(
            f"{place}: text holds half a surrogate pair, which is no Unicode; correct it"
        )
    # Nothing else of a message: further keys can change what a template writes.
    messages = [{"role": m["role"], "content": m["content"]} for m in prompt]
    return messages, completion[0]["content"]


def _is_chat(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(m, dict)
            and isinstance(m.get("role"), str)
            and isinstance(m.get("content"), str)
            for m in value
        )
    )


def _is_unicode(message: Message) -> bool:
    try:
        f"{message['role']}{message['content']}".encode()
    except UnicodeEncodeError:
        return False
    return True
