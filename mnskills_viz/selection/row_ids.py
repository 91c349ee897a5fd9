"""Names of rows, and the orders that follow from names alone."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import InputError

IntArray = NDArray[np.int64]
Keys = NDArray[np.uint64]


def text_keys(texts: NDArray[np.object_]) -> Keys:
    """A 64-bit key of each text (SipHash with a fixed key), [n]."""
    try:
        return np.asarray(pd.util.hash_array(texts, categorize=False), dtype=np.uint64)
    except UnicodeEncodeError:  # half a surrogate pair
        encoded = np.array([str(t).encode("utf-8", "surrogatepass") for t in texts], dtype=object)
        return np.asarray(pd.util.hash_array(encoded, categorize=False), dtype=np.uint64)


def seeded_keys(keys: Keys, seed: int) -> Keys:
    """Keys shuffled by a seed: equal ones stay equal and others stay different, [n].

    The finalizer of SplitMix64 (Steele, Lea & Flood 2014), a bijection of 64 bits.
    """
    start = hashlib.sha256(f"{seed:x}".encode()).digest()[:8]
    mixed = keys ^ np.uint64(int.from_bytes(start, "little"))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed ^= mixed >> np.uint64(shift)
        mixed *= np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def shortened(value: Any) -> str:
    """A value as Python writes it, cut to a length that fits a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


class RowIds:
    """What rows are called; without ids they are known by where they stand.

    Parameters
    ----------
    values : sequence, or None
        Ids, read as text.
    n : int
        Number of rows.

    Attributes
    ----------
    names : ndarray of str objects, [n], or None
    by_id : ndarray of int64, [n], or None
        Rows in an order that depends on the set of ids alone; None: as they stand.

    Raises
    ------
    InputError
        Too few or too many ids, or one that is there twice.
    """

    def __init__(self, values: Sequence[Any] | None, n: int) -> None:
        self.names: NDArray[np.object_] | None = None
        self.by_id: IntArray | None = None
        self._keys = np.arange(n, dtype=np.uint64)
        self._collide = False
        if values is None:
            return
        if isinstance(values, str):
            raise InputError("ids must be a list of ids, not one text")
        names = list(map(str, values))
        if len(names) != n:
            raise InputError(f"ids has {len(names)} entries and Z has {n} rows; expected one a row")
        self.names = np.array(names, dtype=object)
        self._keys = text_keys(self.names)
        self.by_id = self._by_key(self.names)

    def _by_key(self, names: NDArray[np.object_]) -> IntArray:
        """Rows by their keys, and by their ids where keys are equal."""
        order: IntArray = np.argsort(self._keys).astype(np.int64, copy=False)
        ordered = self._keys[order]
        twin = ordered[1:] == ordered[:-1]
        self._collide = bool(twin.any())
        if self._collide:
            places = np.flatnonzero(np.append(twin, False) | np.append(False, twin))
            rows = order[places].tolist()
            rows.sort(key=lambda row: (int(self._keys[row]), names[row]))
            for one, other in pairwise(rows):
                if names[one] == names[other]:
                    raise InputError(f"ids must be unique; {names[one]!r} is there more than once")
            order[places] = rows
        return order

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, row: int) -> str:
        return str(row) if self.names is None else str(self.names[row])

    def seeded_order(self, seed: int) -> IntArray:
        """A draw of all rows that depends on each id and the seed, not on the rows' order, [n]."""
        keys = seeded_keys(self._keys, seed)
        if self._collide and self.by_id is not None:
            return self.by_id[np.argsort(keys[self.by_id], kind="stable")]
        return np.argsort(keys).astype(np.int64, copy=False)

    def rows(self, wanted: Sequence[Any], argument: str) -> list[int]:
        """Rows by their ids, each once, in the order named.

        Raises
        ------
        InputError
            Ids that are not there; `argument` names the list.
        """
        if isinstance(wanted, str) or not isinstance(wanted, Iterable):
            raise InputError(f"{argument} must be a list of ids, not {shortened(wanted)}")
        ids = list(dict.fromkeys(map(str, wanted)))
        if not ids:
            return []
        known = self._by_name(ids)
        unknown = [i for i in ids if i not in known]
        if unknown:
            raise InputError(
                f"{argument}: {len(unknown)} ids are not in the pool, the first is {unknown[0]!r}"
            )
        return [known[i] for i in ids]

    def _by_name(self, ids: list[str]) -> Mapping[str, int]:
        if self.names is not None:
            return {name: row for row, name in enumerate(self.names.tolist())}
        numbers = {i: int(i) for i in ids if i.isascii() and i.isdigit() and len(i) < 20}
        return {i: row for i, row in numbers.items() if str(row) == i and row < len(self)}
