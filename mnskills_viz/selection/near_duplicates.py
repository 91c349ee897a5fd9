"""Rows that say nearly what another says already, in words or in skill space.

Asked row by row, as a selection fills: a candidate is held against the rows that are taken, never
all rows against all. Both tests are exact; nothing is hashed away.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

FloatArray = NDArray[np.floating[Any]]

SHINGLE = 3
"""Words in a shingle. Numbers stand in most shingles of a short task, so that two tasks of one
template stay apart; pairs of words confuse them (10 of the 6,000 rows of the demo corpus)."""

SAMPLE = 2000
"""Texts that tell which shingles are rare; only the speed depends on it."""

LEADING = 8
"""Columns of largest spread that rule out most rows before all columns are compared."""

_NO_SPACES = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # scripts that put none between words
_WORD = re.compile(rf"[{_NO_SPACES}]|[^\W{_NO_SPACES}]+|[-+*/=<>^%×÷−]")


def words(text: str) -> list[str]:
    """Words, numbers and signs of arithmetic of a text, in lower case; other punctuation goes.

    Kanji and kana count one by one. The signs stay because ``3 + 4`` is not ``3 - 4``.
    """
    return _WORD.findall(text.lower())


def shingles(text: str) -> frozenset[str]:
    """All runs of three words in a text; of one that has fewer, its words; of none, the text."""
    found = words(text)
    if len(found) < SHINGLE:
        return frozenset(found or [text.strip()])
    return frozenset(map(" ".join, zip(*(found[i:] for i in range(SHINGLE)), strict=False)))


class NearDuplicates:
    """Which rows come too near to one that is taken already.

    Two rows are near-duplicates if their texts are (Jaccard similarity of their `shingles`, the
    share that they have in common of all that they have) or if their coordinates are (distance
    over the larger of both norms).

    Parameters
    ----------
    texts : sequence of str, [n], or None
    z : ndarray, [n, k], or None
        Coordinates divided by their scale.
    text_similarity : float or None
        From this Jaccard similarity on, above 0 and at most 1, texts are near-duplicates; None
        compares no texts. A word changed in a text of `w` words leaves ``(w - 5) / (w + 1)``:
        0.8 from 29 words on.
    z_distance : float or None
        Up to this distance, from 0 and below 1, coordinates are near-duplicates; None compares no
        coordinates.

    Raises
    ------
    InputError
        A limit out of its range, or without what it compares.
    """

    def __init__(
        self,
        texts: Sequence[str] | None,
        z: FloatArray | None,
        text_similarity: float | None,
        z_distance: float | None,
    ) -> None:
        self._texts: _TakenTexts | None = None
        self._rows: _TakenRows | None = None
        if text_similarity is not None:
            if not 0 < text_similarity <= 1:
                raise InputError(
                    f"text_similarity must be above 0 and at most 1, not {text_similarity!r}"
                )
            if texts is None:
                raise InputError("text_similarity needs texts: the text of each row")
            self._texts = _TakenTexts(texts, text_similarity)
        if z_distance is not None:
            if not 0 <= z_distance < 1:
                raise InputError(f"z_distance must be at least 0 and below 1, not {z_distance!r}")
            if z is None:
                raise InputError("z_distance needs z: the coordinates of each row")
            self._rows = _TakenRows(z, z_distance)

    def admits(self, row: int) -> bool:
        """Whether no row that was added is a near-duplicate of this one."""
        if self._rows is not None and not self._rows.admits(row):
            return False
        return self._texts is None or self._texts.admits(row)

    def add(self, row: int) -> None:
        """Note that a row was taken."""
        if self._rows is not None:
            self._rows.add(row)
        if self._texts is not None:
            self._texts.add(row)


class _TakenTexts:
    """Texts taken, found by their rarest shingles.

    Sets with a Jaccard similarity of `t` share at least ``ceil(t |a|)`` members, so in any order
    common to all sets each has one of them among its first ``|a| - ceil(t |a|) + 1`` (prefix
    filtering: Chaudhuri, Ganti & Kaushik 2006; Bayardo, Ma & Srikant 2007). Rare ones come first
    in ours, so that a template's own words find nobody.
    """

    def __init__(self, texts: Sequence[str], similarity: float) -> None:
        self._texts = texts
        # As written: 0.8 * 5 must be 4, and the nearest float to 0.8 lies above it.
        self._similarity = Fraction(str(similarity))
        step = max(1, len(texts) // SAMPLE)
        self._frequency = Counter(s for i in range(0, len(texts), step) for s in shingles(texts[i]))
        self._taken: list[frozenset[str]] = []
        self._by_shingle: dict[str, list[int]] = defaultdict(list)
        self._asked: tuple[int, frozenset[str], list[str]] | None = None

    def admits(self, row: int) -> bool:
        found, rarest = self._read(row)
        places = {place for shingle in rarest for place in self._by_shingle.get(shingle, ())}
        return not any(self._alike(found, self._taken[place]) for place in places)

    def add(self, row: int) -> None:
        found, rarest = self._read(row)
        for shingle in rarest:
            self._by_shingle[shingle].append(len(self._taken))
        self._taken.append(found)

    def _read(self, row: int) -> tuple[frozenset[str], list[str]]:
        """A row's shingles, and the rarest of them; `add` follows `admits`, so the last is kept."""
        if self._asked is None or self._asked[0] != row:
            found = shingles(self._texts[row])
            ordered = sorted(found, key=lambda shingle: (self._frequency[shingle], shingle))
            needed = math.ceil(self._similarity * len(found))
            self._asked = row, found, ordered[: len(found) - needed + 1]
        return self._asked[1:]

    def _alike(self, a: frozenset[str], b: frozenset[str]) -> bool:
        t = self._similarity
        if min(len(a), len(b)) * t.denominator < max(len(a), len(b)) * t.numerator:
            return False
        shared = len(a & b)
        return shared * t.denominator >= (len(a) + len(b) - shared) * t.numerator


class _TakenRows:
    """Coordinates taken, in arrays that grow."""

    def __init__(self, z: FloatArray, distance: float) -> None:
        self._z = z
        self._distance = distance
        sample = z[:: max(1, len(z) // SAMPLE)].astype(np.float64)
        spread = sample.std(axis=0) if len(sample) else np.zeros(z.shape[1])
        self._leading = np.argsort(-spread, kind="stable")[:LEADING]
        self._count = 0
        self._taken = np.empty(256, dtype=np.int64)
        self._near = np.empty((256, len(self._leading)))
        self._squares = np.empty(256)

    def admits(self, row: int) -> bool:
        here = self._z[row].astype(np.float64)
        leading = here[self._leading]
        norm = math.sqrt(here @ here)
        # |b| <= |a| + distance * max(|a|, |b|), so a near-duplicate lies within this radius of a
        # in all columns, and in the leading ones. Rounding may let more through, never less: what
        # passes is compared in full.
        radius = self._distance * norm / (1 - self._distance)
        limit = radius**2 - leading @ leading + 1e-9 * norm**2
        between = self._squares[: self._count] - self._near[: self._count] @ (2 * leading)
        near = self._taken[: self._count][between <= limit]
        if not len(near):
            return True
        others = self._z[near].astype(np.float64)
        largest = np.maximum(norm, np.linalg.norm(others, axis=1))
        apart = np.linalg.norm(others - here, axis=1)
        return not bool((apart <= self._distance * largest).any())

    def add(self, row: int) -> None:
        if self._count == len(self._taken):
            self._taken = np.concatenate([self._taken, np.empty_like(self._taken)])
            self._near = np.concatenate([self._near, np.empty_like(self._near)])
            self._squares = np.concatenate([self._squares, np.empty_like(self._squares)])
        leading = self._z[row, self._leading].astype(np.float64)
        self._taken[self._count] = row
        self._near[self._count] = leading
        self._squares[self._count] = leading @ leading
        self._count += 1
