"""What an axis is in other bases: the axes most like it, and the latents it is made of."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from numpy.typing import NDArray

from ..bases.basis import Basis, check_count
from ..bases.orthogonalize import unit_rows
from ..errors import InputError
from ..progress import tell
from .examples import poles
from .table import ROWS_A_POLE

if TYPE_CHECKING:
    import scipy.sparse

    from ..bases.sae import SAEBasis, SparseAutoencoder

Reals = NDArray[np.float64]

ROWS_AT_ONCE = 2**14
"""Rows of 64 axes that stay in a core's cache."""

OF_ONE_SPACE = ("layer", "layers", "scales", "widths")
"""What two sources must agree in, beside the model's weights, for directions to be compared."""


def similar_axes(
    basis: Basis,
    other: Basis,
    z: NDArray[np.floating[Any]],
    z_other: NDArray[np.floating[Any]],
    axis: int | None = None,
    n: int | None = None,
) -> pd.DataFrame:
    """Hold the axes of one basis against those of another.

    Parameters
    ----------
    basis, other : Basis
    z, z_other : ndarray, [n_rows, n_axes]
        Coordinates of the same rows on either basis, in any unit.
    axis : int, optional
        Of `basis`; default: all of them.
    n : int, optional
        Axes of `other` to name for each; default: all.

    Returns
    -------
    DataFrame
        By axis, the largest |correlation| first:

        - ``axis``, ``other_axis``;
        - ``cosine`` of the two directions; NaN unless both sources say that they lie in one
          space: the same layer of the same weights;
        - ``correlation`` of the coordinates over the rows; NaN where one does not vary.

    Raises
    ------
    InputError
        Coordinates that do not fit the bases or one another, or an axis that is not there.
    """
    for coordinates, of, name in ((z, basis, "z"), (z_other, other, "z_other")):
        if coordinates.shape != (len(z), of.n_axes_):
            raise InputError(
                f"{name} must be [{len(z)}, {of.n_axes_}], one coordinate a row and axis, "
                f"not {coordinates.shape}"
            )
    n = other.n_axes_ if n is None else check_count("n", n)
    axes = np.arange(basis.n_axes_) if axis is None else np.array([_axis_of(basis, axis)])
    correlation = _correlations(z[:, axes], z_other)
    if are_of_one_space(basis.source_, other.source_):
        cosine = unit_rows(basis.components_[axes]) @ unit_rows(other.components_).T
    else:
        cosine = np.full(correlation.shape, np.nan)
    order = np.argsort(-np.abs(correlation), axis=1, kind="stable")[:, :n]
    return pd.DataFrame(
        {
            "axis": np.repeat(axes, order.shape[1]),
            "other_axis": order.ravel(),
            "cosine": np.take_along_axis(cosine, order, axis=1).ravel(),
            "correlation": np.take_along_axis(correlation, order, axis=1).ravel(),
        }
    )


def latents_behind(
    dictionary: "SAEBasis | SparseAutoencoder",
    basis: Basis,
    axis: int,
    X: npt.ArrayLike | None = None,
    n: int = 8,
    *,
    codes: "scipy.sparse.csr_array | None" = None,
    z: NDArray[np.floating[Any]] | None = None,
) -> pd.DataFrame:
    """Find the latents of a dictionary that an axis is made of.

    A row is the sum of its latents' directions `d_j`, each as long as the latent is active, and
    what the dictionary leaves out. So the coordinate `z` on an axis `q` is a sum too, and its
    variance falls apart into shares, one a latent: ``<d_j, q> cov(code_j, z) / var(z)``. A latent
    stands behind an axis when it points along it and fires where the coordinate is high (or
    against it, and low): neither alone makes a share.

    Parameters
    ----------
    dictionary : SparseAutoencoder or SAEBasis
        Trained on rows of the basis's layer.
    basis : Basis
    axis : int
    X : array-like [n_rows, d], optional
        Rows of that layer; needed unless both of the following are given.
    n : int
        Latents to name.
    codes : csr_array [n_rows, n_latents], optional
        ``dictionary.encode(X)``, for who has it: it is the same for all axes, and takes long.
    z : ndarray [n_rows], optional
        ``basis.transform(X)[:, axis]``, for who has it; not scaled.

    Returns
    -------
    DataFrame
        The largest share first; only latents that are active in some row:

        - ``latent``;
        - ``cosine`` of its direction with the axis;
        - ``correlation`` of its code with the coordinate over the rows;
        - ``share`` of the coordinate's variance that comes through it, as above; over all latents
          and what the dictionary leaves out they sum to 1, and some may be below 0;
        - ``density``: share of rows in which it is active;
        - ``positive``, ``negative``: mean code over the 20 rows at that pole.

    Raises
    ------
    InputError
        Not a dictionary, or one of another space than the basis's; an axis that is not there; no
        rows, or codes or coordinates that are not theirs.
    """
    n, axis = check_count("n", n), _axis_of(basis, axis)
    found = _dictionary_of(dictionary, basis)
    if z is None:
        z = basis.transform(_needed(X))[:, axis]
    if codes is None:
        codes = found.encode(_needed(X))
    if codes.shape != (len(z), len(found.components_)):
        raise InputError(
            f"codes must be [{len(z)}, {len(found.components_)}], what encode gives of the rows, "
            f"not {codes.shape}"
        )
    coordinate: Reals = z.astype(np.float64)
    variance = float(coordinate.var())
    fired, ends = _fired(codes, coordinate), poles(coordinate, ROWS_A_POLE)
    decoder = found.components_.astype(np.float64)
    along = decoder @ basis.components_[axis].astype(np.float64)
    table = pd.DataFrame(
        {
            "latent": np.arange(len(along)),
            "cosine": _quotient(along, np.linalg.norm(decoder, axis=1)),
            "correlation": _quotient(fired["covariance"], fired["spread"] * np.sqrt(variance)),
            "share": _quotient(along * fired["covariance"], variance),
            "density": fired["density"],
            "positive": codes[ends.positive].mean(axis=0),
            "negative": codes[ends.negative].mean(axis=0),
        }
    )
    active = table[table["density"] > 0]
    ranked = active.sort_values("share", ascending=False, kind="stable")
    return ranked.head(n).reset_index(drop=True)


def are_of_one_space(a: Mapping[str, Any] | None, b: Mapping[str, Any] | None) -> bool:
    """Whether directions of two sources can be compared: both say one layer, one model."""
    if a is None or b is None or "layer" not in a or "layer" not in b:
        return False
    is_one_model = _weights(a) == _weights(b)
    return is_one_model and all(a.get(name) == b.get(name) for name in OF_ONE_SPACE)


def _weights(source: Mapping[str, Any]) -> Any:
    model = source.get("model")
    return model.get("weights") if isinstance(model, Mapping) else model


def _dictionary_of(given: Any, basis: Basis) -> "SparseAutoencoder":
    """The dictionary itself, if its directions can be compared with those of the basis."""
    found: SparseAutoencoder = getattr(given, "dictionary_", given)
    if not hasattr(found, "encode"):
        raise InputError(
            f"{type(given).__name__} has no latents; give a SparseAutoencoder or an SAEBasis"
        )
    width = found.components_.shape[1]
    if width != basis.n_features_in_:
        raise InputError(
            f"the dictionary is of width {width}, the basis of {basis.n_features_in_}; "
            "take those of one layer"
        )
    a, b = found.source_, basis.source_
    # Of one that was made elsewhere nothing is known.
    if a and b and "layer" in a and "layer" in b and not are_of_one_space(a, b):
        raise InputError(
            f"the dictionary is of layer {a['layer']}, the basis of layer {b['layer']}, "
            "or their models differ; take those of one layer and model"
        )
    return found


def _needed(X: npt.ArrayLike | None) -> npt.ArrayLike:
    if X is None:
        raise InputError("rows are needed: give X, or both codes and z")
    return X


def _axis_of(basis: Basis, axis: int) -> int:
    if not 0 <= axis < basis.n_axes_:
        raise InputError(f"the basis has axes 0 to {basis.n_axes_ - 1}, not {axis}")
    return int(axis)


def _correlations(a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]]) -> Reals:
    """Correlation of every column of `a` [n, k] with every column of `b` [n, m].

    Products block by block in the columns' own type, about a value near their means, summed in
    float64 and corrected by what the means differ from it.
    """
    near_a, near_b = (m[:ROWS_AT_ONCE].mean(axis=0, dtype=m.dtype) for m in (a, b))
    products = np.zeros((a.shape[1], b.shape[1]))
    sums_a, sums_b, squares_a, squares_b = (np.zeros(m.shape[1]) for m in (a, b, a, b))
    for start in range(0, len(a), ROWS_AT_ONCE):
        tell(start, len(a))
        part = slice(start, start + ROWS_AT_ONCE)
        left, right = a[part] - near_a, b[part] - near_b
        products += left.T @ right
        sums_a += left.sum(axis=0)
        sums_b += right.sum(axis=0)
        squares_a += np.einsum("ij,ij->j", left, left)
        squares_b += np.einsum("ij,ij->j", right, right)
    n = len(a)
    covariances = products - np.outer(sums_a, sums_b) / n
    variances = np.outer(squares_a - sums_a**2 / n, squares_b - sums_b**2 / n)
    found = _quotient(covariances, np.sqrt(np.maximum(variances, 0.0)))
    correlations: Reals = np.clip(found, -1.0, 1.0)
    return correlations


def _fired(codes: "scipy.sparse.csr_array", z: Reals) -> dict[str, Reals]:
    """Of each latent: in what share of rows it fires, its spread, and how it varies with `z`."""
    n, n_latents = codes.shape
    values = codes.data.astype(np.float64)
    centred = np.repeat(z - z.mean(), np.diff(codes.indptr))

    def mean(of: Reals) -> Reals:
        sums: Reals = np.bincount(codes.indices, of, minlength=n_latents).astype(np.float64)
        found: Reals = sums / n
        return found

    variance = mean(values**2) - mean(values) ** 2
    return {
        "density": mean((values > 0).astype(np.float64)),
        "spread": np.sqrt(np.maximum(variance, 0.0)),
        "covariance": mean(values * centred),
    }


def _quotient(a: Reals, b: Reals | float) -> Reals:
    """``a / b``, NaN where `b` is 0."""
    quotient: Reals = np.divide(a, b, out=np.full_like(a, np.nan), where=np.asarray(b) != 0)
    return quotient
