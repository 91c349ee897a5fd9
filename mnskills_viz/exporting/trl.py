"""TRL's ``SFTTrainer``: conversational prompt and completion, one JSON object a line."""

import json
from collections.abc import Iterable
from pathlib import Path

from ..corpus import Example, Message
from ..files import write_text

DATA_FILE = "train.jsonl"

# JSON allows these raw, but some readers take them for the end of a line.
_LINE_ENDS = {ord(mark): f"\\u{ord(mark):04x}" for mark in "\x85\u2028\u2029"}


def prompt_and_completion(example: Example) -> dict[str, list[Message]]:
    """The example as TRL trains on it: the loss is on the completion, the template is applied.

    Nothing else belongs in a row: further columns can change how TRL reads it.
    """
    return {
        "prompt": example.messages,
        "completion": [{"role": "assistant", "content": example.response}],
    }


def write(examples: Iterable[Example], folder: Path) -> None:
    """Write ``train.jsonl``, one example a line, in the order given."""
    lines = (json.dumps(prompt_and_completion(e), ensure_ascii=False) for e in examples)
    write_text(folder / DATA_FILE, "".join(f"{line.translate(_LINE_ENDS)}\n" for line in lines))
