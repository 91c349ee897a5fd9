"""LLaMA-Factory: ShareGPT formatting, described by ``dataset_info.json``.

Rules as in LLaMA-Factory's data/README.md and in what its ShareGPT converter and supervised
processor do with a row: one that does not alternate is skipped with a warning among many lines.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..corpus import Example
from ..errors import InputError
from ..files import read_json, write_bytes
from .conversation import (
    Conversation,
    Finding,
    Turn,
    UnreadableRowError,
    content_parts,
    conversation_of,
    empty_turn,
    turns_of,
)
from .jsonl import json_lines, longest_line
from .tokens import double_bos, longer_than_limit, special_token
from .trainer import (
    BATCH,
    EPOCHS,
    LEARNING_RATE,
    LORA_ALPHA,
    LORA_RANK,
    OUTPUT,
    TRAIN,
    Job,
    Limit,
    Settings,
    Trainer,
    duplicate,
    read_yaml,
    room_for,
    whole_number,
)

CONFIG = "train.yaml"
DATASET_INFO = "dataset_info.json"
DATASET = "mnskills"
DEFAULT_CUTOFF_LEN = 2048

# All seven: where there are tags, those left out are no tags at all, not the defaults.
TAGS = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "observation_tag": "tool",
    "function_tag": "function_call",
    "system_tag": "system",
}

DEFAULT_TAGS = {
    "role_tag": "from",
    "content_tag": "value",
    "user_tag": "human",
    "assistant_tag": "gpt",
    "observation_tag": "observation",
    "function_tag": "function_call",
    "system_tag": "system",
}


def line(example: Example) -> dict[str, list[Turn]]:
    """The example as LLaMA-Factory trains on it; ``mask_history`` keeps the loss on the last."""
    return {"messages": [*example.messages, {"role": "assistant", "content": example.response}]}


def write(examples: Sequence[Example], folder: Path) -> tuple[Path, int]:
    """Write ``train.jsonl``, one example a line, in the order given."""
    lines = json_lines(map(line, examples))
    write_bytes(folder / TRAIN, lines)
    return folder / TRAIN, longest_line(lines)


# ------------------------------------------------------------------------------- configuration


def configs(job: Job) -> Mapping[str, str]:
    """``dataset_info.json`` and ``train.yaml``, for ``llamafactory-cli train``."""
    info = {
        DATASET: {
            "file_name": TRAIN,
            "formatting": "sharegpt",
            "columns": {"messages": "messages"},
            "tags": TAGS,
        }
    }
    text = f"""\
# Inside this folder: llamafactory-cli train {CONFIG} template=qwen3_nothink
# Options on the command line go before those here: model_name_or_path=Qwen/Qwen3-0.6B
model_name_or_path: {job.model}
# The template of the model's family: llama3, qwen3_nothink, gemma3, ...
template: TEMPLATE
dataset_dir: .
dataset: {DATASET}
output_dir: {OUTPUT}

stage: sft
do_train: true
finetuning_type: lora
lora_rank: {LORA_RANK}
lora_alpha: {LORA_ALPHA}
lora_target: all

# Rows in the order of the curriculum (shuffled by default), loss on the last answer only.
disable_shuffling: true
packing: false
train_on_prompt: false
mask_history: true
overwrite_cache: true
# Room for the longest row, which has {job.longest:,} bytes. Longer ones are cut without a word.
cutoff_len: {room_for(job.longest)}

learning_rate: {LEARNING_RATE}
lr_scheduler_type: linear
num_train_epochs: {EPOCHS}
per_device_train_batch_size: {BATCH}
gradient_accumulation_steps: 1
bf16: true
seed: 0
"""
    return {DATASET_INFO: json.dumps(info, indent=2) + "\n", CONFIG: text}


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset of ``dataset_info.json``, its names resolved as LLaMA-Factory resolves them."""

    file: Path
    column: str
    tags: Mapping[str, str | None]


def settings(folder: Path) -> Settings:
    """As ``train.yaml`` and ``dataset_info.json`` say."""
    given = read_yaml(folder / CONFIG)
    limit = Limit(
        whole_number(given, "cutoff_len", DEFAULT_CUTOFF_LEN),
        f"cutoff_len in {CONFIG}" if given else "LLaMA-Factory's default cutoff_len",
    )
    if not (folder / DATASET_INFO).is_file():
        finding = Finding(None, "config", f"no {DATASET_INFO}: LLaMA-Factory finds no data here")
        return Settings([folder / TRAIN], partial(read, tags=TAGS), limit, [finding])
    dataset, findings = _dataset(folder, given.get("dataset"))
    reader = partial(read, column=dataset.column, tags=dataset.tags)
    return Settings([dataset.file], reader, limit, findings)


def _dataset(folder: Path, wanted: Any) -> tuple[Dataset, list[Finding]]:
    """The dataset that is trained on, and what its description lacks."""
    where = folder / DATASET_INFO
    described = read_json(where)
    if not isinstance(described, dict) or not described:
        raise InputError(f"{where}: expected an object with a dataset in it")
    name = wanted if isinstance(wanted, str) else next(iter(described))
    entry = described.get(name)
    if not isinstance(entry, dict):
        raise InputError(f"{where}: no dataset {name!r}, which {CONFIG} names")
    findings = []
    if entry.get("formatting", "alpaca") != "sharegpt":
        found = entry.get("formatting", "alpaca")
        message = f"{name}: formatting {found!r}, expected 'sharegpt' for messages"
        findings.append(Finding(None, "config", message))
    tags: Mapping[str, str | None] = DEFAULT_TAGS
    if isinstance(entry.get("tags"), dict):
        tags = {tag: entry["tags"].get(tag) for tag in TAGS}
        missing = [tag for tag, value in tags.items() if value is None]
        if missing:
            message = f"{name}: no {', '.join(missing)} among its tags; write all seven"
            findings.append(Finding(None, "config", message))
    columns = entry.get("columns")
    column = columns.get("messages") if isinstance(columns, dict) else "conversations"
    if column is None:
        findings.append(Finding(None, "config", f"{name}: no 'messages' among its columns"))
    file = _inside(folder, entry.get("file_name", TRAIN))
    return Dataset(file, str(column or "messages"), tags), findings


def _inside(folder: Path, name: Any) -> Path:
    """A file that the description names: it must lie in the folder."""
    path = folder / str(name)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{folder / DATASET_INFO}: file_name {name!r} lies outside the folder")
    return path


# --------------------------------------------------------------------------------------- rules


def read(
    row: dict[str, Any], column: str = "messages", tags: Mapping[str, str | None] = TAGS
) -> Conversation:
    """The row's messages with roles user, assistant, system, and these two for tools."""
    if column not in row:
        raise UnreadableRowError(f"no column {column!r}, which {DATASET_INFO} names")
    turns = turns_of(
        row[column], column, tags["role_tag"] or "role", tags["content_tag"] or "content"
    )
    plain = {tags[tag]: role for tag, role in TAGS.items() if tag in _ROLE_TAGS}
    renamed = [{**turn, "role": plain.get(turn["role"], turn["role"])} for turn in turns]
    return conversation_of(renamed, row)


_ROLE_TAGS = ("user_tag", "assistant_tag", "observation_tag", "function_tag", "system_tag")
_ASKS = (TAGS["user_tag"], TAGS["observation_tag"])
_ANSWERS = (TAGS["assistant_tag"], TAGS["function_tag"])


def _after_system(conversation: Conversation) -> list[Turn]:
    turns = conversation.turns
    return turns[1:] if turns and turns[0]["role"] == TAGS["system_tag"] else turns


def alternation(conversation: Conversation) -> str | None:
    """After an optional system message, the user (or a tool) and the assistant take turns."""
    for number, turn in enumerate(_after_system(conversation)):
        expected = _ANSWERS if number % 2 else _ASKS
        if turn["role"] not in expected:
            return (
                f"turn {number} is of role {turn['role']!r}, expected {expected[0]!r}: the row is "
                "skipped"
            )
    return None


def even_count(conversation: Conversation) -> str | None:
    """Every question has its answer."""
    count = len(_after_system(conversation))
    if count % 2 == 0 and count:
        return None
    return f"{count} messages beside the system's, expected an even number: the row is skipped"


ROW_RULES = {
    "alternation": alternation,
    "even-count": even_count,
    "empty-turn": empty_turn,
    "content-parts": content_parts,
}

FILE_RULES = {"duplicate": duplicate}

# LLaMA-Factory has templates of its own, which refuse content in parts whatever the tokenizer's
# does; lengths by the tokenizer's are close, not the same.
TOKEN_RULES = {
    "too-long": longer_than_limit("LLaMA-Factory cuts prompt or answer"),
    "double-bos": double_bos,
    "special-token": special_token,
}

HOW_TO_TRAIN = f"""\
`{CONFIG}` says how and `{DATASET_INFO}` describes the rows; the template must be named. Inside this
folder (`pip install llamafactory`):

```sh
llamafactory-cli train {CONFIG} model_name_or_path=MODEL template=TEMPLATE
```

`disable_shuffling` keeps the order."""

LLAMA_FACTORY = Trainer(
    name="LLaMA-Factory",
    write=write,
    configs=configs,
    config_files=(DATASET_INFO, CONFIG),
    settings=settings,
    row_rules=ROW_RULES,
    file_rules=FILE_RULES,
    token_rules=TOKEN_RULES,
    how_to_train=HOW_TO_TRAIN,
    needs_template=False,
)
