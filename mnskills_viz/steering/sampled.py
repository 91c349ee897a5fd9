"""Pass rates under a push: answers are sampled, judged by verifiers, and compared in pairs.

The dearest of the proxies short of training, for the few axes that cheaper ones put first.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..bases.basis import Basis
from ..corpus import Corpus
from ..errors import InputError
from ..evaluation.intervals import mean_interval
from ..evaluation.pass_at_k import pass_at_k
from ..evaluation.run import graded, require_k
from ..evaluation.tables import scores
from ..evaluation.verifiers import Verifier
from ..generation import require_numbers
from .concat import Layer, vector_for
from .inputs import numbers, positive_doses
from .proxy import pushed
from .vector import SteeringVector, is_whole

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel

Axes = Sequence[int] | Mapping[Layer, Sequence[int]] | None
"""Axes to try: of every basis, or layer by layer; None for all."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are sampled and judged, as `evaluate` takes it.

    Attributes
    ----------
    n : int
        Samples of each problem.
    temperature : float
    max_new_tokens : int
    verifier : str or callable
    seed : int
        Equal seeds give equal random numbers under every push: differences are paired.
    """

    n: int = 8
    temperature: float = 0.8
    max_new_tokens: int = 256
    verifier: Verifier = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        require_numbers(self.max_new_tokens, self.temperature, self.seed, self.n)

    def passes(
        self,
        model: "TransformersModel",
        corpus: Corpus,
        vector: SteeringVector | None,
        store: Path | None,
        temperature: float | None = None,
    ) -> pd.DataFrame:
        """Sample and judge; see `mnskills_viz.graded` for what comes out."""
        return graded(
            model,
            corpus,
            n=self.n,
            temperature=self.temperature if temperature is None else temperature,
            verifier=self.verifier,
            seed=self.seed,
            max_new_tokens=self.max_new_tokens,
            steering=vector,
            logprobs=False,
            store=store,
            progress=False,
        )


def sampled_proxy(
    model: "TransformersModel",
    bases: Mapping[Layer, Basis],
    corpus: Corpus,
    doses: Sequence[float] = (1.0,),
    axes: Axes = None,
    k: int = 1,
    n: int = 8,
    temperature: float = 0.8,
    max_new_tokens: int = 256,
    verifier: Verifier = "auto",
    n_random: int = 2,
    seed: int = 0,
    store: str | Path | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Rank axes by what a push along them does to the rate of right answers.

    Parameters
    ----------
    model : TransformersModel
    bases : mapping of int or "concat" to Basis
        Layer to push at -> its basis.
    corpus : Corpus
        With answers, unless `verifier` does without.
    doses : sequence of float
        Above 0, in standard deviations; each is tried both ways.
    axes : sequence of int, or mapping of layer to that, optional
        Default all: that is two arms an axis and dose.
    k : int
        Of pass@k.
    n, temperature, max_new_tokens, verifier
        As in `mnskills_viz.evaluate`.
    n_random : int
        Random directions a layer and dose, of the norm of the median vector of all axes of the
        basis, whichever are asked for: more axes later leave the null as it is.
    seed : int
    store : path, optional
        A folder: every arm is kept in one of its own, and a second call goes on where the first
        was stopped. `sampled_arms` shares them.
    progress : bool

    Returns
    -------
    DataFrame
        ``axis layer dose utility low high damage null_low null_high``, a row an axis, layer and
        dose. Utility is the odd part ``(p(+d) - p(-d)) / 2d``, in pass@k per standard deviation,
        with its 95 % interval (paired bootstrap over problems); damage the even part
        ``p(0) - (p(+d) + p(-d)) / 2``. The null is the largest |utility| of the random
        directions, in proportion to the norm of the axis's own vector; NaN without any.

    Raises
    ------
    InputError
        No basis, unknown axes or layers, axes of a layer that has no basis, doses that are not
        above 0, several k or one above n, or what `evaluate` refuses.

    Notes
    -----
    A null of few is weak: an axis that does no more than a random direction exceeds the largest
    of `n_random` in one case of ``n_random + 1``, one in three for 2, and the best of many such
    axes nearly always. It tells what is not worth a second look, and does not show that an axis
    is special; the first-order null does that.
    """
    sampling = Sampling(n, temperature, max_new_tokens, verifier, seed)
    if not is_whole(k):
        raise InputError(f"k must be one whole number, not {k!r:.60}; sampled_arms takes several")
    require_k(k, n)
    pushes = _pushes(model, bases, corpus, doses, axes, n_random, seed)
    samples = _sampled(model, [UNSTEERED, *_both_ways(pushes)], corpus, sampling, store, progress)
    chances = {
        name: np.asarray(pass_at_k(table["n"], table["c"], k)) for name, table in samples.items()
    }
    nulls = {
        (layer, dose): max(abs(_utility(p, chances)) / p.norm for p in some)
        for (layer, dose), some in _random_ones(pushes).items()
    }
    rows = []
    for push in pushes:
        if push.axis is None:
            continue
        plus, minus = chances[push.name(+1)], chances[push.name(-1)]
        utility = mean_interval((plus - minus) / (2 * push.dose), seed)
        damage = float((chances[UNSTEERED.arm] - (plus + minus) / 2).mean())
        null = nulls.get((push.layer, push.dose), np.nan) * push.norm
        rows.append([push.axis, push.layer, push.dose, *utility, damage, -null, null])
    columns = ["axis", "layer", "dose", "utility", "low", "high", "damage"]
    return pd.DataFrame(rows, columns=[*columns, "null_low", "null_high"])


def sampled_arms(
    model: "TransformersModel",
    bases: Mapping[Layer, Basis],
    corpus: Corpus,
    doses: Sequence[float] = (1.0,),
    axes: Axes = None,
    k: int | Iterable[int] = (1, 8),
    n: int = 8,
    temperature: float = 0.8,
    temperatures: Sequence[float] = (0.4, 1.2),
    max_new_tokens: int = 256,
    verifier: Verifier = "auto",
    n_random: int = 2,
    seed: int = 0,
    store: str | Path | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Pass rates arm by arm: unsteered, pushed both ways, at random, and at other temperatures.

    pass@8 rises with diversity alone: what a push does to it counts only beyond what random
    vectors of equal norm and other temperatures do.

    Parameters
    ----------
    k : int or iterable of int
    temperatures : sequence of float
        Further temperatures, unsteered; may be empty.
    **others
        As in `sampled_proxy`.

    Returns
    -------
    DataFrame
        ``arm`` (its name, and its folder in the store), ``kind`` (``"unsteered"``, ``"axis"``,
        ``"random"``, ``"temperature"``), ``layer``, ``axis``, ``dose`` (signed), ``temperature``,
        ``metric`` (``"pass@1"``, ...), ``value``, ``low``, ``high`` (95 %, bootstrap over
        problems), ``n`` (problems). Layer, axis and dose are missing where they say nothing.

    Raises
    ------
    InputError
        As `sampled_proxy`.
    """
    sampling = Sampling(n, temperature, max_new_tokens, verifier, seed)
    wanted = require_k(k, n)
    if not wanted:
        raise InputError("k must be a whole number, or several, at least one")
    others = _temperatures(temperatures)
    pushes = _pushes(model, bases, corpus, doses, axes, n_random, seed)
    sweep = [Arm(f"temperature-{t}", "temperature", temperature=t) for t in others]
    arms = [UNSTEERED, *_both_ways(pushes), *sweep]
    samples = _sampled(model, arms, corpus, sampling, store, progress)
    rows = []
    for arm in arms:
        found = scores(samples[arm.arm], wanted, seed=seed)
        at = temperature if arm.temperature is None else arm.temperature
        about = [arm.arm, arm.kind, arm.layer, arm.axis, arm.dose, at]
        found = found[found["group"] == "all"]
        rows += [[*about, *line[1:]] for line in found.itertuples(index=False)]
    columns = ["arm", "kind", "layer", "axis", "dose", "temperature"]
    table = pd.DataFrame(rows, columns=[*columns, "metric", "value", "low", "high", "n"])
    return table.astype({"axis": "Int64", "dose": "Float64"})


# --------------------------------------------------------------------------------------- arms


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to sample from a model."""

    arm: str
    kind: Literal["unsteered", "axis", "random", "temperature"]
    layer: Layer | None = None
    axis: int | None = None
    dose: float | None = None
    temperature: float | None = None
    vector: SteeringVector | None = None


UNSTEERED = Arm("unsteered", "unsteered")


@dataclass(frozen=True, slots=True)
class _Push:
    """What is tried both ways: vectors of an axis, or of a random direction with its number.

    Attributes
    ----------
    layer : int or "concat"
    dose : float
        Above 0.
    up, down : SteeringVector
        Of the dose and of its opposite: on concatenated layers not opposite vectors.
    axis, draw : int, optional
        The one or the other.
    """

    layer: Layer
    dose: float
    up: SteeringVector
    down: SteeringVector
    axis: int | None = None
    draw: int | None = None

    @property
    def norm(self) -> float:
        return (_norm(self.up) + _norm(self.down)) / 2

    def name(self, sign: int) -> str:
        what = f"axis-{self.axis}" if self.draw is None else f"random-{self.draw}"
        return f"layer-{self.layer}-{what}-dose{sign * self.dose:+}"


def _both_ways(pushes: Sequence[_Push]) -> Iterator[Arm]:
    for push, sign in product(pushes, (+1, -1)):
        yield Arm(
            push.name(sign),
            "axis" if push.draw is None else "random",
            push.layer,
            push.axis,
            sign * push.dose,
            vector=push.up if sign > 0 else push.down,
        )


def _pushes(
    model: "TransformersModel",
    bases: Mapping[Layer, Basis],
    corpus: Corpus,
    doses: Sequence[float],
    axes: Axes,
    n_random: int,
    seed: int,
) -> list[_Push]:
    """Vectors of all axes and doses, and as many random ones a layer and dose."""
    if not is_whole(n_random) or n_random < 0:
        raise InputError(f"n_random must be a whole number of at least 0, not {n_random!r}")
    sizes = positive_doses(doses)
    chosen = _chosen(bases, axes)
    for layer, basis in bases.items():
        pushed(basis, 0, layer, 1.0).apply(model)  # a wrong layer is said before hours of sampling
    pushes: list[_Push] = []
    for (layer, basis), dose in product(bases.items(), sizes):
        for axis in chosen[layer]:
            up, down = (
                vector_for(model, basis, axis, layer, sign * dose, corpus) for sign in (1, -1)
            )
            pushes.append(_Push(layer, dose, up, down, axis=axis))
        like = _median(basis, layer, dose)
        for draw in range(n_random):
            random = random_like(like, (seed, draw))
            pushes.append(_Push(layer, dose, random, -random, draw=draw))
    return pushes


def _chosen(bases: Mapping[Layer, Basis], axes: Axes) -> dict[Layer, list[int]]:
    """Layer -> the axes to try there, ascending."""
    if not isinstance(bases, Mapping) or not all(isinstance(b, Basis) for b in bases.values()):
        raise InputError(
            "sampled proxy: bases must be a mapping of layers to bases, {layer: basis}; found a "
            f"{type(bases).__name__}"
        )
    if not bases:
        raise InputError("sampled proxy: no basis was given; expected {layer: basis}")
    if isinstance(axes, Mapping) and (odd := [layer for layer in axes if layer not in bases]):
        raise InputError(
            f"axes are asked for at layers {odd}, which have no basis; there are {list(bases)}"
        )
    return {
        layer: _axes_of(axes.get(layer, []) if isinstance(axes, Mapping) else axes, layer, basis)
        for layer, basis in bases.items()
    }


def _axes_of(wanted: Sequence[int] | None, layer: Layer, basis: Basis) -> list[int]:
    if wanted is None:
        return list(range(basis.n_axes_))
    found = list(wanted) if isinstance(wanted, Iterable) else []
    if not found or not all(is_whole(axis) and 0 <= axis < basis.n_axes_ for axis in found):
        raise InputError(
            f"layer {layer}: axes {wanted!r:.60} were asked for; the basis has axes 0 to "
            f"{basis.n_axes_ - 1}: give a list of some of them"
        )
    return sorted({int(axis) for axis in found})


def _median(basis: Basis, layer: Layer, dose: float) -> SteeringVector:
    """The vector of a dose of the axis whose vector has the median norm, of all axes.

    Of concatenated layers it is nominal: what blocks answer to it is not measured.
    """
    found = [pushed(basis, axis, layer, dose) for axis in range(basis.n_axes_)]
    return sorted(found, key=_norm)[len(found) // 2]


def _temperatures(temperatures: Sequence[float]) -> list[float]:
    if isinstance(temperatures, Sequence) and not len(temperatures):
        return []
    return numbers(temperatures, "temperatures must be at least 0", lambda t: t >= 0)


def random_like(vector: SteeringVector, seed: Sequence[int]) -> SteeringVector:
    """A vector of random directions, at every block of the norm that `vector` has there."""
    found: dict[int, NDArray[np.float64]] = {}
    for block, direction in vector.directions.items():
        drawn = np.random.default_rng([*seed, block]).standard_normal(len(direction))
        found[block] = drawn / np.linalg.norm(drawn) * np.linalg.norm(direction)
    return SteeringVector(found)


def _norm(vector: SteeringVector) -> float:
    """Over all blocks that it steers."""
    parts = vector.directions.values()
    return float(np.sqrt(sum((part.astype(np.float64) ** 2).sum() for part in parts)))


# ----------------------------------------------------------------------------------- sampling


def _sampled(
    model: "TransformersModel",
    arms: Sequence[Arm],
    corpus: Corpus,
    sampling: Sampling,
    store: str | Path | None,
    progress: bool,
) -> dict[str, pd.DataFrame]:
    """Name of an arm -> its samples, judged."""
    found = {}
    for arm in tqdm(arms, desc="sample", unit="arm", disable=not progress):
        folder = None if store is None else Path(store) / arm.arm
        found[arm.arm] = sampling.passes(model, corpus, arm.vector, folder, arm.temperature)
    return found


def _utility(push: _Push, chances: Mapping[str, NDArray[np.float64]]) -> float:
    plus, minus = chances[push.name(+1)], chances[push.name(-1)]
    return float((plus - minus).mean() / (2 * push.dose))


def _random_ones(pushes: Sequence[_Push]) -> dict[tuple[Layer, float], list[_Push]]:
    found: dict[tuple[Layer, float], list[_Push]] = {}
    for push in pushes:
        if push.draw is not None:
            found.setdefault((push.layer, push.dose), []).append(push)
    return found
