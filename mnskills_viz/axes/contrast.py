"""Words that tell the poles of an axis apart."""

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import InputError
from .examples import POLES

Rows = Sequence[int] | NDArray[np.int64]

BACKGROUND = 5000
"""Most texts that tell how common a term is anywhere, evenly spaced over all of them."""

MOST_CHARACTERS = 20_000
"""Of each text, that terms are counted in."""

COMMON = 0.25
"""Share of a pole's texts that a term of it stands in, at the least."""

_NO_SPACES = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # scripts that put none between words
WORD = re.compile(rf"[{_NO_SPACES}]|[^\W\d_{_NO_SPACES}]{{2,}}(?:['’][^\W\d_]+)*")

FUNCTION_WORDS = frozenset(
    WORD.findall(
        "about after all an and any are as at be been before but by can could did do does each for "
        "from had has have he her him his how if in into is it its let many me much my no not of "
        "on or our she so than that the their them then there these they this those to up us was "
        "we were what when where which who whose why will with would you your"
    )
)
"""Words that say nothing of a text by themselves. They are counted, but no term that begins or ends
with one is shown."""


def contrast_terms(
    texts: Sequence[str], positive_rows: Rows, negative_rows: Rows, n: int = 8
) -> pd.DataFrame:
    """Words and word pairs that tell the poles of an axis apart.

    Weighted log-odds ratio with an informative Dirichlet prior (Monroe, Colaresi & Quinn 2008,
    "Fightin' Words", equations 16, 19 and 22). Of a term, `y` of a pole's `n` counts and `y'` of
    the other's `n'` give ::

        log_odds = log((y + a) / (n + A - y - a)) - log((y' + a) / (n' + A - y' - a))
        z = log_odds / sqrt(1 / (y + a) + 1 / (y' + a))

    with `A` the mean of `n` and `n'`, and `a` the part of `A` that the term has of the counts in
    all texts: the prior weighs as much as one pole. A text counts a term once, however often it
    repeats it, so that no long text speaks for a pole.

    Parameters
    ----------
    texts : sequence of str
        Of all rows. Of more than 5,000 a sample stands for all in the prior.
    positive_rows, negative_rows : sequence of int
        Rows at either pole.
    n : int
        Most terms a pole.

    Returns
    -------
    DataFrame
        ``pole`` (+1 or -1), ``term``, ``log_odds`` (nats) and ``z``, both above 0 for what that
        pole has more of; +1 first, the highest z first. A term is there if a quarter of the
        pole's texts have it, two or more, and a larger share than at the other pole; of terms that
        have a word in common the one of the highest z, of equal z the longest. Empty if the texts
        have not two terms.

    Raises
    ------
    InputError
        A pole without rows, or a row that there is not.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    ends = {1: _required(texts, positive_rows, 1), -1: _required(texts, negative_rows, -1)}
    spaced = np.linspace(0, len(texts) - 1, min(len(texts), BACKGROUND)).astype(np.int64)
    known = np.unique(np.concatenate([spaced, *ends.values()]))
    counter = CountVectorizer(analyzer=_terms, binary=True)
    try:
        counts = counter.fit_transform([texts[i] for i in known])
    except ValueError:  # no text has a word
        return _table([])
    terms = counter.get_feature_names_out()
    here, there = (
        np.asarray(counts[np.searchsorted(known, ends[pole])].sum(axis=0)).ravel()
        for pole in (1, -1)
    )
    if len(terms) < 2 or not (here.any() or there.any()):
        return _table([])
    everywhere = np.asarray(counts.sum(axis=0)).ravel()
    log_odds, z = weighted_log_odds(here, there, everywhere)
    lengths = np.array([len(term) for term in terms])
    shares = here / len(ends[1]) - there / len(ends[-1])
    rows = []
    for pole, counted in ((1, here), (-1, there)):
        least = min(max(2, COMMON * len(ends[pole])), len(ends[pole]))
        shown = (counted >= least) & (pole * shares > 0) & (pole * z > 0)
        order = np.lexsort((terms, -lengths, -pole * z.round(9)))
        telling = (i for i in order if shown[i] and _says_something(terms[i]))
        best = itertools.islice(_apart(telling, terms), n)
        rows += [(pole, str(terms[i]), pole * log_odds[i], pole * z[i]) for i in best]
    return _table(rows)


def weighted_log_odds(
    here: NDArray[np.integer], there: NDArray[np.integer], everywhere: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log-odds ratios of terms and their z, [n_terms]; the formula stands in `contrast_terms`.

    Parameters
    ----------
    here, there, everywhere : ndarray of int, [n_terms]
        Counts in two groups and in all texts, the last above 0; at least two terms.
    """
    weight = (here.sum() + there.sum()) / 2
    prior = weight * everywhere / everywhere.sum()
    groups = [group + prior for group in (here, there)]
    logits = [np.log(group / (group.sum() - group)) for group in groups]
    log_odds = logits[0] - logits[1]
    return log_odds, log_odds / np.sqrt(1 / groups[0] + 1 / groups[1])


def _required(texts: Sequence[str], rows: Rows, pole: int) -> NDArray[np.int64]:
    found = np.asarray(rows, dtype=np.int64).ravel()
    if not len(found):
        raise InputError(f"no rows at the {POLES[pole]} pole; a contrast needs some at each")
    if found.min() < 0 or found.max() >= len(texts):
        raise InputError(
            f"rows at the {POLES[pole]} pole must be between 0 and {len(texts) - 1}, "
            f"not {found.min()} to {found.max()}"
        )
    return found


def _terms(text: str) -> Iterator[str]:
    """Words of a text, lower case, and pairs of words with nothing but a space between."""
    before, end = "", 0
    text = text[:MOST_CHARACTERS]
    for match in WORD.finditer(text):
        word = match[0].lower()
        yield word
        if before and text[end : match.start()].isspace():
            yield f"{before} {word}"
        before, end = word, match.end()


def _says_something(term: str) -> bool:
    words = term.split()
    return words[0] not in FUNCTION_WORDS and words[-1] not in FUNCTION_WORDS


def _apart(order: Iterable[int], terms: Sequence[str]) -> Iterator[int]:
    """Those of some terms no word of which stood in an earlier one."""
    seen: set[str] = set()
    for i in order:
        words = set(terms[i].split())
        if not words & seen:
            yield i
            seen |= words


def _table(rows: Sequence[tuple[int, str, float, float]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["pole", "term", "log_odds", "z"])
