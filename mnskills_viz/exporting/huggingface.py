"""A Hugging Face dataset folder: one Parquet file that ``datasets.load_dataset`` reads.

The columns that train are TRL's, and so are the rules.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet

from ..corpus import Example
from ..errors import InputError
from ..files import write_bytes
from . import trl
from .trainer import Job, Limit, Settings, Trainer

DATA_FILE = "data/train-00000-of-00001.parquet"
DATA_FILES = "data/train-*.parquet"


def write(examples: Sequence[Example], folder: Path) -> tuple[Path, int]:
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
        | trl.prompt_and_completion(e)
        for e in examples
    ]
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema), buffer, compression="zstd")
    write_bytes(folder / DATA_FILE, buffer.getvalue())
    return folder / DATA_FILE, 0  # its configuration sets no limit


def configs(job: Job) -> Mapping[str, str]:
    """``sft.yaml``, for ``trl sft``."""
    columns = "\n    columns: [prompt, completion]"
    return {trl.CONFIG: trl.config(job, "parquet", DATA_FILE, columns)}


def settings(folder: Path) -> Settings:
    """All Parquet files of the split; TRL's limit where the folder has its configuration."""
    files = sorted(folder.glob(DATA_FILES))
    if not files:
        raise InputError(f"{folder}: no {DATA_FILES}")
    there = (folder / trl.CONFIG).is_file()
    return Settings(files, trl.read, trl.limit(folder) if there else Limit(None, "nothing"))


HUGGING_FACE = Trainer(
    name="Hugging Face",
    write=write,
    configs=configs,
    config_files=(trl.CONFIG,),
    settings=settings,
    row_rules=trl.ROW_RULES,
    file_rules=trl.FILE_RULES,
    token_rules=trl.TOKEN_RULES,
    how_to_train=trl.HOW_TO_TRAIN,
)
