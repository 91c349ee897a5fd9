"""Labels suggested for the poles of an axis; nothing is ever applied by itself."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..corpus import Corpus, Example
from ..errors import InputError
from ..generation import generate
from ..models import context_length
from .contrast import WORD, Rows, contrast_terms
from .detection import LONGEST, Judge, detections, held_out, label_logprobs, shortened
from .examples import POLES, CategoryCounts, overrepresented, poles

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel


TELLING = 1.0
"""z from which on a term goes into a label: that of 4 texts of 12 against none is about there."""

NAMED = 0.25
"""Share of a pole's examples from which on a category goes into its label."""

SHOWN, ASKED = 8, 160
"""Texts of a pole that a model is shown, and characters of each."""

DRAWN, TEMPERATURE, NEW_TOKENS = 8, 0.7, 12
"""Sampled answers, and how they are sampled."""

MARGIN = 1.0
"""Nats that an answer must be more likely by for its own pole than for the other."""

PATTERN = (
    (
        [
            "What is the capital of France?",
            "Which river flows through Egypt?",
            "Name the highest mountain of Africa.",
        ],
        "geography",
    ),
    (
        ["How do I boil an egg?", "What goes into a tomato soup?", "Can I freeze bread?"],
        "cooking and recipes",
    ),
    (
        [
            "Translate 'thank you' into Spanish.",
            "How do you say 'tree' in German?",
            "What does 'bonjour' mean?",
        ],
        "translation between languages",
    ),
)
"""Texts with their topics, as an answer is to look."""


def suggest_from_contrast(
    texts: Sequence[str],
    categories: Sequence[str | None] | CategoryCounts,
    positive_rows: Rows,
    negative_rows: Rows,
    n: int = 3,
) -> dict[int, str]:
    """A short label for each pole: the categories that stand out there, and its top terms.

    Parameters
    ----------
    texts, categories
        Of all rows.
    positive_rows, negative_rows : sequence of int
        Rows at either pole.
    n : int
        Most terms a label.

    Returns
    -------
    dict of int to str
        +1 and -1 to labels such as ``"parity: odd, even"``; a pole of which there is nothing to
        say is missing.

    Raises
    ------
    InputError
        As in `contrast_terms`.
    """
    terms = contrast_terms(texts, positive_rows, negative_rows, n)
    counted = CategoryCounts.of(categories)
    labels = {}
    for pole, rows in ((1, positive_rows), (-1, negative_rows)):
        named = [c for c, share in overrepresented(counted, rows) if share >= NAMED]
        of_pole = terms[(terms["pole"] == pole) & (terms["z"] >= TELLING)]
        said = [", ".join(named), ", ".join(of_pole["term"])]
        label = ": ".join(part for part in said if part)
        if label:
            labels[pole] = label
    return labels


# --------------------------------------------------------------------------------- by a model


def suggest_from_model(
    model: "TransformersModel",
    texts_of_pole: Sequence[str],
    texts_of_other_pole: Sequence[str],
    n: int = 3,
    seed: int = 0,
) -> list[str]:
    """Ask a model for the topic of a pole's examples.

    It goes on from a few texts with their topics, once greedily and `DRAWN` times sampled: small
    models fill in such a pattern where they fail at the same question in a chat. [SmolLM2-135M,
    the same pattern as a chat, eight poles of the demo corpus: for six it goes on with a text or
    repeats a topic of the pattern; from plain text it gives a topic for each.]

    An answer is kept if it is a phrase (`phrase`) most words of which are words, not fragments
    (they stand in the texts or are one token), not a topic of the pattern, and if the model finds
    it e times more likely as the topic of these texts than of the other pole's. Of a model too
    weak for that nothing is kept.

    Parameters
    ----------
    model : TransformersModel
    texts_of_pole, texts_of_other_pole : sequence of str
        Examples, the most extreme first; the first 8 are read, 160 characters of each.
    n : int
        Most suggestions.
    seed : int
        Of the samples.

    Returns
    -------
    list of str
        One line of at most 80 characters each, all different; the one that tells the poles apart
        the best first.

    Raises
    ------
    InputError
        A pole without texts, or a bad number.
    """
    for name, texts in (("pole", texts_of_pole), ("other pole", texts_of_other_pole)):
        if not any(text.strip() for text in texts):
            raise InputError(f"no text at the {name}; a model needs some of both to name one")
    asked = _topic_prompt(model, texts_of_pole)
    other = _topic_prompt(model, texts_of_other_pole)
    if asked is None or other is None:
        return []
    greedy = generate(model, [asked], max_new_tokens=NEW_TOKENS)[0]
    drawn = generate(
        model, [asked], n=DRAWN, max_new_tokens=NEW_TOKENS, temperature=TEMPERATURE, seed=seed
    )[0]
    phrases = [phrase(answer) for answer in (*greedy, *drawn)]
    given = {topic for _, topic in PATTERN}
    # Of those that differ in case alone the first.
    unlike = {
        p.casefold(): p
        for p in reversed(phrases)
        if p and p.casefold() not in given and _is_of_words(p, model, asked)
    }
    found = sorted(unlike.values())
    if not found:
        return []
    better = label_logprobs(model, asked, found) - label_logprobs(model, other, found)
    best = np.argsort(-better, kind="stable")[:n]
    return [found[i] for i in best if better[i] > MARGIN]


def phrase(answer: str) -> str:
    """What a model answered as one phrase; empty if it is none.

    The first line, without quotes, bullets and the period, up to 80 characters; none if there is
    no word in it, or one word three times.
    """
    line = next((line for line in answer.splitlines() if line.strip()), "")
    line = shortened(line, len(answer)).strip(" -*•#\"'“”`.,:;")
    if len(line) > LONGEST:
        line = line[: LONGEST + 1].rpartition(" ")[0] or line[:LONGEST]
    words = Counter(match[0].casefold() for match in WORD.finditer(line))
    return line if words and max(words.values()) < 3 else ""


def _is_of_words(phrase: str, model: "TransformersModel", asked: str) -> bool:
    """Whether most words stand in what was asked, or are one token of the model."""
    words = [match[0] for match in WORD.finditer(phrase)]
    there = {match[0].casefold() for match in WORD.finditer(asked)}
    ids = model.tokenizer([f" {word}" for word in words], add_special_tokens=False)["input_ids"]
    known = [w.casefold() in there or len(i) == 1 for w, i in zip(words, ids, strict=True)]
    return 2 * sum(known) > len(words)


def _topic_prompt(model: "TransformersModel", texts: Sequence[str]) -> str | None:
    """Texts that end where their topic is to follow; None if not even one fits the model."""
    limit = context_length(model) or math.inf
    shown = [shortened(text, ASKED) for text in texts if text.strip()][:SHOWN]
    while shown:
        parts = [*PATTERN, (shown, "")]
        asked = "\n\n".join(
            "Texts:\n" + "".join(f"- {text}\n" for text in some) + f"Topic: {topic}".rstrip()
            for some, topic in parts
        )
        if len(model.tokenizer(asked)["input_ids"]) + LONGEST <= limit:
            return asked
        shown = shown[: len(shown) // 2]
    return None


# ------------------------------------------------------------------------------- both, scored


def suggest_labels(
    model: "TransformersModel | None",
    corpus: Corpus,
    z_of_axis: NDArray[np.floating[Any]],
    judge: Judge,
    n_shown: int = 12,
    n_held_out: int = 20,
    seed: int = 0,
    tell: Callable[[int, int], object] | None = None,
) -> pd.DataFrame:
    """Labels for both poles of an axis, with how well each finds rows that it was not made from.

    Parameters
    ----------
    model : TransformersModel or None
        Asked for labels as well, if there is one.
    corpus : Corpus
    z_of_axis : ndarray, [len(corpus)]
        Coordinates on the axis.
    judge : Judge
        Scores all of them. [16 poles of the demo corpus, mean AUC of a pole's own label from the
        contrast, and of labels dealt at random: `TextJudge` with MiniLM 0.67 and 0.49, `ModelJudge`
        with SmolLM2-135M 0.65 and 0.49, `TextJudge` with TF-IDF 0.54 and 0.50.]
    n_shown : int
        Rows at either pole that labels are made from; at most a sixth of all rows.
    n_held_out : int
        Rows at either pole that they are scored on, and as many others; see `held_out`.
    seed : int
    tell : callable, optional
        Called with (done, total) after every step.

    Returns
    -------
    DataFrame
        ``pole`` (+1 or -1), ``label``, ``source`` ("contrast" or "model"), ``auc low high`` and
        ``n``: +1 first, the highest AUC first. Empty if there is nothing to say.

    Raises
    ------
    InputError
        Coordinates that are not the corpus's, or fewer than 18 rows.
    """
    if len(z_of_axis) != len(corpus):
        raise InputError(
            f"{len(z_of_axis)} coordinates and {len(corpus)} examples: one of each was expected"
        )
    texts = [_text(example) for example in corpus]
    categories = [example.category for example in corpus]
    n_shown = min(n_shown, len(corpus) // 6)
    # Before the work: too few rows are refused here.
    tried = {pole: held_out(pole * z_of_axis, n_shown, n_held_out, seed) for pole in POLES}
    ends = poles(z_of_axis, n_shown)
    found = suggest_from_contrast(texts, categories, ends.positive, ends.negative)
    total, done = 2 * len(POLES), 0
    rows = []
    for pole in POLES:
        labels = {found[pole]: "contrast"} if pole in found else {}
        if model is not None:
            here, there = ([texts[i] for i in ends.of(end)] for end in (pole, -pole))
            said = suggest_from_model(model, here, there, seed=seed)
            labels = dict.fromkeys(said, "model") | labels
        done = _told(tell, done, total)
        of_pole, others = ([texts[i] for i in some] for some in tried[pole])
        scores = detections([*labels], of_pole, others, judge) if labels else []
        done = _told(tell, done, total)
        best = sorted(zip(labels.items(), scores, strict=True), key=lambda found: -found[1].auc)
        rows += [(pole, *label, s.auc, s.low, s.high, s.n) for label, s in best]
    columns = ["pole", "label", "source", "auc", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)


def _text(example: Example) -> str:
    return f"{example.prompt_text}\n{example.response}".strip()


def _told(tell: Callable[[int, int], object] | None, done: int, total: int) -> int:
    """One step more."""
    if tell is not None:
        tell(done + 1, total)
    return done + 1
