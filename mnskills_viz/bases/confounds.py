"""What a direction may be in disguise: length, template, words, a latent, a category."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypedDict

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.linalg
import scipy.sparse
from scipy.special import entr
from sklearn.feature_extraction.text import TfidfVectorizer

from ..errors import InputError
from .active_subspace import gradient_share
from .basis import Array
from .orthogonalize import unit_rows

BINS = 10
"""Deciles: fine enough to see a skewed axis, coarse enough for a few hundred rows."""

WORDS = 1000
"""Most frequent words that make the bag."""

PENALTY = 0.3
"""Of the ridge regression on words, whose rows have unit length: of 0.1, 0.3, 1 and 3 it predicts
the axes of 800 GSM8K rows best."""

# Mathematics is written with single digits and signs: they are words too.
WORD = r"\w+|[^\w\s]"

Codes = npt.NDArray[np.int64]


class HasDirections(Protocol):
    """A dictionary: unit directions in rows."""

    components_: Array


class Known(TypedDict, total=False):
    """What may be known of rows, as the caller has it; see `quality`."""

    categories: Sequence[Any] | None
    lengths: npt.ArrayLike | None
    templates: Sequence[Any] | None
    texts: Sequence[str] | None
    gradients: npt.ArrayLike | None
    dictionary: HasDirections | None


@dataclass(frozen=True, slots=True)
class Words:
    """A ridge regression on a bag of words, ready for any target."""

    rows: Array
    """[n, v] centred tf-idf."""
    solver: Array
    """[v, n]: from centred targets to coefficients."""
    leverage: Array
    """[n]: how much a row's own target moves its prediction, the intercept included."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What directions are held against; None where it is not known."""

    lengths: Array | None
    """[n]"""
    templates: Codes | None
    """[n], -1 where a row has none."""
    words: Words | None
    categories: Codes | None
    """[n], -1 where a row has none."""
    latents: Array | None
    """[m, d] unit rows."""
    gradients: Array | None
    """[g, d]"""

    @classmethod
    def of(cls, rows: Array, chosen: npt.NDArray[np.int64], known: Known) -> Self:
        """Check what is known of `rows` [n, d], and keep that of the `chosen` ones.

        Raises
        ------
        InputError
            Not one a row, not as wide as the rows, or not what it should be.
        """
        n, d = rows.shape
        lengths = known.get("lengths")
        dictionary, gradients = known.get("dictionary"), known.get("gradients")
        return cls(
            lengths=None if lengths is None else _numbers("lengths", lengths, (n,))[chosen],
            templates=_codes("templates", known.get("templates"), n, chosen),
            words=_words(known.get("texts"), n, chosen),
            categories=_codes("categories", known.get("categories"), n, chosen),
            latents=None if dictionary is None else _directions(dictionary, d),
            gradients=None if gradients is None else _numbers("gradients", gradients, (-1, d)),
        )


def figures(axes: Array, coordinates: Array, evidence: Evidence) -> dict[str, Array]:
    """What is known of each direction, by the name of its column; see `quality`.

    Parameters
    ----------
    axes : ndarray [k, d]
        Unit rows.
    coordinates : ndarray [n, k]
        Of the rows that the evidence is about.
    evidence : Evidence

    Returns
    -------
    dict of str to ndarray [k]
        Only what there is evidence for.
    """
    found: dict[str, Array] = {}
    if evidence.lengths is not None:
        found["length_r2"] = squared_correlation(coordinates, evidence.lengths)
    if evidence.templates is not None:
        found["template_r2"] = share_between(coordinates, evidence.templates)
    if evidence.words is not None:
        found["token_r2"] = share_predicted(coordinates, evidence.words)
    if evidence.categories is not None:
        found["mutual_information"] = mutual_information(coordinates, evidence.categories)
    if evidence.latents is not None:
        found["latent_cosine"] = np.minimum(np.abs(axes @ evidence.latents.T).max(axis=1), 1.0)
    if evidence.gradients is not None:
        found["gradient_share"] = gradient_share(axes, evidence.gradients)
    return found


def squared_correlation(coordinates: Array, values: Array) -> Array:
    """R2 [k] of each column of `coordinates` [n, k] on `values` [n]; NaN if either is constant."""
    centred = _centred(coordinates)
    about = values - values.mean()
    return _ratio((about @ centred) ** 2, (centred**2).sum(axis=0) * (about @ about))


def share_between(coordinates: Array, codes: Codes) -> Array:
    """Share of each column's variance that lies between groups, less what chance puts there.

    Adjusted eta squared, ``1 - (within / (n - groups)) / (total / (n - 1))``, not below 0 (Kelley,
    PNAS 21 (1935) 554). NaN with fewer than 2 groups, without a group of 2 rows, or for a column
    that does not vary.

    Parameters
    ----------
    coordinates : ndarray [n, k]
    codes : ndarray [n]
        Group of each row; rows with -1 are left out.
    """
    known = codes >= 0
    centred, codes = _centred(coordinates[known]), codes[known]
    n, sizes = len(codes), np.bincount(codes)
    if len(sizes) < 2 or len(sizes) == n:
        return np.full(coordinates.shape[1], np.nan)
    member = scipy.sparse.csr_array((np.ones(n), (codes, np.arange(n))), shape=(len(sizes), n))
    total = (centred**2).sum(axis=0)
    within = total - ((member @ centred) ** 2 / sizes[:, None]).sum(axis=0)
    return np.maximum(1 - _ratio(within / (n - len(sizes)), total / (n - 1)), 0.0)


def share_predicted(coordinates: Array, words: Words) -> Array:
    """R2 [k], not below 0, of each column on a bag of words, every row predicted without itself.

    Leave-one-out of a ridge regression has a closed form: a residual divided by 1 less the row's
    leverage (Allen, Technometrics 16 (1974) 125). NaN for a column that does not vary.
    """
    targets = _centred(coordinates).astype(words.rows.dtype)
    residuals = targets - words.rows @ (words.solver @ targets)
    missed = np.square(residuals / (1 - words.leverage)[:, None]).sum(axis=0, dtype=np.float64)
    # The mean of the other rows predicts a row by 1 / (n - 1) worse than the mean of all.
    n = len(targets)
    total = np.square(targets).sum(axis=0, dtype=np.float64) * (n / (n - 1)) ** 2
    return np.maximum(1 - _ratio(missed, total), 0.0)


def mutual_information(coordinates: Array, codes: Codes) -> Array:
    """Nats [k] between group and decile of each column, less the bias of a finite table.

    The bias is ``(rows - 1) (columns - 1) / 2n`` of the table (Miller 1955); not below 0.

    Parameters
    ----------
    coordinates : ndarray [n, k]
    codes : ndarray [n]
        Group of each row; rows with -1 are left out. NaN if that is all of them.
    """
    known = codes >= 0
    codes, coordinates = codes[known], coordinates[known]
    n, k = coordinates.shape
    if n == 0:
        return np.full(k, np.nan)
    bins_in_order = np.arange(n) * BINS // n
    deciles = np.empty((n, k), dtype=np.int64)
    order = coordinates.argsort(axis=0, kind="stable")
    np.put_along_axis(deciles, order, bins_in_order[:, None], axis=0)
    groups = int(codes.max()) + 1
    cells = (np.arange(k) * BINS + deciles) * groups + codes[:, None]
    counts = np.bincount(cells.ravel(), minlength=k * BINS * groups).reshape(k, -1)
    apart = entr(np.bincount(bins_in_order) / n).sum() + entr(np.bincount(codes) / n).sum()
    bias = (groups - 1) * (len(np.unique(bins_in_order)) - 1) / (2 * n)
    shared: Array = apart - entr(counts / n).sum(axis=1) - bias
    return np.maximum(shared, 0.0)


def _centred(coordinates: Array) -> Array:
    centred: Array = coordinates - coordinates.mean(axis=0, dtype=np.float64)
    return centred


def _ratio(above: Array, below: Any) -> Array:
    """Quotient; NaN where there is nothing to take a share of."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(below > 0, above / below, np.nan)


def _one_a_row(name: str, found: int, n: int) -> None:
    if found != n:
        raise InputError(f"{name} must be one a row: {found} for {n} rows")


def _numbers(name: str, values: npt.ArrayLike, shape: tuple[int, ...]) -> Array:
    """`values` as finite float64 of a shape, -1 standing for any length."""
    array = np.asarray(values, dtype=np.float64)
    if len(shape) == 1:
        _one_a_row(name, len(array), shape[0])
    elif array.ndim != 2 or array.shape[1] != shape[1] or len(array) == 0:
        raise InputError(f"{name} must be [any number, {shape[1]}], got {list(array.shape)}")
    if not np.isfinite(array).all():
        raise InputError(f"{name} must be finite, and hold NaN or inf")
    return array


def _codes(
    name: str, words: Sequence[Any] | None, n: int, chosen: npt.NDArray[np.int64]
) -> Codes | None:
    if words is None:
        return None
    _one_a_row(name, len(words), n)
    codes, _ = pd.factorize(np.array(words, dtype=object)[chosen])
    return codes.astype(np.int64)


def _directions(dictionary: HasDirections, d: int) -> Array:
    return unit_rows(_numbers("the dictionary's components_", dictionary.components_, (-1, d)))


def _words(texts: Sequence[str] | None, n: int, chosen: npt.NDArray[np.int64]) -> Words | None:
    if texts is None:
        return None
    _one_a_row("texts", len(texts), n)
    everything = list(texts)
    taken = [everything[row] for row in chosen]
    if not all(isinstance(text, str) for text in taken):
        raise InputError("texts must be strings, one a row")
    bag = TfidfVectorizer(max_features=WORDS, token_pattern=WORD, dtype=np.float32)
    try:
        rows = bag.fit_transform(taken).toarray()
    except ValueError as error:
        raise InputError("texts hold no words at all; leave them out") from error
    rows -= rows.mean(axis=0)
    products = rows.T @ rows
    products[np.diag_indices_from(products)] += PENALTY
    solver = scipy.linalg.solve(products, rows.T, assume_a="pos")
    leverage = np.einsum("ij,ji->i", rows, solver) + 1 / len(rows)
    return Words(rows, solver, leverage)
