"""One pass of a model over a corpus: what is read, in which batches, and where."""

import functools
import importlib.metadata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..corpus import Corpus
from ..errors import InputError
from ..models import blocks, context_length, identity, longest_shared
from .collector import Batches, Engine, Here, Job
from .reading import Pooling, Reading, lengths
from .store import FORMAT, Columns
from .tokens import Counted
from .trace import plan_batches

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel

Layers = Literal["all"] | Sequence[int]


class Options(TypedDict, total=False):
    """How a model reads a corpus; `collect` says what each means."""

    pooling: Pooling
    tokens: Counted
    exclude_sinks: bool
    token_budget: int
    max_length: int | None
    truncate: bool
    engine: Engine | None
    remote: bool
    progress: bool


def chosen_layers(model: "TransformersModel", layers: Layers) -> tuple[int, ...]:
    """The layers asked for, ascending.

    Raises
    ------
    InputError
        None, or some that the model does not have.
    """
    depth = len(blocks(model))
    if isinstance(layers, str):
        if layers != "all":
            raise InputError(f'layers must be "all" or a list of integers, not {layers!r}')
        return tuple(range(depth))
    chosen = sorted({int(layer) for layer in layers})
    if not chosen or chosen[0] < 0 or chosen[-1] >= depth:
        raise InputError(f"layers {list(layers)}: the model has layers 0 to {depth - 1}")
    return tuple(chosen)


class Pass:
    """A model, a corpus, and how the one reads the other; options as `collect` takes them."""

    def __init__(
        self,
        model: "TransformersModel",
        corpus: Corpus,
        *,
        pooling: Pooling = "mean",
        tokens: Counted = "content",
        exclude_sinks: bool = True,
        token_budget: int = 4096,
        max_length: int | None = None,
        truncate: bool = False,
        engine: Engine | None = None,
        remote: bool = False,
        progress: bool = True,
    ) -> None:
        if token_budget < 1:
            raise InputError(f"token_budget must be at least 1, not {token_budget}")
        if not len(corpus):
            raise InputError("the corpus is empty: there is nothing to collect")
        if engine is not None and remote:
            raise InputError("an engine and remote=True cannot go together: choose one of them")
        self.model = model
        self.corpus = corpus
        self.reading = Reading(pooling, tokens, exclude_sinks, _limit(model, max_length), truncate)
        self.token_budget = token_budget
        self._engine = engine or Here(remote=remote)
        self._progress = progress
        self.identity = identity(model)

    @property
    def source(self) -> dict[str, Any]:
        """What makes the rows, for stores and files to say and to compare."""
        packages = ("mnskills_viz", "torch", "nnsight", "transformers")
        return {
            "format": FORMAT,
            "model": self.identity.as_dict(),
            "options": self.reading.as_dict(),
            "corpus": {"hash": self.corpus.hash, "rows": len(self.corpus)},
            "versions": {name: importlib.metadata.version(name) for name in packages},
        }

    @functools.cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens in every row."""
        return lengths(self.model.tokenizer, self.corpus, self.reading, progress=self._progress)

    @functools.cached_property
    def plan(self) -> list[list[int]]:
        """Batches of positions in the corpus, each position once."""
        return plan_batches(self.lengths.tolist(), self.token_budget, longest_shared(self.model))

    def tables(self, columns: Columns, batches: Batches) -> Iterator[pa.Table]:
        """Read batches of the plan, under a progress bar that counts tokens: they take the time."""
        todo = int(sum(self.lengths[batch].sum() for batch in batches))
        total = int(self.lengths.sum())
        bar = tqdm(
            total=total,
            initial=total - todo,
            desc="collect",
            unit="tok",
            unit_scale=True,
            disable=not self._progress,
        )
        with bar:
            job = Job(self.reading, columns)
            for table in self._engine.read(self.model, job, self.corpus, batches):
                yield table
                bar.update(int(self.lengths[table["position"].to_numpy()].sum()))


def _limit(model: "TransformersModel", max_length: int | None) -> int | None:
    """Most tokens in a row: what was asked for, and never more than the model takes."""
    known = [limit for limit in (max_length, context_length(model)) if limit is not None]
    return min(known, default=None)
