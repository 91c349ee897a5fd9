"""Which layer to fit a basis on: what held-out probes read there, and whether its axes recur."""

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.linear_model import RidgeClassifierCV, RidgeCV
from sklearn.metrics import balanced_accuracy_score, r2_score
from sklearn.model_selection import KFold, StratifiedKFold

from ..errors import InputError
from .basis import Array, check_count
from .pca import PCABasis
from .stability import matched

# Enough to tell layers apart, few enough for thirty of them in seconds.
MOST_ROWS = 2000
FOLDS = 5

# In both halves every fold of a category has a row of it.
LEAST_IN_CATEGORY = 2 * FOLDS
LEAST_WITH_ERROR = 4 * FOLDS

# Strengths of the ridge that generalised cross-validation chooses from, for coordinates of unit
# variance: from next to none to more than there are rows.
PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10000.0)

Indices = npt.NDArray[np.intp]


def compare_layers(
    layers: Iterable[tuple[int, npt.ArrayLike]],
    target: Sequence[Any] | npt.NDArray[Any],
    n_axes: int = 32,
    random_state: int = 0,
) -> pd.DataFrame:
    """What a basis of `n_axes` principal axes would hold at each layer, and how surely.

    The rows (2,000 at most, drawn by the seed) are parted into two halves and a PCA is fitted on
    each. How well the axes of the halves match is the stability. The rows of one half are
    given by their coordinates on the axes of the *other*, and a ridge probe predicts the target
    from these, in 5-fold cross-validation: neither axes nor probe have seen what they are tested
    on.

    Parameters
    ----------
    layers : iterable of (int, array-like [n, d])
        Number and rows of each layer, asked for one after the other: a generator keeps one in
        memory at a time.
    target : sequence of length n
        Of each row, what a good layer tells: categories, or errors as floats. Rows without one
        (None, NaN) are left out, and so are categories of fewer than 10 rows.
    n_axes : int, default 32
        Axes of each PCA; clipped to the rank without a word.
    random_state : int, default 0
        Seed of rows, halves and folds.

    Returns
    -------
    DataFrame
        layer : number of the layer.
        probe : held-out score. For categories balanced accuracy (the mean over categories of the
        share found); for errors R2, at most 1 and below 0 for a probe worse than the mean.
        probe_se : standard error of `probe` over its 10 folds. They are of one set of rows, so
        that it errs on the small side.
        stability : mean |cosine| of the axes of one half with those of the other, assigned for
        the largest total (Hungarian), in [0, 1].
        variance : share of the total variance that the axes of one half hold in the other.
        chosen : true at one layer. Of those whose probe is within one standard error of the best
        it has the most stable axes; the first of equals.

        ``table.attrs`` says ``target`` ("category" or "error"), ``metric``, ``chance`` (the score
        of a probe that knows nothing) and ``rows`` (how many were used).

    Warns
    -----
    UserWarning
        No layer is three standard errors above chance (the best of many layers is two above it
        by luck): stability alone has chosen.

    Raises
    ------
    InputError
        No layer; rows that do not belong to the target, or have NaN or inf; fewer than 2
        categories of 10 rows; fewer than 20 errors, or all of them equal.

    Notes
    -----
    The one-standard-error rule is that of Breiman, Friedman, Olshen and Stone, "Classification and
    Regression Trees" (1984), section 3.4.3: among models that cannot be told apart it takes the
    simplest; here it takes the one that would come out the same on other rows.
    """
    asked = check_count("n_axes", n_axes)
    plan = _plan(target, random_state)
    table = pd.DataFrame([_compared(layer, X, plan, asked) for layer, X in layers])
    if table.empty:
        raise InputError("no layers to compare; give pairs of a layer's number and its rows")
    table["chosen"] = table["layer"] == chosen_layer(table)
    table.attrs |= {"target": plan.kind, "metric": plan.metric, "chance": plan.chance}
    table.attrs["rows"] = len(plan.picked)
    if not (table["probe"] > plan.chance + 3 * table["probe_se"]).any():
        warnings.warn(
            f"no layer tells the {plan.kind} better than chance ({plan.metric} "
            f"{plan.chance:.2f}): the layer is chosen for its stability alone",
            UserWarning,
            stacklevel=2,
        )
    return table


def chosen_layer(table: pd.DataFrame) -> int:
    """The most stable layer whose probe is within one standard error of the best.

    Parameters
    ----------
    table : DataFrame
        With ``layer probe probe_se stability``, as `compare_layers` gives it.
    """
    probe, error = table["probe"].to_numpy(), table["probe_se"].to_numpy()
    best = probe.argmax()
    near = probe >= probe[best] - error[best]
    stable = np.where(near, table["stability"], -np.inf).argmax()
    return int(table["layer"].to_numpy()[stable])


class _Plan(NamedTuple):
    """What is the same for all layers."""

    kind: str
    metric: str
    chance: float
    n_rows: int
    """Rows that a layer must have."""
    picked: Indices
    """[p] those that are used."""
    target: npt.NDArray[Any]
    """[p] codes of categories, int64, or errors, float64."""
    halves: tuple[Indices, Indices]
    """Of the picked."""
    seed: int


def _plan(target: Sequence[Any] | npt.NDArray[Any], seed: int) -> _Plan:
    values = np.asarray(target)
    if values.dtype == object:
        known = [value for value in values.tolist() if value is not None]
        if known and all(isinstance(value, float) for value in known):
            values = values.astype(np.float64)  # None becomes NaN
    if values.ndim != 1:
        raise InputError(f"target must be one value a row, got the shape {values.shape}")
    generator = np.random.default_rng(seed)
    if values.dtype.kind == "f":
        picked = _drawn(np.flatnonzero(np.isfinite(values)), generator)
        errors = values[picked].astype(np.float64)
        if len(picked) < LEAST_WITH_ERROR or np.ptp(errors) == 0:
            raise InputError(
                f"{len(picked)} of {len(values)} rows have an error, "
                f"{len(np.unique(errors))} different: to compare layers it takes "
                f"{LEAST_WITH_ERROR} rows whose errors differ; name a layer instead"
            )
        halves = next(KFold(2, shuffle=True, random_state=seed).split(errors))
        return _Plan("error", "R2", 0.0, len(values), picked, errors, halves, seed)

    codes, _ = pd.factorize(np.array(target, dtype=object))
    picked = _frequent(codes, _drawn(np.flatnonzero(codes >= 0), generator))
    codes = codes[picked]
    n_categories = len(np.unique(codes))
    if n_categories < 2:
        raise InputError(
            f"{n_categories} categories have {LEAST_IN_CATEGORY} rows or more, out of "
            f"{len(values)} rows: to compare layers it takes 2; name a layer instead"
        )
    halves = next(StratifiedKFold(2, shuffle=True, random_state=seed).split(codes, codes))
    chance = 1 / n_categories
    return _Plan("category", "balanced accuracy", chance, len(values), picked, codes, halves, seed)


def _drawn(known: Indices, generator: np.random.Generator) -> Indices:
    """At most `MOST_ROWS` of the known rows, in order."""
    return np.sort(generator.permutation(known)[:MOST_ROWS])


def _frequent(codes: npt.NDArray[np.int64], picked: Indices) -> Indices:
    """Those of the picked rows whose category has enough of them."""
    found, counts = np.unique(codes[picked], return_counts=True)
    return picked[np.isin(codes[picked], found[counts >= LEAST_IN_CATEGORY])]


def _rows(layer: int, X: npt.ArrayLike, plan: _Plan) -> Array:
    """The picked rows of a layer."""
    rows = np.asarray(X)
    if rows.ndim != 2 or len(rows) != plan.n_rows:
        raise InputError(
            f"layer {layer} must have one row for each of {plan.n_rows} targets, got the shape "
            f"{rows.shape}"
        )
    bad = np.flatnonzero(~np.isfinite(rows[plan.picked]).all(axis=1))
    if len(bad):
        raise InputError(
            f"layer {layer} has NaN or inf in {len(bad)} rows, first in row "
            f"{plan.picked[bad[0]]}; leave these rows out"
        )
    return rows[plan.picked]


def _compared(layer: int, X: npt.ArrayLike, plan: _Plan, n_axes: int) -> dict[str, float]:
    """One row of the table."""
    rows = _rows(layer, X, plan)
    try:
        return {"layer": layer} | _scores(rows, plan, n_axes)
    except InputError as error:  # rows that do not vary
        raise InputError(f"layer {layer}: {error}") from error


def _scores(rows: Array, plan: _Plan, n_axes: int) -> dict[str, float]:
    """Probe, stability and variance of a layer."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "n_axes=", UserWarning)  # the rank may be lower
        bases = [PCABasis(n_axes).fit(rows[half]) for half in plan.halves]
    scores: list[float] = []
    shares: list[float] = []
    for basis, half in zip(bases, plan.halves[::-1], strict=True):
        coordinates = basis.transform(rows[half])
        scores += _held_out_scores(coordinates / basis.scale_, plan.target[half], plan)
        total = rows[half].var(axis=0, dtype=np.float64).sum()
        shares.append(float(coordinates.var(axis=0, dtype=np.float64).sum() / total))
    fewer, more = sorted((basis.components_ for basis in bases), key=len)
    return {
        "probe": float(np.mean(scores)),
        "probe_se": float(np.std(scores, ddof=1) / np.sqrt(len(scores))),
        "stability": float(matched(fewer, more).mean()),
        "variance": float(np.mean(shares)),
    }


def _held_out_scores(z: Array, target: npt.NDArray[Any], plan: _Plan) -> list[float]:
    """Score of a ridge probe on each fold, trained on the others."""
    is_category = plan.kind == "category"
    folds = (StratifiedKFold if is_category else KFold)(FOLDS, shuffle=True, random_state=plan.seed)
    scores = []
    for train, test in folds.split(z, target):
        if is_category:
            probe = RidgeClassifierCV(PENALTIES, class_weight="balanced")
            score = balanced_accuracy_score
        else:
            probe, score = RidgeCV(PENALTIES), r2_score
        probe.fit(z[train], target[train])
        scores.append(float(score(target[test], probe.predict(z[test]))))
    return scores
