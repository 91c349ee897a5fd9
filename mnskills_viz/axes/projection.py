"""Rows in a plane that shows more than two axes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

FITTED_ON = 20_000
"""Rows that the plane is fitted on."""


def sample(groups: NDArray[np.integer[Any]], n: int, seed: int = 0) -> NDArray[np.int64]:
    """Draw rows: at most `n` and a few, of every group its share and at least one.

    Parameters
    ----------
    groups : ndarray of int from 0, [n_rows]
    n : int
    seed : int

    Returns
    -------
    ndarray of int64
        Ascending; all rows where there are no more than `n`.
    """
    if len(groups) <= n:
        return np.arange(len(groups), dtype=np.int64)
    drawn = np.random.default_rng(seed).permutation(len(groups))
    counts = np.bincount(groups)
    quota = np.maximum(1, counts * n // len(groups))
    by_group = drawn[np.argsort(groups[drawn], kind="stable")]
    rank = np.arange(len(groups)) - np.repeat(np.cumsum(counts) - counts, counts)
    found: NDArray[np.int64] = np.sort(by_group[rank < quota[groups[by_group]]])
    return found


def categories_apart(
    z: NDArray[np.floating[Any]], of_row: NDArray[np.integer[Any]], seed: int = 0
) -> NDArray[np.float32]:
    """Lay all rows in the plane in which categories lie farthest apart for their own spread.

    Linear discriminant analysis of the coordinates (Fisher, Annals of Eugenics 7, 1936, 179),
    fitted on a sample of the rows.

    Parameters
    ----------
    z : ndarray, [n_rows, n_axes]
    of_row : ndarray of int, [n_rows]
        Category of each row; -1 for none: such rows are laid out, and nothing is fitted on them.
    seed : int

    Returns
    -------
    ndarray of float32, [n_rows, 2]

    Raises
    ------
    InputError
        One axis, fewer than three categories, or no more rows than categories.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    known = np.flatnonzero(of_row >= 0)
    n_categories = len(np.unique(of_row[known]))
    if n_categories < 3 or z.shape[1] < 2 or len(known) <= n_categories:
        raise InputError(
            "categories are shown apart where there are three or more, each of several rows; "
            "choose two axes instead"
        )
    fitted_on = known[sample(of_row[known], FITTED_ON, seed)]
    plane = LinearDiscriminantAnalysis(n_components=2).fit(z[fitted_on], of_row[fitted_on])
    found: NDArray[np.float32] = plane.transform(z).astype(np.float32)
    return found
