"""Rows of a pool that hold what a probe or a test asks: to be left out before selecting."""

import sys
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..corpus import Example
from ..errors import InputError
from ..progress import tell
from .near_duplicates import BOILERPLATE, figures, words

Part = Literal["prompt", "response"]
Gram = tuple[str, ...]
Hashes = NDArray[np.uint64]

N = 13
SHARE = 0.7

WHOLE = 8
"""A text of so many words is found wherever it stands as a whole; a shorter one says too little."""

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

    Texts are compared by their words (`near_duplicates.words`), without system messages; an empty
    text is like none. A row is contaminated by a held-out text if

    - they are equal, or one of at least 8 words stands in the other as a whole; or
    - of the runs of `n` words that are its own, the one that has fewer shares at least `share`
      with the other, and the numbers of the one that has fewer of these all stand in the other in
      the same order. A run of a held-out text is nobody's own if it stands in more than 10
      different texts of the pool or in more than 10 that are held out: a template is no leak.

    So other numbers make another task, and more than 10 variants of one held-out task in the pool
    pass for a template unless they hold it as a whole.

    Runs of 13 words, and ignoring frequent ones, are those of Brown et al. (2020, appendix C), who
    drop what has a single run in common. Tasks of one template have that without being the same,
    hence a share of one and the same held-out text, as with Touvron et al. (2023, appendix A.6:
    0.8 of the tokens). Found are 0 of the demo corpus's 5,000 rows of the pool, 0 of GSM8K's 7,473
    training questions in its test, and 20 of every other row of MATH's 7,500 training rows in the
    rest. Different tasks reach 0.56 in the demo corpus and less than 0.4 in GSM8K.

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
        ``against`` (an id there), ``part`` (``"prompt"`` or ``"response"``), ``overlap`` (1 where
        one stands in the other), and ``text`` (the longest run of words in common, shortened).

    Raises
    ------
    InputError
        `n` or `share` out of its range, or something else than examples.
    """
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise InputError(f"n must be a whole number of words, at least 1, not {n!r}")
    if isinstance(share, bool) or not 0 < share <= 1:
        raise InputError(f"share must be above 0 and at most 1, not {share!r}")
    if not isinstance(against, Mapping):
        raise InputError('against must name held-out data: {"test": examples}')
    for name, examples in [("pool", pool), *against.items()]:
        strange = next((e for e in examples if not isinstance(e, Example)), None)
        if strange is not None:
            raise InputError(f"{name} holds a {type(strange).__name__}; expected examples")
    parts: tuple[tuple[Part, int], ...] = ("prompt", 1), ("response", LONG * n)
    found: dict[int, tuple[Part, tuple[str, str], _Match]] = {}
    for part, least in parts:
        held_out = _held_out(against, part, n, least)
        for row, match in _matches(pool, held_out, part, n, least, share):
            if row not in found or match.overlap > found[row][2].overlap:
                found[row] = part, held_out.names[match.place], match
    rows = [
        (row, pool[row].id, *names, part, match.overlap, _shown(match.text))
        for row, (part, names, match) in sorted(found.items())
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.astype({"row": "int64", "overlap": "float64"})


@dataclass(frozen=True, slots=True)
class _Match:
    """The held-out text that a row overlaps most with, and the longest run of words in common."""

    overlap: float
    place: int
    text: Gram


@dataclass(frozen=True, slots=True)
class _HeldOut:
    """Held-out texts, each once, by the runs of words in them.

    Attributes
    ----------
    names : list of (str, str)
        Split and id of each text.
    places : dict of tuple of str to int
        Words of a text -> its place.
    by_gram : dict of tuple of str to list of int
        n-gram -> places of the texts that have it.
    lengths : dict of tuple of str to list of int
        First words of texts, `WHOLE` of them -> how long these texts are, longest first.
    line : str
        All texts, one after the other.
    starts : list of int
        Where each begins in it.
    codes : dict of str to int
        Word -> its number, from 1.
    hashes : ndarray of uint64
        Of all runs of ``min(n, WHOLE)`` words, ascending, and the largest number there is.
    """

    names: list[tuple[str, str]]
    places: dict[Gram, int]
    by_gram: dict[Gram, list[int]]
    lengths: dict[Gram, list[int]]
    line: str
    starts: list[int]
    codes: dict[str, int]
    hashes: Hashes


def _key(example: Example, part: Part) -> Gram:
    """The words of a text; the text itself where it has none, nothing where it is empty."""
    tell()
    text = example.response
    if part == "prompt":
        text = "\n\n".join(m["content"] for m in example.messages if m["role"] != "system")
    # Interned: all texts of a pool are here at once where all of them are suspect.
    return tuple(map(sys.intern, words(text))) or tuple(filter(None, [text.strip()]))


def _grams(text: Gram, n: int) -> list[Gram]:
    return [text[i : i + n] for i in range(len(text) - n + 1)]


def _held_out(against: Mapping[str, Sequence[Example]], part: Part, n: int, least: int) -> _HeldOut:
    places: dict[Gram, int] = {}
    names: list[tuple[str, str]] = []
    for split, examples in against.items():
        for example in examples:
            text = _key(example, part)
            if text not in places and len(text) >= least:
                places[text] = len(names)
                names.append((split, example.id))
    by_gram: dict[Gram, list[int]] = defaultdict(list)
    lengths: dict[Gram, list[int]] = defaultdict(list)
    starts = [0]
    for text, place in places.items():
        for gram in dict.fromkeys(_grams(text, n)):
            by_gram[gram].append(place)
        if len(text) >= WHOLE:
            lengths[text[:WHOLE]].append(len(text))
        starts.append(starts[-1] + len(_spaced(text)))
    codes: dict[str, int] = {}
    coded = [codes.setdefault(word, len(codes) + 1) for text in places for word in text]
    hashes = np.unique(np.append(_hashes(coded, min(n, WHOLE)), np.uint64(2**64 - 1)))
    lengths = {first: sorted(set(found), reverse=True) for first, found in lengths.items()}
    line = "".join(map(_spaced, places))
    return _HeldOut(names, places, by_gram, lengths, line, starts, codes, hashes)


def _spaced(text: Gram) -> str:
    """Its words, so that they are found as such in a line, but never across two texts."""
    return f" {' '.join(text)} "


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
    pool: Sequence[Example], held_out: _HeldOut, part: Part, n: int, least: int, share: float
) -> Iterator[tuple[int, _Match]]:
    """Rows that are in held-out data, and their best match."""
    if not held_out.names:
        return
    suspects = list(_suspects(pool, held_out, part, n, least))
    own = _own({text for _, text, _ in suspects}, held_out, n)
    for row, text, inside in suspects:
        tell()
        match = _whole(text, held_out, inside) or _in_part(text, own, n, share)
        if match is not None:
            yield row, match


def _suspects(
    pool: Sequence[Example], held_out: _HeldOut, part: Part, n: int, least: int
) -> Iterator[tuple[int, Gram, bool]]:
    """Rows with a run of words that is in held-out data, their text, and if it is all such runs."""
    run = min(n, WHOLE)
    for start in range(0, len(pool), ROWS_AT_ONCE):
        tell(start, len(pool))
        rows = range(start, min(start + ROWS_AT_ONCE, len(pool)))
        texts = [_key(pool[row], part) for row in rows]
        coded = [held_out.codes.get(word, 0) for text in texts for word in text]
        hashes = _hashes(coded, run)
        known = held_out.hashes[np.searchsorted(held_out.hashes, hashes)] == hashes
        before = np.concatenate([[0], np.cumsum(known), np.full(run, known.sum())])
        stops = np.cumsum([len(text) for text in texts])
        starts = np.concatenate([[0], stops[:-1]])
        runs = np.maximum(0, stops - starts - run + 1)
        shared = before[starts + runs] - before[starts]
        for i, (row, text) in enumerate(zip(rows, texts, strict=True)):
            if len(text) >= least and (shared[i] or text in held_out.places):
                yield row, text, shared[i] == runs[i]


def _whole(text: Gram, held_out: _HeldOut, inside: bool) -> _Match | None:
    """The held-out text that a text is, has in it, or may be `inside` of."""
    if text in held_out.places:
        return _Match(1.0, held_out.places[text], text)
    if len(text) < WHOLE:
        return None
    for i in range(len(text) - WHOLE + 1):
        for length in held_out.lengths.get(text[i : i + WHOLE], ()):
            run = text[i : i + length] if i + length <= len(text) else ()
            if run in held_out.places:
                return _Match(1.0, held_out.places[run], run)
    at = held_out.line.find(_spaced(text)) if inside else -1
    return None if at < 0 else _Match(1.0, bisect_right(held_out.starts, at) - 1, text)


@dataclass(frozen=True, slots=True)
class _Own:
    """What is held-out texts' own.

    Attributes
    ----------
    texts : list of tuple of str
    by_gram : dict of tuple of str to list of int
        n-gram -> places of the texts that have it.
    boilerplate : set of tuple of str
        n-grams that are nobody's own.
    sizes : Counter of int
        Different n-grams of each text, without boilerplate.
    """

    texts: list[Gram]
    by_gram: dict[Gram, list[int]]
    boilerplate: set[Gram]
    sizes: Counter[int]


def _own(suspects: Iterable[Gram], held_out: _HeldOut, n: int) -> _Own:
    """What is not in many held-out texts, nor in many of the pool."""
    in_pool: Counter[Gram] = Counter()
    for text in suspects:
        tell()
        in_pool.update(held_out.by_gram.keys() & set(_grams(text, n)))
    own = {
        gram: places
        for gram, places in held_out.by_gram.items()
        if max(len(places), in_pool[gram]) <= BOILERPLATE
    }
    sizes = Counter(place for places in own.values() for place in places)
    return _Own(list(held_out.places), own, held_out.by_gram.keys() - own.keys(), sizes)


def _in_part(text: Gram, own: _Own, n: int, share: float) -> _Match | None:
    """The held-out text that a text overlaps most with, of those with its figures."""
    grams = _grams(text, n)
    shared = Counter(place for gram in set(grams) for place in own.by_gram.get(gram, ()))
    if not shared:
        return None
    size = len(set(grams) - own.boilerplate)
    overlaps = {place: count / min(size, own.sizes[place]) for place, count in shared.items()}
    for place in sorted(overlaps, key=lambda place: (-overlaps[place], place)):
        if overlaps[place] < share:
            return None
        if _same_figures(text, own.texts[place]):
            inside = [place in own.by_gram.get(gram, ()) for gram in grams]
            first, length = _longest_run(inside)
            return _Match(overlaps[place], place, text[first : first + length + n - 1])
    return None


def _same_figures(a: Gram, b: Gram) -> bool:
    """Whether the figures of one all stand in the other, in the same order."""
    fewer, more = sorted((figures(a), figures(b)), key=len)
    rest = iter(more)
    return all(figure in rest for figure in fewer)


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
