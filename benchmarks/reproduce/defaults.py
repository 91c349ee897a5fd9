"""What the library's defaults should be: how well coordinates of a prompt foretell its error.

A curriculum works as far as the error of an example can be told from where its prompt lies. So
layers, poolings, kinds and numbers of axes are compared by that alone, on probe examples that
the prediction has not seen; and ways to part a budget among poles by the error that they find in
the other half of the probe. Nothing here looks at the test set.
"""

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
HALVES = 200
TOP_POLES = 8


def measure_defaults(ground: Ground) -> dict[str, Any]:
    """Held-out R2 of the error by layer, pooling, kind and number of axes; and of quota rules.

    Returns
    -------
    dict
        JSON-ready: ``errors``: how many; ``r2``: rows ``kind layer pooling n_axes r2 low high``,
        intervals by bootstrap over examples; ``quota``: rows ``rule excess low high``, mean error
        in the second half of what the first half's quotas buy, less the mean error of that half.
    """
    study, n_axes = ground.study, ground.settings.n_axes
    error = study.probe_errors()
    rows = list[dict[str, Any]]()
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
            counts = AXES if layer == ground.layer else (n_axes,)
            pool, probe = X[study.pool_rows], X[study.probe_rows]
            most = min(max(counts), len(pool) - 1, X.shape[1])
            z = mn.PCABasis(n_axes=most).fit(pool).transform(probe)
            for k in sorted({min(k, most) for k in counts}):
                about = {"kind": "pca", "layer": layer, "pooling": pooling, "n_axes": k}
                rows.append(about | _foretold(z[:, :k], error))
    for kind in ("pca", "sae", "rotated", "subspace"):
        ruler = study.ruler(ground.basis(kind), progress=ground.progress)
        name = f"{kind}, fitted on whole examples"
        about = {"kind": name, "layer": ground.layer, "pooling": "mean"}
        z = ruler.probe / ruler.scale
        rows.append(about | {"n_axes": z.shape[1]} | _foretold(z, error))
    ruler = study.ruler(ground.basis("pca"), progress=ground.progress)
    return {
        "errors": len(error),
        "r2": rows,
        "quota": _quotas(ruler.probe / ruler.scale, error),
    }


def _foretold(z: NDArray[Any], error: Array) -> dict[str, float]:
    """R2 of out-of-fold ridge predictions, the penalty chosen within each training part."""
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), RidgeCV(PENALTIES))
    folds = KFold(min(FOLDS, len(error) // 2), shuffle=True, random_state=0)
    left = (error - cross_val_predict(model, z, error, cv=folds)) ** 2
    whole = (error - error.mean()) ** 2
    value, low, high = mean_interval((whole - left) / whole.mean(), seed=0)
    return {"r2": value, "low": low, "high": high}


def _quotas(z: Array, error: Array) -> list[dict[str, Any]]:
    """Rules by the excess error that their quotas find in examples they were not made from."""
    generator = np.random.default_rng(0)
    found: dict[str, list[float]] = {}
    for _ in range(HALVES):
        order = generator.permutation(len(error))
        first, second = np.array_split(order, 2)
        table = pole_weakness(z[first], error[first])
        there = pole_weakness(z[second], error[second])
        excess = (there["weakness"] - there.attrs["mean_error"]).fillna(0.0).to_numpy()
        raw = np.maximum(0.0, table["weakness"].fillna(0.0) - table.attrs["mean_error"])
        mass = table["mass"].to_numpy()
        top = np.where(mass >= np.sort(mass)[-TOP_POLES], mass, 0.0)
        rules = {
            "shrunk excess x support": mass,
            "raw excess x support": (raw * table["support"]).to_numpy(),
            f"shrunk, {TOP_POLES} weakest poles": top,
            "ridge coefficient": np.maximum(0.0, table["ridge"].to_numpy()),
            "equal": np.ones(len(mass)),
        }
        for rule, weight in rules.items():
            share = weight / weight.sum() if weight.sum() > 0 else np.full(len(weight), np.nan)
            found.setdefault(rule, []).append(float(share @ excess))
    return [
        {
            "rule": rule,
            "excess": float(np.nanmean(values)),
            "low": float(np.nanquantile(values, 0.025)),
            "high": float(np.nanquantile(values, 0.975)),
        }
        for rule, values in found.items()
    ]
