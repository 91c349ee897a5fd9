"""The arms: ways to spend one budget on one pool, each a recipe that can be replayed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mnskills_viz as mn
from mnskills_viz.selection.recipe import Selection
from mnskills_viz.selection.weakness import reference_errors
from mnskills_viz.steering.proxy import fitted_layer
from mnskills_viz.study.selecting import text_of

from .ground import Ground


@dataclass(frozen=True, slots=True)
class Ask:
    """What a selection is asked for.

    Attributes
    ----------
    ground : Ground
    seed : int
    budget : int
        Response tokens.
    model : str
        What is to be trained on it, as `load_model` takes it: the start, or what earlier rounds
        made of it.
    taken : list of str
        Ids that earlier rounds took.
    """

    ground: Ground
    seed: int
    budget: int
    model: str
    taken: list[str]

    def by_study(self, strategy: str, basis: str = "pca", **options: Any) -> Selection:
        """What `Study.select` chooses, by tokens unless told otherwise."""
        asked: dict[str, Any] = {"budget": self.budget, "unit": "tokens"} | options
        drawn = self.seed if basis in ("rotated", "subspace") else None
        return self.ground.study.select(
            strategy,
            basis=self.ground.basis(basis, drawn),
            name=f"{strategy}-{basis}-{self.seed}-{len(self.taken)}",
            seed=self.seed,
            exclude=self.taken,
            **asked,
        )

    def by_coordinates(self, Z: NDArray[Any], strategy: str, **options: Any) -> Selection:
        """What `mnskills_viz.select` chooses by coordinates of our own, of the same rows."""
        study = self.ground.study
        pool = study.pool
        left_out = {*self.taken, *study.contamination()["id"]}
        left_out |= {example.id for example in pool if not example.response.strip()}
        return mn.select(
            Z,
            strategy,
            self.budget,
            ids=pool.ids,
            tokens=np.maximum(1, study.activations.n_response[study.pool_rows]),
            categories=[example.category for example in pool],
            texts=[text_of(example) for example in pool],
            exclude=sorted(left_out),
            seed=self.seed,
            **options,
        )


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to choose; `stored.ABOUT` has each in words.

    Attributes
    ----------
    choose : callable or None
        None for the start itself, which is not trained any further.
    rounds : int
        Parts of the budget that are chosen one after the other, each for what the ones before
        made of the model.
    """

    choose: Callable[[Ask], Selection] | None
    rounds: int = 1


# ------------------------------------------------------------------- what needs more than a line


def _weakest_categories(ask: Ask) -> Selection:
    """The curriculum with categories in the place of axes: one pole a category, 0 or 1 on it."""
    study = ask.ground.study
    names = sorted({str(example.category) for example in study.corpus})
    place = {name: number for number, name in enumerate(names)}
    member = np.zeros((len(study.corpus), len(names)))
    for row, example in enumerate(study.corpus):
        member[row, place[str(example.category)]] = 1.0
    return ask.by_coordinates(
        member[study.pool_rows],
        "weakness",
        axes=[(axis, 1) for axis in range(len(names))],
        scale=np.ones(len(names)),
        probe=member[study.probe_rows],
        error=study.probe_errors(),
    )


def _estimated_anew(ask: Ask) -> Selection:
    """The curriculum by the errors of the model as it is by now, where it stood at the start."""
    study = ask.ground.study
    frozen = -study.activations.logprobs[study.probe_rows].astype(np.float64)
    probe = study.corpus.take(study.probe_rows)
    now = mn.collect(
        mn.load_model(ask.model), probe, layers=[0], errors=True, progress=ask.ground.progress
    )
    ruler = study.ruler(ask.ground.basis("pca"), progress=ask.ground.progress)
    return ask.by_coordinates(
        ruler.pool,
        "weakness",
        scale=ruler.scale,
        probe=ruler.probe,
        error=reference_errors(-now.logprobs.astype(np.float64), frozen),
    )


def _best_by_proxy(ask: Ask) -> Selection:
    """What lies farthest out on the pole with the largest first-order utility."""
    study, name = ask.ground.study, ask.ground.basis("pca")
    pole = poles_by_utility(study, name)[0]
    return ask.by_study("top", axes=[pole])


def _best_by_pilot(ask: Ask) -> Selection:
    """What lies farthest out on the pole whose small training helped the probe most."""
    study, name = ask.ground.study, ask.ground.basis("pca")
    candidates = poles_by_utility(study, name)[:PILOTS]
    rows = len(ask.by_study("random")) // PILOT_SHARE
    best = study.pilot(name, candidates, max(2, rows), progress=ask.ground.progress).iloc[0]
    return ask.by_study("top", axes=[(int(best["axis"]), int(best["sign"]))])


PILOTS, PILOT_SHARE = 4, 4
"""Poles that are tried, and the part of a random draw's rows that each is tried on."""


def poles_by_utility(study: mn.Study, basis: str) -> list[tuple[int, int]]:
    """All axes with the pole that first-order utility favours, the most useful first."""
    table = study.proxy(basis, progress=False)
    table = table[table["layer"] == fitted_layer(study.basis(basis), None)]
    order = table.sort_values("utility", key=abs, ascending=False, kind="stable")
    return [
        (int(axis), 1 if utility >= 0 else -1)
        for axis, utility in zip(order["axis"], order["utility"], strict=True)
    ]


AUTHORS_AXES = 10


def _autoskill(ask: Ask) -> Selection:
    """The authors' recipe: ten axes of all layers side by side, rows by cosine.

    Layers but the first and the last, unscaled; the component and sign whose coordinate goes
    with correctness on the probe: the share of sampled answers that are right, or where that is
    the same for all, the log-probability of the reference. The authors leave out the first token
    alone; here attention sinks of single layers are left out, too.
    """
    study, settings = ask.ground.study, ask.ground.settings
    study.graded(
        "probe",
        n=settings.n,
        temperature=settings.temperature,
        max_new_tokens=settings.max_new_tokens,
        progress=ask.ground.progress,
    )
    acts = ask.ground.without_template
    X = np.concatenate([acts.matrix(layer) for layer in acts.layers], axis=1)
    basis = mn.PCABasis(n_axes=AUTHORS_AXES).fit(X[study.pool_rows])
    z = basis.transform(X)
    cosine = z / np.linalg.norm(X - basis.mean_, axis=1, keepdims=True)
    right = -study.probe_errors("verifier")
    goes_with = np.array([np.corrcoef(axis, right)[0, 1] for axis in z[study.probe_rows].T])
    best = int(np.abs(goes_with).argmax())
    pole = (best, 1 if goes_with[best] >= 0 else -1)
    return ask.by_coordinates(
        cosine[study.pool_rows], "top", axes=[pole], scale=np.ones(cosine.shape[1])
    )


def _as_many_rows(ask: Ask) -> Selection:
    """The curriculum with as many rows as a random draw has, whatever their tokens."""
    return ask.by_study("weakness", budget=len(ask.by_study("random")), unit="rows")


# --------------------------------------------------------------------------------------- the arms

ARMS: dict[str, Arm] = {
    "none": Arm(None),
    "random": Arm(lambda ask: ask.by_study("random")),
    "category": Arm(lambda ask: ask.by_study("category")),
    "weakest_categories": Arm(_weakest_categories),
    "text_diversity": Arm(lambda ask: ask.by_study("text_diversity")),
    "weakness_pca": Arm(lambda ask: ask.by_study("weakness", "pca")),
    "weakness_sae": Arm(lambda ask: ask.by_study("weakness", "sae")),
    "influence": Arm(lambda ask: ask.by_study("influence", progress=ask.ground.progress)),
    "weakness_rotated": Arm(lambda ask: ask.by_study("weakness", "rotated")),
    "weakness_subspace": Arm(lambda ask: ask.by_study("weakness", "subspace")),
    "weakness_active": Arm(lambda ask: ask.by_study("weakness", "active")),
    "autoskill": Arm(_autoskill),
    "proxy_axis": Arm(_best_by_proxy),
    "pilot_axis": Arm(_best_by_pilot),
    "curriculum_quarters": Arm(_estimated_anew, rounds=4),
    "weakness_pca_quarters": Arm(lambda ask: ask.by_study("weakness", "pca"), rounds=4),
    "coverage": Arm(lambda ask: ask.by_study("d_optimal")),
    "weakness_pca_rows": Arm(_as_many_rows),
}
