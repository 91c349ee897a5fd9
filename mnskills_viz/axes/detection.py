"""How well a label tells held-out rows of its pole from others.

In the manner of delphi (Paulo et al. 2024, "Automatically Interpreting Millions of Features in
Large Language Models"): whoever knows nothing but the label has to find the texts that it is about.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..activations.pairs import Beginning, PairRow, logprobs, n_in_common
from ..errors import InputError
from ..models import context_length, exclusive

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel

Scores = NDArray[np.float64]

READ = 600
"""Characters of a text that a judge reads."""

LONGEST = 80
"""Characters of a label."""

GENERIC = ("text", "general", "question and answer", "miscellaneous")
"""Labels that say nothing."""

QUANTILE = 1.959963984540054
"""Of the normal distribution, for 95 % intervals."""

TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Score:
    """How well a label was told.

    Attributes
    ----------
    auc : float
        Chance that a row of the pole scores above another one; 0.5 says nothing.
    low, high : float
        Its 95 % interval.
    n : int
        Rows, of both kinds.
    accuracy : float
        Mean of the shares called right, of the pole's rows and of the others, when as many rows
        are called the pole's as there are; of equal scores a part is.
    """

    auc: float
    low: float
    high: float
    n: int
    accuracy: float


class Judge(Protocol):
    """Who knows nothing of a pole but its label."""

    def scores(self, labels: Sequence[str], texts: Sequence[str]) -> Scores:
        """How well each text fits each label, [n_labels, n_texts]; compared within a label."""


class Embedded(Protocol):
    """Texts as vectors: `selection.text_vectors.TextVectors` is one."""

    @property
    def vectors(self) -> NDArray[np.float32]:
        """[n, d], of length 1 or 0."""


def held_out(
    z: NDArray[np.floating[Any]], n_shown: int, n: int = 20, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to try a label of the positive pole on, none of them among those shown.

    Positives are the ranks right behind the `n_shown` most extreme, as far as the outer third
    goes. Of the negatives one half lies as far out at the other end, behind the rows shown there,
    the other half is drawn from the middle third. For the negative pole give ``-z``.

    Parameters
    ----------
    z : ndarray, [n_rows]
        Coordinates on one axis.
    n_shown : int
        Rows at either end that a suggestion was made from.
    n : int
        Most rows of each kind.
    seed : int
        Of the rows from the middle.

    Returns
    -------
    positives, negatives : ndarray of int64
        As many of the one as of the other.

    Raises
    ------
    InputError
        Fewer than 2 rows of a kind would be left, or a bad number.
    """
    for name, number, least in (("n_shown", n_shown, 0), ("n", n, 2), ("seed", seed, 0)):
        if isinstance(number, bool) or number < least:
            raise InputError(f"{name} must be a whole number of at least {least}, not {number!r}")
    third = len(z) // 3
    n = min(n, third - n_shown)
    if n < 2:
        raise InputError(
            f"{len(z)} rows leave none to try a label on behind the {n_shown} shown at each end; "
            f"there must be {3 * (n_shown + 2)} or more, or fewer shown"
        )
    falling = np.argsort(-z, kind="stable")
    middle = np.random.default_rng(seed).permutation(falling[third : len(z) - third])
    other_end = falling[::-1][n_shown : n_shown + n // 2]
    return falling[n_shown : n_shown + n], np.concatenate([other_end, middle[: n - n // 2]])


def detection(
    label: str, rows_of_pole: Sequence[str], other_rows: Sequence[str], judge: Judge
) -> Score:
    """Score a label by the rows that a judge finds with it.

    Parameters
    ----------
    label : str
    rows_of_pole, other_rows : sequence of str
        Texts that it was not made from, such as those at the rows of `held_out`.
    judge : Judge

    Returns
    -------
    Score

    Raises
    ------
    InputError
        An empty label, or no texts of a kind.
    """
    return detections([label], rows_of_pole, other_rows, judge)[0]


def detections(
    labels: Sequence[str], rows_of_pole: Sequence[str], other_rows: Sequence[str], judge: Judge
) -> list[Score]:
    """Score several labels on the same rows, as `detection` does each."""
    if not all(label.strip() for label in labels):
        raise InputError("the label is empty; write what the pole is about")
    texts = [*rows_of_pole, *other_rows]
    return [score(found, len(rows_of_pole)) for found in judge.scores(labels, texts)]


def score(scores: Scores, n_positive: int) -> Score:
    """Score of texts, the first `n_positive` of which are the pole's.

    Parameters
    ----------
    scores : ndarray, [n_texts]
    n_positive : int

    Raises
    ------
    InputError
        No texts of a kind.
    """
    from scipy.stats import rankdata

    n_other = len(scores) - n_positive
    if min(n_positive, n_other) < 1:
        raise InputError(
            f"{n_positive} rows of the pole and {n_other} others: detection needs some of each"
        )
    ranks = rankdata(scores)[:n_positive]
    auc = float((ranks.sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_other))
    # Called the pole's: the scores above the n_positive-th, and of those that equal it a part.
    line = np.sort(scores)[-n_positive]
    above, equal = scores > line, scores == line
    called = above + equal * ((n_positive - above.sum()) / equal.sum())
    accuracy = (called[:n_positive].mean() + 1 - called[n_positive:].mean()) / 2
    return Score(auc, *auc_interval(auc, n_positive, n_other), len(scores), float(accuracy))


def auc_interval(auc: float, n_positive: int, n_other: int) -> tuple[float, float]:
    """95 % interval of an area under the ROC curve, closed form.

    Newcombe 2006 ("Confidence intervals for an effect size measure based on the Mann-Whitney
    statistic", part 2, method 5): the values that `auc` lies within 1.96 standard errors of, by
    the variance of Hanley and McNeil at those values with both groups taken as equally large. It
    stays within 0 and 1, and has a width at both.
    """
    from scipy.optimize import brentq

    size = (n_positive + n_other) / 2 - 1

    def beyond(value: float) -> float:
        """Squared distance from `auc`, less what the interval allows."""
        spread = 1 + size * ((1 - value) / (2 - value) + value / (1 + value))
        variance = value * (1 - value) * spread / (n_positive * n_other)
        return float((value - auc) ** 2 - QUANTILE**2 * variance)

    # At 0 and 1 `auc` itself solves it as well, and is not meant.
    low = brentq(beyond, 0.0, min(auc, 1 - TINY)) if auc > 0 else 0.0
    high = brentq(beyond, max(auc, TINY), 1.0) if auc < 1 else 1.0
    return float(low), float(high)


# ------------------------------------------------------------------------------------- judges


class TextJudge:
    """Judges by the cosine of label and text as vectors.

    Parameters
    ----------
    embed : callable
        Texts to unit vectors, such as `selection.text_vectors.text_vectors`. Labels and texts are
        given together.
    """

    def __init__(self, embed: Callable[[Sequence[str]], Embedded]) -> None:
        self._embed = embed

    def scores(self, labels: Sequence[str], texts: Sequence[str]) -> Scores:
        """Cosines, [n_labels, n_texts], rounded: of nothing in common rounding errors are left."""
        read = [shortened(text, READ) for text in (*labels, *texts)]
        vectors = self._embed(read).vectors.astype(np.float64)
        cosines = vectors[: len(labels)] @ vectors[len(labels) :].T
        return np.asarray(cosines.round(5))


class ModelJudge:
    """Judges by how likely a loaded model goes on from a text to its label.

    ``log p(label | text, "Topic:")``, summed over the label's tokens, less the mean of the same
    over `GENERIC` labels, so that what a text makes of any label cancels. What the label is worth
    by itself is the same for all texts. The model reads a text once for all labels.

    [SmolLM2-135M, 16 poles of the demo corpus, labels from the contrast: mean AUC of a pole's own
    label 0.65 this way; on most of these rows 0.57 by how much more likely the label makes the
    text, and 0.49 by Yes against No.]

    Parameters
    ----------
    model : TransformersModel
    """

    def __init__(self, model: "TransformersModel") -> None:
        self._model = model

    def scores(self, labels: Sequence[str], texts: Sequence[str]) -> Scores:
        """Nats, [n_labels, n_texts]."""
        asked = [*labels, *GENERIC]
        contexts = [f"{shortened(text, READ)}\n\nTopic:" for text in texts]
        found = np.stack([label_logprobs(self._model, c, asked) for c in contexts], axis=1)
        of_labels, of_generic = np.split(found, [len(labels)])
        return np.asarray(of_labels - of_generic.mean(axis=0))


def label_logprobs(model: "TransformersModel", context: str, labels: Sequence[str]) -> Scores:
    """Log-probability of each label after a context that is read once, [n_labels], in nats."""
    import torch

    after = _label_ids(model, labels)
    before = model.tokenizer(context)["input_ids"]
    if limit := context_length(model):  # what is asked stands at the end
        before = before[-max(1, limit - max(map(len, after))) :]
    rows = [_row(before, ids) for ids in after]
    with exclusive(model), torch.inference_mode():
        beginning = None
        if n_common := n_in_common(model, rows):
            beginning = Beginning(rows, n_common)
            beginning.read(model)
            beginning.spread()
        found = logprobs(model, rows, beginning).cpu().numpy().astype(np.float64)
    ends = np.cumsum([len(row.at) for row in rows])
    return np.array([part.sum() for part in np.split(found, ends[:-1])])


def _label_ids(model: "TransformersModel", labels: Sequence[str]) -> list[list[int]]:
    texts = [f" {shortened(label, LONGEST)}" for label in labels]
    ids: list[list[int]] = model.tokenizer(texts, add_special_tokens=False)["input_ids"]
    return ids


def _row(before: Sequence[int], after: Sequence[int]) -> PairRow:
    """A text of which the tokens `after` are scored."""
    ids = np.array([*before, *after], dtype=np.int64)
    scored = np.arange(max(len(before), 1), len(ids))
    return PairRow(
        example=0,
        ids=ids,
        positions=np.arange(len(ids)),
        shared=len(ids),
        second=len(ids),
        is_prompt=np.arange(len(ids)) < len(before),
        at=scored - 1,
        scored=ids[scored],
        weights=np.ones(len(scored), dtype=np.float32),
    )


def shortened(text: str, most: int) -> str:
    """The beginning of a text in one line, of at most so many characters."""
    line = " ".join(text[: 8 * most].split())
    # Half a surrogate pair is no text to a tokenizer.
    return line[:most].strip().encode(errors="replace").decode()
