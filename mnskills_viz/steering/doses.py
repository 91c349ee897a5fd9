"""Measured doses of axes: what each does for a target, what it costs, and which is best."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from ..activations.gradients import gradients
from ..activations.targets import Target, targets
from ..bases.basis import Basis
from ..corpus import Corpus
from ..corpus.splits import halves
from ..errors import InputError
from ..evaluation.tables import require_seed
from .concat import Layer, vector_for
from .inputs import positive_doses
from .measured import measure
from .proxy import (
    first_order,
    fitting_bases,
    layers_of,
    mean_intervals,
    null_of,
)

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel


class Trial(NamedTuple):
    """A dose of an axis, to be tried both ways."""

    layer: Layer
    axis: int
    dose: float


def trials(
    bases: Mapping[Layer, Basis], doses: Sequence[float], axes: Sequence[int] | None = None
) -> list[Trial]:
    """Every dose of every axis (or of `axes`) of every basis."""
    return [
        Trial(layer, int(axis), float(dose))
        for layer, basis in bases.items()
        for axis in dict.fromkeys(range(basis.n_axes_) if axes is None else axes)
        for dose in sorted(set(doses))
    ]


def dose_table(
    model: "TransformersModel",
    bases: Mapping[Layer, Basis],
    corpus: Corpus,
    asked: Sequence[Trial],
    target: Target = "contrast",
    seed: int = 0,
    store: str | Path | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Measure doses and part what they do into utility and damage; see `mnskills_viz.proxy`.

    Parameters
    ----------
    model, corpus, target, seed, store, progress
        As `mnskills_viz.proxy` takes them.
    bases : mapping of int or "concat" to Basis
        Of the layers in `asked`. Vectors of ``"concat"`` are measured on some of the examples.
    asked : sequence of Trial

    Returns
    -------
    DataFrame
        The columns of `mnskills_viz.proxy`, a row a trial.
    """
    found = targets(model, corpus, target)
    vectors = [
        vector_for(model, bases[trial.layer], trial.axis, trial.layer, sign * trial.dose, corpus)
        for trial in asked
        for sign in (1, -1)
    ]
    changes = measure(model, found, vectors, store, progress=progress)
    up, down = changes[0::2], changes[1::2]
    dose = np.array([trial.dose for trial in asked])
    utility = (up - down) / (2 * dose[:, None])
    low, high = mean_intervals(utility.T, seed)
    slopes = gradients(model, corpus, layers_of(bases), target, progress=progress)
    nulls = {layer: null_of(slopes, basis, layer, seed) for layer, basis in bases.items()}
    null = np.array([nulls[trial.layer][trial.axis] for trial in asked])
    return pd.DataFrame(
        {
            "axis": [trial.axis for trial in asked],
            "layer": [trial.layer for trial in asked],
            "dose": dose,
            "utility": utility.mean(axis=1),
            "low": low,
            "high": high,
            "damage": -(up + down).mean(axis=1) / 2,
            "null_low": -null,
            "null_high": null,
        }
    )


def best_doses(table: pd.DataFrame) -> pd.DataFrame:
    """The dose at which each axis gains most, by what was measured at a few.

    With `u` the slope and ``c d^2`` the damage, both by least squares over the measured doses, a
    dose gains ``u d - c d^2``: most, ``u^2 / 4c``, at ``u / 2c``. No dose beyond the largest that
    was measured is proposed.

    Parameters
    ----------
    table : DataFrame
        Of measured doses, as `dose_table` gives it.

    Returns
    -------
    DataFrame
        ``axis layer dose gain clipped``, an axis and layer a row: the dose with its sign, what it
        should gain in nats per response token, and whether it was clipped to the largest measured
        dose: because the best lies beyond, or because no damage was seen.
    """
    rows = []
    for (axis, layer), of_axis in table.groupby(["axis", "layer"], sort=False):
        dose, damage = of_axis["dose"].to_numpy(float), of_axis["damage"].to_numpy(float)
        # The odd part, u d, is `utility` times the dose.
        slope = float(dose**2 @ of_axis["utility"].to_numpy(float) / (dose**2).sum())
        curve = float(dose**2 @ damage / (dose**4).sum())
        largest = float(dose.max())
        best = abs(slope) / (2 * curve) if curve > 0 else np.inf
        chosen = float(np.sign(slope)) * min(best, largest)
        rows.append(
            {
                "axis": axis,
                "layer": layer,
                "dose": chosen,
                "gain": slope * chosen - curve * chosen**2,
                "clipped": best > largest,
            }
        )
    return pd.DataFrame(rows, columns=["axis", "layer", "dose", "gain", "clipped"])


def verify_best(
    model: "TransformersModel",
    basis: Basis | Mapping[Layer, Basis],
    corpus: Corpus,
    layer: Layer | None = None,
    top: int = 8,
    target: Target = "contrast",
    doses: Sequence[float] = (0.5, 2.0),
    seed: int = 0,
    store: str | Path | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Choose the best dose of the best axes on one half of the examples, verify it on the other.

    The `top` axes by first-order utility are measured at `doses`, both ways, on examples of the
    first half; `best_doses` proposes one each; its gain is measured on the second half. Halves
    are drawn by a hash of the examples' ids.

    Parameters
    ----------
    model, basis, corpus, layer, target, doses, seed, store, progress
        As `mnskills_viz.proxy` takes them.
    top : int
        How many axes, over all layers.

    Returns
    -------
    DataFrame
        ``axis layer dose predicted gain low high clipped``, best prediction first: the gain that
        the first half predicts, and what the second shows, nats per response token, with its 95 %
        bootstrap interval over examples.

    Raises
    ------
    InputError
        Fewer than four examples with a target, `top` below 1, or what `mnskills_viz.proxy` refuses.
    """
    if top < 1:
        raise InputError(f"top must be at least 1, not {top}")
    sizes = positive_doses(doses)
    require_seed(seed)
    bases = fitting_bases(model, basis, layer)
    with_target = set(targets(model, corpus, target).ids)
    first, second = halves(Corpus((e for e in corpus if e.id in with_target), corpus.name))
    slopes = gradients(model, first, layers_of(bases), target, progress=progress)
    order = first_order(slopes, bases, seed)
    order = order.reindex(order["utility"].abs().sort_values(ascending=False).index)[:top]
    chosen = list(zip(order["layer"], order["axis"], strict=True))
    asked = [Trial(at, int(axis), float(d)) for at, axis in chosen for d in sizes]
    table = dose_table(model, bases, first, asked, target, seed, store, progress)
    best = best_doses(table).rename(columns={"gain": "predicted"})
    best = best.sort_values("predicted", ascending=False, ignore_index=True)
    found = zip(best["layer"], best["axis"], best["dose"], strict=True)
    vectors = [vector_for(model, bases[at], axis, at, dose, first) for at, axis, dose in found]
    gains = measure(model, targets(model, second, target), vectors, store, progress=progress)
    low, high = mean_intervals(gains.T, seed)
    best = best.assign(gain=gains.mean(axis=1), low=low, high=high)
    return best[["axis", "layer", "dose", "predicted", "gain", "low", "high", "clipped"]]
