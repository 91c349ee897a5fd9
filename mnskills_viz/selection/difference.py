"""What sets two selections of one pool apart, and what a selection is made of."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from .basket import pole_name
from .recipe import Selection

WHERE = ("both", "first only", "second only")
WITHOUT = "(none)"
"""The group of rows without a label, or with this one."""


def difference(a: Selection, b: Selection) -> pd.DataFrame:
    """The rows of either of two selections, and where each stands in both.

    Parameters
    ----------
    a, b : Selection
        Of one pool. Axes of different bases have the same numbers and are not the same.

    Returns
    -------
    DataFrame
        One row an id: those of `a` in its order, then those that only `b` has in its own. ``id``;
        ``rank_a``, ``rank_b``, ``axis_a``, ``pole_a``, ``axis_b``, ``pole_b`` (Int64, NA where a
        selection does not have the row); ``where``: ``"both"``, ``"first only"`` or
        ``"second only"``. Its `attrs`, all JSON-ready:

        - ``counts``: rows of each ``where``;
        - ``jaccard``: rows in both as a share of rows in either;
        - ``rank_correlation``: Spearman's, over the rows in both; None below two of them;
        - ``poles``: pole (``"axis 7 -"``) -> rows taken on it by `a` and by `b`.

    Raises
    ------
    InputError
        The selections are of different pools.
    """
    _check_same_pool(a.recipe, b.recipe)
    table = _side(a, "a").merge(_side(b, "b"), on="id", how="outer", sort=False)
    in_a, in_b = table["rank_a"].notna(), table["rank_b"].notna()
    table["where"] = np.select([in_a & in_b, in_a], WHERE[:2], WHERE[2])
    table = table.sort_values(["rank_a", "rank_b"], na_position="last", ignore_index=True)
    counts = {where: int((table["where"] == where).sum()) for where in WHERE}
    table.attrs = {
        "counts": counts,
        "jaccard": counts["both"] / len(table),
        "rank_correlation": _rank_correlation(table[table["where"] == "both"]),
        "poles": _poles(a, b),
    }
    return table


def _check_same_pool(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    """Ids say which pool it was; without them only equal coordinates do."""
    name = "Z" if a["inputs"].get("ids") is None and b["inputs"].get("ids") is None else "ids"
    if a["inputs"].get(name) != b["inputs"].get(name):
        rows = [f"{recipe['pool']['rows']:,}" for recipe in (a, b)]
        raise InputError(
            f"the selections are of different pools ({rows[0]} and {rows[1]} rows, other {name}); "
            "compare two that were made from the same rows, with the same ids"
        )


def _side(selection: Selection, letter: str) -> pd.DataFrame:
    """Where each row stands in one selection."""
    columns = ["rank", "axis", "pole"]
    part = selection.receipts[["id", *columns]].astype(dict.fromkeys(columns, "Int64"))
    return part.rename(columns={name: f"{name}_{letter}" for name in columns})


def _rank_correlation(shared: pd.DataFrame) -> float | None:
    if len(shared) < 2:
        return None
    # Spearman's: Pearson's of the ranks among the shared, which have no ties.
    a, b = (shared[f"rank_{letter}"].rank().to_numpy(dtype=np.float64) for letter in "ab")
    return float(np.corrcoef(a, b)[0, 1])


def _poles(a: Selection, b: Selection) -> dict[str, dict[str, int]]:
    counts = [
        Counter(zip(s.receipts["axis"].tolist(), s.receipts["pole"].tolist(), strict=True))
        for s in (a, b)
    ]
    poles = sorted(set(counts[0]) | set(counts[1]), key=lambda pole: (pole[0], -pole[1]))
    return {pole_name(*pole): {"a": counts[0][pole], "b": counts[1][pole]} for pole in poles}


def composition(
    labels: "Sequence[str | None] | pd.Categorical[str]",
    selections: Mapping[str, ArrayLike],
    confidence: float = 0.95,
) -> pd.DataFrame:
    """What share of each selection falls to each group, against the pool and against chance.

    Parameters
    ----------
    labels : sequence of str or None, [n], or Categorical
        Group of each row of the pool; None and NaN are the group ``"(none)"``. A categorical gives
        the order of groups (`by_quantile`); without one the largest comes first.
    selections : mapping of str to array_like of int
        Rows of each selection, by its name.
    confidence : float
        Share of random draws that lie within ``low`` and ``high``.

    Returns
    -------
    DataFrame
        One row a selection and group: ``selection``, ``group``, ``pool_count``, ``pool_share``,
        ``count``, ``share``, and ``low`` and ``high``: between these shares lie draws of as many
        rows at random (quantiles of the hypergeometric distribution, nothing is drawn).

    Raises
    ------
    InputError
        No labels, a selection that is empty, or rows that are not in the pool or are there twice.
    """
    from scipy.stats import hypergeom

    groups, members = _groups(labels)
    n = len(members)
    pool = np.bincount(members, minlength=len(groups))
    tables = []
    for name, chosen in selections.items():
        rows = _rows_of(chosen, name, n)
        size = len(rows)
        counts = np.bincount(members[rows], minlength=len(groups))
        tail = (1 - confidence) / 2
        columns = {
            "selection": name,
            "group": groups,
            "pool_count": pool,
            "pool_share": pool / n,
            "count": counts,
            "share": counts / size,
            "low": hypergeom.ppf(tail, n, pool, size) / size,
            "high": hypergeom.ppf(1 - tail, n, pool, size) / size,
        }
        tables.append(pd.DataFrame(columns))
    if not tables:
        raise InputError("no selection to describe")
    return pd.concat(tables, ignore_index=True)


def by_quantile(values: ArrayLike, n_groups: int = 10) -> "pd.Categorical[str]":
    """Groups of numbers, such as lengths, with about as many rows of the pool in each.

    Parameters
    ----------
    values : array_like, [n]
        Finite. Equal ones fall into the same group, so there may be fewer groups than asked for.
    n_groups : int

    Returns
    -------
    Categorical, [n]
        Named for what is in them, such as ``"12 to 19"``, smallest first.

    Raises
    ------
    InputError
        No values, or some that are NaN or infinite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise InputError("values must be finite numbers, one a row of the pool")
    edges = np.quantile(array, np.arange(1, n_groups) / n_groups, method="lower")
    edges = np.unique([-np.inf, *edges, np.inf])
    names: list[str] = []
    codes = np.zeros(len(array), dtype=np.int64)
    for low, high in pairwise(edges):
        inside = (array > low) & (array <= high)
        if inside.any():
            codes[inside] = len(names)
            least, most = array[inside].min(), array[inside].max()
            names.append(f"{least:,g}" if least == most else f"{least:,g} to {most:,g}")
    return pd.Categorical.from_codes(codes, pd.Index(names), ordered=True)


def _groups(labels: Any) -> tuple[list[str], NDArray[np.int64]]:
    """Names of groups in order, and the group of each row."""
    if not len(labels):
        raise InputError("no labels: expected one a row of the pool, None where there is none")
    if isinstance(labels, pd.Categorical):
        names = [str(name) for name in labels.categories]
        codes = labels.codes.astype(np.int64)
    else:
        missing = pd.isna(pd.Series(list(labels), dtype=object))
        found = [None if none else str(label) for label, none in zip(labels, missing, strict=True)]
        counts = Counter(label for label in found if label is not None)
        names = sorted(counts, key=lambda name: (-counts[name], name))
        place = {name: i for i, name in enumerate(names)}
        codes = np.array([-1 if label is None else place[label] for label in found])
    if (codes < 0).any():
        names = names if WITHOUT in names else [*names, WITHOUT]
        codes = np.where(codes < 0, names.index(WITHOUT), codes)
    return names, codes


def _rows_of(chosen: ArrayLike, name: str, n: int) -> NDArray[np.int64]:
    rows = np.asarray(chosen)
    if rows.ndim != 1 or not len(rows) or not np.issubdtype(rows.dtype, np.integer):
        raise InputError(f"selection {name!r} must be a list of rows of the pool, not empty")
    if rows.min() < 0 or rows.max() >= n or len(np.unique(rows)) < len(rows):
        raise InputError(f"selection {name!r} names rows twice or beyond the pool's {n}")
    return rows.astype(np.int64)
