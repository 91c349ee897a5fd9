"""From a corpus to rows: the checks, the plan, the store, and the way on after a stop."""

import importlib.metadata
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..corpus import Corpus
from ..errors import InputError
from ..models import blocks, context_length, identity, longest_shared
from . import store as stores
from .tokens import COUNTED, Counted, Tokens, counted, tokenize
from .trace import plan_batches, pool

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel

ROWS_A_COMMIT = 256
SECONDS_A_COMMIT = 15.0

Pooling = Literal["mean", "last"]


def collect(
    model: "TransformersModel",
    corpus: Corpus,
    *,
    layers: Literal["all"] | Sequence[int] = "all",
    pooling: Pooling = "mean",
    tokens: Counted = "content",
    exclude_sinks: bool = True,
    store: str | Path | None = None,
    token_budget: int = 4096,
    max_length: int | None = None,
    truncate: bool = False,
    errors: bool = False,
    progress: bool = True,
) -> stores.Activations:
    """Collect one activation a layer for every example.

    The plan of batches is fixed from the whole corpus before the first forward pass. With a
    `store` each batch is appended atomically, and a second call goes on where the first ended.

    Parameters
    ----------
    model : TransformersModel
        From `load_model`.
    corpus : Corpus
    layers : "all" or list of int
        Decoder blocks, 0-based. The pass stops after the last one.
    pooling : {"mean", "last"}
        Mean over the counted tokens, or the last token (of the generation prompt if `tokens` is
        ``"prompt"``, else of the text).
    tokens : {"content", "prompt", "response", "all"}
        Which count: what the data says, one side of it, or the template's tokens as well.
    exclude_sinks : bool
        Leave attention sinks out: the first token and its immediate repeats, and at each layer
        tokens whose norm exceeds 4 times the median norm of their sequence there.
    store : path, optional
        Folder of a Lance dataset (float16; float32 for a layer that would overflow). Without it
        rows stay in memory in float32.
    token_budget : int
        Most tokens in a batch, padding included.
    max_length : int, optional
        Most tokens in a row; default the model's context length.
    truncate : bool
        Cut longer rows instead of refusing them.
    errors : bool
        Also record the mean log-probability of the reference response, in nats per token.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Activations

    Raises
    ------
    InputError
        Bad options, rows that are too long or have no counted token, non-finite activations, or
        a store made by another model, corpus or options.
    """
    chosen = _check(model, layers, pooling, tokens, token_budget)
    rows = tokenize(model.tokenizer, corpus, closing=tokens == "all")
    rows, n_truncated = _fit_length(rows, corpus, _limit(model, max_length), truncate)
    masks = [_mask(row, tokens, pooling, exclude_sinks) for row in rows]
    _require_counted(masks, corpus, tokens)
    source = {
        "format": stores.FORMAT,
        "model": identity(model).as_dict(),
        "layers": chosen,
        "options": {
            "pooling": pooling,
            "tokens": tokens,
            "exclude_sinks": exclude_sinks,
            "max_length": max_length,
            "truncate": truncate,
            "errors": errors,
        },
        "corpus": {"hash": corpus.hash, "rows": len(corpus)},
        "truncated_rows": n_truncated,
        "versions": _versions(),
    }
    collector = _Collector(
        model, corpus, rows, masks, chosen, exclude_sinks and pooling == "mean", errors, source
    )
    plan = plan_batches([len(row) for row in rows], token_budget, longest_shared(model))
    if store is None:
        tables = [collector.table(batch) for batch in _watched(plan, rows, 0, progress)]
        return stores.Activations(pa.concat_tables(tables))
    return _collect_to(Path(store), collector, plan, progress)


def _check(
    model: "TransformersModel",
    layers: Literal["all"] | Sequence[int],
    pooling: str,
    tokens: str,
    token_budget: int,
) -> list[int]:
    if pooling not in ("mean", "last"):
        raise InputError(f'pooling must be "mean" or "last", not {pooling!r}')
    if tokens not in COUNTED:
        raise InputError(f"tokens must be one of {', '.join(COUNTED)}, not {tokens!r}")
    if token_budget < 1:
        raise InputError(f"token_budget must be at least 1, not {token_budget}")
    depth = len(blocks(model))
    if isinstance(layers, str):
        if layers != "all":
            raise InputError(f'layers must be "all" or a list of integers, not {layers!r}')
        return list(range(depth))
    chosen = sorted({int(layer) for layer in layers})
    if not chosen or chosen[0] < 0 or chosen[-1] >= depth:
        raise InputError(f"layers {list(layers)}: the model has layers 0 to {depth - 1}")
    return chosen


def _limit(model: "TransformersModel", max_length: int | None) -> int | None:
    """Most tokens in a row: what was asked for, and never more than the model takes."""
    if max_length is not None and max_length < 1:
        raise InputError(f"max_length must be at least 1, not {max_length}")
    known = [limit for limit in (max_length, context_length(model)) if limit is not None]
    return min(known, default=None)


def _fit_length(
    rows: list[Tokens], corpus: Corpus, limit: int | None, truncate: bool
) -> tuple[list[Tokens], int]:
    too_long = [i for i, row in enumerate(rows) if limit is not None and len(row) > limit]
    if limit is None or not too_long:
        return rows, 0
    if not truncate:
        worst = max(too_long, key=lambda i: len(rows[i]))
        raise InputError(
            f"{len(too_long)} of {len(rows)} rows are longer than max_length {limit} (the longest, "
            f"{corpus[worst].id}, has {len(rows[worst]):,} tokens); pass truncate=True to cut them"
        )
    return [row.truncated(limit) for row in rows], len(too_long)


def _mask(row: Tokens, which: Counted, pooling: Pooling, exclude_sinks: bool) -> NDArray[np.bool_]:
    if pooling == "mean":
        return counted(row, which, exclude_sinks)
    mask = np.zeros(len(row), dtype=bool)
    if len(row):
        mask[(row.response_start if which == "prompt" else len(row)) - 1] = True
    return mask


def _require_counted(masks: list[NDArray[np.bool_]], corpus: Corpus, which: str) -> None:
    empty = [corpus[i].id for i, mask in enumerate(masks) if not mask.any()]
    if empty:
        shown = ", ".join(empty[:5]) + (", ..." if len(empty) > 5 else "")
        raise InputError(
            f"{len(empty)} of {len(masks)} examples have no token that counts with "
            f'tokens="{which}": {shown}'
        )


def _versions() -> dict[str, str]:
    packages = ("mnskills_viz", "torch", "nnsight", "transformers")
    return {name: importlib.metadata.version(name) for name in packages}


def _watched(
    plan: list[list[int]], rows: list[Tokens], done: int, progress: bool
) -> "list[list[int]] | Any":
    """Iterate over batches under a progress bar that counts tokens: they take the time."""
    bar = tqdm(
        total=done + sum(len(rows[i]) for batch in plan for i in batch),
        initial=done,
        desc="collect",
        unit="tok",
        unit_scale=True,
        disable=not progress,
    )
    with bar:
        for batch in plan:
            yield batch
            bar.update(sum(len(rows[i]) for i in batch))


def _collect_to(
    path: Path, collector: "_Collector", plan: list[list[int]], progress: bool
) -> stores.Activations:
    with stores.writing(path):
        present = _resume(path, collector.source)
        todo = [[i for i in batch if i not in present] for batch in plan]
        todo = [batch for batch in todo if batch]
        pending: list[pa.Table] = []
        done = sum(len(collector.rows[i]) for i in present)
        written = time.monotonic()
        try:
            for batch in _watched(todo, collector.rows, done, progress and bool(todo)):
                pending.append(collector.table(batch))
                late = time.monotonic() - written > SECONDS_A_COMMIT
                if late or sum(map(len, pending)) >= ROWS_A_COMMIT:
                    whole, pending = pa.concat_tables(pending), []
                    stores.append(path, whole)
                    written = time.monotonic()
        finally:  # an interrupt loses the batch under way, and no other
            if pending:
                stores.append(path, pa.concat_tables(pending))
        if todo:
            stores.compact(path)
    return stores.Activations.open(path)


def _resume(path: Path, source: dict[str, Any]) -> set[int]:
    """Positions that a store holds already; refuse one that something else made."""
    if not stores.is_there(path):
        return set()
    dataset = stores.open_dataset(path)
    stored = stores.Activations(dataset, path).source_of_all
    found = stores.differences(
        {k: v for k, v in stored.items() if k != "versions"},
        {k: v for k, v in source.items() if k != "versions"},
    )
    if found:
        raise InputError(
            f"{path} was made by something else ({'; '.join(found)}); "
            "use the same model, corpus and options, or another folder"
        )
    return set(dataset.to_table(columns=["position"])["position"].to_pylist())


# ------------------------------------------------------------------------------------ one batch


@dataclass(frozen=True, slots=True)
class _Collector:
    """Everything a batch needs, and the batch's way into a table."""

    model: "TransformersModel"
    corpus: Corpus
    rows: list[Tokens]
    masks: list[NDArray[np.bool_]]
    layers: list[int]
    exclude_norms: bool
    errors: bool
    source: dict[str, Any]

    def table(self, batch: list[int]) -> pa.Table:
        """Run the model on the rows `batch` and return them as they are stored, in float32."""
        rows = [self.rows[i] for i in batch]
        masks = [self.masks[i] for i in batch]
        pooled, sinks, logprobs = pool(
            self.model, rows, masks, self.layers, self.exclude_norms, self.errors
        )
        if not np.isfinite(pooled).all():
            where = int(np.flatnonzero(~np.isfinite(pooled).all(axis=(0, 2)))[0])
            raise InputError(
                f"example {self.corpus[batch[where]].id}: the model's activations are not finite "
                "(NaN or infinite weights, or a dtype too narrow); try dtype='float32'"
            )
        width = pooled.shape[2]
        schema = stores.schema(self.layers, width, self.source)
        columns: list[Any] = [
            [self.corpus[i].id for i in batch],
            batch,
            [self.corpus[i].category for i in batch],
            [row.text for row in rows],
            [row.ids for row in rows],
            [row.offsets.ravel() for row in rows],
            [row.roles for row in rows],
            [mask.tolist() for mask in masks],
            sinks,
            [int(mask.sum()) for mask in masks],
            logprobs,
        ]
        arrays = [
            pa.array(column, type=field.type)
            for column, field in zip(columns, schema, strict=False)
        ]
        arrays += [
            pa.FixedSizeListArray.from_arrays(pa.array(layer.ravel()), width) for layer in pooled
        ]
        return pa.Table.from_arrays(arrays, schema=schema)
