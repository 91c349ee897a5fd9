"""Moments of a corpus's activations in one pass, without keeping the activations."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from ..corpus import Corpus
from ..errors import InputError
from ..files import remove_left_over, write_bytes
from . import store as stores
from .moments import Moments, as_arrays, from_arrays
from .passes import Layers, Options, Pass, chosen_layers
from .rows import vectors
from .store import Columns, layer_column

if TYPE_CHECKING:
    import pyarrow as pa
    from nnsight.modeling.transformers import TransformersModel

SECONDS_A_CHECKPOINT = 15.0
WRITING_SHARE = 0.05  # of the time; the checkpoint of a wide model is gigabytes

# Moments a layer, and which rows of the corpus are in them.
State = tuple[dict[int, Moments], NDArray[np.bool_]]


def collect_moments(
    model: "TransformersModel",
    corpus: Corpus,
    *,
    layers: Layers = "all",
    store: str | Path | None = None,
    **options: Unpack[Options],
) -> dict[int, Moments]:
    """Sum up activations instead of keeping them: enough for exact PCA of each layer.

    Memory and disk hold ``d_model ** 2`` float64 numbers a layer, however many rows there are.

    Parameters
    ----------
    model, corpus, layers
        As `collect` takes them.
    store : path, optional
        A ``.safetensors`` file: written now and then, so that a second call goes on where the
        first was stopped; and at the end, where a further call reads it.
    **options
        ``pooling tokens exclude_sinks token_budget max_length truncate engine remote progress``,
        as `collect` takes them.

    Returns
    -------
    dict of int to Moments
        A layer each. Moments of parts of a corpus add up: ``a[12] + b[12]``.

    Raises
    ------
    InputError
        As `collect` does; or a `store` that something else made, or that is damaged.
    """
    columns = Columns(chosen_layers(model, layers), logprob=False)
    over = Pass(model, corpus, **options)
    nothing = {layer: Moments.none(over.identity.d_model) for layer in columns.layers}
    state: State = (nothing, np.zeros(len(corpus), dtype=bool))
    if store is None:
        return _summed(over, columns, state, None)
    path = Path(store)
    # Of float32 rows in the plan's batches: the budget is a part of what makes the sums.
    source = over.source | {"layers": list(columns.layers), "token_budget": over.token_budget}
    with stores.held(path):
        remove_left_over(path)
        state = _load(path, source) if path.exists() else state
        return _summed(over, columns, state, _Checkpoint(path, source))


def _summed(
    over: Pass, columns: Columns, state: State, checkpoint: "_Checkpoint | None"
) -> dict[int, Moments]:
    if state[1].all():
        return state[0]
    todo = [batch for batch in over.plan if not state[1][batch].any()]
    try:
        for table in over.tables(columns, todo):
            state = _with(table, state)  # in one step: an interrupt must not part the two
            if checkpoint is not None and checkpoint.is_due:
                checkpoint.write(state)
    finally:
        if checkpoint is not None:
            checkpoint.write(state)
    return state[0]


def _with(table: "pa.Table", state: State) -> State:
    total, done = state
    added = {
        layer: sum((Moments.of(vectors(part)) for part in table[layer_column(layer)].chunks), had)
        for layer, had in total.items()
    }
    present = done.copy()
    present[table["position"].to_numpy()] = True
    return added, present


class _Checkpoint:
    """The file that holds what was summed up so far."""

    def __init__(self, path: Path, source: dict[str, Any]) -> None:
        self._path = path
        self._source = source
        self._next = time.monotonic() + SECONDS_A_CHECKPOINT

    @property
    def is_due(self) -> bool:
        return time.monotonic() > self._next

    def write(self, state: State) -> None:
        from safetensors.numpy import save

        begun = time.monotonic()
        total, done = state
        arrays = as_arrays(total) | {"done": done.astype(np.uint8)}
        write_bytes(self._path, save(arrays, metadata={"mnskills": json.dumps(self._source)}))
        took = time.monotonic() - begun
        self._next = time.monotonic() + max(SECONDS_A_CHECKPOINT, took / WRITING_SHARE)


def _load(path: Path, source: dict[str, Any]) -> State:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            stored = json.loads(file.metadata()["mnskills"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        done = arrays.pop("done").astype(bool)
        total = from_arrays(arrays)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: not a readable file of moments ({error}); delete it to compute again"
        ) from error
    stores.require_same(path, stored, source)
    return total, done
