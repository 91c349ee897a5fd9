"""Outcomes of every problem for every cell, lined up so that they can be paired."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnskills_viz.errors import InputError
from mnskills_viz.evaluation.pass_at_k import pass_at_k

Array = NDArray[np.float64]

OUTCOMES = ("logprob", "pass@1", "pass@8")
"""The first is the primary one."""

UNTRAINED = "none"
REFERENCE = "random"


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Outcomes of every problem for every cell.

    Attributes
    ----------
    arms : tuple of str
    seeds : tuple of int
    values : dict of str to ndarray, [n_arms, n_seeds, n_problems]
        By outcome. Log-probabilities are of all test problems, in nats a response token; pass@k
        is of the problems whose answers were sampled.
    redrawn : frozenset of str
        Arms that train on other rows with another seed: more than one selection among their
        cells. Beside the noise of training they have that of what was drawn.
    """

    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    values: dict[str, Array]
    redrawn: frozenset[str] = frozenset()

    def of(self, outcome: str, arm: str) -> Array:
        """One outcome of one arm, [n_seeds, n_problems]."""
        if arm not in self.arms:
            raise InputError(f"no cells of arm {arm!r}; there are {', '.join(self.arms)}")
        if outcome not in self.values:
            raise InputError(f"no outcome {outcome!r}; there are {', '.join(self.values)}")
        found: Array = self.values[outcome][self.arms.index(arm)]
        return found

    @property
    def trained(self) -> list[str]:
        """The arms that were trained."""
        return [arm for arm in self.arms if arm != UNTRAINED]

    def class_of(self, arm: str) -> list[str]:
        """The trained arms whose rows are redrawn by seed, or are fixed, as this arm's are."""
        return [one for one in self.trained if (one in self.redrawn) == (arm in self.redrawn)]


def outcomes(cells: Iterable[Mapping[str, Any]], problems: Mapping[str, Any]) -> Outcomes:
    """Line up the cells of arms x seeds.

    Parameters
    ----------
    cells : iterable of mapping
        Each with ``arm seed logprob n c``, as stored, and ``picked``, a hash of its rows' ids.
    problems : mapping
        ``ids``, and ``sampled``: places in them whose answers are sampled.

    Raises
    ------
    InputError
        A cell is missing or there twice, or a value of one is missing.
    """
    found: dict[tuple[str, int], Mapping[str, Any]] = {}
    for cell in cells:
        key = (str(cell["arm"]), int(cell["seed"]))
        if key in found:
            raise InputError(f"cell {key[0]}-{key[1]} is there twice; leave one")
        found[key] = cell
    if not found:
        raise InputError("no cells: nothing was trained yet")
    arms = tuple(dict.fromkeys(arm for arm, _ in found))
    seeds = tuple(sorted({seed for _, seed in found}))
    for arm in arms:
        for seed in seeds:
            if (arm, seed) not in found:
                raise InputError(f"cell {arm}-{seed} is missing; run it, or leave out its arm")
    ids = problems["ids"]
    sampled = [ids[place] for place in problems["sampled"]]
    values = {"logprob": _lined_up(found, arms, seeds, "logprob", ids)}
    right = _lined_up(found, arms, seeds, "c", sampled)
    drawn = {int(cell["n"]) for cell in found.values()}
    if len(drawn) > 1:
        raise InputError(f"cells have different numbers of samples: {sorted(drawn)}; redo some")
    n = drawn.pop()
    for outcome in OUTCOMES[1:]:
        k = int(outcome.removeprefix("pass@"))
        if k <= n and sampled:
            values[outcome] = np.asarray(pass_at_k(n, right, k), dtype=np.float64)
    picked: dict[str, set[str]] = {}
    for (arm, _), cell in found.items():
        picked.setdefault(arm, set()).add(str(cell.get("picked")))
    redrawn = frozenset(arm for arm, rows in picked.items() if len(rows) > 1)
    return Outcomes(arms, seeds, values, redrawn)


def _lined_up(
    cells: Mapping[tuple[str, int], Mapping[str, Any]],
    arms: Sequence[str],
    seeds: Sequence[int],
    key: str,
    ids: Sequence[str],
) -> Array:
    """What all cells have under `key`, [n_arms, n_seeds, n_problems]."""
    whole = np.empty((len(arms), len(seeds), len(ids)))
    for i, arm in enumerate(arms):
        for j, seed in enumerate(seeds):
            row = np.asarray(cells[arm, seed][key], dtype=np.float64)
            if row.shape != (len(ids),):
                raise InputError(
                    f"cell {arm}-{seed}: {key} has {row.size} values, expected one for each of "
                    f"{len(ids)} problems; measure it again"
                )
            if (odd := np.flatnonzero(~np.isfinite(row))).size:
                raise InputError(
                    f"cell {arm}-{seed}: {key} of problem {ids[odd[0]]} is missing; measure it "
                    "again"
                )
            whole[i, j] = row
    return whole
