"""The examples to choose from, checked at the border, with an order that ids alone decide."""

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from .basket import FloatArray, IntArray
from .categories import Categories, read_categories
from .matrix import scale_of, sha256
from .row_ids import RowIds
from .weakness import pole_weakness

LARGEST_TOTAL = 2.0**53
"""Whole numbers up to here are exact, in sums too."""

OFF_CENTRE = 0.5
"""Standard deviations from 0 beyond which the mean of a coordinate is told."""

CHUNK = 10_000
"""Texts that are hashed at a time."""


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
    texts: Sequence[str] | NDArray[Any] | None = None
    coordinates: ArrayLike | None = None


class Gradients(NamedTuple):
    """Per-example gradients, or sketches of them."""

    of_pool: FloatArray
    """[n, d]"""
    of_probe: FloatArray
    """[m, d]"""


@dataclass(frozen=True, slots=True)
class Pool:
    """Checked inputs, rows as the caller has them.

    Attributes
    ----------
    ids : RowIds
    order : ndarray of int64, [n]
        A draw of all rows by seed and ids.
    place : ndarray of int64, [n]
        Where each row stands in `order`; settles ties.
    Z : ndarray, [n, k], or None
        Coordinates, not divided; None where there are only gradients.
    scale : ndarray, [k]
        What they are divided by.
    cost : ndarray of int64, [n]
        Tokens of each row, or ones.
    unit : str
        What the cost counts: ``"tokens"`` or ``"rows"``.
    categories : Categories
        Names in an order drawn by the seed; none where no categories were given.
    weakness : DataFrame or None
        `pole_weakness` of the probe, if its errors tell poles apart.
    probe_rows : int or None
        How many examples the probe has.
    probe_shift : ndarray, [k], or None
        Mean z of the probe less that of the pool.
    off_centre : (int, float) or None
        The axis whose mean z lies farthest from 0, and that mean, if it is beyond `OFF_CENTRE`.
    utility : ndarray, [k], or None
    texts : list of str, [n], or None
    text_vectors : ndarray, [n, d], or None
        Embeddings that were given in place of texts.
    gradients : Gradients or None
        Where Z and probe hold these in place of coordinates.
    hashes : dict of str to str or None
        SHA-256 of each input as it was given, rows in the order of their ids; None: not given.
    """

    ids: RowIds
    order: IntArray
    place: IntArray
    Z: FloatArray | None
    scale: FloatArray
    cost: IntArray
    unit: str
    categories: Categories
    weakness: pd.DataFrame | None
    probe_rows: int | None
    probe_shift: FloatArray | None
    off_centre: tuple[int, float] | None
    utility: FloatArray | None
    texts: list[str] | None
    text_vectors: FloatArray | None
    gradients: Gradients | None
    hashes: dict[str, str | None]

    @property
    def n_axes(self) -> int:
        """How many axes the coordinates have; 0 without coordinates."""
        return len(self.scale)

    def z(self, rows: IntArray | list[int]) -> FloatArray:
        """Coordinates of some rows in units of their scale, [len(rows), n_axes]."""
        if self.Z is None:
            return np.zeros((len(rows), 0))
        z: FloatArray = self.Z[rows]
        z /= self.scale
        return z


def read_pool(
    Z: ArrayLike,
    inputs: Inputs,
    seed: int,
    by_gradients: bool = False,
    by_weakness: bool = False,
) -> Pool:
    """Check all inputs, hash them, and draw the order of the rows.

    Parameters
    ----------
    by_gradients : bool
        Z and probe are gradients; coordinates may be given beside.
    by_weakness : bool
        Errors must tell poles apart. Otherwise equal errors leave the weakness unknown.

    Raises
    ------
    InputError
        The first thing found wrong, in one line.
    """
    given = _array(Z, "Z", 2)
    n = len(given)
    if not given.size:
        raise InputError(f"the pool is empty: Z has shape {given.shape}; expected [n, n_axes]")
    ids = RowIds(inputs.ids, n)
    with ThreadPoolExecutor(1) as beside:
        # Hashing a large Z takes a core as long as all the rest takes another.
        hash_of_z = beside.submit(sha256, given, ids.by_id)
        skill = _skill(given, inputs, ids, by_gradients)
        order = ids.seeded_order(seed)
        tokens = None if inputs.tokens is None else _tokens(inputs.tokens, ids)
        categories = None if inputs.categories is None else read_categories(inputs.categories, n)
        texts, vectors = _texts(inputs.texts, n)
        probe = _probe(inputs, given.shape[1], by_gradients)
        error = None if inputs.error is None else _numbers(inputs.error, "error", 1)
        weakness = shift = None
        if probe is not None and error is not None and not by_gradients:
            if by_weakness or len(set(error)) > 1:
                weakness = pole_weakness(probe / skill.ruler, error)
            shift = (probe.mean(axis=0, dtype=np.float64) - skill.mean) / skill.ruler
        hashes = {
            "ids": _hash(ids.names, ids.by_id),
            "scale": _hash(skill.scale),
            "utility": _hash(skill.utility),
            "tokens": _hash(tokens, ids.by_id),
            "categories": None if categories is None else categories.sha256(ids.by_id),
            "texts": _hash(texts if vectors is None else vectors, ids.by_id),
            "coordinates": _hash(skill.Z, ids.by_id) if by_gradients else None,
            "probe": _hash(probe),
            "error": _hash(error),
        }
        hashes = {"Z": hash_of_z.result(), **hashes}

    place = np.empty(n, dtype=np.int64)
    place[order] = np.arange(n)
    categories = (categories or Categories(np.full(n, -1), [])).shuffled(seed)
    return Pool(
        ids=ids,
        order=order,
        place=place,
        Z=skill.Z,
        scale=skill.ruler,
        cost=np.ones(n, dtype=np.int64) if tokens is None else tokens,
        unit="rows" if tokens is None else "tokens",
        categories=categories,
        weakness=weakness,
        probe_rows=None if probe is None else len(probe),
        probe_shift=shift,
        off_centre=_off_centre(skill),
        utility=skill.utility,
        texts=texts,
        text_vectors=vectors,
        gradients=Gradients(given, probe) if by_gradients and probe is not None else None,
        hashes=hashes,
    )


def _off_centre(skill: "_Skill") -> tuple[int, float] | None:
    if skill.Z is None:
        return None
    means = skill.mean / skill.ruler
    farthest = int(np.abs(means).argmax())
    return (farthest, float(means[farthest])) if abs(means[farthest]) > OFF_CENTRE else None


class _Skill(NamedTuple):
    """Coordinates and what goes with their axes."""

    Z: FloatArray | None
    mean: FloatArray
    ruler: FloatArray
    """What coordinates are divided by, in their type."""
    scale: FloatArray | None
    """The same as it was given."""
    utility: FloatArray | None


def _skill(given: FloatArray, inputs: Inputs, ids: RowIds, by_gradients: bool) -> _Skill:
    """The coordinates: Z itself or, where Z holds gradients, what was given beside it."""
    if not by_gradients:
        if inputs.coordinates is not None:
            raise InputError(
                'coordinates go with strategy "influence", whose Z holds gradients; every other '
                "strategy takes the coordinates as Z"
            )
        return _by_axis(given, "Z", inputs, ids)
    _check_finite(given, "Z")
    if inputs.coordinates is not None:
        coordinates = _array(inputs.coordinates, "coordinates", 2)
        if len(coordinates) != len(given) or not coordinates.size:
            raise InputError(
                f"coordinates has shape {coordinates.shape} and Z has {len(given)} rows; expected "
                "[n, n_axes], one row a row of Z"
            )
        return _by_axis(coordinates, "coordinates", inputs, ids)
    for name, values in (("scale", inputs.scale), ("utility", inputs.utility)):
        if values is not None:
            raise InputError(
                f'{name} belongs to axes: strategy "influence" takes it with coordinates only'
            )
    nothing = np.empty(0)
    return _Skill(None, nothing, nothing, None, None)


def _by_axis(Z: FloatArray, name: str, inputs: Inputs, ids: RowIds) -> _Skill:
    k = Z.shape[1]
    mean, spread = scale_of(Z, ids.by_id)
    if not np.isfinite(spread).all():
        _check_finite(Z, name)
        raise InputError(f"{name} holds numbers too large to square: divide it by its scale first")
    scale = None if inputs.scale is None else _scale(inputs.scale, k)
    utility = None if inputs.utility is None else _vector(inputs.utility, "utility", k)
    ruler = (spread if scale is None else scale).astype(Z.dtype)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        # No number is farther from 0 than all together are.
        farthest = np.hypot(mean, spread) * len(Z) ** 0.5 / ruler
        if not (farthest < np.finfo(Z.dtype).max).all():
            farthest = np.abs(Z).max(axis=0) / ruler
    if not np.isfinite(farthest).all():
        raise InputError(f"{name} divided by scale is beyond {Z.dtype}; check scale")
    return _Skill(Z, mean, ruler, scale, utility)


def _texts(
    values: Sequence[str] | NDArray[Any] | None, n: int
) -> tuple[list[str] | None, FloatArray | None]:
    """Texts, or the embeddings that were given in their place."""
    if values is None:
        return None, None
    if isinstance(values, str):
        raise InputError("texts must be a list of texts, not one text")
    if len(values) != n:
        raise InputError(f"texts has {len(values)} entries and Z has {n} rows; expected one a row")
    if isinstance(values, np.ndarray) and values.ndim == 2:
        vectors = _numbers(values, "texts", 2)
        return None, vectors
    texts = list(values)
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"texts must be texts; entry {row} is a {type(text).__name__}")
    return texts, None


def _probe(inputs: Inputs, width: int, by_gradients: bool) -> FloatArray | None:
    """The probe's coordinates, or its gradients."""
    if by_gradients and inputs.probe is None:
        raise InputError(
            'strategy "influence" needs probe [m, d]: gradients of probe examples, sketched as Z is'
        )
    if not by_gradients and (inputs.probe is None) != (inputs.error is None):
        raise InputError("probe and error belong together: give both or neither")
    if inputs.probe is None:
        return None
    probe = _numbers(inputs.probe, "probe", 2)
    if probe.shape[1] != width:
        kind = "gradients, sketched alike" if by_gradients else "coordinates on the same axes"
        raise InputError(
            f"probe has {probe.shape[1]} columns and Z has {width}; both must be {kind}"
        )
    if not len(probe):
        raise InputError("the probe is empty")
    return probe


def _array(values: ArrayLike, name: str, n_dimensions: int) -> FloatArray:
    """Floating-point numbers; float32 and float64 stay what they are."""
    try:
        array = np.asarray(values)
        if array.dtype not in (np.float32, np.float64):
            array = array.astype(np.float32 if array.dtype == np.float16 else np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} is not an array of numbers ({error})") from error
    if array.ndim != n_dimensions:
        raise InputError(f"{name} has shape {array.shape}; expected {n_dimensions} dimension(s)")
    return array


def _numbers(values: ArrayLike, name: str, n_dimensions: int) -> FloatArray:
    """An array of finite floating-point numbers."""
    array = _array(values, name, n_dimensions)
    _check_finite(array, name)
    return array


def _check_finite(array: FloatArray, name: str) -> None:
    bad = ~np.isfinite(array)
    if bad.any():
        rows = np.flatnonzero(bad.reshape(len(array), -1).any(axis=1))
        raise InputError(
            f"{name}: {len(rows)} of {len(array)} entries are NaN or infinite, the first at row "
            f"{rows[0]}; leave them out or correct them"
        )


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


def _tokens(values: ArrayLike, ids: RowIds) -> IntArray:
    counts = _numbers(values, "tokens", 1)
    if len(counts) != len(ids):
        raise InputError(f"tokens has {len(counts)} entries and Z has {len(ids)} rows")
    bad = np.flatnonzero((counts < 1) | (counts != np.floor(counts)))
    if len(bad):
        raise InputError(
            f"tokens must be whole numbers above 0; {len(bad)} are not, the first of row "
            f"{ids[bad[0]]!r}"
        )
    if counts.sum() > LARGEST_TOTAL:
        raise InputError(f"tokens add up to {counts.sum():.3g}; expected tokens of texts")
    return counts.astype(np.int64)


def _hash(value: NDArray[Any] | list[str] | None, order: IntArray | None = None) -> str | None:
    """SHA-256 of numbers (`matrix.sha256`) or of texts, rows in the order given."""
    if value is None:
        return None
    if isinstance(value, np.ndarray) and value.dtype != object:
        return sha256(value, order)
    digest = hashlib.sha256(str(len(value)).encode())
    for start in range(0, len(value), CHUNK):
        part = slice(start, start + CHUNK)
        rows = range(len(value))[part] if order is None else order[part].tolist()
        digest.update(json.dumps([value[row] for row in rows]).encode())
    return digest.hexdigest()
