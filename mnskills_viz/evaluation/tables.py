"""From problems to tables: by group, and of one model against another."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import InputError
from ..generation import require_numbers
from .intervals import mean_interval
from .pass_at_k import pass_at_k

ALL = "all"

Groups = Mapping[str, Iterable[str]]
"""Name of a group -> ids of its examples."""

FEW_IDS = 5


def scores(
    samples: pd.DataFrame, k: int | Iterable[int], groups: Groups | None = None, seed: int = 0
) -> pd.DataFrame:
    """pass@k and log-probability, over all problems, by category and by group.

    Parameters
    ----------
    samples : DataFrame
        From `graded` or `read_samples`: ``id category n c logprob``.
    k : int or iterable of int
    groups : mapping of str to ids, optional
        Further groups, such as the examples on each pole of an axis.
    seed : int
        Of the bootstrap.

    Returns
    -------
    DataFrame
        ``group`` (``"all"``, categories in alphabetical order, one called ``all`` as
        ``category "all"``, then `groups`), ``metric``
        (``"pass@1"``, ..., ``"logprob"`` where there are references), ``value``, ``low``, ``high``
        (95 %, bootstrap over problems), ``n`` (problems).

    Raises
    ------
    InputError
        k above the number of samples, a seed that is no whole number from 0, or groups with
        unknown ids, without any, or of a name that a category has.
    """
    require_seed(seed)
    metrics = _metrics(samples, k)
    rows = []
    for name, members in _members(samples, groups).items():
        for metric, values in metrics.items():
            known = values[members][np.isfinite(values[members])]
            if len(known):
                rows.append([name, metric, *mean_interval(known, seed), len(known)])
    table = pd.DataFrame(rows, columns=["group", "metric", "value", "low", "high", "n"])
    table.attrs |= samples.attrs
    return table


def paired_difference(
    before: pd.DataFrame,
    after: pd.DataFrame,
    k: int | Iterable[int] = 1,
    seed: int = 0,
    groups: Groups | None = None,
) -> pd.DataFrame:
    """What changed from one model to another, problem by problem.

    Parameters
    ----------
    before, after : DataFrame
        From `graded` or `read_samples`, of the same examples in any order.
    k : int or iterable of int
    seed : int
        Of the bootstrap.
    groups : mapping of str to ids, optional
        As in `scores`.

    Returns
    -------
    DataFrame
        ``group``, ``metric``, ``before``, ``after``, ``difference``, ``low`` and ``high`` of the
        difference (95 %, paired bootstrap: problems are drawn, with both models' results), ``n``
        (problems). On the lines of pass@k, ``fixed`` and ``broken`` (Int64, else missing):
        problems that more than half of the samples solve after and not before, and the other
        way round; their ids are in ``table.attrs["fixed"]`` and ``["broken"]``.

    Raises
    ------
    InputError
        Tables of different examples or with an example twice, or what `scores` refuses.
    """
    require_seed(seed)
    for name, table in (("before", before), ("after", after)):
        if (twice := table["id"][table["id"].duplicated()]).size:
            raise InputError(
                f"paired_difference: {name} has an example more than once ({_few(list(twice))}); "
                "leave one row an example"
            )
    if set(before["id"]) != set(after["id"]):
        odd = sorted(set(before["id"]) ^ set(after["id"]))
        raise InputError(
            f"the two tables are of different examples ({len(odd)} are in one only: "
            f"{_few(odd)}); evaluate both models on the same corpus"
        )
    k = several(k)
    after = after.set_index("id").loc[before["id"]].reset_index()
    first, second = _metrics(before, k), _metrics(after, k)
    solved = [(table["c"] * 2 > table["n"]).to_numpy() for table in (before, after)]
    fixed, broken = solved[1] & ~solved[0], solved[0] & ~solved[1]
    rows = []
    for name, members in _members(before, groups).items():
        for metric in [m for m in first if m in second]:
            ends = np.stack([first[metric][members], second[metric][members]])
            ends = ends[:, np.isfinite(ends).all(axis=0)]
            if not ends.shape[1]:
                continue
            turned: list[Any] = [pd.NA, pd.NA]
            if metric != "logprob":
                turned = [int(fixed[members].sum()), int(broken[members].sum())]
            interval = mean_interval(ends[1] - ends[0], seed)
            rows.append([name, metric, *ends.mean(axis=1), *interval, ends.shape[1], *turned])
    columns = ["group", "metric", "before", "after", "difference", "low", "high", "n"]
    table = pd.DataFrame(rows, columns=[*columns, "fixed", "broken"])
    table = table.astype({"fixed": "Int64", "broken": "Int64"})
    table.attrs |= {"fixed": before["id"][fixed].tolist(), "broken": before["id"][broken].tolist()}
    return table


def _metrics(samples: pd.DataFrame, k: int | Iterable[int]) -> dict[str, NDArray[np.float64]]:
    """Name of a metric -> its value for every example."""
    n, c = samples["n"].to_numpy(), samples["c"].to_numpy()
    found = {f"pass@{one}": np.asarray(pass_at_k(n, c, one)) for one in several(k)}
    logprob = samples["logprob"].to_numpy(dtype=np.float64)
    return found | ({"logprob": logprob} if np.isfinite(logprob).any() else {})


def several(k: int | Iterable[int]) -> list[int]:
    """The values of k, each once, ascending."""
    found = list(k) if isinstance(k, Iterable) else [k]
    for one in found:
        if isinstance(one, bool) or not isinstance(one, int | np.integer):
            raise InputError(f"k must be a whole number, or several, not {one!r}")
    return sorted(set(found))


def require_seed(seed: int) -> None:
    """Refuse a seed that is no whole number from 0."""
    require_numbers(max_new_tokens=1, temperature=0.0, seed=seed)


def _members(samples: pd.DataFrame, groups: Groups | None) -> dict[str, NDArray[np.bool_]]:
    """Name of a group -> which examples belong to it."""
    found = {ALL: np.ones(len(samples), dtype=bool)}
    for category in sorted(samples["category"].dropna().unique()):
        name = str(category)
        while name in found:  # a category called "all" must not take the place of all
            name = f'category "{name}"'
        found[name] = (samples["category"] == category).to_numpy()
    known = set(samples["id"])
    for name, ids in (groups or {}).items():
        wanted = set(ids)
        if name in found:
            raise InputError(f"group {name!r} has the name of a category; give it another")
        if not wanted:
            raise InputError(f"group {name!r} has no examples; leave it out")
        if odd := sorted(wanted - known):
            raise InputError(f"group {name!r}: {len(odd)} ids are not in the corpus: {_few(odd)}")
        found[name] = samples["id"].isin(wanted).to_numpy()
    return found


def _few(ids: list[str]) -> str:
    return ", ".join(ids[:FEW_IDS]) + (", ..." if len(ids) > FEW_IDS else "")
