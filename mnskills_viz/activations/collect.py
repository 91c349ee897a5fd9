"""From a corpus to rows: in memory, or in a store that goes on after a stop."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ..corpus import Corpus
from . import store as stores
from .collector import Engine
from .passes import Layers, Pass, chosen_layers
from .reading import Pooling
from .rows import Activations
from .store import Columns
from .tokens import Counted

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel

BYTES_A_COMMIT = 128_000_000
SECONDS_A_COMMIT = 15.0
BYTES_A_TOKEN = 20  # its id, offsets, role and mask, and its text


def collect(
    model: "TransformersModel",
    corpus: Corpus,
    *,
    layers: Layers = "all",
    pooling: Pooling = "mean",
    tokens: Counted = "content",
    exclude_sinks: bool = True,
    store: str | Path | None = None,
    token_budget: int = 4096,
    max_length: int | None = None,
    truncate: bool = False,
    errors: bool = False,
    engine: Engine | None = None,
    remote: bool = False,
    progress: bool = True,
) -> Activations:
    """Collect one activation a layer for every example.

    The plan of batches is fixed from the whole corpus before the first forward pass. With a
    `store`, rows are appended in atomic steps while the model goes on, a second call goes on
    where the first ended, and layers (or errors) that were not asked for before are computed
    alone.

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
        Most tokens in a batch, padding included. A batch that memory does not hold is halved.
    max_length : int, optional
        Most tokens in a row; default the model's context length.
    truncate : bool
        Cut longer rows instead of refusing them.
    errors : bool
        Also record the mean log-probability of the reference response, in nats per token.
    engine : Engine, optional
        Where the model runs: default in this process; `RayEngine` runs it in several.
    remote : bool
        Passed on to nnsight, to run on NDIF. Untried: no such service was at hand.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Activations

    Raises
    ------
    InputError
        Bad options, rows that are too long or have no counted token, non-finite activations, a
        store made by another model, corpus or options, or one that cannot be written.
    """
    columns = Columns(chosen_layers(model, layers), errors)
    over = Pass(
        model,
        corpus,
        pooling=pooling,
        tokens=tokens,
        exclude_sinks=exclude_sinks,
        token_budget=token_budget,
        max_length=max_length,
        truncate=truncate,
        engine=engine,
        remote=remote,
        progress=progress,
    )
    if store is None:
        tables = list(over.tables(columns, over.plan))
        return Activations(stores.with_source(pa.concat_tables(tables), over.source))
    path = Path(store)
    with stores.held(path):
        _bring_up_to_date(path, columns, over)
    return Activations.open(path)


def _bring_up_to_date(path: Path, wanted: Columns, over: Pass) -> None:
    """Compute what `wanted` lacks in the store, after what an earlier call left unfinished."""
    beside = stores.beside(path)
    source = over.source
    if stores.is_there(path):
        stores.require_same(path, stores.source_of(stores.open_dataset(path)), source)
        _fill(path, Columns.of(stores.open_dataset(path).schema), over, source)
        if stores.is_there(beside):  # a process died while it added layers
            added = stores.open_dataset(beside)
            stores.require_same(beside, stores.source_of(added), source)
            _fill(beside, Columns.of(added.schema), over, source)
            stores.merge(path, beside)
        stores.remove(beside)  # one whose removal was killed
    else:
        stores.remove(beside)  # of a store that is gone
        _fill(path, wanted, over, source)
    missing = wanted - Columns.of(stores.open_dataset(path).schema)
    if missing:
        _fill(beside, missing, over, source)
        stores.merge(path, beside)
        stores.compact(path)


def _fill(path: Path, columns: Columns, over: Pass, source: dict[str, Any]) -> None:
    """Append the rows of the corpus that a store lacks."""
    present: set[int] = set()
    if stores.is_there(path):
        present = set(stores.positions(path).tolist())
    if len(present) < len(over.corpus):
        todo = [[i for i in batch if i not in present] for batch in over.plan]
        todo = [batch for batch in todo if batch]
        row_bytes = 2 * len(columns.layers) * over.identity.d_model
        n_tokens = int(sum(over.lengths[batch].sum() for batch in todo))
        stores.require_space(path, sum(map(len, todo)) * row_bytes + n_tokens * BYTES_A_TOKEN)
        with _Writer(path, source) as writer:
            for table in over.tables(columns, todo):
                writer.add(table)
    stores.compact(path)


class _Writer:
    """Appends to a store in a thread of its own, while the model goes on.

    What was added when the block ends is written, even if it ends with an error: an interrupt
    loses the batch under way, and no other.
    """

    def __init__(self, path: Path, source: dict[str, Any]) -> None:
        self._path = path
        self._source = source
        self._thread = ThreadPoolExecutor(1)
        self._under_way: Future[None] | None = None
        self._pending: list[pa.Table] = []
        self._since = time.monotonic()

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._thread:
            self._commit()
            self._commit()  # nothing to begin: waits for the last

    def add(self, table: pa.Table) -> None:
        """Take rows over; they are on disk some time later.

        Raises
        ------
        InputError
            An earlier append failed.
        """
        self._pending.append(table)
        late = time.monotonic() - self._since > SECONDS_A_COMMIT
        if late or sum(t.nbytes for t in self._pending) > BYTES_A_COMMIT:
            self._commit()

    def _commit(self) -> None:
        if self._under_way is not None:
            last, self._under_way = self._under_way, None
            last.result()
        if self._pending:
            rows = stores.with_source(pa.concat_tables(self._pending), self._source)
            self._pending = []
            self._under_way = self._thread.submit(stores.append, self._path, rows)
            self._since = time.monotonic()
