"""A Hugging Face dataset folder: one Parquet file that ``datasets.load_dataset`` reads."""

import io
from collections.abc import Iterable
from pathlib import Path

import pyarrow
import pyarrow.parquet

from ..corpus import Example
from ..files import write_bytes
from .trl import prompt_and_completion

DATA_FILE = "data/train-00000-of-00001.parquet"


def write(examples: Iterable[Example], folder: Path) -> None:
    """Write the Parquet file: id, prompt, completion, answer, category, source, a row an example.

    Prompt and completion are lists of messages, the types that TRL trains on as they are.
    """
    messages = pyarrow.list_(
        pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())])
    )
    schema = pyarrow.schema(
        [
            pyarrow.field("id", pyarrow.string(), nullable=False),
            pyarrow.field("prompt", messages, nullable=False),
            pyarrow.field("completion", messages, nullable=False),
            ("answer", pyarrow.string()),
            ("category", pyarrow.string()),
            ("source", pyarrow.string()),
        ]
    )
    rows = [
        {"id": e.id, "answer": e.answer, "category": e.category, "source": e.source}
        | prompt_and_completion(e)
        for e in examples
    ]
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema), buffer, compression="zstd")
    write_bytes(folder / DATA_FILE, buffer.getvalue())
