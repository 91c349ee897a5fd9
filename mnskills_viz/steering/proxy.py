"""Does an axis do anything? Utility of axes by the gradient of a target, or by measured doses.

First order: one backward pass gives the slope of the target along every axis at every layer, at
no further cost; measured doses confirm it, and show the damage that a slope cannot.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..activations.gradients import Gradients, gradients
from ..activations.targets import Target
from ..bases.active_subspace import gradient_share
from ..bases.basis import Basis
from ..corpus import Corpus
from ..errors import InputError
from ..evaluation.tables import require_seed
from .concat import Layer
from .inputs import positive_doses
from .null import null_maximum
from .vector import SteeringVector

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel

Method = Literal["first-order", "dose", "pass@k"]

METHODS: tuple[Method, ...] = ("first-order", "dose", "pass@k")
RESAMPLES = 2000


def proxy(
    model: "TransformersModel",
    basis: Basis | Mapping[Layer, Basis],
    probe_corpus: Corpus,
    layer: Layer | None = None,
    method: Method = "first-order",
    target: Target = "contrast",
    doses: Sequence[float] = (0.5, 2.0),
    axes: Sequence[int] | None = None,
    seed: int = 0,
    store: str | Path | None = None,
    progress: bool = True,
    **options: Any,
) -> pd.DataFrame:
    """Rank axes by what a push along them does.

    Parameters
    ----------
    model : TransformersModel
    basis : Basis or mapping of int or "concat" to Basis
        One basis, or one a layer.
    probe_corpus : Corpus
        Examples with responses, apart from the pool.
    layer : int or "concat", optional
        Where the axes are pushed; default the layer that the basis was fitted at.
    method : {"first-order", "dose", "pass@k"}
        ``"first-order"``: slopes, all from one backward pass. ``"dose"``: both signs of every dose
        are measured, a forward pass each. ``"pass@k"``: answers are sampled and judged; see
        `mnskills_viz.steering.sampled.sampled_proxy`.
    target : {"contrast", "reference"}
        See `mnskills_viz.gradients`; sampled answers have none.
    doses : sequence of float
        Above 0, in standard deviations of the axis; for ``"dose"`` and ``"pass@k"``.
    axes : sequence of int, optional
        Default all. The null is that of all axes in any case: axes are seldom named unseen.
    seed : int
        Of the bootstrap and of the random directions.
    store : path, optional
        Where measurements are kept, so that a second call goes on: for ``"dose"`` a file (see
        `mnskills_viz.steering.measured.measure`), for ``"pass@k"`` a folder.
    progress : bool
    **options
        Of ``"pass@k"``: ``k n temperature max_new_tokens verifier n_random``.

    Returns
    -------
    DataFrame
        ``axis layer dose utility low high damage null_low null_high``, a row an axis, layer and
        dose. Utility in nats per response token, per standard deviation of dose, with its 95 %
        bootstrap interval over examples: the slope, or the odd part ``(f(+d) - f(-d)) / 2d``.
        Damage in nats per token: the even part ``f(0) - (f(+d) + f(-d)) / 2``. The null is that
        of the slope on the same examples (`null_maximum`), also where doses are measured. In the
        first order there is no dose and no damage: NaN.

    Raises
    ------
    InputError
        Unknown method, target, layer or axes; doses that are not positive and finite; a basis of
        another width or model; examples without a target.
    """
    if method not in METHODS:
        raise InputError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    if options and method != "pass@k":
        raise InputError(f'{", ".join(options)}: only method="pass@k" samples answers')
    if method != "first-order":
        positive_doses(doses)
    require_seed(seed)
    bases = fitting_bases(model, basis, layer, axes)
    if method == "pass@k":
        from .sampled import sampled_proxy

        return sampled_proxy(
            model,
            bases,
            probe_corpus,
            doses,
            axes,
            seed=seed,
            store=store,
            progress=progress,
            **options,
        )
    if method == "dose":
        from .doses import dose_table, trials

        asked = trials(bases, doses, axes)
        return dose_table(model, bases, probe_corpus, asked, target, seed, store, progress)
    found = gradients(model, probe_corpus, layers_of(bases), target, progress=progress)
    table = first_order(found, bases, seed)
    return table if axes is None else table[table["axis"].isin(axes)].reset_index(drop=True)


def fitting_bases(
    model: "TransformersModel",
    basis: Basis | Mapping[Layer, Basis],
    layer: Layer | None = None,
    axes: Sequence[int] | None = None,
) -> dict[Layer, Basis]:
    """Bases by the layer that they are pushed at, all of which this model can be pushed along.

    Raises
    ------
    InputError
        No such layer or axis, or a basis of another width or model.
    """
    if isinstance(basis, Mapping) and layer is not None:
        raise InputError("layer= goes with one basis; a mapping says the layers itself")
    bases = dict(basis) if isinstance(basis, Mapping) else {fitted_layer(basis, layer): basis}
    if not bases or (axes is not None and not len(axes)):
        raise InputError("there is nothing to push along: give a basis, and axes of it or None")
    for at, one in bases.items():
        for axis in [0] if axes is None else axes:
            pushed(one, axis, at, 1.0).apply(model)
    return bases


def fitted_layer(basis: Basis, layer: Layer | None) -> Layer:
    """Return the layer to push at: the one given, else the one that the basis was fitted at."""
    fitted = (basis.source_ or {}).get("layer")
    chosen: Layer | None = layer if layer is not None else fitted
    if chosen == "concat" and fitted != "concat":
        raise InputError('layer="concat" needs a basis fitted on activations.matrix("concat")')
    if chosen == "concat":
        return "concat"
    if not isinstance(chosen, int | np.integer):
        raise InputError("the basis was not fitted at one layer; say where to push with layer=")
    return int(chosen)


def layers_of(bases: Mapping[Layer, Basis]) -> list[int]:
    """Blocks at which bases are pushed, ascending."""
    found: set[int] = set()
    for layer, basis in bases.items():
        found |= set((basis.source_ or {})["layers"]) if layer == "concat" else {int(layer)}
    return sorted(found)


def pushed(basis: Basis, axis: int, layer: Layer, dose: float) -> SteeringVector:
    """Return the vector of a dose: of a layer, or increments over concatenated layers."""
    from .concat import increments

    if layer == "concat":
        return increments(basis, axis, dose)
    return SteeringVector.from_axis(basis, axis, layer, dose)


# --------------------------------------------------------------------------------- first order


def first_order(found: Gradients, bases: Mapping[Layer, Basis], seed: int = 0) -> pd.DataFrame:
    """First-order utilities of all axes from gradients that are there already; see `proxy`.

    Parameters
    ----------
    found : Gradients
        At the layers of `bases`; for ``"concat"`` at all that were concatenated.
    bases : mapping of int or "concat" to Basis
    seed : int
    """
    return pd.concat(
        [_of_layer(found, basis, layer, seed) for layer, basis in bases.items()],
        ignore_index=True,
    )


def first_order_values(found: Gradients, basis: Basis, layer: Layer) -> NDArray[np.float64]:
    """First-order utilities example by example, of which `first_order` gives the mean.

    Returns
    -------
    ndarray of float64, [n, n_axes]
        ``sigma_a <g_i, q_a>`` in nats per response token, per standard deviation of dose. Rows
        are in the order of ``found.ids``.
    """
    slopes = slope_gradients(found, basis, layer) @ basis.components_.astype(np.float64).T
    values: NDArray[np.float64] = slopes * basis.scale_.astype(np.float64)
    return values


def slope_gradients(found: Gradients, basis: Basis, layer: Layer) -> NDArray[np.float64]:
    """Gradients with respect to what a basis's rows are made of, [n, width of the basis].

    Rows of concatenated layers are ``h_l / c_l`` side by side. A push by ``q`` there is made of
    the increments ``c_l q_l - c_k q_k`` after each block `l`, `k` the layer before it (see
    `concat.increments`), so its slope is ``sum_l <g_l, c_l q_l - c_k q_k>``, which is
    ``sum_l <c_l (g_l - g_m), q_l>`` with `m` the layer after it, and nothing after the last.

    Raises
    ------
    InputError
        A layer without gradients, or a basis of another width.
    """
    if layer != "concat":
        grads = found.matrix(layer).astype(np.float64)
    else:
        source = basis.source_ or {}
        parts = [found.matrix(at).astype(np.float64) for at in source["layers"]]
        after = [*parts[1:], np.zeros_like(parts[-1])]
        scaled = zip(source["scales"], parts, after, strict=True)
        grads = np.concatenate([scale * (g - later) for scale, g, later in scaled], axis=1)
    if grads.shape[1] != basis.components_.shape[1]:
        raise InputError(
            f"layer {layer}: the basis has width {basis.components_.shape[1]}, the gradients "
            f"{grads.shape[1]}: it was made for another model"
        )
    return grads


def _of_layer(found: Gradients, basis: Basis, layer: Layer, seed: int) -> pd.DataFrame:
    values = first_order_values(found, basis, layer)
    low, high = mean_intervals(values, seed)
    null = null_of(found, basis, layer, seed)
    return pd.DataFrame(
        {
            "axis": np.arange(basis.n_axes_),
            "layer": layer,
            "dose": np.nan,
            "utility": values.mean(axis=0),
            "low": low,
            "high": high,
            "damage": np.nan,
            "null_low": -null,
            "null_high": null,
        }
    )


def null_of(found: Gradients, basis: Basis, layer: Layer, seed: int) -> NDArray[np.float64]:
    """Utility that the best of as many random directions would have, of each axis's scale [k]."""
    mean = slope_gradients(found, basis, layer).mean(axis=0)
    limit = null_maximum(mean, basis.components_, np.random.default_rng(seed))
    null: NDArray[np.float64] = limit * basis.scale_.astype(np.float64)
    return null


def mean_intervals(
    values: NDArray[np.float64], seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """95 % percentile bootstrap intervals of the means of columns [n, k]: low [k], high [k].

    All columns see the same resampled examples.
    """
    n = len(values)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    mean = values.mean(axis=0)
    # About the mean, so that equal values give exactly that, whatever the rounding.
    low, high = np.quantile(counts @ (values - mean) / n, [0.025, 0.975], axis=0)
    return mean + low, mean + high


def share_of_gradient(found: Gradients, bases: Mapping[Layer, Basis]) -> pd.DataFrame:
    """How much of the gradient lies in the span of each basis.

    Of axes that were fitted on these same gradients it says too much; an active basis knows its
    cross-fitted share (`ActiveSubspaceBasis.gradient_share_total_`). See `gradient_share`.

    Returns
    -------
    DataFrame
        ``layer share random``: the share of the mean squared norm of the per-example gradients,
        and what as many random directions would hold, their number over the width.
    """
    rows = []
    for layer, basis in bases.items():
        grads = slope_gradients(found, basis, layer)
        share = float(gradient_share(basis.components_, grads).sum())
        rows.append({"layer": layer, "share": share, "random": basis.n_axes_ / grads.shape[1]})
    return pd.DataFrame(rows)
