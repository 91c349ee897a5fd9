"""Vectors along an axis of concatenated layers: increments from block to block, then measured."""

import contextlib
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ..activations.collect import collect
from ..bases.basis import Basis
from ..corpus import Corpus
from ..errors import InputError
from .vector import SteeringVector

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel

Layer = int | Literal["concat"]

TOLERANCE = 0.03
ROUNDS = 6
TEXTS = 12
"""So many texts are enough to measure a shift on."""


def vector_for(
    model: "TransformersModel",
    basis: Basis,
    axis: int,
    layer: Layer,
    dose: float,
    corpus: Corpus,
) -> SteeringVector:
    """Make the vector of a dose, wherever the axis was fitted.

    Of a layer: `SteeringVector.from_axis`. Of concatenated layers: `concat_vector`, measured on
    the first texts of the corpus. There, opposite doses are not opposite vectors: blocks answer
    to a push and to its opposite differently.

    Parameters
    ----------
    model, basis, axis, dose
        As `concat_vector` takes them.
    layer : int or "concat"
    corpus : Corpus
        Its first 12 texts are read; none for a basis of one layer.

    Raises
    ------
    InputError
        What `from_axis` or `concat_vector` refuses.
    """
    if layer == "concat":
        return concat_vector(model, basis, axis, dose, corpus[:TEXTS])
    return SteeringVector.from_axis(basis, axis, layer, dose)


def concat_vector(
    model: "TransformersModel",
    basis: Basis,
    axis: int,
    dose: float,
    corpus: Corpus,
    progress: bool = False,
) -> SteeringVector:
    """Make the vector that moves the coordinate on an axis of concatenated layers.

    The residual stream carries what is added on to all later blocks, so each block is given only
    what is still missing: with rows ``h_l / c_l`` side by side and the axis's slices ``q_l``,
    ``dose * sigma * (c_l q_l - c_k q_k)`` after block `l`, `k` the layer before it in the basis.
    Blocks answer to what they are given, so the shift is then measured on texts and the vector
    rescaled until it is the dose.

    Parameters
    ----------
    model : TransformersModel
    basis : Basis
        Fitted on ``activations.matrix("concat")``, with its source.
    axis : int
    dose : float
        Standard deviations of the axis's pooled coordinate.
    corpus : Corpus
        Texts to measure the shift on; a dozen will do.
    progress : bool

    Returns
    -------
    SteeringVector
        `source` says the factor that measuring gave (``"scaled_by"``) and the shift that was
        reached (``"measured"``, standard deviations).

    Raises
    ------
    InputError
        A basis of one layer, or a dose that the model cannot be pushed to.
    """
    nominal = increments(basis, axis, dose)
    if dose == 0:
        return nominal
    before = _coordinates(model, basis, corpus, None, progress)[:, axis]
    vector, factor, measured = nominal, 1.0, 0.0
    for _ in range(ROUNDS):
        vector = factor * nominal
        after = _coordinates(model, basis, corpus, vector, progress)[:, axis]
        measured = float((after - before).mean() / basis.scale_[axis])
        if abs(measured - dose) <= TOLERANCE * abs(dose):
            source = (nominal.source or {}) | {"scaled_by": factor, "measured": measured}
            return SteeringVector(vector.directions, source=source)
        if not np.isfinite(measured) or measured * dose <= 0:
            break
        factor *= dose / measured
    raise InputError(
        f"axis {axis}, dose {dose:+g}: the model moves by {measured:+.2g} standard deviations "
        "whatever is added; take a smaller dose"
    )


def increments(basis: Basis, axis: int, dose: float) -> SteeringVector:
    """What each block must add for a dose on concatenated layers, if none answered to it.

    Raises
    ------
    InputError
        A basis of one layer, no such axis, or a dose that is no finite number.
    """
    source = basis.source_ or {}
    if source.get("layer") != "concat":
        raise InputError(
            "the basis was not fitted on concatenated layers; use SteeringVector.from_axis"
        )
    SteeringVector.require_axis(basis, axis, dose)
    slices = np.split(basis.components_[axis].astype(np.float64), np.cumsum(source["widths"])[:-1])
    wanted = [
        dose * basis.scale_[axis] * scale * part
        for scale, part in zip(source["scales"], slices, strict=True)
    ]
    missing = np.diff(wanted, axis=0, prepend=0)
    return SteeringVector(
        dict(zip(source["layers"], missing, strict=True)),
        source=SteeringVector.source_of(basis, axis, "concat", dose),
    )


def _coordinates(
    model: "TransformersModel",
    basis: Basis,
    corpus: Corpus,
    vector: SteeringVector | None,
    progress: bool,
) -> NDArray[np.float32]:
    """Coordinates of texts, [n, n_axes], read by the model as it is or as it is steered."""
    options = (basis.source_ or {})["options"]
    with contextlib.nullcontext() if vector is None else vector.apply(model):
        rows = collect(
            model, corpus, layers=(basis.source_ or {})["layers"], progress=progress, **options
        )
    X = rows.matrix_as(basis.source_ or {})
    if vector is not None:
        # A trace reads a block's output before what is added to it.
        source = basis.source_ or {}
        parts = zip(source["layers"], source["widths"], source["scales"], strict=True)
        added = [vector.directions.get(at, np.zeros(width)) / scale for at, width, scale in parts]
        X = X + np.concatenate(added).astype(X.dtype)
    return basis.transform(X)
