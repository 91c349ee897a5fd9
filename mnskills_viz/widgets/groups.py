"""Groups of rows, and the colour and the sign that each is known by: on the map as in bars."""

import numpy as np
from numpy.typing import NDArray

# Okabe and Ito's, told apart by colour-blind readers, and two more, some a shade lighter or darker
# so that all of them show on white and on black; each with a symbol.
LOOKS = (
    ("#0072b2", "circle"),
    ("#d55e00", "diamond"),
    ("#009e73", "square"),
    ("#cc79a7", "triangle-up"),
    ("#b08900", "cross"),
    ("#4f9fd6", "x"),
    ("#9558d6", "star"),
    ("#a0665a", "triangle-down"),
)
"""Colour and plotly symbol of groups, the most frequent first; the rest share `OTHERS`."""

OTHERS = ("#8c8c8c", "circle")


def with_looks(counts: NDArray[np.integer]) -> NDArray[np.int64]:
    """Groups that have a look of their own, in the order of `LOOKS`.

    Parameters
    ----------
    counts : ndarray of int, [n_groups]
        Rows of each; of equals the earlier one comes first, and a group without rows has no look.
    """
    frequent = np.argsort(-counts, kind="stable")[: len(LOOKS)]
    found: NDArray[np.int64] = frequent[counts[frequent] > 0]
    return found
