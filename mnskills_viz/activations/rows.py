"""Rows of activations, in a store or in memory: what is read after a collection."""

import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import lance
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from ..errors import InputError
from .moments import Moments
from .store import METADATA_KEY, layer_column, layers_of, open_dataset, reading, sinks_column
from .tokens import Role

ROWS_AT_ONCE = 8192


class Activations:
    """Activations of a corpus, one row an example, one vector a layer, in corpus order.

    Made by `mnskills_viz.collect`, or opened from a folder with `Activations.open`.

    Attributes
    ----------
    ids : list of str
    layers : list of int
        Decoder blocks, 0-based.
    categories : list of str or None
    n_tokens, n_counted : ndarray of int32, [n]
        Tokens that the model read, and those that a mean is over (before norms).
    truncated : ndarray of bool, [n]
        Whether a row was cut to `max_length`.
    logprobs : ndarray of float32, [n]
        Mean log-probability per token of the reference response, nats; NaN where it was not
        asked for or there is no response.
    """

    def __init__(self, rows: "pa.Table | lance.LanceDataset", path: Path | None = None) -> None:
        self._rows = rows
        self._path = path or Path("memory")
        self._source: dict[str, Any] = json.loads(rows.schema.metadata[METADATA_KEY])
        self.layers: list[int] = layers_of(rows.schema)
        heads = ["id", "position", "category", "n_tokens", "n_counted", "truncated"]
        self._has_logprobs = "logprob" in rows.schema.names
        table = self._table([*heads, "logprob"] if self._has_logprobs else heads)
        self._order = np.argsort(table["position"].to_numpy(), kind="stable")
        self._place = np.argsort(self._order)  # in the corpus, of each stored row
        table = table.take(pa.array(self._order))
        self.ids = cast(list[str], table["id"].to_pylist())
        self.categories = cast(list[str | None], table["category"].to_pylist())
        self.n_tokens: NDArray[np.int32] = table["n_tokens"].to_numpy()
        self.n_counted: NDArray[np.int32] = table["n_counted"].to_numpy()
        self.truncated: NDArray[np.bool_] = table["truncated"].to_numpy()
        self.logprobs: NDArray[np.float32] = (
            table["logprob"].to_numpy()
            if self._has_logprobs
            else np.full(len(table), np.nan, dtype=np.float32)
        )

    @property
    def source_of_all(self) -> dict[str, Any]:
        """What made the rows: model, layers, options, corpus, versions."""
        return self._source | {"layers": self.layers, "errors": self._has_logprobs}

    @functools.cached_property
    def n_response(self) -> NDArray[np.int32]:
        """Tokens of each reference response, [n]: those that a fine-tuning's loss is over."""
        roles = self._table(["roles"])["roles"].combine_chunks()
        answered = np.cumsum(roles.values.to_numpy() == Role.RESPONSE, dtype=np.int64)
        before = np.concatenate([[0], answered])[roles.offsets.to_numpy()]
        lengths: NDArray[np.int32] = np.diff(before).astype(np.int32)
        return lengths[self._order]

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
        n_layers, width = len(self.layers), self._source["model"]["d_model"]
        return f"Activations({self._path}: {len(self):,} rows, {n_layers} layers of {width})"

    def _table(self, columns: list[str]) -> pa.Table:
        if isinstance(self._rows, pa.Table):
            return self._rows.select(columns)
        with reading(self._path, self._rows):
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
        self._require(layer)
        rows = np.empty((len(self), self._source["model"]["d_model"]), dtype=np.float32)
        start = 0
        for stored in self._table([layer_column(layer)])[layer_column(layer)].chunks:
            rows[self._place[start : start + len(stored)]] = vectors(stored)
            start += len(stored)
        return rows

    def stream(
        self, layer: int, n_rows: int = ROWS_AT_ONCE
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Go through a layer a part at a time, for data larger than memory.

        Parameters
        ----------
        layer : int
        n_rows : int
            Most rows in a part.

        Yields
        ------
        indices : ndarray of int64, [b]
            Which rows these are, in corpus order. The parts come as they are stored.
        rows : ndarray of float32, [b, d_model]
        """
        self._require(layer)
        start = 0
        for part in self._batches(layer_column(layer), n_rows):
            yield (
                self._place[start : start + len(part)],
                vectors(part).astype(np.float32, copy=False),
            )
            start += len(part)

    def _batches(self, column: str, n_rows: int) -> Iterator[pa.Array]:
        if isinstance(self._rows, pa.Table):
            for batch in self._rows.select([column]).to_batches(max_chunksize=n_rows):
                yield batch[column]
            return
        with reading(self._path, self._rows):
            for batch in self._rows.to_batches(columns=[column], batch_size=n_rows):
                yield batch[column]

    def moments(self, layer: int) -> Moments:
        """Count, sum and second moments of a layer, from one pass over the stored rows."""
        total = Moments.none(self._source["model"]["d_model"])
        for _, rows in self.stream(layer):
            total += Moments.of(rows)
        return total

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
        columns = ["text", "token_ids", "offsets", "roles", "counted"]
        columns += [sinks_column(layer) for layer in self.layers]
        position = int(self._order[index])
        if isinstance(self._rows, pa.Table):
            row = self._rows.select(columns).slice(position, 1).to_pylist()[0]
        else:
            with reading(self._path, self._rows):
                row = self._rows.take([position], columns=columns).to_pylist()[0]
        spans = np.array(row["offsets"]).reshape(-1, 2)
        sink_at: list[list[int]] = [[] for _ in row["token_ids"]]
        for layer in self.layers:
            for token in row[sinks_column(layer)]:
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

    def matrix_as(self, source: dict[str, Any]) -> NDArray[np.float32]:
        """Rows on the ruler of others: their layers, each divided by what it was divided by there.

        `matrix("concat")` divides by the spread of its own rows: another ruler for every set of
        texts, and for every model.

        Parameters
        ----------
        source : dict
            Of the other rows, as `source` says it; a basis's `source_`.

        Returns
        -------
        ndarray of float32, [n, d_model] or [n, n_layers * d_model]
        """
        if source["layer"] != "concat":
            return self.matrix(source["layer"])
        scaled = zip(source["layers"], source["scales"], strict=True)
        return np.concatenate([self.matrix(at) / np.float32(scale) for at, scale in scaled], axis=1)

    def source(self, layer: "int | Literal['concat']") -> dict[str, Any]:
        """Say what made the rows of `layer`: model, layers, widths, scales, options, versions."""
        if layer != "concat":
            self._require(layer)
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

    def _require(self, layer: int) -> None:
        if layer not in self.layers:
            raise InputError(f"layer {layer} was not collected; there are {_ranges(self.layers)}")


def vectors(stored: pa.Array) -> NDArray[Any]:
    """A fixed-size list column as a matrix, in the dtype that it is stored in."""
    flat = stored.flatten().to_numpy(zero_copy_only=False)
    return cast(NDArray[Any], flat.reshape(len(stored), -1))


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
