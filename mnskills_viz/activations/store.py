"""Rows on disk: one Lance dataset, appended in atomic steps.

A row holds an example's id, its tokens with their roles, and one vector a layer. What a process
that was killed had appended is whole; layers that are asked for later are computed beside the
dataset, and become columns of it in one step.
"""

import contextlib
import datetime
import glob
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("LANCE_LOG", "error")  # what goes wrong is raised, and said once

import lance
import numpy as np
import pyarrow as pa
from filelock import FileLock, Timeout
from lance.optimize import Compaction
from numpy.typing import NDArray

from ..errors import InputError

METADATA_KEY = b"mnskills"
MAGIC = b"LANC"  # ends every data file
FORMAT = 2
FLOAT16_MAX = float(np.finfo(np.float16).max)

BYTES_A_FRAGMENT = 2_000_000_000
FEWEST_ROWS_A_FRAGMENT = 1024
ROWS_AT_ONCE = 4096

REMEDY = "restore it from a copy, or delete it and collect again"

LAYER, SINKS = "layer_", "sinks_"


@dataclass(frozen=True, slots=True)
class Columns:
    """What the model's pass computes of every row.

    Attributes
    ----------
    layers : tuple of int
        Ascending.
    logprob : bool
        The mean log-probability of the reference response.
    """

    layers: tuple[int, ...]
    logprob: bool

    def __bool__(self) -> bool:
        return bool(self.layers) or self.logprob

    def __sub__(self, other: "Columns") -> "Columns":
        """What is in this and not in `other`."""
        layers = tuple(layer for layer in self.layers if layer not in other.layers)
        return Columns(layers, self.logprob and not other.logprob)

    @classmethod
    def of(cls, schema: pa.Schema) -> "Columns":
        """What a store has."""
        return cls(tuple(layers_of(schema)), "logprob" in schema.names)


def layer_column(layer: int) -> str:
    """Name of the column of a layer's vectors."""
    return f"{LAYER}{layer:03d}"


def sinks_column(layer: int) -> str:
    """Name of the column of the positions that a layer's mean leaves out for their norm."""
    return f"{SINKS}{layer:03d}"


def layers_of(schema: pa.Schema) -> list[int]:
    """Layers that a schema has columns for."""
    names = [name for name in schema.names if name.startswith(LAYER)]
    return sorted(int(name.removeprefix(LAYER)) for name in names)


BASE = pa.schema(
    [
        pa.field("position", pa.int64()),  # in the corpus; rows are written in the plan's order
        pa.field("id", pa.string()),
        pa.field("category", pa.string()),
        pa.field("text", pa.string()),
        pa.field("token_ids", pa.list_(pa.int32())),
        pa.field("offsets", pa.list_(pa.int32())),
        pa.field("roles", pa.list_(pa.uint8())),
        pa.field("counted", pa.list_(pa.bool_())),
        pa.field("n_tokens", pa.int32()),
        pa.field("n_counted", pa.int32()),
        pa.field("truncated", pa.bool_()),
    ]
)


def schema(columns: Columns, width: int) -> pa.Schema:
    """Columns of collected rows, layers in float32."""
    fields = list(BASE)
    if columns.logprob:
        fields.append(pa.field("logprob", pa.float32()))
    for layer in columns.layers:
        fields.append(pa.field(layer_column(layer), pa.list_(pa.float32(), width)))
        fields.append(pa.field(sinks_column(layer), pa.list_(pa.int32())))
    return pa.schema(fields)


def with_source(table: pa.Table, source: dict[str, Any]) -> pa.Table:
    """The table with what made it in its metadata."""
    return table.replace_schema_metadata({METADATA_KEY: json.dumps(source)})


# ------------------------------------------------------------------------------------- reading


def is_there(path: Path) -> bool:
    """Whether a store was begun and has a first append; one killed before leaves no version."""
    if not path.is_dir():
        return path.exists()
    left_over = {p.name for p in path.iterdir()} <= {"data", "_transactions", "_versions"}
    return not left_over or any(path.glob("_versions/*.manifest"))


def open_dataset(path: Path) -> lance.LanceDataset:
    """Open a store, or say in one line why not."""
    if not is_there(path):
        raise InputError(f"{path}: no activations there; collect them first")
    with reading(path):
        dataset = lance.dataset(str(path))
    metadata = dataset.schema.metadata or {}
    if METADATA_KEY not in metadata:
        raise InputError(f"{path}: not a store of activations of this package; {REMEDY}")
    found = json.loads(metadata[METADATA_KEY]).get("format")
    if found != FORMAT:
        raise InputError(
            f"{path}: a store of format {found}, this version reads {FORMAT}; "
            "delete it and collect again"
        )
    return dataset


def source_of(dataset: lance.LanceDataset) -> dict[str, Any]:
    """What made a store: model, options, corpus, versions."""
    found: dict[str, Any] = json.loads(dataset.schema.metadata[METADATA_KEY])
    return found


@contextlib.contextmanager
def reading(path: Path, dataset: lance.LanceDataset | None = None) -> Iterator[None]:
    """Say in one line what is wrong with a store that cannot be read."""
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError, pa.ArrowException) as error:
        damage = _damaged_file(path, dataset)
        reason = damage or str(error).split("\n")[0].split(", /")[0][:200]
        raise InputError(
            f"{path}: not a readable store of activations ({reason}); {REMEDY}"
        ) from error


def _damaged_file(path: Path, dataset: lance.LanceDataset | None) -> str | None:
    """The first data file that is missing or not as long as the store's manifest says."""
    if dataset is None:
        return None
    for fragment in dataset.get_fragments():
        for file in fragment.data_files():
            place = path / "data" / file.path
            if not place.exists():
                return f"data/{file.path} is missing; if another process wrote, open it again"
            with place.open("rb") as content:
                size = content.seek(0, os.SEEK_END)
                content.seek(max(0, size - len(MAGIC)))
                ends_well = content.read() == MAGIC
            if file.file_size_bytes and size != file.file_size_bytes:
                return f"data/{file.path} has {size:,} of its {file.file_size_bytes:,} bytes"
            if not ends_well:
                return f"data/{file.path} is not a Lance file"
    return None


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


def require_same(path: Path, stored: dict[str, Any], source: dict[str, Any]) -> None:
    """Refuse what something else made; other versions of packages are only told."""
    made_by = {k: v for k, v in stored.items() if k != "versions"}
    found = differences(made_by, {k: v for k, v in source.items() if k != "versions"})
    if found:
        raise InputError(
            f"{path} was made by something else ({'; '.join(found)}); "
            "use the same model, corpus and options, or another folder"
        )
    versions = differences(stored.get("versions", {}), source.get("versions", {}))
    if versions:
        warnings.warn(f"{path} was begun with other versions ({'; '.join(versions)})", stacklevel=2)


# ------------------------------------------------------------------------------------- writing


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a store for writing; a second process is refused at once.

    Raises
    ------
    InputError
        Another process is writing, or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
        lock.acquire()
    except Timeout as error:
        raise InputError(
            f"{path} is being written by another process; wait for it, or use another folder"
        ) from error
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another folder") from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Say in one line why a store cannot be written."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, pa.ArrowException) as error:
        reason = str(error)
        known = ("No space left", "File too large", "Permission denied", "Read-only file system")
        short = next((k for k in known if k in reason), reason.split("\n")[0][:200])
        raise InputError(
            f"cannot write {path}: {short}; what was written before is intact: make room or "
            "choose another folder, then run the same again"
        ) from error


def require_space(path: Path, n_bytes: int) -> None:
    """Refuse to begin what will not fit on the disk.

    Raises
    ------
    InputError
        Fewer than `n_bytes` are free where `path` lies.
    """
    free = shutil.disk_usage(path.parent).free
    if n_bytes > free:
        raise InputError(
            f"cannot write {path}: about {n_bytes / 1e9:,.2f} GB are needed and {free / 1e9:,.2f} "
            "GB are free there; collect fewer layers, or choose another folder"
        )


def append(path: Path, table: pa.Table) -> None:
    """Append rows in one atomic step; a layer that overflows float16 becomes float32 in the store.

    Parameters
    ----------
    path : Path
        The store; made if it is not there.
    table : Table
        Rows with float32 layers, and with their source.
    """
    stored = open_dataset(path) if is_there(path) else None
    columns: list[pa.ChunkedArray] = []
    widened: list[str] = []
    for field in table.schema:
        column = table[field.name]
        if field.name.startswith(LAYER):
            wide = stored and stored.schema.field(field.name).type.value_type == pa.float32()
            if not wide and _overflows(column):
                widened.append(field.name)
                wide = True
            if not wide:
                column = column.cast(pa.list_(pa.float16(), field.type.list_size))
        columns.append(column)
    rows = pa.table(dict(zip(table.column_names, columns, strict=True)))
    rows = rows.replace_schema_metadata(table.schema.metadata)
    if widened:
        names = ", ".join(name.removeprefix(LAYER).lstrip("0") or "0" for name in widened)
        warnings.warn(
            f"{path}: float16 does not hold the values of layer {names}; stored in float32",
            stacklevel=2,
        )
    with _writing(path):
        if stored is not None and widened:
            stored.alter_columns(
                *({"path": name, "data_type": table.schema.field(name).type} for name in widened)
            )
        lance.write_dataset(rows, str(path), mode="append" if stored is not None else "create")


def _overflows(column: pa.ChunkedArray) -> bool:
    values = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return bool(np.abs(values).max(initial=0.0) > FLOAT16_MAX)


def positions(path: Path) -> NDArray[np.int64]:
    """Positions in the corpus of the rows of a store, in their stored order."""
    dataset = open_dataset(path)
    with reading(path, dataset):
        found: NDArray[np.int64] = dataset.to_table(columns=["position"])["position"].to_numpy()
    return found


def merge(path: Path, other: Path) -> None:
    """Make the columns of the store `other` columns of the one at `path`, in one atomic step.

    Both hold the same rows, in any order.
    """
    dataset, added = open_dataset(path), open_dataset(other)
    names = [name for name in added.schema.names if name not in dataset.schema.names]
    if names:
        rows = np.argsort(positions(other))[positions(path)]

        def parts() -> Iterator[pa.RecordBatch]:
            for start in range(0, len(rows), ROWS_AT_ONCE):
                with reading(other, added):
                    found = added.take(rows[start : start + ROWS_AT_ONCE].tolist(), names)
                yield from found.combine_chunks().to_batches()

        types = pa.schema([added.schema.field(name) for name in names])
        # A reader, not a function of batches: Lance waits for that in a thread which `take` needs,
        # and with a single processor has no other.
        with _writing(path):
            dataset.add_columns(pa.RecordBatchReader.from_batches(types, parts()))
    remove(other)


def beside(path: Path) -> Path:
    """Where layers that are added to a store are computed."""
    return path.with_name(f".{path.name}.added")


def remove(path: Path) -> None:
    """Remove a store; one whose removal was killed is no store any more, and goes with the next."""
    doomed = path.with_name(f"{path.name}.removed")
    shutil.rmtree(doomed, ignore_errors=True)
    if path.exists():
        path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def has_left_over(path: Path) -> bool:
    """Whether a process was killed while it added layers to a store, or just after."""
    return any(path.parent.glob(f"{glob.escape(beside(path).name)}*"))


def compact(path: Path) -> None:
    """Join the fragments of many appends into few, and drop what is no longer referred to.

    One fragment at a time, so that the disk holds only one twice.
    """
    n_bytes = sum(file.stat().st_size for file in (path / "data").iterdir())
    with _writing(path):
        dataset = lance.dataset(str(path))
        rows = max(
            FEWEST_ROWS_A_FRAGMENT, BYTES_A_FRAGMENT * dataset.count_rows() // max(1, n_bytes)
        )
        while (plan := Compaction.plan(dataset, {"target_rows_per_fragment": rows})).num_tasks():
            Compaction.commit(dataset, [plan.tasks[0].execute(dataset)])
            _drop_old(path)
            dataset = lance.dataset(str(path))
        _drop_old(path)


def _drop_old(path: Path) -> None:
    # Unverified files are those of an append that was killed: the lock says that none is under way.
    lance.dataset(str(path)).cleanup_old_versions(
        older_than=datetime.timedelta(0), delete_unverified=True
    )
