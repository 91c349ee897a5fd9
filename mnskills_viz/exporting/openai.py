"""OpenAI's fine-tuning service: nothing but ``messages`` in a line.

Rules as in OpenAI's API reference (``FineTuneChatRequestInput``), its guide to supervised
fine-tuning, and the format checks of its cookbook (Data preparation for chat model fine-tuning).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..corpus import Example
from ..files import write_bytes
from .conversation import (
    Conversation,
    Finding,
    Row,
    Turn,
    conversation_of,
    empty_turn,
    last_turn,
    roles_among,
    turns_of,
)
from .jsonl import BLANK, json_lines, longest_line
from .tokens import longer_than_limit
from .trainer import EPOCHS, TRAIN, Job, Limit, Settings, Trainer, duplicate

CONFIG = "job.json"
BASE_MODEL = "gpt-4.1-nano-2025-04-14"

COLUMNS = ("messages", "tools", "parallel_tool_calls", "functions")
ROLES = ("system", "user", "assistant", "tool", "function")
KEYS = (
    *("role", "content", "name", "weight"),
    *("tool_calls", "tool_call_id", "function_call", "refusal"),
)
LEAST_ROWS = 10
LARGEST_FILE = 512 * 2**20


def line(example: Example) -> dict[str, list[Turn]]:
    """The example as OpenAI trains on it: the loss is on assistants' messages.

    Those of the prompt are context, not what is to be learned: weight 0.
    """
    before: list[Turn] = [
        {**message, "weight": 0} if message["role"] == "assistant" else {**message}
        for message in example.messages
    ]
    return {"messages": [*before, {"role": "assistant", "content": example.response}]}


def write(examples: Sequence[Example], folder: Path) -> tuple[Path, int]:
    """Write ``train.jsonl``, one example a line, in the order given."""
    lines = json_lines(map(line, examples))
    write_bytes(folder / TRAIN, lines)
    return folder / TRAIN, longest_line(lines)


def configs(job: Job) -> Mapping[str, str]:
    """``job.json``: the fine-tuning job but for the uploaded file's id."""
    settings = {
        "model": BASE_MODEL,
        "method": {
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": EPOCHS}},
        },
        "seed": 0,
    }
    return {CONFIG: json.dumps(settings, indent=2) + "\n"}


def settings(folder: Path) -> Settings:
    """The service takes ``train.jsonl``; how long rows may be depends on its model."""
    return Settings([folder / TRAIN], read, Limit(None, "nothing"))


# --------------------------------------------------------------------------------------- rules


def read(row: dict[str, Any]) -> Conversation:
    """The row's messages, the last the completion."""
    return conversation_of(turns_of(row.get("messages"), "messages"), row)


def unknown_column(conversation: Conversation) -> str | None:
    """A line holds ``messages``, and tools where they are used; nothing else."""
    unknown = [name for name in conversation.row if name not in COLUMNS]
    return f"column {unknown[0]!r} is not known to OpenAI; remove it" if unknown else None


def unknown_key(conversation: Conversation) -> str | None:
    """A message holds what a chat message does."""
    for number, turn in enumerate(conversation.turns):
        unknown = [key for key in turn if key not in KEYS]
        if unknown:
            return f"message {number} has the unknown key {unknown[0]!r}; remove it"
    return None


def weight(conversation: Conversation) -> str | None:
    """Weights are 0 or 1, on assistants' messages, and not all 0."""
    turns = conversation.turns
    for number, turn in enumerate(turns):
        if "weight" in turn and (turn["role"] != "assistant" or turn["weight"] not in (0, 1)):
            return f"message {number} has weight {turn['weight']!r}, expected 0 or 1, on assistants"
    weights = [turn.get("weight", 1) for turn in turns if turn["role"] == "assistant"]
    return "every assistant message has weight 0: nothing to learn" if not any(weights) else None


def tool_answer(conversation: Conversation) -> str | None:
    """A tool's message names the call that it answers."""
    for number, turn in enumerate(conversation.turns):
        if turn["role"] == "tool" and not isinstance(turn.get("tool_call_id"), str):
            return f"message {number} of role 'tool' has no 'tool_call_id'"
    return None


def blank_line(rows: Sequence[Row]) -> Iterator[Finding]:
    """Every line is an object."""
    for row in rows:
        if row.problem == BLANK:
            yield Finding(row.number, "blank-line", BLANK)


def too_few(rows: Sequence[Row]) -> Iterator[Finding]:
    """Ten examples at the least."""
    if len(rows) < LEAST_ROWS:
        yield Finding(None, "too-few", f"{len(rows)} rows, OpenAI takes {LEAST_ROWS} or more")


ROW_RULES = {
    "unknown-column": unknown_column,
    "unknown-key": unknown_key,
    "role": roles_among(ROLES),
    "empty-turn": empty_turn,
    "last-turn": last_turn,
    "weight": weight,
    "tool-answer": tool_answer,
}

FILE_RULES = {"too-few": too_few, "blank-line": blank_line, "duplicate": duplicate}

# The service applies a template of its own: lengths by another tokenizer are an estimate.
TOKEN_RULES = {"too-long": longer_than_limit("OpenAI cuts the end of a row beyond its limit")}

HOW_TO_TRAIN = f"""\
`{CONFIG}` is the fine-tuning job but for the file's id; name in it the model to start from. OpenAI
does not say in which order it reads the rows. Inside this folder (`pip install openai`):

```python
import json
from pathlib import Path

from openai import OpenAI

client = OpenAI()
uploaded = client.files.create(file=Path("{TRAIN}"), purpose="fine-tune")
job = json.loads(Path("{CONFIG}").read_text(encoding="utf-8"))
client.fine_tuning.jobs.create(training_file=uploaded.id, **job)
```"""

OPENAI = Trainer(
    name="OpenAI",
    write=write,
    configs=configs,
    config_files=(CONFIG,),
    settings=settings,
    row_rules=ROW_RULES,
    file_rules=FILE_RULES,
    token_rules=TOKEN_RULES,
    how_to_train=HOW_TO_TRAIN,
    needs_template=False,
)
