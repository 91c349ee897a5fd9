"""How good a basis and each of its axes are, and what chance would score."""

import math
from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..errors import InputError
from ..progress import tell
from .active_subspace import gradient_share
from .basis import Array, Basis, check_count, checked_rows
from .confounds import Evidence, HasDirections, Known, figures
from .pca import skewness
from .random import random_frame
from .scatter import mean_of, total_variance
from .stability import DRAWS, recurrence

MOST_ROWS = 5000
"""All but variance and skewness is judged on this many rows, drawn by seed from longer data.

It bounds the time, and errs to the strict side: axes of fewer rows recur less, and chance does
more.
"""

MOST_NUMBERS = 40_000_000
"""And on fewer rows still if they are wide: 2,300 of 30 layers of width 576 side by side."""

LEVEL = 0.05
"""How often chance may look like something."""


def quality(
    basis: Basis,
    X: npt.ArrayLike,
    categories: Sequence[Any] | None = None,
    lengths: npt.ArrayLike | None = None,
    templates: Sequence[Any] | None = None,
    texts: Sequence[str] | None = None,
    gradients: npt.ArrayLike | None = None,
    dictionary: HasDirections | None = None,
    random_state: int = 0,
) -> pd.DataFrame:
    """One row an axis: what it holds, whether it recurs, what it may be in disguise.

    Parameters
    ----------
    basis : Basis
        Fitted.
    X : array-like [n, d]
        The rows to judge it by, as a rule those it was fitted on.
    categories : sequence of length n, optional
        The human taxonomy's word for each row; rows without one (None, NaN) are left out.
    lengths : array-like [n], optional
        Tokens in each row's text.
    templates : sequence of length n, optional
        What the text was made from; rows without one (None, NaN) are left out.
    texts : sequence of str of length n, optional
        The texts themselves.
    gradients : array-like [g, d], optional
        Of something the model does, one an example; see `mnskills_viz.gradients`.
    dictionary : SparseAutoencoder or anything with ``components_`` [m, d], optional
        Default: that of the basis, if it has one.
    random_state : int, default 0
        Seed of halves, resamples and controls.

    Returns
    -------
    DataFrame
        Columns in brackets need the argument of that name. ``attrs["summary"]`` holds `summary`.

        axis : number of the axis, from 0.
        variance : share of the total variance of `X` that it holds, in [0, 1].
        skewness : third standardised moment of its coordinate.
        stability, bootstrap_low, stability_null : see `Recurrence`; only for PCA, NaN for others.
        redundancy : largest |correlation| of its coordinate with another axis's; 0 between the
        axes of a PCA on its own rows, above it for others.
        max_offdiag_cosine : largest |cosine| with another axis: rounding, if it is orthonormal.
        length_r2 [lengths] : squared correlation of the coordinate with the length.
        template_r2 [templates] : share of the coordinate's variance between templates, adjusted
        for their number; see `share_between`.
        token_r2 [texts] : share of the coordinate that a ridge regression on a bag of words
        predicts in rows left out; see `share_predicted`.
        mutual_information [categories] : nats between category and decile of the coordinate, less
        the bias of a finite table; see `mutual_information`.
        latent, latent_cosine [dictionary] : the latent of largest |cosine|, and that |cosine|.
        gradient_share [gradients] : ``sum <g, q>^2 / sum |g|^2``.
        FIGURE_null, for each of the last six : what the best axis of a control basis reaches by
        chance, the larger of the two in `nulls`.

    Raises
    ------
    InputError
        Rows do not fit the basis or are all equal, or what goes with them does not fit them.
    """
    known: Known = {
        "categories": categories,
        "lengths": lengths,
        "templates": templates,
        "texts": texts,
        "gradients": gradients,
        "dictionary": dictionary,
    }
    coordinates, rows = basis.transform(X), checked_rows(basis, X, fitting=False)
    total = _total_variance(rows)
    chosen = _sample(rows, random_state)
    judged, evidence = rows[chosen], _evidence(basis, rows, chosen, known)
    found = recurrence(basis, judged, random_state)
    columns: dict[str, Any] = {
        "axis": np.arange(basis.n_axes_),
        "variance": coordinates.var(axis=0, dtype=np.float64) / total,
        "skewness": skewness(rows, basis.components_),
        "stability": found.stability,
        "bootstrap_low": found.bootstrap_low,
        "stability_null": found.stability_null,
        "redundancy": _largest_with_another(_correlations(coordinates[chosen])),
        "max_offdiag_cosine": _largest_with_another(basis.components_ @ basis.components_.T),
    }
    columns |= figures(basis.components_, coordinates[chosen], evidence)
    if evidence.latents is not None:
        columns["latent"] = np.abs(basis.components_ @ evidence.latents.T).argmax(axis=1)
    chance = _nulls(basis, judged, evidence, random_state, DRAWS)
    for figure, of_both in chance.groupby("figure", sort=False):
        columns[f"{figure}_null"] = of_both["best_axis"].max()
    table = pd.DataFrame(columns)
    table.attrs["summary"] = summary(basis, X, gradients)
    return table


def summary(
    basis: Basis, X: npt.ArrayLike, gradients: npt.ArrayLike | None = None
) -> dict[str, float]:
    """How good the basis is as a whole.

    Parameters
    ----------
    basis, X, gradients
        As for `quality`.

    Returns
    -------
    dict of str to float
        explained_variance : share of the variance of `X` on all axes together.
        fvu : fraction of variance unexplained, ``|x - q'q(x - mean) - mean|^2`` over that about
        the mean of `X`; 1 less `explained_variance` where `X` is what the basis was fitted on.
        orthogonality_error : largest entry of ``|Q Q' - I|``.
        gradient_share : with gradients, their share on all axes together.
        dictionary_fvu, dictionary_l0, dictionary_dead_share : of a basis with a dictionary, on
        `X`: its own fraction of variance unexplained, mean number of active latents a row, and
        share of latents that no row activates.

    Raises
    ------
    InputError
        Rows or gradients do not fit the basis.
    """
    coordinates, rows = basis.transform(X), checked_rows(basis, X, fitting=False)
    axes, total = basis.components_, _total_variance(rows)
    found = {
        "explained_variance": coordinates.var(axis=0, dtype=np.float64).sum() / total,
        "fvu": (_mean_square(rows - basis.mean_) - _mean_square(coordinates)) / total,
        "orthogonality_error": np.abs(axes @ axes.T - np.eye(len(axes))).max(),
    }
    if gradients is not None:
        found["gradient_share"] = gradient_share(axes, gradients).sum()
    dictionary = getattr(basis, "dictionary_", None)
    if dictionary is not None:
        active = dictionary.encode(rows) != 0
        found["dictionary_fvu"] = dictionary.fvu(rows)
        found["dictionary_l0"] = active.sum() / len(rows)
        found["dictionary_dead_share"] = (np.asarray(active.sum(axis=0)) == 0).mean()
    return {name: float(value) for name, value in found.items()}


def nulls(
    basis: Basis,
    X: npt.ArrayLike,
    random_state: int = 0,
    draws: int = DRAWS,
    **known: Unpack[Known],
) -> pd.DataFrame:
    """What bases that know nothing score, of the same number of axes.

    Parameters
    ----------
    basis, X, random_state
        As for `quality`.
    draws : int, default 19
        Bases to draw of each control. Fewer than 19 reach no 5 % level: their largest is told.
    **known
        ``categories lengths templates texts gradients dictionary``, as for `quality`.

    Returns
    -------
    DataFrame
        figure : column of `quality`, for what is given. For stability see `Recurrence`.
        control : "random": orthonormal directions drawn from the whole space. "rotation": the
        axes of the basis rotated at random among themselves; none for a single axis.
        one_axis : 95 % point over all axes drawn. It describes an axis chosen beforehand: of 32
        axes that know nothing one or two exceed it.
        best_axis : 5 % level of the best axis of a basis. For claims: one looks at all axes, and
        speaks of the best.

    Raises
    ------
    InputError
        As `quality`; `draws` below 1.
    """
    check_count("draws", draws)
    rows = checked_rows(basis, X, fitting=False)
    chosen = _sample(rows, random_state)
    return _nulls(basis, rows[chosen], _evidence(basis, rows, chosen, known), random_state, draws)


def _nulls(
    basis: Basis, rows: Array, evidence: Evidence, random_state: int, draws: int
) -> pd.DataFrame:
    k, d = basis.components_.shape
    generator = np.random.default_rng(random_state)
    centred = rows - basis.mean_.astype(rows.dtype)
    inside = centred @ basis.components_.T.astype(rows.dtype)
    found: list[dict[str, Any]] = []
    for draw in range(draws):
        tell(draw, draws)
        directions = random_frame(k, d, generator).astype(rows.dtype)
        scores = {"random": figures(directions, centred @ directions.T, evidence)}
        if k > 1:
            turn = random_frame(k, k, generator).astype(rows.dtype)
            turned = figures(turn @ basis.components_, inside @ turn.T, evidence)
            scores["rotation"] = turned
        found += [
            {"figure": figure, "control": control, "scores": values}
            for control, of_all in scores.items()
            for figure, values in of_all.items()
        ]
    # The order statistic that one more draw exceeds in 5 %: of 19 the largest.
    rank = min(draws, math.ceil((1 - LEVEL) * (draws + 1)))
    table = [
        {
            "figure": figure,
            "control": control,
            "one_axis": float(np.quantile(np.concatenate(list(drawn)), 1 - LEVEL)),
            "best_axis": float(np.sort([scores.max() for scores in drawn])[rank - 1]),
        }
        for (figure, control), drawn in pd.DataFrame(
            found, columns=["figure", "control", "scores"]
        ).groupby(["figure", "control"], sort=False)["scores"]
    ]
    return pd.DataFrame(table, columns=["figure", "control", "one_axis", "best_axis"])


def _sample(rows: Array, random_state: int) -> npt.NDArray[np.int64]:
    """Which of `rows` [n, d] are judged, in order: all, unless they are many."""
    n, d = rows.shape
    most = min(n, MOST_ROWS, MOST_NUMBERS // d)
    return np.sort(np.random.default_rng(random_state).choice(n, most, replace=False))


def _evidence(basis: Basis, rows: Array, chosen: npt.NDArray[np.int64], known: Known) -> Evidence:
    given = known.get("dictionary")
    own = getattr(basis, "dictionary_", None)
    return Evidence.of(rows, chosen, known | {"dictionary": own if given is None else given})


def _total_variance(rows: Array) -> float:
    total = total_variance(rows, mean_of(rows))
    if total == 0:
        raise InputError(f"all {len(rows)} rows are equal: give rows that vary")
    return total


def _mean_square(rows: Array) -> float:
    """Mean squared length of rows, summed in float64."""
    return float(np.einsum("ij,ij->", rows, rows, dtype=np.float64)) / len(rows)


def _correlations(coordinates: Array) -> Array:
    centred = coordinates - coordinates.mean(axis=0, dtype=np.float64)
    lengths = np.linalg.norm(centred, axis=0)
    units = np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > 0)
    correlations: Array = np.clip(units.T @ units, -1.0, 1.0)
    return correlations


def _largest_with_another(products: Array) -> Array:
    """Largest |entry| [k] in each row of [k, k] off the diagonal; 0 for a single axis."""
    others = np.abs(products)
    np.fill_diagonal(others, 0.0)
    largest: Array = others.max(axis=1)
    return largest
