"""TRL's ``SFTTrainer``: conversational prompt and completion, one JSON object a line.

Rules as in TRL 1.16's ``SFTTrainer._prepare_dataset``; the tests run it on the same rows.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..corpus import Example, Message
from ..files import write_bytes
from .conversation import (
    Conversation,
    Finding,
    Row,
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
    Ruler,
    Tokens,
    double_bos,
    dropped_text,
    empty_completion,
    no_end_mark,
    prompt_prefix,
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
    whole_number,
)

CONFIG = "sft.yaml"
DEFAULT_MAX_LENGTH = 1024

ROLES = ("system", "developer", "user", "assistant", "tool")


def prompt_and_completion(example: Example) -> dict[str, list[Message]]:
    """The example as TRL trains on it: the loss is on the completion, the template is applied.

    Nothing else belongs in a row: further columns can change how TRL reads it.
    """
    return {
        "prompt": example.messages,
        "completion": [{"role": "assistant", "content": example.response}],
    }


def write(examples: Sequence[Example], folder: Path) -> tuple[Path, int]:
    """Write ``train.jsonl``, one example a line, in the order given."""
    lines = json_lines(map(prompt_and_completion, examples))
    write_bytes(folder / TRAIN, lines)
    return folder / TRAIN, longest_line(lines)


# ------------------------------------------------------------------------------- configuration


def config(job: Job, path: str, data_files: str, columns: str = "") -> str:
    """``sft.yaml``; `path` and `data_files` as ``datasets.load_dataset`` takes them."""
    return f"""\
# Inside this folder: trl sft --config {CONFIG}
# Options on the command line go before those here: --model_name_or_path Qwen/Qwen3-0.6B
model_name_or_path: {job.model}
datasets:
  - path: {path}
    data_files: {data_files}
    split: train{columns}
output_dir: {OUTPUT}

# Rows whole and in the order of the curriculum, loss on the completion. By default TRL cuts rows
# after {DEFAULT_MAX_LENGTH:,} tokens and shuffles them.
max_length: null
packing: false
completion_only_loss: true
train_sampling_strategy: sequential

use_peft: true
lora_r: {LORA_RANK}
lora_alpha: {LORA_ALPHA}
lora_target_modules: all-linear
learning_rate: {LEARNING_RATE}
num_train_epochs: {EPOCHS}
per_device_train_batch_size: {BATCH}
gradient_accumulation_steps: 1
seed: 0
"""


def configs(job: Job) -> Mapping[str, str]:
    """``sft.yaml``, for ``trl sft``."""
    return {CONFIG: config(job, "json", TRAIN)}


def settings(folder: Path) -> Settings:
    """As ``sft.yaml`` says, TRL's defaults where it says nothing."""
    return Settings([folder / TRAIN], read, limit(folder))


def limit(folder: Path) -> Limit:
    """TRL cuts by default, so a configuration that says nothing says 1,024."""
    given = read_yaml(folder / CONFIG)
    tokens = whole_number(given, "max_length", DEFAULT_MAX_LENGTH)
    return Limit(tokens, f"max_length in {CONFIG}" if given else "TRL's default max_length")


# --------------------------------------------------------------------------------------- rules


def read(row: dict[str, Any]) -> Conversation:
    """The row as TRL sees it: a ``prompt`` decides, then ``messages``, then ``text``."""
    if "prompt" in row:
        if row.get("completion") is None:
            raise UnreadableRowError("there is a 'prompt' and no 'completion'")
        parts = [
            row[name] if isinstance(row[name], str) else turns_of(row[name], name)
            for name in ("prompt", "completion")
        ]
        if isinstance(parts[0], str) != isinstance(parts[1], str):
            raise UnreadableRowError("prompt and completion must both be text or both messages")
        return Conversation(parts[0], parts[1], row)
    if "messages" in row:
        return conversation_of(turns_of(row["messages"], "messages"), row)
    if "conversations" in row:
        turns = turns_of(row["conversations"], "conversations", "from", "value")
        return conversation_of(turns, row)
    if not isinstance(row.get("text"), str):
        raise UnreadableRowError(
            f"no 'prompt' and 'completion', 'messages' or 'text' among {', '.join(row) or 'none'}"
        )
    return Conversation("", row["text"], row)


def stray_column(conversation: Conversation) -> str | None:
    """One row, one type: a further column that TRL knows changes how it reads the row."""
    row = conversation.row
    if "prompt" in row and row.get("messages") is not None:
        return "columns 'prompt' and 'messages' together: TRL trains on the prompt's; keep one"
    return _OTHER_COLUMNS(conversation)


_OTHER_COLUMNS = no_columns(
    (
        *("input_ids", "labels", "completion_mask", "assistant_masks", "seq_lengths"),
        *("chosen", "rejected", "image", "images", "tools", "chat_template_kwargs"),
    ),
    "changes how TRL reads the row",
)


def one_type(rows: Sequence[Row]) -> Iterator[Finding]:
    """All rows have the same columns, with the same kind of value in each."""
    kinds = {row.number: _kinds(row.value) for row in rows if row.problem is None}
    usual = Counter(kinds.values()).most_common(1)
    for number, here in kinds.items():
        if here != usual[0][0]:
            yield Finding(number, "one-type", f"holds {here}, where most rows hold {usual[0][0]}")


_TYPED = ("prompt", "completion", "messages", "conversations", "text")


def _kinds(row: Mapping[str, Any]) -> str:
    named = (f"{name!r} ({type(row[name]).__name__})" for name in _TYPED if name in row)
    return ", ".join(named) or "none of TRL's columns"


def too_long(conversation: Conversation, tokens: Tokens, ruler: Ruler) -> str | None:
    """Tokens beyond max_length are cut; a row without a token of its completion is dropped."""
    dropped = conversation.is_parted and tokens.shared >= (ruler.limit or 0)
    effect = "the row is dropped, for its prompt alone fills it" if dropped else "the end is cut"
    return ruler.excess(tokens, effect)


ROW_RULES = {
    "stray-column": stray_column,
    "role": roles_among(ROLES),
    "empty-turn": empty_turn,
    "content-parts": content_parts,
    "last-turn": last_turn,
}

FILE_RULES = {"one-type": one_type, "duplicate": duplicate}

TOKEN_RULES = {
    "too-long": too_long,
    "double-bos": double_bos,
    "prompt-prefix": prompt_prefix,
    "empty-completion": empty_completion,
    "special-token": special_token,
    "dropped-text": dropped_text,
    "content-parts": written_parts,
    "no-end-mark": no_end_mark,
}

HOW_TO_TRAIN = f"""\
`{CONFIG}` says how; inside this folder (`pip install trl peft`):

```sh
trl sft --config {CONFIG} --model_name_or_path MODEL
```

Or in Python. Without `max_length=None` TRL cuts rows after 1,024 tokens, and without
`train_sampling_strategy` (transformers 5) it shuffles them.

```python
from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

rows = load_dataset("FOLDER", split="train").select_columns(["prompt", "completion"])
trainer = SFTTrainer(
    model="MODEL",
    train_dataset=rows,
    args=SFTConfig(
        output_dir="OUT",
        num_train_epochs=1,
        max_length=None,
        train_sampling_strategy="sequential",
    ),
)
trainer.train()
```"""

TRL = Trainer(
    name="TRL",
    write=write,
    configs=configs,
    config_files=(CONFIG,),
    settings=settings,
    row_rules=ROW_RULES,
    file_rules=FILE_RULES,
    token_rules=TOKEN_RULES,
    how_to_train=HOW_TO_TRAIN,
)
