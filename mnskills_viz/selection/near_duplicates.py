"""Rows that say nearly what another says already, in words or in skill space.

Asked row by row, as a selection fills: a candidate is held against the rows that are taken, never
all rows against all.
"""

import hashlib
import heapq
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..progress import tell

FloatArray = NDArray[np.floating[Any]]

SHINGLE = 3
"""Words in a shingle."""

SAMPLE = 2000
"""Texts that tell which shingles are boilerplate, and which are rare."""

BOILERPLATE = 10
"""What stands in more texts than this is nobody's own (Brown et al. 2020, appendix C)."""

LEADING = 8
"""Columns of largest spread that rule out most rows before all columns are compared."""

_NO_SPACES = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # scripts that put none between words
_SIGNS = "-+*/=<>^%"
_WORD = re.compile(rf"[{_NO_SPACES}]|[^\W{_NO_SPACES}]+|[{_SIGNS}]")
_SAME_SIGN = str.maketrans("\N{MINUS SIGN}\N{HYPHEN}×÷\N{FRACTION SLASH}", "--*//")
_DASH_AS_MINUS = re.compile(r"[\N{FIGURE DASH}\N{EN DASH}](?=\s*\d)")
_THOUSANDS = re.compile(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?!,?\d)")


def words(text: str) -> list[str]:
    """Words, numbers and signs of arithmetic of a text; other punctuation goes.

    Case, width and composition of characters make no difference, nor do characters that are not
    seen, such as soft hyphens (NFKC, case folded, without category Cf). ``1,000`` is ``1000``.
    Kanji and kana count one by one. The signs stay because ``3 + 4`` is not ``3 - 4``.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
        text = "".join(c for c in text if unicodedata.category(c) != "Cf")
        text = _DASH_AS_MINUS.sub("-", text.translate(_SAME_SIGN))
    if "," in text:
        text = _THOUSANDS.sub(lambda number: number[0].replace(",", ""), text)
    return _WORD.findall(text.casefold())


def figures(found: Sequence[str]) -> list[str]:
    """Those of some words that have a digit, with the signs before each: what tells sums apart."""
    numbers, signs = [], ""
    for word in found:
        if word in _SIGNS:
            signs += word
            continue
        if not word.isalpha():
            numbers.append(signs + word)
        signs = ""
    return numbers


def shingles(found: Sequence[str]) -> frozenset[str]:
    """All runs of three of some words; of fewer words, the one run there is."""
    runs = zip(*(found[i:] for i in range(SHINGLE)), strict=False)
    return frozenset(map(" ".join, runs)) or frozenset([" ".join(found)])


class NearDuplicates:
    """Which rows come too near to one that is taken already.

    Two rows are near-duplicates if their texts are or if their coordinates are (distance over the
    larger of both norms).

    Texts of equal `words` are near-duplicates. Others are if their `figures` are the same in the
    same order, their `shingles` are alike (Jaccard similarity: the share that they have in common
    of all that they have), and so much of what is the one's own that has less is in the other.
    A shingle in more than 10 different texts of the pool, or of 2,000 of it drawn by a hash of the
    text, is nobody's own: an instruction that the pool repeats makes nobody alike. At 0.8 none of
    the demo corpus's 6,000 rows has a near-duplicate, none of GSM8K's 7,473 training rows, and 3
    of MATH's 7,500.

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
            if isinstance(text_similarity, bool) or not 0 < text_similarity <= 1:
                raise InputError(
                    f"text_similarity must be above 0 and at most 1, not {text_similarity!r}"
                )
            if texts is None:
                raise InputError("text_similarity needs texts: the text of each row")
            self._texts = _TakenTexts(texts, text_similarity)
        if z_distance is not None:
            if isinstance(z_distance, bool) or not 0 <= z_distance < 1:
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


class _Text(NamedTuple):
    """A text as it is compared."""

    key: str
    """Its words, or the text itself where it has none."""
    figures: list[str]
    shingles: frozenset[str]
    rarest: list[str]
    """Its own shingles among the first; a near-duplicate has one of them among its first, too."""


class _TakenTexts:
    """Texts taken, found by their rarest shingles.

    Sets with a Jaccard similarity of `t` share at least ``ceil(t |a|)`` members, so in any order
    common to all sets each has one of them among its first ``|a| - ceil(t |a|) + 1`` (prefix
    filtering: Chaudhuri, Ganti & Kaushik 2006; Bayardo, Ma & Srikant 2007). Rare ones come first
    in ours; the first that near-duplicates share is then their own, and boilerplate finds nobody.
    """

    def __init__(self, texts: Sequence[str], similarity: float) -> None:
        self._texts = texts
        # As written: 0.8 * 5 must be 4, and the nearest float to 0.8 lies above it.
        self._similarity = Fraction(str(similarity))
        sample = {tuple(words(text)) for text in _drawn(texts)}
        self._frequency = Counter(shingle for found in sample for shingle in shingles(found))
        self._common = {s for s, count in self._frequency.items() if count > BOILERPLATE}
        self._keys: set[str] = set()
        self._taken: list[_Text] = []
        self._by_shingle: dict[str, list[int]] = defaultdict(list)
        self._asked: tuple[int, _Text] | None = None

    def admits(self, row: int) -> bool:
        text = self._read(row)
        if text.key in self._keys:
            return False
        places = {place for shingle in text.rarest for place in self._by_shingle.get(shingle, ())}
        return not any(self._alike(text, self._taken[place]) for place in places)

    def add(self, row: int) -> None:
        text = self._read(row)
        for shingle in text.rarest:
            self._by_shingle[shingle].append(len(self._taken))
        self._taken.append(text)
        self._keys.add(text.key)

    def _read(self, row: int) -> _Text:
        """A row's text; `add` follows `admits`, so the last is kept."""
        if self._asked is None or self._asked[0] != row:
            found = words(self._texts[row])
            every = shingles(found)
            ordered = sorted(every, key=lambda shingle: (self._frequency[shingle], shingle))
            first = ordered[: len(every) - math.ceil(self._similarity * len(every)) + 1]
            rarest = [shingle for shingle in first if shingle not in self._common]
            key = " ".join(found) or self._texts[row].strip()
            self._asked = row, _Text(key, figures(found), every, rarest if found else [])
        return self._asked[1]

    def _alike(self, a: _Text, b: _Text) -> bool:
        if a.figures != b.figures:
            return False
        shared = a.shingles & b.shingles
        either = len(a.shingles) + len(b.shingles) - len(shared)
        if not self._reaches(len(shared), either):
            return False
        least = min(len(text.shingles - self._common) for text in (a, b))
        return self._reaches(len(shared - self._common), least)

    def _reaches(self, count: int, of: int) -> bool:
        return count * self._similarity.denominator >= of * self._similarity.numerator


def _drawn(texts: Sequence[str]) -> list[str]:
    """Some of many texts, each once, the same in whatever order they come."""

    def key(text: str) -> bytes:
        tell()
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()

    return heapq.nsmallest(SAMPLE, set(texts), key=key)


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
