"""Cheap interventions that say which axes matter, before anything is trained.

First order: one backward pass over a probe set gives the exact slope of the target along every
direction at every layer; an axis is special only if its slope beats the best of as many random
directions.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..activations.gradients import Gradients, Target, gradients
from ..bases.basis import Basis
from ..corpus import Corpus
from ..errors import InputError

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel

DRAWS = 2000
LEVEL = 0.95


def proxy(
    model: "TransformersModel",
    basis: Basis | Mapping[int, Basis],
    probe_corpus: Corpus,
    layer: int | None = None,
    method: Literal["first-order"] = "first-order",
    target: Target = "contrast",
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Rank axes by what a small push along them would do.

    Parameters
    ----------
    model : TransformersModel
    basis : Basis or mapping of int to Basis
        One basis, or one a layer.
    probe_corpus : Corpus
        Examples with responses, apart from the pool.
    layer : int, optional
        Where the axes are pushed; default the layer that the basis was fitted at.
    method : {"first-order"}
    target : {"contrast", "reference"}
        See `mnskills_viz.gradients`.
    seed : int
        Of the bootstrap and of the random directions.
    progress : bool

    Returns
    -------
    DataFrame
        One row an axis and layer: ``axis layer dose utility low high damage null_low null_high``.
        Utility in nats per response token, per standard deviation of dose, with its 95 %
        bootstrap interval over examples. ``dose`` and ``damage`` are NaN: a slope has neither.

    Raises
    ------
    InputError
        Unknown method, or an unknown layer.
    """
    if method != "first-order":
        raise InputError(f'method must be "first-order", not {method!r}')
    bases = dict(basis) if isinstance(basis, Mapping) else {fitted_layer(basis, layer): basis}
    found = gradients(model, probe_corpus, sorted(bases), target, progress=progress)
    return first_order(found, bases, seed)


def fitted_layer(basis: Basis, layer: int | None) -> int:
    """Return the layer to push at: the one given, else the one that the basis was fitted at."""
    fitted = (basis.source_ or {}).get("layer")
    chosen = layer if layer is not None else fitted
    if not isinstance(chosen, int):
        raise InputError("the basis was not fitted at one layer; say where to push with layer=")
    return chosen


def first_order(found: Gradients, bases: Mapping[int, Basis], seed: int = 0) -> pd.DataFrame:
    """First-order utilities of all axes from gradients that are there already; see `proxy`."""
    return pd.concat(
        [_of_layer(found.matrix(layer), basis, layer, seed) for layer, basis in bases.items()],
        ignore_index=True,
    )


def _of_layer(grads: NDArray[np.float32], basis: Basis, layer: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    scale = basis.scale_.astype(np.float64)
    slopes = grads.astype(np.float64) @ basis.components_.astype(np.float64).T  # [n, k]
    utility = slopes.mean(axis=0) * scale
    weights = rng.multinomial(len(grads), np.full(len(grads), 1 / len(grads)), size=DRAWS)
    low, high = np.quantile(
        weights @ slopes / len(grads) * scale, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0
    )
    null = null_maximum(grads.mean(axis=0, dtype=np.float64), basis.components_, rng) * scale
    return pd.DataFrame(
        {
            "axis": np.arange(basis.n_axes_),
            "layer": layer,
            "dose": np.nan,
            "utility": utility,
            "low": low,
            "high": high,
            "damage": np.nan,
            "null_low": -null,
            "null_high": null,
        }
    )


def null_maximum(
    gradient: NDArray[np.float64], components: NDArray[np.floating], rng: np.random.Generator
) -> float:
    """95 % point of ``max |<g, q>|`` over as many random orthonormal directions as there are axes.

    The projections of ``g`` on `k` random orthonormal directions of ``R^d`` are, in distribution,
    ``|g|`` times the first `k` coordinates of a random unit vector. The same holds within the
    span of the axes, with the part of ``g`` that lies in it. The larger of the two points counts.

    Parameters
    ----------
    gradient : ndarray, [d]
    components : ndarray, [k, d]
        Orthonormal axes.
    rng : numpy Generator

    Returns
    -------
    float
        In the units of `gradient`.
    """
    k, d = components.shape
    within = components.astype(np.float64) @ gradient
    points = []
    for length, width in ((np.linalg.norm(gradient), d), (np.linalg.norm(within), k)):
        unit = rng.standard_normal((DRAWS, width))
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        points.append(length * np.quantile(np.abs(unit[:, :k]).max(axis=1), LEVEL))
    return float(max(points))
