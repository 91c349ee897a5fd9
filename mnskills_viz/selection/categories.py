"""Categories of rows, as numbers."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..errors import InputError
from .basket import IntArray
from .matrix import sha256
from .row_ids import seeded_keys, text_keys


@dataclass(frozen=True, slots=True)
class Categories:
    """Category of each row.

    Attributes
    ----------
    of_row : ndarray of int64, [n]
        Index of a name; -1 for a row that has no category.
    names : list of str
    """

    of_row: IntArray
    names: list[str]

    def shuffled(self, seed: int) -> "Categories":
        """The same with names in an order drawn by the seed: no category comes first by name."""
        keys = seeded_keys(text_keys(np.array(self.names, dtype=object)), seed)
        order = np.lexsort((np.arange(len(keys)), keys))
        place = np.full(len(order) + 1, -1)
        place[order] = np.arange(len(order))
        return Categories(place[self.of_row], [self.names[i] for i in order])

    def sha256(self, by_id: IntArray | None) -> str:
        """SHA-256 of names and rows."""
        parts = f"{json.dumps(self.names)} {sha256(self.of_row, by_id)}"
        return hashlib.sha256(parts.encode()).hexdigest()


def read_categories(values: Sequence[str | None], n: int) -> Categories:
    """Categories by name; what pandas takes for missing has none.

    Raises
    ------
    InputError
        Too few or too many, or what has no text.
    """
    listed = list(values)
    array = np.empty(len(listed), dtype=object)
    array[:] = listed
    if len(array) != n:
        raise InputError(f"categories has {len(array)} entries and Z has {n} rows")
    try:
        codes, found = pd.factorize(array)
    except TypeError as error:
        raise InputError(f"categories must be texts ({error})") from error
    texts = [str(value) for value in found]
    names = sorted(set(texts))
    places = {name: place for place, name in enumerate(names)}
    of_row = np.array([*(places[text] for text in texts), -1], dtype=np.int64)[codes]
    return Categories(of_row, names)
