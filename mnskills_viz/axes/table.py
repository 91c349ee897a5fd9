"""Everything known of a basis's axes in one table."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .examples import CategoryCounts, overrepresented, poles

SIDES = (("positive", 1), ("negative", -1))
ROWS_A_POLE = 20


def axes_table(
    quality: pd.DataFrame,
    coordinates: NDArray[np.floating],
    categories: Sequence[str | None],
    labels: Mapping[tuple[int, int], str],
    proxy: pd.DataFrame | None = None,
    weakness: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Join what was found about each axis.

    Parameters
    ----------
    quality : DataFrame
        One row an axis, from `Basis.quality`.
    coordinates : ndarray, [n_rows, n_axes]
    categories : sequence of str or None, [n_rows]
    labels : mapping of (axis, +1 or -1) to str
    proxy : DataFrame, optional
        Utilities at one layer.
    weakness : DataFrame, optional
        One row a pole.

    Returns
    -------
    DataFrame
        `quality`, then ``utility low high null_high special``, ``weakness_positive
        weakness_negative``, ``categories_SIDE`` (which stand out among the 20 rows at that end)
        and ``label_SIDE``.
    """
    table = quality.copy()
    if proxy is not None:
        at = proxy.set_index("axis")
        for column in ("utility", "low", "high", "null_high"):
            table[column] = at[column].reindex(table["axis"]).to_numpy()
        table["special"] = table["utility"].abs() > table["null_high"]
    if weakness is not None:
        shrunk = weakness.set_index(["axis", "pole"])["shrunk"]
        for side, sign in SIDES:
            table[f"weakness_{side}"] = [shrunk[axis, sign] for axis in table["axis"]]
    counted = CategoryCounts.of(categories)
    columns = np.asfortranarray(coordinates)  # an axis after the other in memory: thrice as fast
    ends = [poles(columns[:, axis], ROWS_A_POLE) for axis in table["axis"]]
    for side, sign in SIDES:
        table[f"categories_{side}"] = [
            ", ".join(f"{c} {share:.0%}" for c, share in overrepresented(counted, end.of(sign)))
            for end in ends
        ]
        table[f"label_{side}"] = [labels.get((axis, sign), "") for axis in table["axis"]]
    return table
