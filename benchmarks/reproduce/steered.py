"""Steering at inference: poles and doses chosen on one half of the problems, reported on the other.

What a figure on the reporting half must not know: which problems are in it. Axes are ranked by
the study's probe, doses by the choosing half, and a problem that either has seen is left out.

Each arm that is reported costs as many samples as any other, so they are few: the axis chosen by
each metric in every dose, because a curve over doses says more than its best point, and several
random vectors beside the one chosen by pass@8 alone, by which the claim is judged. With two doses
and five random vectors that is twelve arms at most.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

import mnskills_viz as mn
from mnskills_viz.corpus import Corpus
from mnskills_viz.corpus.splits import halves
from mnskills_viz.evaluation.pass_at_k import pass_at_k
from mnskills_viz.models import identity
from mnskills_viz.steering.sampled import Sampling, random_like
from mnskills_viz.steering.system_prompt import require_system, with_system

PROMPT = (
    "Solve the problem step by step, one short step a line. End with a line that says Answer: and "
    "then the final answer, nothing else."
)
"""The text that a vector competes with: how to work, and how the answer is to be stated."""

WARMER = 1.2
"""The other temperature: pass@k rises with diversity alone."""

MOST_K = 8

Kind = Literal["unsteered", "text prompt", "random", "temperature", "axis", "axis dose"]
"""``"axis dose"``: a chosen axis in a dose that was not chosen."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pole of an axis in a dose.

    Attributes
    ----------
    name : str
        Basis, axis and signed dose.
    axis : int
    layer : int or "concat"
    dose : float
        Standard deviations; its sign is that of the utility.
    utility : float
        First order, nats a response token and standard deviation, signed.
    vector : SteeringVector
    """

    name: str
    axis: int
    layer: int | str
    dose: float
    utility: float
    vector: mn.SteeringVector


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to answer the problems of the reporting half."""

    name: str
    kind: Kind
    corpus: Corpus
    vector: mn.SteeringVector | None = None
    temperature: float | None = None


def measure_steering(
    study: mn.Study,
    basis: str,
    corpus: Corpus,
    *,
    store: Path,
    axes: int = 3,
    doses: Sequence[float] = (1.0, 2.0),
    twins: int = 5,
    n: int = 8,
    temperature: float = 0.8,
    max_new_tokens: int = 96,
    seed: int = 0,
    prompt: str = PROMPT,
    progress: bool = True,
) -> dict[str, Any]:
    """Choose poles and doses on one half of some problems, and report them on the other.

    Parameters
    ----------
    study : Study
        Its model is steered; its probe set ranks the axes, by first-order utility.
    basis : str
        Name of a basis of the study.
    corpus : Corpus
        Problems with answers, of no split that axes were chosen by. Halves go by a hash of the
        ids. A problem of the reporting half whose text is in the choosing half or in the probe
        set is left out.
    store : path
        A folder: answers are kept as they come, a second call goes on where the first was
        stopped.
    axes : int
        So many axes are candidates, those of the largest absolute utility, each at its helpful
        pole.
    doses : sequence of float
        Above 0, in standard deviations.
    twins : int
        Random vectors as long as the one chosen by pass@8: one alone may help or harm by chance.
    n, temperature, max_new_tokens, seed
        How answers are sampled; the same for all arms, so that they are paired by problem.
    prompt : str
        The system prompt that the vectors compete with.
    progress : bool

    Returns
    -------
    dict
        JSON-ready. ``split`` (``chosen_on``, ``reported_on``, ``left_out``: problems), ``n``,
        ``temperature``, ``prompt``, ``candidates`` (``name axis layer dose utility``, and
        ``pass@1`` and ``pass@8`` on the choosing half: they flatter, see `halves`), ``chosen``
        (metric -> name of the best by it), ``reported`` (``name``, ``kind``, ``c``: right answers
        of ``n`` to each problem) and ``ids``, the problems that ``c`` is about. The best are of
        kind ``"axis"``, other doses of their axes of kind ``"axis dose"``. With fewer than 8
        samples ``pass@n`` stands in for ``pass@8``.

    Raises
    ------
    InputError
        No axes, doses or random vectors to try, a temperature that is not below that of the
        control, no two problems to report on, or what `graded`, `Study.proxy` or `with_system`
        refuses.
    """
    sampling = Sampling(n, temperature, max_new_tokens, seed=seed)
    if axes < 1 or not len(doses) or not all(0 < dose < np.inf for dose in doses):
        raise mn.InputError("steering: axes must be at least 1, and doses above 0 and finite")
    if twins < 1:
        raise mn.InputError(f"steering: twins must be at least 1, not {twins}")
    if temperature >= WARMER:
        raise mn.InputError(
            f"steering: temperature must be below {WARMER}, that of the control, not {temperature}"
        )
    require_system(study.model, prompt)
    choosing, reporting, left_out = parted(study, corpus)
    tried = candidates(study, basis, axes, doses, progress)

    with tqdm(desc="steer", unit="arm", disable=not progress) as bar:

        def sampled(arm: Arm, half: str) -> pd.DataFrame:
            # Another fit makes other vectors, and another start another model: folders of their own
            model = identity(study.model).weights[:12]
            name = arm.name.replace(" ", "-")
            name += "" if arm.vector is None else f"-{arm.vector.fingerprint}"
            found = sampling.passes(
                study.model, arm.corpus, arm.vector, store / model / half / name, arm.temperature
            )
            bar.update()
            return found

        metrics = [f"pass@{k}" for k in sorted({1, min(MOST_K, n)})]
        scored = []
        for one in tried:
            passed = sampled(Arm(one.name, "axis", choosing, one.vector), "choosing")
            scored.append({m: rate(passed, int(m.removeprefix("pass@"))) for m in metrics})
        best = {metric: tried[best_by(scored, metric)] for metric in metrics}
        reported = []
        for arm in arms(reporting, tried, list(best.values()), prompt, twins, seed):
            passed = sampled(arm, "reporting")  # in the order of the corpus
            right = passed["c"].tolist()
            reported.append({"name": arm.name, "kind": arm.kind, "c": right, "n": n})
    return {
        "split": {
            "chosen_on": len(choosing),
            "reported_on": len(reporting),
            "left_out": left_out,
        },
        "n": n,
        "temperature": temperature,
        "prompt": prompt,
        "candidates": [
            {
                "name": one.name,
                "axis": one.axis,
                "layer": one.layer,
                "dose": one.dose,
                "utility": one.utility,
                **scores,
            }
            for one, scores in zip(tried, scored, strict=True)
        ],
        "chosen": {metric: one.name for metric, one in best.items()},
        "reported": reported,
        "ids": reporting.ids,
    }


def parted(study: mn.Study, corpus: Corpus) -> tuple[Corpus, Corpus, int]:
    """Problems to choose on, those to report on, and how many of the latter were seen before.

    Raises
    ------
    InputError
        Fewer than two problems are left to report on.
    """
    choosing, other = halves(corpus)
    probe = study.corpus.take(study.probe_rows)
    seen = {example.prompt_text for example in (*choosing, *probe)}
    reporting = Corpus((e for e in other if e.prompt_text not in seen), corpus.name)
    if len(reporting) < 2:
        raise mn.InputError(
            f"steering: {len(reporting)} of {len(other)} problems to report on are neither in the "
            "choosing half nor in the study's probe set; give other problems"
        )
    return choosing, reporting, len(other) - len(reporting)


def candidates(
    study: mn.Study, basis: str, axes: int, doses: Sequence[float], progress: bool = True
) -> list[Candidate]:
    """Helpful poles of the axes of largest utility, best first, in every dose, smallest first."""
    table = study.proxy(basis, progress=progress)
    order = table["utility"].abs().to_numpy().argsort(kind="stable")[::-1][:axes]
    found = []
    for _, row in table.iloc[order].iterrows():
        axis, utility = int(row["axis"]), float(row["utility"])
        layer = row["layer"] if isinstance(row["layer"], str) else int(row["layer"])
        for size in sorted(doses):
            dose = float(np.copysign(size, utility))
            vector = study.vector(basis, axis, dose)
            name = f"{basis} {axis} {dose:+}"
            found.append(Candidate(name, axis, layer, dose, utility, vector))
    return found


def arms(
    corpus: Corpus,
    tried: Sequence[Candidate],
    best: Sequence[Candidate],
    prompt: str,
    twins: int,
    seed: int,
) -> list[Arm]:
    """All that is reported: chosen axes in every dose, and random vectors as long as the last."""
    chosen, axes = {one.name for one in best}, {one.axis for one in best}
    found = [
        Arm("unsteered", "unsteered", corpus),
        Arm("text prompt", "text prompt", with_system(corpus, prompt)),
        Arm(f"temperature {WARMER}", "temperature", corpus, temperature=WARMER),
    ]
    for one in tried:
        if one.axis in axes:
            kind: Kind = "axis" if one.name in chosen else "axis dose"
            found.append(Arm(one.name, kind, corpus, one.vector))
    judged = best[-1]
    for number in range(twins):
        control = random_like(judged.vector, (seed, number))
        name = f"random {number + 1}, as long as {judged.name}"
        found.append(Arm(name, "random", corpus, control))
    return found


def rate(samples: pd.DataFrame, k: int) -> float:
    """Mean pass@k of judged samples."""
    chances = np.asarray(pass_at_k(samples["n"], samples["c"], k))
    return float(chances.mean())


def best_by(scored: Sequence[dict[str, float]], metric: str) -> int:
    """The place of the best by a metric; ties go by the other ones, then to the first."""
    others = [name for name in scored[0] if name != metric]
    return max(
        range(len(scored)),
        key=lambda i: (scored[i][metric], *(scored[i][name] for name in others), -i),
    )
