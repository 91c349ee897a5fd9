"""What a selection is: picks, a receipt for each, and a recipe that says how to make it again."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import metadata
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import InputError
from .basket import FloatArray, IntArray, Pick, Pole, pole_name
from .pool import Pool
from .ranking import quantiles

RECIPE_FORMAT = 2


@dataclass(frozen=True, slots=True)
class Options:
    """Arguments of `select` that a recipe repeats as they are; the others are data, and hashed."""

    strategy: str
    budget: int
    axes: Sequence[Any] | None
    include: Sequence[Any]
    exclude: Sequence[Any]
    caps: Mapping[str, int] | None
    text_similarity: float | None
    z_distance: float | None
    seed: int


OPTIONS = tuple(field.name for field in fields(Options))

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
          (random, coverage, included by id), the pole on which it projects highest; -1 and 0 where
          there are no coordinates (influence without any);
        - ``z``: its coordinate on that axis, divided by the scale: negative on a negative pole;
        - ``quantile``: share of the pool that projects no higher on that pole, 1 for the highest;
        - ``weakness``: the pole's shrunk weakness; NaN where no probe was given;
        - ``runner_up``: the other pole on which the row projects highest (``axis 7 -``); empty
          where it projects on no other;
        - ``reason``: a sentence for people.
    recipe : dict
        JSON-ready: strategy, options, SHA-256 of every input, text embedding, versions, notes. See
        `replay`.
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
    absent = [name for name in ("inputs", "embedding", *OPTIONS) if name not in recipe]
    if absent:
        raise InputError(f"the recipe is incomplete: no {', '.join(absent)}")
    if not isinstance(recipe["inputs"], dict):
        raise InputError("the recipe is damaged: its inputs are no hashes by name")


def write_receipts(pool: Pool, picks: list[Pick]) -> pd.DataFrame:
    """One row a pick; see `Selection`."""
    rows = np.array([pick.row for pick in picks], dtype=np.int64)
    axis, pole, chosen_z, quantile, runner_up = _placed(pool, picks, rows)
    where = [
        "" if a < 0 else f" On {pole_name(a, s)}: z {value:+.2f}, quantile {q:.3f} of the pool."
        for a, s, value, q in zip(
            axis.tolist(), pole.tolist(), chosen_z.tolist(), quantile.tolist(), strict=True
        )
    ]
    known = _weakness_by_pole(pool)
    return pd.DataFrame(
        {
            "rank": np.arange(1, len(picks) + 1),
            "index": rows,
            "id": pd.Series([pool.ids[row] for row in rows], dtype="str"),
            "axis": axis,
            "pole": pole,
            "z": chosen_z,
            "quantile": quantile,
            "weakness": [
                known.get(pole, np.nan) for pole in zip(axis.tolist(), pole.tolist(), strict=True)
            ],
            "runner_up": pd.Series(runner_up, dtype="str"),
            "reason": pd.Series(
                [pick.why + place for pick, place in zip(picks, where, strict=True)], dtype="str"
            ),
        },
        columns=list(RECEIPT_COLUMNS),
    )


def _placed(
    pool: Pool, picks: list[Pick], rows: IntArray
) -> tuple[IntArray, IntArray, FloatArray, FloatArray, list[str]]:
    """Axis, pole, z, quantile and runner-up of each pick."""
    n = len(picks)
    if pool.Z is None:
        unknown = np.full(n, np.nan)
        return np.full(n, -1), np.zeros(n, dtype=np.int64), unknown, unknown, [""] * n
    z = pool.z(rows)
    axis = np.abs(z).argmax(axis=1)
    pole = np.where(z[np.arange(n), axis] >= 0, 1, -1)
    for place, pick in enumerate(picks):
        if pick.pole is not None:
            axis[place], pole[place] = pick.pole
    chosen_z = z[np.arange(n), axis].astype(np.float64)
    quantile = quantiles(pool.Z, rows, axis, pole)
    return axis, pole, chosen_z, quantile, _runners_up(z, axis, pole)


def _weakness_by_pole(pool: Pool) -> dict[Pole, float]:
    if pool.weakness is None:
        return {}
    table = pool.weakness
    return dict(zip(zip(table["axis"], table["pole"], strict=True), table["shrunk"], strict=True))


def _runners_up(z: FloatArray, axis: IntArray, pole: IntArray) -> list[str]:
    """The pole of highest projection beside the chosen one, for each row of `z` [n_picks, k]."""
    rows = np.arange(len(z))
    projection = np.abs(z)
    # Of the chosen axis the other pole is left, on which the row may not lie.
    projection[rows, axis] = -pole * z[rows, axis]
    best = projection.argmax(axis=1)
    return [
        pole_name(a, 1 if value > 0 else -1) if height > 0 else ""
        for a, value, height in zip(
            best.tolist(), z[rows, best].tolist(), projection[rows, best].tolist(), strict=True
        )
    ]
