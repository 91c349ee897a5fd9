"""What the library's defaults should be: how well coordinates of a prompt foretell its error.

A curriculum works as far as the error of an example can be told from where its prompt lies. So
layers, poolings, kinds and numbers of axes are compared by that alone, on probe examples that
the prediction has not seen; and ways to part a budget among poles by the error that they find in
the other half of the probe. Nothing here looks at the test set.

The best of many looks better than it is. So what a choice is worth is measured on examples that
had no say in it: the best is chosen on one half of the probe, and foretells the other half beside
the library's default.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import mnskills_viz as mn
from mnskills_viz.evaluation.intervals import mean_interval
from mnskills_viz.selection.weakness import pole_weakness
from mnskills_viz.study.rows import without_responses

from .ground import Ground

Array = NDArray[np.float64]

POOLINGS: tuple[Literal["mean", "last"], ...] = ("mean", "last")
AXES = (4, 8, 16, 32, 64, 128)
FOLDS, PENALTIES = 10, np.logspace(-1, 5, 13)
HALVINGS = 10
"""Ways to part the probe for the choice; each half is once that which is chosen on."""

QUOTA_HALVINGS = 200
TOP_POLES = 8

DEFAULT_KIND, DEFAULT_POOLING = "pca", "mean"
"""Of the library, beside the middle layer and the 32 axes of the settings (fewer at tiny)."""

FITTED_ON_WHOLE = "fitted on whole examples"
CONTROLS = ("rotated", "subspace")
"""Kinds that nobody would choose: they say what the axes themselves are worth."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Coordinates of the probe's prompts, made in one way.

    Attributes
    ----------
    kind : str
    layer : int
    pooling : str
    z : ndarray, [n_probe, n_axes]
    eligible : bool
        Whether it can be chosen; a control cannot.
    """

    kind: str
    layer: int
    pooling: str
    z: NDArray[Any]
    eligible: bool = True

    @property
    def about(self) -> dict[str, Any]:
        """What it is, JSON-ready."""
        return {
            "kind": self.kind,
            "layer": self.layer,
            "pooling": self.pooling,
            "n_axes": self.z.shape[1],
        }


def measure_defaults(ground: Ground) -> dict[str, Any]:
    """Held-out R2 of the error by layer, pooling, kind and number of axes; and of quota rules.

    Returns
    -------
    dict
        JSON-ready:

        - ``errors``: how many;
        - ``r2``: rows ``kind layer pooling n_axes r2 low high``, intervals by bootstrap over
          examples, each as if it were the only row: the largest of them flatters;
        - ``chosen``: what choosing is worth, see `choice`;
        - ``quota``: rows ``rule excess from to``: mean error in the second half of what the first
          half's quotas buy, less the mean error of that half. ``excess`` is the mean over
          halvings of the same examples, and 95 % of the halvings lie from ``from`` to ``to``:
          how far a halving decides, not an interval of the mean.
    """
    study = ground.study
    error = study.probe_errors()
    cells = list(_cells(ground))
    ruler = study.ruler(ground.basis("pca"), progress=ground.progress)
    return {
        "errors": len(error),
        "r2": [cell.about | foretold(cell.z, error) for cell in cells],
        "chosen": choice(cells, _default(ground, cells), error),
        "quota": quotas(ruler.probe / ruler.scale, error),
    }


def _cells(ground: Ground) -> Iterator[Cell]:
    """PCA of the prompts at all layers in both poolings, and the bases that the arms use."""
    study, n_axes = ground.study, ground.settings.n_axes
    for pooling in POOLINGS:
        acts = mn.collect(
            study.model,
            without_responses(study.corpus),
            layers=study.activations.layers,
            tokens="prompt",
            pooling=pooling,
            store=ground.work / f"prompts-{pooling}.lance",
            progress=ground.progress,
        )
        for layer in acts.layers:
            X = acts.matrix(layer)
            counts = {*AXES, n_axes} if layer == ground.layer else {n_axes}
            pool, probe = X[study.pool_rows], X[study.probe_rows]
            most = min(max(counts), len(pool) - 1, X.shape[1])
            z = mn.PCABasis(n_axes=most).fit(pool).transform(probe)
            for k in sorted({min(k, most) for k in counts}):
                yield Cell("pca", layer, pooling, z[:, :k])
    for kind in ("pca", "sae", *CONTROLS):
        ruler = study.ruler(ground.basis(kind), progress=ground.progress)
        name = f"{kind}, {FITTED_ON_WHOLE}"
        yield Cell(name, ground.layer, "mean", ruler.probe / ruler.scale, kind not in CONTROLS)


def _default(ground: Ground, cells: Sequence[Cell]) -> int:
    """Place of the library's default, on rows of prompts like the cells that it is measured by."""
    layers = ground.study.activations.layers
    like = [
        place
        for place, cell in enumerate(cells)
        if (cell.kind, cell.layer, cell.pooling)
        == (DEFAULT_KIND, layers[len(layers) // 2], DEFAULT_POOLING)
        and cell.z.shape[1] <= ground.settings.n_axes
    ]
    return max(like, key=lambda place: cells[place].z.shape[1])


def foretold(z: NDArray[Any], error: Array) -> dict[str, float]:
    """R2 of out-of-fold ridge predictions, the penalty chosen within each training part."""
    from sklearn.model_selection import KFold, cross_val_predict

    folds = KFold(min(FOLDS, len(error) // 2), shuffle=True, random_state=0)
    left = (error - cross_val_predict(_ridge(), z, error, cv=folds)) ** 2
    whole = (error - error.mean()) ** 2
    value, low, high = mean_interval((whole - left) / whole.mean(), seed=0)
    return {"r2": value, "low": low, "high": high}


def choice(cells: Sequence[Cell], default: int, error: Array) -> dict[str, Any]:
    """What it is worth to choose the best cell, on examples that had no say in the choice.

    The examples are halved at random. On one half the cell of the smallest leave-one-out error is
    chosen, and a ridge fitted on that half foretells the other half, from the chosen cell and from
    the default. Then the halves change places, so that with each halving each example is foretold
    once; the squared errors of an example are averaged over the halvings.

    Parameters
    ----------
    cells : sequence of Cell
    default : int
        Place of the library's default among them.
    error : ndarray, [n_probe]

    Returns
    -------
    dict
        ``layer pooling kind n_axes`` of the cell that was chosen most often, ``times`` of
        ``choices``; ``r2_chosen`` and ``r2_default`` (of the choices, whichever cell each fell
        on, and of the default); ``difference``, with ``low`` and ``high``: 95 %, paired bootstrap
        over examples of their averaged squared errors. It holds for the way of choosing, from
        half of this probe; choices and fits are not made anew in a resample.
    """
    generator = np.random.default_rng(0)
    open_to_choice = [place for place, cell in enumerate(cells) if cell.eligible]
    picked = list[int]()
    left = np.zeros((2, len(error)))  # of the chosen, of the default
    for _ in range(HALVINGS):
        halves = np.array_split(generator.permutation(len(error)), 2)
        for here, there in (halves, halves[::-1]):
            fits = {
                place: _ridge().fit(cells[place].z[here], error[here]) for place in open_to_choice
            }
            best = max(open_to_choice, key=lambda place: fits[place][-1].best_score_)
            picked.append(best)
            for line, place in enumerate((best, default)):
                missed = error[there] - fits[place].predict(cells[place].z[there])
                left[line, there] += missed**2 / HALVINGS
    most, times = Counter(picked).most_common(1)[0]
    variance = float(((error - error.mean()) ** 2).mean())
    r2_chosen, r2_default = 1 - left.mean(axis=1) / variance
    value, low, high = mean_interval((left[1] - left[0]) / variance, seed=0)
    return cells[most].about | {
        "times": times,
        "choices": len(picked),
        "r2_chosen": float(r2_chosen),
        "r2_default": float(r2_default),
        "difference": value,
        "low": low,
        "high": high,
    }


def _ridge() -> Any:
    """Ridge on standardized coordinates; its penalty has the smallest leave-one-out error."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), RidgeCV(PENALTIES))


def quotas(z: Array, error: Array) -> list[dict[str, Any]]:
    """Rules by the excess error that their quotas find in examples they were not made from.

    Returns
    -------
    list of dict
        ``rule``, ``excess`` (mean over halvings), ``from`` and ``to`` (95 % of the halvings lie
        between: their spread).
    """
    generator = np.random.default_rng(0)
    found: dict[str, list[float]] = {}
    for _ in range(QUOTA_HALVINGS):
        order = generator.permutation(len(error))
        first, second = np.array_split(order, 2)
        table = pole_weakness(z[first], error[first])
        there = pole_weakness(z[second], error[second])
        excess = (there["weakness"] - there.attrs["mean_error"]).fillna(0.0).to_numpy()
        raw = np.maximum(0.0, table["weakness"].fillna(0.0) - table.attrs["mean_error"])
        mass = table["mass"].to_numpy()
        least = np.sort(mass)[-min(TOP_POLES, len(mass))]
        top = np.where(mass >= least, mass, 0.0)
        rules = {
            "shrunk excess x support": mass,
            "raw excess x support": (raw * table["support"]).to_numpy(),
            f"shrunk, {TOP_POLES} weakest poles": top,
            "ridge coefficient": np.maximum(0.0, table["ridge"].to_numpy()),
            "equal": np.ones(len(mass)),
        }
        for rule, weight in rules.items():
            # Where no pole is weak the library draws at random, which finds no excess.
            share = weight / (weight.sum() or 1.0)
            found.setdefault(rule, []).append(float(share @ excess))
    return [
        {
            "rule": rule,
            "excess": float(np.mean(values)),
            "from": float(np.quantile(values, 0.025)),
            "to": float(np.quantile(values, 0.975)),
        }
        for rule, values in found.items()
    ]
