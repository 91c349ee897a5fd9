"""Rows of activations: on disk as one Lance dataset, or in memory as one Arrow table.

A row holds an example's id, its tokens with their roles, and one vector a layer. Appends are
atomic, so a store that was being written when its process died holds whole batches.
"""

import contextlib
import datetime
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import lance
import numpy as np
import pandas as pd
import pyarrow as pa
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from ..errors import InputError
from .tokens import Role

METADATA_KEY = b"mnskills"
FORMAT = 1
FLOAT16_MAX = float(np.finfo(np.float16).max)


def layer_column(layer: int) -> str:
    """Name of the column that holds a layer."""
    return f"layer_{layer:03d}"


def schema(layers: Sequence[int], width: int, source: dict[str, Any]) -> pa.Schema:
    """Columns of collected rows; `source` (what made them) travels in the metadata."""
    fields = [
        pa.field("id", pa.string()),
        pa.field("position", pa.int64()),  # in the corpus; rows are written in the plan's order
        pa.field("category", pa.string()),
        pa.field("text", pa.string()),
        pa.field("token_ids", pa.list_(pa.int32())),
        pa.field("offsets", pa.list_(pa.int32())),
        pa.field("roles", pa.list_(pa.uint8())),
        pa.field("counted", pa.list_(pa.bool_())),
        pa.field("sinks", pa.list_(pa.list_(pa.int32(), 2))),  # further ones: layer, position
        pa.field("n_counted", pa.int32()),
        pa.field("logprob", pa.float32()),
    ]
    fields += [pa.field(layer_column(layer), pa.list_(pa.float32(), width)) for layer in layers]
    return pa.schema(fields, metadata={METADATA_KEY: json.dumps(source)})


class Activations:
    """Activations of a corpus, one row an example, one vector a layer, in corpus order.

    Made by `mnskills_viz.collect`, or opened from a folder with `Activations.open`.

    Attributes
    ----------
    ids : list of str
    layers : list of int
        Decoder blocks, 0-based.
    categories : list of str or None
    logprobs : ndarray of float32, [n]
        Mean log-probability per token of the reference response, nats; NaN where it was not
        asked for or there is no response.
    """

    def __init__(self, rows: "pa.Table | lance.LanceDataset", path: Path | None = None) -> None:
        self._rows = rows
        self._path = path
        metadata = rows.schema.metadata or {}
        if METADATA_KEY not in metadata:
            raise InputError(f"{path}: not a store of activations of this package")
        self._source: dict[str, Any] = json.loads(metadata[METADATA_KEY])
        heads = self._table(["id", "position", "category", "logprob", "n_counted"])
        self._order = np.argsort(heads["position"].to_numpy(), kind="stable")
        self.ids = cast(list[str], heads["id"].take(self._order).to_pylist())
        self.categories = cast(list[str | None], heads["category"].take(self._order).to_pylist())
        self.logprobs: NDArray[np.float32] = heads["logprob"].to_numpy()[self._order]
        self.n_counted: NDArray[np.int32] = heads["n_counted"].to_numpy()[self._order]
        self.layers: list[int] = list(self._source["layers"])

    @property
    def source_of_all(self) -> dict[str, Any]:
        """What made the store: model, layers, options, corpus, versions."""
        return self._source

    @classmethod
    def open(cls, path: str | Path) -> "Activations":
        """Open a store.

        Raises
        ------
        InputError
            No store there, or one that is damaged.
        """
        return cls(open_dataset(Path(path)), Path(path))

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        where = self._path or "memory"
        n_layers, width = len(self.layers), self._source["model"]["d_model"]
        return f"Activations({where}: {len(self):,} rows, {n_layers} layers of {width})"

    def _table(self, columns: list[str]) -> pa.Table:
        if isinstance(self._rows, pa.Table):
            return self._rows.select(columns)
        return self._rows.to_table(columns=columns)

    def matrix(self, layer: "int | Literal['concat']") -> NDArray[np.float32]:
        """Activations of a layer, or of all of them side by side.

        Parameters
        ----------
        layer : int or "concat"
            ``"concat"``: each layer divided by the RMS norm of its centred rows, or the last
            layers, whose norms are largest, would be all that a basis sees.

        Returns
        -------
        ndarray of float32, [n, d_model] or [n, n_layers * d_model]
        """
        if layer == "concat":
            parts = [self.matrix(one) for one in self.layers]
            return np.concatenate([part / _rms_norm(part) for part in parts], axis=1)
        if layer not in self.layers:
            raise InputError(f"layer {layer} was not collected; there are {_ranges(self.layers)}")
        column = self._table([layer_column(layer)])[layer_column(layer)].combine_chunks()
        flat = column.flatten().to_numpy(zero_copy_only=False)
        rows = flat.reshape(len(self), -1)[self._order]
        return cast(NDArray[np.float32], rows.astype(np.float32, copy=False))

    def tokens(self, index: int) -> pd.DataFrame:
        """Show the tokens of a row and which of them were counted.

        Returns
        -------
        DataFrame
            Columns ``position token_id text role counted sink_at``; ``sink_at`` lists the layers
            where a counted token was left out for its norm.
        """
        if not -len(self) <= index < len(self):
            raise InputError(f"row {index} is not there; there are {len(self)} rows")
        columns = ["text", "token_ids", "offsets", "roles", "counted", "sinks"]
        position = int(self._order[index])
        if isinstance(self._rows, pa.Table):
            row = self._rows.select(columns).slice(position, 1).to_pylist()[0]
        else:
            row = self._rows.take([position], columns=columns).to_pylist()[0]
        spans = np.array(row["offsets"]).reshape(-1, 2)
        sink_at: list[list[int]] = [[] for _ in row["token_ids"]]
        for layer, token in row["sinks"]:
            sink_at[token].append(layer)
        return pd.DataFrame(
            {
                "position": range(len(spans)),
                "token_id": row["token_ids"],
                "text": [row["text"][start:end] for start, end in spans],
                "role": [Role(role).name.lower() for role in row["roles"]],
                "counted": row["counted"],
                "sink_at": sink_at,
            }
        )

    def source(self, layer: "int | Literal['concat']") -> dict[str, Any]:
        """Say what made the rows of `layer`: model, layers, widths, scales, options, versions."""
        scales = (
            [float(_rms_norm(self.matrix(one))) for one in self.layers]
            if layer == "concat"
            else [1.0]
        )
        chosen = self.layers if layer == "concat" else [layer]
        width = self._source["model"]["d_model"]
        return self._source | {
            "layer": layer,
            "layers": chosen,
            "widths": [width] * len(chosen),
            "scales": scales,
        }


def _rms_norm(rows: NDArray[np.float32]) -> np.float32:
    """Root mean square norm of the centred rows."""
    centred = rows - rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    total = np.einsum("nd,nd->", centred, centred, dtype=np.float64)
    return np.float32(np.sqrt(total / len(rows)))


def _ranges(layers: Sequence[int]) -> str:
    layers = sorted(layers)
    if layers == list(range(layers[0], layers[-1] + 1)) and len(layers) > 2:
        return f"layers {layers[0]} to {layers[-1]}"
    return "layers " + ", ".join(map(str, layers))


# ------------------------------------------------------------------------------------- on disk


def is_there(path: Path) -> bool:
    """Whether a store was begun and has a first append; one killed before leaves no version."""
    if not path.is_dir():
        return path.exists()
    left_over = {p.name for p in path.iterdir()} <= {"data", "_transactions", "_versions"}
    return not left_over or any(path.glob("_versions/*"))


def open_dataset(path: Path) -> lance.LanceDataset:
    """Open a Lance dataset, or say in one line why not."""
    if not is_there(path):
        raise InputError(f"{path}: no activations there; collect them first")
    try:
        return lance.dataset(str(path))
    except (OSError, ValueError) as error:
        reason = str(error).split("\n")[0][:200]
        raise InputError(f"{path}: not a readable store of activations ({reason})") from error


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Hold a store for writing; a second process is refused at once.

    Raises
    ------
    InputError
        Another process is writing, or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=0):
            yield
    except Timeout as error:
        raise InputError(
            f"{path} is being written by another process; wait for it, or use another folder"
        ) from error
    except PermissionError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another folder") from error


def append(path: Path, table: pa.Table) -> None:
    """Append rows in one atomic step; a layer that overflows float16 becomes float32 in the store.

    Parameters
    ----------
    path : Path
        The store; made if it is not there.
    table : Table
        Rows with float32 layers.
    """
    stored = open_dataset(path).schema if is_there(path) else None
    columns, widened = [], []
    for field in table.schema:
        column = table[field.name]
        if field.name.startswith("layer_"):
            wide = stored is not None and stored.field(field.name).type.value_type == pa.float32()
            if not wide and _overflows(column):
                widened.append(field.name)
                wide = True
            if not wide:
                column = column.cast(pa.list_(pa.float16(), field.type.list_size))
        columns.append(column)
    if stored is not None and widened:
        lance.dataset(str(path)).alter_columns(
            *({"path": name, "data_type": table.schema.field(name).type} for name in widened)
        )
    rows = pa.table(dict(zip(table.column_names, columns, strict=True)))
    rows = rows.replace_schema_metadata(table.schema.metadata)
    try:
        lance.write_dataset(rows, str(path), mode="append" if stored is not None else "create")
    except OSError as error:
        reason = str(error).split("\n")[0][:200]
        raise InputError(
            f"cannot write {path}: {reason}; rows written before are intact"
        ) from error


def _overflows(column: pa.ChunkedArray) -> bool:
    values = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return bool(np.abs(values).max(initial=0.0) > FLOAT16_MAX)


def compact(path: Path) -> None:
    """Join the fragments of many appends into few, and drop what is no longer referred to."""
    dataset = lance.dataset(str(path))
    dataset.optimize.compact_files()
    lance.dataset(str(path)).cleanup_old_versions(older_than=datetime.timedelta(0))


def differences(stored: dict[str, Any], wanted: dict[str, Any], prefix: str = "") -> list[str]:
    """Spell out where two sources differ: ``model.dtype: bfloat16 there, float32 here``."""
    found = []
    for key in sorted(stored.keys() | wanted.keys()):
        there, here = stored.get(key), wanted.get(key)
        if isinstance(there, dict) and isinstance(here, dict):
            found += differences(there, here, f"{prefix}{key}.")
        elif there != here:
            found.append(f"{prefix}{key}: {there} there, {here} here")
    return found
