"""What a selection is: picks, a receipt for each, and a recipe that says how to make it again."""

import hashlib
import json
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import InputError
from .pool import Pool
from .strategies import Pick, Pole, pole_name

RECIPE_FORMAT = 1

OPTIONS = ("strategy", "budget", "axes", "include", "exclude", "caps", "seed")
"""Arguments of `select` that a recipe repeats as they are; the others are data, and hashed."""

RECEIPT_COLUMNS = (
    "rank",
    "index",
    "id",
    "axis",
    "pole",
    "z",
    "quantile",
    "weakness",
    "runner_up",
    "reason",
)


@dataclass(frozen=True, eq=False, slots=True)
class Selection:
    """Chosen rows, why each, and how.

    Attributes
    ----------
    indices : ndarray of int64, [n_picks]
        Rows of Z in curriculum order.
    receipts : DataFrame
        One row a pick, in that order:

        - ``rank``: 1 for the first;
        - ``index``, ``id``: which row of Z;
        - ``axis``, ``pole``: the pole that the row was taken for; where it was not taken for one
          (random, included by id), the pole on which it projects highest;
        - ``z``: its coordinate on that axis, divided by the scale: negative on a negative pole;
        - ``quantile``: share of the pool that projects no higher on that pole, 1 for the highest;
        - ``weakness``: the pole's shrunk weakness; NaN where no probe was given;
        - ``runner_up``: the other pole on which the row projects highest (``axis 7 -``); empty
          where it projects on no other;
        - ``reason``: a sentence for people.
    recipe : dict
        JSON-ready: strategy, options, SHA-256 of every input, versions, notes. See `replay`.
    """

    indices: NDArray[np.int64]
    receipts: pd.DataFrame
    recipe: dict[str, Any]

    def __len__(self) -> int:
        return len(self.indices)


def package_version() -> str:
    """The installed version of this package, ``"0+source"`` when run from bare source."""
    try:
        return metadata.version("mnskills_viz")
    except metadata.PackageNotFoundError:
        return "0+source"


def input_hash(hashes: dict[str, str | None]) -> str:
    """One SHA-256 for all inputs of a selection."""
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


def input_differences(recipe: dict[str, Any], pool: Pool) -> list[str]:
    """In words, how the inputs at hand differ from those that a recipe was made with."""
    differences = []
    for name, now in pool.hashes.items():
        then = recipe["inputs"].get(name)
        if now is None and then is not None:
            differences.append(f"{name} was given then and is not now")
        elif now is not None and then is None:
            differences.append(f"{name} was not given then and is now")
        elif now != then:
            differences.append(f"{name} is not the same")
    return differences


def check_recipe(recipe: Any) -> None:
    """Refuse what `select` did not write.

    Raises
    ------
    InputError
        Not a recipe, or one of a format that this version does not read.
    """
    if not isinstance(recipe, dict) or "format" not in recipe:
        raise InputError("not a recipe: expected the dict of selection.recipe or recipe.json")
    if recipe["format"] != RECIPE_FORMAT:
        raise InputError(
            f"the recipe has format {recipe['format']!r}; this version reads {RECIPE_FORMAT}"
        )
    absent = [name for name in ("inputs", *OPTIONS) if name not in recipe]
    if absent:
        raise InputError(f"the recipe is incomplete: no {', '.join(absent)}")


def write_receipts(pool: Pool, picks: list[Pick]) -> pd.DataFrame:
    """One row a pick; see `Selection`."""
    rows = np.array([pick.row for pick in picks], dtype=np.int64)
    z = pool.z[rows]
    strongest = np.abs(z).argmax(axis=1)
    axis, pole = strongest, np.where(z[np.arange(len(z)), strongest] >= 0, 1, -1)
    for place, pick in enumerate(picks):
        if pick.pole is not None:
            axis[place], pole[place] = pick.pole
    chosen_z = z[np.arange(len(z)), axis]
    quantile = np.empty(len(picks))
    for a, s in sorted(set(zip(axis.tolist(), pole.tolist(), strict=True))):
        here = (axis == a) & (pole == s)
        ladder = np.sort(s * pool.z[:, a])
        quantile[here] = np.searchsorted(ladder, s * chosen_z[here], side="right") / len(ladder)
    where = [
        f"On {pole_name(a, s)}: z {value:+.2f}, quantile {q:.3f} of the pool."
        for a, s, value, q in zip(axis, pole, chosen_z, quantile, strict=True)
    ]
    known = _weakness_by_pole(pool)
    return pd.DataFrame(
        {
            "rank": np.arange(1, len(picks) + 1),
            "index": pool.index[rows],
            "id": pd.Series([pool.ids[row] for row in rows], dtype="str"),
            "axis": axis.astype(np.int64),
            "pole": pole.astype(np.int64),
            "z": chosen_z.astype(np.float64),
            "quantile": quantile,
            "weakness": [
                known.get(pole, np.nan) for pole in zip(axis.tolist(), pole.tolist(), strict=True)
            ],
            "runner_up": pd.Series(_runners_up(z, axis, pole), dtype="str"),
            "reason": pd.Series(
                [f"{pick.why} {place}" for pick, place in zip(picks, where, strict=True)],
                dtype="str",
            ),
        },
        columns=list(RECEIPT_COLUMNS),
    )


def _weakness_by_pole(pool: Pool) -> dict[Pole, float]:
    if pool.weakness is None:
        return {}
    table = pool.weakness
    return dict(zip(zip(table["axis"], table["pole"], strict=True), table["shrunk"], strict=True))


def _runners_up(z: NDArray[Any], axis: NDArray[np.int64], pole: NDArray[np.int64]) -> list[str]:
    """The pole of highest projection beside the chosen one, for each row of `z` [n_picks, k]."""
    rows = np.arange(len(z))
    projection = np.stack([z, -z], axis=2)
    projection[rows, axis, (pole < 0).astype(np.int64)] = -np.inf
    best = projection.reshape(len(z), -1).argmax(axis=1)
    highest = projection.reshape(len(z), -1)[rows, best]
    return [
        pole_name(place // 2, -1 if place % 2 else 1) if value > 0 else ""
        for place, value in zip(best.tolist(), highest, strict=True)
    ]
