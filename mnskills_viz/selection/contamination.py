"""Rows of a pool that hold what a probe or a test asks: to be left out before selecting."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..corpus import Example
from ..errors import InputError
from .near_duplicates import words

Part = Literal["prompt", "response"]
Gram = tuple[str, ...]
Hashes = NDArray[np.uint64]

N = 13
SHARE = 0.7
BOILERPLATE = 10
"""An n-gram that stands in more held-out texts than this is nobody's own (Brown et al. 2020)."""

LONG = 4
"""A response is compared from so many times `n` words on: a short one may well solve two tasks."""

ROWS_AT_ONCE = 4096
SHOWN = 120
COLUMNS = ("row", "id", "split", "against", "part", "overlap", "text")


def contamination(
    pool: Sequence[Example],
    against: Mapping[str, Sequence[Example]],
    n: int = N,
    share: float = SHARE,
) -> pd.DataFrame:
    """Rows of the pool whose prompt or long response stands in held-out data.

    Texts are compared as runs of `n` words (lower case, numbers and signs of arithmetic kept,
    other punctuation gone). Two texts overlap by the share of its n-grams that the shorter one has
    in common with the other: a test question inside a long prompt overlaps wholly. Texts of fewer
    than `n` words, and any that are equal, overlap if they are equal. An n-gram in more than 10
    different held-out texts is a template's and counts for nobody. System messages are left out.

    Runs of 13 words, and ignoring frequent ones, are those of Brown et al. (2020, appendix C), who
    drop what has a single run in common. Tasks of one template have that without being the same
    (87 of 5,000 prompts of the demo corpus with its held-out rows), hence a share of one and the
    same held-out text, as with Touvron et al. (2023, appendix A.6: 0.8 of the tokens). Different
    tasks reach 0.64 in the demo corpus, and 0.54 between GSM8K's training and test questions.

    Parameters
    ----------
    pool : sequence of Example
        A corpus, say; rows are numbered as in it.
    against : mapping of str to sequence of Example
        Held-out data by name: ``{"probe": ..., "test": ...}``.
    n : int
        Words in a run. Responses count from ``4 * n`` words on, in both.
    share : float
        Overlap from which a row is contaminated, above 0 and at most 1.

    Returns
    -------
    DataFrame
        One row a contaminated row of the pool, in its order, with the held-out text that it
        overlaps most with: ``row`` (place in the pool), ``id``, ``split`` (a name of `against`),
        ``against`` (an id there), ``part`` (``"prompt"`` or ``"response"``), ``overlap``, and
        ``text`` (the longest run of words in common, shortened).

    Raises
    ------
    InputError
        `n` below 1, or `share` out of its range.
    """
    if n < 1:
        raise InputError(f"n must be at least 1 word, not {n}")
    if not 0 < share <= 1:
        raise InputError(f"share must be above 0 and at most 1, not {share!r}")
    parts: tuple[tuple[Part, int], ...] = ("prompt", 0), ("response", LONG * n)
    found: dict[int, tuple[float, Part, _Match]] = {}
    for part, least in parts:
        held_out = _held_out(against, part, n, least)
        for row, match in _matches(pool, held_out, part, n, least):
            if match.overlap >= share and (row not in found or match.overlap > found[row][0]):
                found[row] = match.overlap, part, match
    rows = [
        (row, pool[row].id, match.split, match.against, part, overlap, match.text)
        for row, (overlap, part, match) in sorted(found.items())
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.astype({"row": "int64", "overlap": "float64"})


@dataclass(frozen=True, slots=True)
class _Match:
    """The held-out text that a row overlaps most with."""

    overlap: float
    split: str
    against: str
    text: str


@dataclass(frozen=True, slots=True)
class _HeldOut:
    """Held-out texts, each once, by their n-grams.

    Attributes
    ----------
    names : list of (str, str)
        Split and id of each text.
    by_text : dict of tuple of str to int
        Words of a text -> its place.
    by_gram : dict of tuple of str to list of int
        n-gram -> places of the texts that have it.
    boilerplate : set of tuple of str
        n-grams that are in too many of them.
    sizes : list of int
        Different n-grams of each text, without boilerplate.
    numbers : dict of str to int
        Word -> its number, from 1.
    hashes : ndarray of uint64
        Of all n-grams, ascending.
    """

    names: list[tuple[str, str]]
    by_text: dict[Gram, int]
    by_gram: dict[Gram, list[int]]
    boilerplate: set[Gram]
    sizes: list[int]
    numbers: dict[str, int]
    hashes: Hashes


def _text(example: Example, part: Part) -> str:
    if part == "response":
        return example.response
    asked = (m["content"] for m in example.messages if m["role"] != "system")
    return "\n\n".join(asked)


def _key(example: Example, part: Part) -> Gram:
    """The words of a text, or the text itself where it has none."""
    text = _text(example, part)
    return tuple(words(text)) or (text.strip(),)


def _grams(text: Gram, n: int) -> list[Gram]:
    return [text[i : i + n] for i in range(len(text) - n + 1)]


def _held_out(against: Mapping[str, Sequence[Example]], part: Part, n: int, least: int) -> _HeldOut:
    by_text: dict[Gram, int] = {}
    names: list[tuple[str, str]] = []
    for split, examples in against.items():
        for example in examples:
            text = _key(example, part)
            if text not in by_text and len(text) >= least:
                by_text[text] = len(names)
                names.append((split, example.id))
    by_gram: dict[Gram, list[int]] = defaultdict(list)
    for text, place in by_text.items():
        for gram in dict.fromkeys(_grams(text, n)):
            by_gram[gram].append(place)
    boilerplate = {gram for gram, places in by_gram.items() if len(places) > BOILERPLATE}
    own = {gram: places for gram, places in by_gram.items() if gram not in boilerplate}
    sizes = Counter(place for places in own.values() for place in places)
    numbers: dict[str, int] = {}
    for text in by_text:
        for word in text:
            numbers.setdefault(word, len(numbers) + 1)
    coded = [numbers[word] for gram in own for word in gram]
    hashes = np.unique(_hashes(coded, n)[::n])
    return _HeldOut(
        names, by_text, own, boilerplate, [sizes[i] for i in range(len(names))], numbers, hashes
    )


def _hashes(coded: Sequence[int], n: int) -> Hashes:
    """A hash of each run of `n` numbers, [len - n + 1]; what is equal in it is compared again."""
    values = np.array(coded, dtype=np.uint64)
    runs = np.zeros(max(0, len(values) - n + 1), dtype=np.uint64)
    for i in range(n if len(runs) else 0):
        # Knuth's multiplier for 64 bits; sums and products wrap around.
        runs = (runs + values[i : i + len(runs)]) * np.uint64(6364136223846793005)
        runs ^= runs >> np.uint64(29)
    return runs


def _matches(
    pool: Sequence[Example], held_out: _HeldOut, part: Part, n: int, least: int
) -> Iterator[tuple[int, _Match]]:
    """Rows with a run of words that is in held-out data, and their best match."""
    if not held_out.names:
        return
    for start in range(0, len(pool), ROWS_AT_ONCE):
        stop = min(start + ROWS_AT_ONCE, len(pool))
        texts = [_key(pool[row], part) for row in range(start, stop)]
        suspects = _share_a_hash(texts, held_out, n)
        for i, text in enumerate(texts):
            if len(text) >= least and (suspects[i] or text in held_out.by_text):
                match = _best(text, held_out, n)
                if match is not None:
                    yield start + i, match


def _share_a_hash(texts: Sequence[Gram], held_out: _HeldOut, n: int) -> NDArray[np.bool_]:
    """Whether each text may have an n-gram of the held-out data, all texts in one go."""
    number = held_out.numbers.get
    coded = [number(word, 0) for text in texts for word in text]
    hashes = _hashes(coded, n)
    shared = np.zeros(len(coded), dtype=np.int64)
    if len(hashes) and len(held_out.hashes):
        near = np.searchsorted(held_out.hashes, hashes)
        near[near == len(held_out.hashes)] = 0
        shared[: len(hashes)] = held_out.hashes[near] == hashes
    # Runs that go on into the next text count for both at worst: suspects are compared in full.
    ends = np.cumsum([len(text) for text in texts])
    counts = np.concatenate([[0], np.cumsum(shared)])
    found: NDArray[np.bool_] = counts[ends] > counts[np.concatenate([[0], ends[:-1]])]
    return found


def _best(text: Gram, held_out: _HeldOut, n: int) -> _Match | None:
    """The held-out text that a text overlaps most with; the first of equals."""
    if text in held_out.by_text:
        split, name = held_out.names[held_out.by_text[text]]
        return _Match(1.0, split, name, _shown(text))
    grams = _grams(text, n)
    own = set(grams) - held_out.boilerplate
    shared = Counter(place for gram in own for place in held_out.by_gram.get(gram, ()))
    if not shared:
        return None

    def overlap(place: int) -> float:
        return shared[place] / min(len(own), held_out.sizes[place])

    best = min(shared, key=lambda place: (-overlap(place), place))
    inside = [best in held_out.by_gram.get(gram, ()) for gram in grams]
    first, length = _longest_run(inside)
    split, name = held_out.names[best]
    return _Match(overlap(best), split, name, _shown(text[first : first + length + n - 1]))


def _longest_run(inside: Sequence[bool]) -> tuple[int, int]:
    """Where the longest run of True begins, and how long it is; the first of equals."""
    best, start = (0, 0), 0
    for i, here in enumerate(inside):
        if not here:
            start = i + 1
        elif i + 1 - start > best[1]:
            best = start, i + 1 - start
    return best


def _shown(text: Gram) -> str:
    line = " ".join(text)
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"
