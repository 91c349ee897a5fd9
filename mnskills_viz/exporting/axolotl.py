"""Axolotl: conversational ``messages``, rendered by the model's own chat template.

Rules as in axolotl's documentation of conversation datasets and its configuration reference, and
in what its ``chat_template`` strategy does with a row.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..corpus import Example
from ..files import write_bytes
from .conversation import (
    Conversation,
    Finding,
    Turn,
    UnreadableRowError,
    content_parts,
    conversation_of,
    empty_turn,
    last_turn,
    no_columns,
    roles_among,
    turns_of,
)
from .jsonl import json_lines, longest_line
from .tokens import (
    double_bos,
    dropped_text,
    empty_completion,
    longer_than_limit,
    no_end_mark,
    special_token,
    written_parts,
)
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

CONFIG = "axolotl.yaml"
DEFAULT_SEQUENCE_LEN = 512

# Axolotl's own synonyms; other names go to the template as they are, and are never trained on.
ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "tool": "tool",
}


def line(example: Example) -> dict[str, list[Turn]]:
    """The example as axolotl trains on it: the loss is on assistants' messages.

    Those of the prompt are context, not what is to be learned: ``train`` false.
    """
    before: list[Turn] = [
        {**message, "train": False} if message["role"] == "assistant" else {**message}
        for message in example.messages
    ]
    return {"messages": [*before, {"role": "assistant", "content": example.response}]}


def write(examples: Sequence[Example], folder: Path) -> tuple[Path, int]:
    """Write ``train.jsonl``, one example a line, in the order given."""
    lines = json_lines(map(line, examples))
    write_bytes(folder / TRAIN, lines)
    return folder / TRAIN, longest_line(lines)


# ------------------------------------------------------------------------------- configuration


def configs(job: Job) -> Mapping[str, str]:
    """``axolotl.yaml``, for ``axolotl train``."""
    text = f"""\
# Inside this folder: axolotl train {CONFIG}
# Options on the command line go before those here: --base-model Qwen/Qwen3-0.6B
base_model: {job.model}
datasets:
  - path: {TRAIN}
    ds_type: json
    type: chat_template
    field_messages: messages
    message_property_mappings:
      role: role
      content: content
    message_field_training: train
    roles_to_train: [assistant]
    train_on_eos: turn
chat_template: tokenizer_default
train_on_inputs: false
output_dir: {OUTPUT}
# Prepared rows are kept by configuration, not by content: this name is the content's.
dataset_prepared_path: {OUTPUT}-prepared-{job.data_sha256[:12]}

# Rows in the order of the curriculum: axolotl shuffles by default.
curriculum_sampling: true
shuffle_merged_datasets: false
sample_packing: false
val_set_size: 0
# Room for the longest row, which has {job.longest:,} bytes. Axolotl drops longer ones by default.
sequence_len: {room_for(job.longest)}
excess_length_strategy: raise

adapter: lora
lora_r: {LORA_RANK}
lora_alpha: {LORA_ALPHA}
lora_target_linear: true
optimizer: adamw_torch
learning_rate: {LEARNING_RATE}
lr_scheduler: linear
num_epochs: {EPOCHS}
micro_batch_size: {BATCH}
gradient_accumulation_steps: 1
bf16: auto
seed: 0
"""
    return {CONFIG: text}


def settings(folder: Path) -> Settings:
    """As ``axolotl.yaml`` says, axolotl's defaults where it says nothing."""
    given = read_yaml(folder / CONFIG)
    datasets = given.get("datasets")
    first = datasets[0] if isinstance(datasets, list) and datasets else {}
    first = first if isinstance(first, dict) else {}
    names = first.get("message_property_mappings")
    names = names if isinstance(names, dict) else {}
    reader = partial(
        read,
        column=str(first.get("field_messages") or "messages"),
        role=str(names.get("role") or "role"),
        content=str(names.get("content") or "content"),
    )
    findings = []
    kind = first.get("type", "chat_template")
    if given and kind != "chat_template":
        message = f"{CONFIG}: type {kind!r}, expected 'chat_template' for messages"
        findings.append(Finding(None, "config", message))
    tokens = whole_number(given, "sequence_len", DEFAULT_SEQUENCE_LEN) if given else None
    limit = Limit(tokens, f"sequence_len in {CONFIG}")
    return Settings([folder / TRAIN], reader, limit, findings)


# --------------------------------------------------------------------------------------- rules


def read(
    row: dict[str, Any], column: str = "messages", role: str = "role", content: str = "content"
) -> Conversation:
    """The row's messages, roles under axolotl's own names."""
    if column not in row:
        raise UnreadableRowError(f"no column {column!r}, which field_messages names")
    turns = turns_of(row[column], column, role, content)
    renamed = [{**turn, "role": ROLES.get(turn["role"], turn["role"])} for turn in turns]
    return conversation_of(renamed, row)


ROW_RULES = {
    "stray-column": no_columns(("system", "tools", "images"), "changes how axolotl reads the row"),
    "role": roles_among(tuple(ROLES)),
    "empty-turn": empty_turn,
    "content-parts": content_parts,
    "last-turn": last_turn,
}

FILE_RULES = {"duplicate": duplicate}

TOKEN_RULES = {
    "too-long": longer_than_limit("axolotl drops longer rows, or stops, by excess_length_strategy"),
    "double-bos": double_bos,
    "empty-completion": empty_completion,
    "special-token": special_token,
    "dropped-text": dropped_text,
    "content-parts": written_parts,
    "no-end-mark": no_end_mark,
}

HOW_TO_TRAIN = f"""\
`{CONFIG}` says how; name the model in it. Inside this folder, where axolotl is installed:

```sh
axolotl train {CONFIG}
```

`curriculum_sampling` keeps the order, and needs `sample_packing` off: packing mixes rows."""

AXOLOTL = Trainer(
    name="axolotl",
    write=write,
    configs=configs,
    config_files=(CONFIG,),
    settings=settings,
    row_rules=ROW_RULES,
    file_rules=FILE_RULES,
    token_rules=TOKEN_RULES,
    how_to_train=HOW_TO_TRAIN,
)
