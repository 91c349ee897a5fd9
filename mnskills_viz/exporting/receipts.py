"""``receipts.parquet``: for each line of an export, which example it is and why it was chosen."""

import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow
import pyarrow.parquet

from ..corpus import Example
from ..files import write_bytes
from ..selection import Selection
from .card import licence_of

# Not called "train": `datasets` gives the rows of the files that are, and of no other.
RECEIPTS = "receipts.parquet"


def write_receipts(selection: Selection, chosen: Sequence[Example], folder: Path) -> None:
    """Write the selection's receipts with source and licence, row i for line i of the data.

    The formats of most trainers have no place for an id: this file is the link.
    """
    table = selection.receipts.copy()
    table["source"] = pd.Series([e.source for e in chosen], table.index, "object")
    table["license"] = pd.Series([licence_of(e) for e in chosen], table.index, "object")
    # Without pandas' own metadata: equal rows give equal bytes under any version of it.
    columns = pyarrow.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(columns, buffer, compression="zstd")
    write_bytes(folder / RECEIPTS, buffer.getvalue())
