"""A model, and what is read from it: examples in, rows out. Knows of no store and no engine."""

import ctypes
import functools
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa

from ..corpus import Corpus, Example
from ..errors import InputError
from .reading import Prepared, Reading, prepare
from .store import Columns, schema
from .trace import Pooled, is_out_of_memory, pool

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel

Batches = Sequence[Sequence[int]]
A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class Job:
    """What a pass over a corpus computes; the same in every process that takes part.

    Attributes
    ----------
    reading : Reading
    columns : Columns
    """

    reading: Reading
    columns: Columns


class Engine(Protocol):
    """Where batches are read: in this process, or in others."""

    def read(
        self, model: "TransformersModel", job: Job, corpus: Corpus, batches: Batches
    ) -> Iterator[pa.Table]:
        """Read batches of positions in the corpus, in any order; one table of rows each."""
        ...


class Collector:
    """Reads examples with one model.

    Parameters
    ----------
    model : TransformersModel
    job : Job
    remote : bool
        Passed on to nnsight.
    """

    def __init__(self, model: "TransformersModel", job: Job, *, remote: bool = False) -> None:
        self.model = model
        self.job = job
        self._remote = remote
        self._most_tokens = float("inf")  # that a batch may have: less, once memory ran out

    def prepare(self, examples: Sequence[Example]) -> Prepared:
        """Tokenize; may run beside `read`, in another thread."""
        return prepare(self.model.tokenizer, examples, self.job.reading)

    def read(
        self, examples: Sequence[Example], positions: Sequence[int], ready: Prepared
    ) -> pa.Table:
        """Run the model, and return what is stored, with layers in float32.

        Raises
        ------
        InputError
            Activations that are not finite, or an example that does not fit into memory.
        """
        pooled = self._pool(examples, ready)
        _free_memory()
        _require_finite(examples, ready, pooled)
        return _as_table(examples, positions, ready, pooled, self.job.columns)

    def _pool(self, examples: Sequence[Example], ready: Prepared) -> Pooled:
        """Pool a batch; by halves, where memory does not hold it."""
        size = len(ready.rows) * max(map(len, ready.rows))
        if len(ready.rows) == 1 or size <= self._most_tokens:
            try:
                return pool(
                    self.model,
                    ready.rows,
                    ready.masks,
                    self.job.columns.layers,
                    exclude_norms=self.job.reading.excludes_norms,
                    logprob=self.job.columns.logprob,
                    remote=self._remote,
                )
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if len(ready.rows) == 1:
                    raise InputError(
                        f"example {examples[0].id}: its {size:,} tokens do not fit into memory; "
                        "pass max_length=... and truncate=True, or use a smaller dtype"
                    ) from error
            _free_gpu_memory()
            self._most_tokens = size // 2
            warnings.warn(
                f"a batch of {size:,} tokens does not fit into memory; going on with at most "
                f"{size // 2:,} (token_budget={size // 2} saves the attempt)",
                stacklevel=2,
            )
        half = (len(ready.rows) + 1) // 2
        parts = [
            self._pool(
                examples[part],
                Prepared(ready.rows[part], ready.masks[part], ready.whole_lengths[part]),
            )
            for part in (slice(half), slice(half, None))
        ]
        return _joined(*parts)


class Here:
    """The engine that reads in this process; the next batch is tokenized meanwhile.

    Parameters
    ----------
    remote : bool
        Passed on to nnsight: the model runs on NDIF.
    """

    def __init__(self, *, remote: bool = False) -> None:
        self._remote = remote

    def read(
        self, model: "TransformersModel", job: Job, corpus: Corpus, batches: Batches
    ) -> Iterator[pa.Table]:
        """Read batches one after the other, in their order."""
        collector = Collector(model, job, remote=self._remote)

        def ready(batch: Sequence[int]) -> tuple[Corpus, Sequence[int], Prepared]:
            examples = corpus.take(batch)
            return examples, batch, collector.prepare(examples)

        for prepared in _one_ahead(ready, batches):
            yield collector.read(*prepared)


def _one_ahead(function: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """Apply `function` to every item; to the next one in a thread, while one is worked on."""
    with ThreadPoolExecutor(1) as beside:
        waiting: deque[Future[B]] = deque()
        for item in items:
            waiting.append(beside.submit(function, item))
            if len(waiting) > 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _free_gpu_memory() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _free_memory() -> None:
    """Give freed memory back: glibc would keep each batch's, and grow with the corpus."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        found: Callable[[int], int] = ctypes.CDLL("libc.so.6").malloc_trim
    except (OSError, AttributeError):  # another system's C library
        return None
    return found


def _joined(first: Pooled, second: Pooled) -> Pooled:
    logprobs = (
        np.concatenate([first.logprobs, second.logprobs])
        if first.logprobs is not None and second.logprobs is not None
        else None
    )
    return Pooled(
        means=np.concatenate([first.means, second.means], axis=1),
        sinks=[a + b for a, b in zip(first.sinks, second.sinks, strict=True)],
        logprobs=logprobs,
    )


def _require_finite(examples: Sequence[Example], ready: Prepared, pooled: Pooled) -> None:
    finite, what = np.isfinite(pooled.means).all(axis=(0, 2)), "activations"
    if finite.all() and pooled.logprobs is not None:
        scored = [row.response_end > max(row.response_start, 1) for row in ready.rows]
        finite, what = np.isfinite(pooled.logprobs) | ~np.array(scored), "log-probabilities"
    if not finite.all():
        where = examples[int(np.argmin(finite))].id
        raise InputError(
            f"example {where}: the model's {what} are not finite "
            "(NaN or infinite weights, or a dtype too narrow); try dtype='float32'"
        )


def _as_table(
    examples: Sequence[Example],
    positions: Sequence[int],
    ready: Prepared,
    pooled: Pooled,
    columns: Columns,
) -> pa.Table:
    rows, width = ready.rows, pooled.means.shape[2]
    values: list[Any] = [
        positions,
        [example.id for example in examples],
        [example.category for example in examples],
        [row.text for row in rows],
        [row.ids for row in rows],
        [row.offsets.ravel() for row in rows],
        [row.roles for row in rows],
        [mask.tolist() for mask in ready.masks],
        [len(row) for row in rows],
        [int(mask.sum()) for mask in ready.masks],
        [len(row) < whole for row, whole in zip(rows, ready.whole_lengths, strict=True)],
    ]
    if pooled.logprobs is not None:
        values.append(pooled.logprobs)
    for means, sinks in zip(pooled.means, pooled.sinks, strict=True):
        values.append(pa.FixedSizeListArray.from_arrays(pa.array(means.ravel()), width))
        values.append(sinks)
    fields = schema(columns, width)
    arrays = [
        value if isinstance(value, pa.Array) else pa.array(value, type=field.type)
        for value, field in zip(values, fields, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=fields)
