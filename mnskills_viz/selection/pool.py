"""The examples to choose from, checked at the border and put in an order that ids alone decide."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from .strategies import FloatArray, IntArray
from .weakness import pole_weakness


@dataclass(frozen=True, slots=True)
class Inputs:
    """What `select` is given beside Z, unchecked; see there."""

    ids: Sequence[Any] | None = None
    scale: ArrayLike | None = None
    probe: ArrayLike | None = None
    error: ArrayLike | None = None
    utility: ArrayLike | None = None
    tokens: ArrayLike | None = None
    categories: Sequence[str | None] | None = None


@dataclass(frozen=True, slots=True)
class Pool:
    """Checked inputs, rows in an order that depends on seed and ids alone.

    Attributes
    ----------
    index : ndarray of int64, [n]
        Where each row stands in the caller's arrays.
    ids : list of str, [n]
    z : ndarray, [n, k]
        Coordinates divided by the scale.
    cost : ndarray of int64, [n]
        Tokens of each row, or ones.
    unit : str
        What the cost counts: ``"tokens"`` or ``"rows"``.
    categories : list of str or None, [n]
    weakness : DataFrame or None
        `pole_weakness` of the probe.
    probe_rows : int or None
        How many examples the probe has.
    probe_shift : ndarray, [k], or None
        Mean z of the probe less that of the pool.
    utility : ndarray, [k], or None
    hashes : dict of str to str or None
        SHA-256 of each input as it was given, rows in the order of their ids; None: not given.
    """

    index: IntArray
    ids: list[str]
    z: FloatArray
    cost: IntArray
    unit: str
    categories: list[str | None]
    weakness: pd.DataFrame | None
    probe_rows: int | None
    probe_shift: FloatArray | None
    utility: FloatArray | None
    hashes: dict[str, str | None]


def read_pool(Z: ArrayLike, inputs: Inputs, seed: int) -> Pool:
    """Check all inputs and order the rows by a keyed hash of seed and id.

    Raises
    ------
    InputError
        The first thing found wrong, in one line.
    """
    Z = _numbers(Z, "Z", 2)
    n, k = Z.shape
    if not n or not k:
        raise InputError(f"the pool is empty: Z has shape {Z.shape}; expected [n, n_axes]")
    ids = _ids(inputs.ids, n)
    tokens = None if inputs.tokens is None else _tokens(inputs.tokens, ids)
    categories = _categories(inputs.categories, n)
    scale = None if inputs.scale is None else _scale(inputs.scale, k)
    utility = None if inputs.utility is None else _vector(inputs.utility, "utility", k)
    if (inputs.probe is None) != (inputs.error is None):
        raise InputError("probe and error belong together: give both or neither")

    # Sums depend on the order of what is added: take the rows in the order of their ids.
    by_id = np.arange(n) if inputs.ids is None else np.array(sorted(range(n), key=ids.__getitem__))
    hashes = {
        "Z": _hash(Z[by_id]),
        "ids": None if inputs.ids is None else _hash([ids[i] for i in by_id]),
        "scale": _hash(scale),
        "utility": _hash(utility),
        "tokens": None if tokens is None else _hash(tokens[by_id]),
        "categories": None if categories is None else _hash([categories[i] for i in by_id]),
    }
    ruler = _spread(Z[by_id]) if scale is None else scale
    ruler = ruler.astype(Z.dtype)

    weakness, probe_rows, probe_shift = None, None, None
    if inputs.probe is not None and inputs.error is not None:
        probe = _numbers(inputs.probe, "probe", 2)
        if probe.shape[1] != k:
            raise InputError(
                f"probe has {probe.shape[1]} columns and Z has {k}; both must be coordinates on "
                "the same axes"
            )
        weakness = pole_weakness(probe / ruler, inputs.error)
        probe_rows = len(probe)
        centre = Z[by_id].mean(axis=0, dtype=np.float64)
        probe_shift = (probe.mean(axis=0, dtype=np.float64) - centre) / ruler
        hashes["probe"] = _hash(probe)
        hashes["error"] = _hash(np.asarray(inputs.error, dtype=np.float64))
    else:
        hashes["probe"] = hashes["error"] = None

    order = _seeded_order(ids, seed)
    with np.errstate(over="ignore", divide="ignore"):
        z = Z[order] / ruler
    if not np.isfinite(z).all():
        raise InputError(f"Z divided by scale is beyond {Z.dtype}; check scale")
    return Pool(
        index=order,
        ids=[ids[i] for i in order],
        z=z,
        cost=np.ones(n, dtype=np.int64) if tokens is None else tokens[order],
        unit="rows" if tokens is None else "tokens",
        categories=[None] * n if categories is None else [categories[i] for i in order],
        weakness=weakness,
        probe_rows=probe_rows,
        probe_shift=probe_shift,
        utility=utility,
        hashes=hashes,
    )


def _numbers(values: ArrayLike, name: str, n_dimensions: int) -> FloatArray:
    """A finite floating-point array; float32 and float64 stay what they are."""
    try:
        array = np.asarray(values)
        if array.dtype not in (np.float32, np.float64):
            array = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} is not an array of numbers ({error})") from error
    if array.ndim != n_dimensions:
        raise InputError(f"{name} has shape {array.shape}; expected {n_dimensions} dimension(s)")
    bad = ~np.isfinite(array)
    if bad.any():
        rows = np.flatnonzero(bad.reshape(len(array), -1).any(axis=1))
        raise InputError(
            f"{name}: {len(rows)} of {len(array)} entries are NaN or infinite, the first at row "
            f"{rows[0]}; leave them out or correct them"
        )
    return array


def _vector(values: ArrayLike, name: str, k: int) -> FloatArray:
    array = _numbers(values, name, 1)
    if len(array) != k:
        raise InputError(f"{name} has {len(array)} entries; expected one an axis, {k}")
    return array


def _scale(values: ArrayLike, k: int) -> FloatArray:
    scale = _vector(values, "scale", k)
    if scale.min() <= 0:
        raise InputError(f"scale must be above 0; axis {int(scale.argmin())} has {scale.min():g}")
    return scale


def _spread(Z: FloatArray) -> FloatArray:
    """Standard deviation of each column, [k]; 1 for one that is constant but for rounding."""
    spread = Z.std(axis=0, dtype=np.float64)
    rounding = 10 * np.finfo(Z.dtype).eps * np.abs(Z).max(axis=0)
    return np.where(spread > rounding, spread, 1.0)


def _ids(values: Sequence[Any] | None, n: int) -> list[str]:
    """Ids as text; without any, rows are known by where they stand."""
    if values is None:
        return [str(i) for i in range(n)]
    ids = [str(value) for value in values]
    if len(ids) != n:
        raise InputError(f"ids has {len(ids)} entries and Z has {n} rows; expected one a row")
    if len(set(ids)) < n:
        ordered = sorted(ids)
        twice = next(a for a, b in pairwise(ordered) if a == b)
        raise InputError(f"ids must be unique; {twice!r} is there more than once")
    return ids


def _tokens(values: ArrayLike, ids: list[str]) -> IntArray:
    counts = _numbers(values, "tokens", 1)
    if len(counts) != len(ids):
        raise InputError(f"tokens has {len(counts)} entries and Z has {len(ids)} rows")
    bad = [i for i, count in zip(ids, counts, strict=True) if count < 1 or count != int(count)]
    if bad:
        raise InputError(
            f"tokens must be whole numbers above 0; {len(bad)} are not, the first of row {bad[0]!r}"
        )
    return counts.astype(np.int64)


def _categories(values: Sequence[str | None] | None, n: int) -> list[str | None] | None:
    if values is None:
        return None
    categories = [None if value is None else str(value) for value in values]
    if len(categories) != n:
        raise InputError(f"categories has {len(categories)} entries and Z has {n} rows")
    return categories


def _seeded_order(ids: list[str], seed: int) -> IntArray:
    """A draw without replacement that depends on each id and the seed, not on the rows' order."""

    def key(i: int) -> tuple[bytes, str]:
        text = f"{seed}:{ids[i]}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, digest_size=16).digest(), ids[i]

    return np.array(sorted(range(len(ids)), key=key), dtype=np.int64)


def _hash(value: NDArray[Any] | list[Any] | None) -> str | None:
    """SHA-256 of an array (type, shape, bytes) or of a list of texts; None for None."""
    if value is None:
        return None
    if isinstance(value, list):
        return hashlib.sha256(json.dumps(value).encode()).hexdigest()
    little = value.astype(value.dtype.newbyteorder("<"), order="C", copy=False)
    digest = hashlib.sha256(f"{little.dtype.str}{little.shape}".encode())
    digest.update(little.tobytes())
    return digest.hexdigest()
