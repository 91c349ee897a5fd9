"""How good each axis of a basis is, as one table."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import mutual_info_score

from ..errors import InputError
from .basis import Array, Basis
from .pca import PCABasis, skewness

# Deciles: fine enough to see a skewed axis, coarse enough for a few hundred rows.
BINS = 10

Indices = npt.NDArray[np.intp]


def quality(
    basis: Basis,
    X: npt.ArrayLike,
    categories: Sequence[Any] | None = None,
    lengths: npt.ArrayLike | None = None,
) -> pd.DataFrame:
    """One row an axis: what it holds, whether it recurs, what it may be in disguise.

    Parameters
    ----------
    basis : Basis
        Fitted.
    X : array-like [n, d]
        The rows to judge it by, as a rule those it was fitted on.
    categories : sequence of length n, optional
        The human taxonomy's word for each row; rows without one (None, NaN) are left out.
    lengths : array-like [n], optional
        Tokens in each row's text.

    Returns
    -------
    DataFrame
        axis : number of the axis, from 0.
        variance : share of the total variance of `X` that it holds, in [0, 1].
        skewness : third standardised moment of its coordinate.
        stability : in [0, 1]. The basis is refitted on two random halves of `X`, the axes of
        one half are assigned to those of the other by largest |cosine| (Hungarian), and each
        axis of the basis takes the |cosine| of the half's axis assigned to it. Only for PCA;
        NaN for a random basis, which would find itself again, and for a SAE, whose refit is dear.
        max_offdiag_cosine : largest |cosine| with another axis: rounding, if it is orthonormal.
        length_r2 : with `lengths`, R2 of the coordinate on the length.
        mutual_information : with `categories`, nats between category and decile of the
        coordinate, less the bias of a finite table, ``(rows - 1) (columns - 1) / 2n``
        (Miller 1955), not below 0.

    Raises
    ------
    InputError
        Rows do not fit the basis or are all equal, or categories or lengths are not one a row.
    """
    coordinates = basis.transform(X)
    rows = np.asarray(X)
    total = rows.var(axis=0, dtype=np.float64).sum()
    if total == 0:
        raise InputError(f"all {len(rows)} rows are equal: give rows that vary")
    table = pd.DataFrame(
        {
            "axis": np.arange(basis.n_axes_),
            "variance": coordinates.var(axis=0, dtype=np.float64) / total,
            "skewness": skewness(coordinates),
            "stability": _split_half_stability(basis, rows),
            "max_offdiag_cosine": _largest_cosine_with_another(basis.components_),
        }
    )
    if lengths is not None:
        values = np.asarray(lengths, dtype=np.float64)
        _check_one_a_row("lengths", len(values), len(rows))
        table["length_r2"] = _r2(coordinates, values)
    if categories is not None:
        _check_one_a_row("categories", len(categories), len(rows))
        codes, _ = pd.factorize(np.array(categories, dtype=object))
        table["mutual_information"] = _mutual_information(coordinates, codes)
    return table


def _check_one_a_row(name: str, found: int, expected: int) -> None:
    if found != expected:
        raise InputError(f"{name} must be one a row: {found} for {expected} rows")


def _split_half_stability(basis: Basis, rows: npt.NDArray[Any]) -> Array:
    if not isinstance(basis, PCABasis) or len(rows) < 4:
        return np.full(basis.n_axes_, np.nan)
    order = np.random.default_rng(0).permutation(len(rows))
    middle = len(rows) // 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a half may have a lower rank
        halves = [
            PCABasis(n_axes=basis.n_axes_).fit(rows[np.sort(half)])
            for half in (order[:middle], order[middle:])
        ]
    first, second = (half.components_ for half in halves)
    # Half against half: each half is a part of the whole fit, and flatters it.
    between = np.zeros(len(first))
    mine, _, cosines = _matched(first, second)
    between[mine] = cosines
    stability = np.zeros(basis.n_axes_)
    axes, halfs, _ = _matched(basis.components_, first)
    stability[axes] = between[halfs]
    return stability


def _matched(axes: Array, others: Array) -> tuple[Indices, Indices, Array]:
    """Pairs of one axis and one other, and their |cosine|: the assignment of largest total."""
    cosines = np.abs(axes @ others.T)
    mine, theirs = linear_sum_assignment(cosines, maximize=True)
    return mine, theirs, np.minimum(cosines[mine, theirs], 1.0)


def _largest_cosine_with_another(axes: Array) -> Array:
    cosines = np.abs(axes @ axes.T)
    np.fill_diagonal(cosines, 0.0)
    largest: Array = cosines.max(axis=1)
    return largest


def _r2(coordinates: Array, values: Array) -> Array:
    """Squared correlation of each column with `values`; NaN where either does not vary."""
    centred = coordinates - coordinates.mean(axis=0, dtype=np.float64)
    about = values - values.mean()
    with np.errstate(invalid="ignore", divide="ignore"):
        explained: Array = (about @ centred) ** 2 / ((centred**2).sum(axis=0) * (about @ about))
    return explained


def _mutual_information(coordinates: Array, codes: npt.NDArray[np.int64]) -> Array:
    known = codes >= 0
    codes, coordinates = codes[known], coordinates[known]
    if len(codes) == 0:
        return np.full(coordinates.shape[1], np.nan)
    ranks = coordinates.argsort(axis=0, kind="stable").argsort(axis=0, kind="stable")
    bins = ranks * BINS // len(codes)
    found = np.array([mutual_info_score(codes, column) for column in bins.T])
    cells = (len(np.unique(codes)) - 1) * (len(np.unique(bins)) - 1)
    return np.maximum(found - cells / (2 * len(codes)), 0.0)
