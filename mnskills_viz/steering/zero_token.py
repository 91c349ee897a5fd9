"""A vector in place of a system prompt: chosen on one half of a corpus, reported on the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..activations.passes import Layers
from ..activations.targets import Target, Targets, plain_response, targets
from ..activations.tokens import Tokens, tokenize
from ..corpus import Corpus, Example
from ..corpus.splits import halves
from ..errors import InputError
from ..evaluation.intervals import mean_interval
from ..evaluation.tables import require_seed
from ..models import blocks, context_length
from .divergence import Span, divergence, pooled
from .inputs import numbers, require_list
from .measured import measure
from .response import NEUTRAL
from .sampled import Sampling
from .system_prompt import asked_layers, from_system_prompt, require_system, with_system
from .vector import SteeringVector, is_finite

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel

Goal = Literal["effect", "likeness"]

DOSES = (0.5, 1.0, 2.0)
REQUEST = "Write one sentence."
"""What neutral sentences answer: a system prompt, too, can only be read before a chat."""

MEASURED = "doses.jsonl"
"""File of a store that keeps what the doses of a grid do."""


@dataclass(frozen=True, slots=True)
class ZeroTokenPrompt:
    """A vector in place of a system prompt, and how it compares.

    Attributes
    ----------
    table : DataFrame
        On the reporting half, a row an arm (``"unsteered"``, ``"text prompt"`` where there is one,
        ``"vector"``):

        - ``value``: mean target, nats per response token; ``effect``: change over unsteered, with
          ``low`` and ``high`` (95 %, paired bootstrap over examples).
        - ``kl_to_text``: KL(text prompt || arm) on the tokens of the references, nats per token:
          how unlike the text prompt's behaviour it is. NaN without one.
        - ``kl``: side effect, KL(unsteered || arm) on neutral sentences, nats per token.
        - ``tokens``: what an arm adds to a prompt, mean.
        - ``pass_rate``, ``pass_low``, ``pass_high``: of sampled answers, where asked for.
    vector : SteeringVector
        At the chosen layer, in the chosen dose; its source says the ``multiple`` of the vector
        that was tried, and the dose that this makes, where a dose was known.
    layer : int
    dose : float
        Multiple of the measured mean difference.
    grid : DataFrame
        ``layer dose effect kl_to_text`` of everything tried on the choosing half; the last NaN
        unless the choice goes by it. In-sample, see `zero_token_prompt`: the table reports.
    """

    table: pd.DataFrame
    vector: SteeringVector
    layer: int
    dose: float
    grid: pd.DataFrame


def zero_token_prompt(
    model: "TransformersModel",
    corpus: Corpus,
    system: str | None = None,
    vectors: Mapping[int, SteeringVector] | None = None,
    layers: Layers | None = None,
    doses: Sequence[float] = DOSES,
    target: Target = "reference",
    goal: Goal = "effect",
    neutral: Sequence[str] = NEUTRAL,
    sampling: Sampling | None = None,
    store: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
) -> ZeroTokenPrompt:
    """Choose a vector's layer and dose on one half of a corpus, and report it on the other.

    Halves go by a hash of the ids. The grid's effects are in-sample and flatter: the best of many
    is taken, and a vector that is made here is fitted on the choosing half, too. What the vector
    does on other examples is in the table, from the reporting half, which took no part.

    Parameters
    ----------
    model : TransformersModel
    corpus : Corpus
        Examples whose references answer as the system prompt asks for.
    system : str, optional
        The text prompt that the vector would replace, and is compared with.
    vectors : mapping of int to SteeringVector, optional
        Layer -> vector, such as `from_successes` gives (from other examples than these). Default:
        `from_system_prompt` on the choosing half, with its references as responses.
    layers : "all" or list of int, optional
        Where to try; default five, a sixth of the depth apart, or those of `vectors`.
    doses : sequence of float
        Multiples of the vectors: 1 is the measured difference. Not standard deviations.
    target : {"reference", "contrast"}
        See `mnskills_viz.gradients`.
    goal : {"effect", "likeness"}
        Choose the largest mean target, or the least divergence from the text prompt.
    neutral : sequence of str
        Sentences that side effects are measured on, as answers to a request for one.
    sampling : Sampling, optional
        Sample and judge answers, too, in every arm.
    store : path, optional
        A folder for what the grid's doses do and for these samples; a second call goes on where
        the first was stopped.
    seed : int
        Of the bootstrap.
    progress : bool

    Returns
    -------
    ZeroTokenPrompt

    Raises
    ------
    InputError
        Neither text nor vectors, fewer than two examples with a target on a side, doses that are
        not finite or are 0, an unknown layer, goal or target, a vector that steers another layer
        than it is given for, neutral sentences that are empty or do not fit the context (with the
        system prompt), or what `from_system_prompt` refuses.
    """
    if goal not in ("effect", "likeness"):
        raise InputError(f'goal must be "effect" or "likeness", not {goal!r}')
    if system is None and (vectors is None or goal == "likeness"):
        raise InputError(
            'zero_token_prompt needs the system prompt\'s text, or vectors and a goal of "effect"'
        )
    require_seed(seed)
    sizes = numbers(doses, "doses must be finite multiples other than 0", lambda dose: dose != 0)
    choosing, reporting = (_Half(model, half, system, target) for half in halves(corpus))
    sentences = _sentences(model, neutral, system)
    made = vectors
    if made is None and system is not None:
        made = from_system_prompt(
            model,
            system,
            [e.messages for e in choosing.corpus],
            _default(model, layers),
            [plain_response(e.response) for e in choosing.corpus],
        )
    tried = _chosen(model, made or {}, layers if vectors is not None else None)
    measured = None if store is None else Path(store) / MEASURED
    grid = _tried(model, choosing, tried, sizes, goal, measured, progress)
    by = grid["effect"] if goal == "effect" else -grid["kl_to_text"]
    best = int(by.to_numpy().argmax())
    layer, dose = int(grid["layer"].iloc[best]), float(grid["dose"].iloc[best])
    vector = _times(dose, tried[layer])
    table = _reported(model, reporting, vector, sentences, measured, seed)
    if sampling is not None:
        table = table.join(_pass_rates(model, reporting, vector, sampling, store), on="arm")
    table.attrs |= {"layer": layer, "dose": dose, "goal": goal, "target": target, "system": system}
    return ZeroTokenPrompt(table, vector, layer, dose, grid)


def _sentences(
    model: "TransformersModel", neutral: Sequence[str], system: str | None
) -> tuple[list[Span], list[Span]]:
    """Neutral sentences as answers to a request, without the system prompt and with it."""
    require_list(neutral, "neutral texts")
    for i, text in enumerate(neutral):
        if not isinstance(text, str) or not text.strip() or not _is_unicode(text):
            raise InputError(f"neutral text {i} must be a sentence, not {text!r:.60}")
    plain = Corpus(Example(f"neutral {i}", REQUEST, text) for i, text in enumerate(neutral))
    rows = tokenize(model.tokenizer, plain)
    prompted = rows if system is None else tokenize(model.tokenizer, with_system(plain, system))
    limit = context_length(model)
    for i, row in enumerate(prompted):  # the longer ones
        if limit is not None and len(row) > limit:
            raise InputError(
                f"neutral text {i}: its {len(row)} tokens, the request and the system prompt "
                f"among them, do not fit the model's context of {limit}"
            )
    return _answers(rows), _answers(prompted)


def _is_unicode(text: str) -> bool:
    """Whether a tokenizer can read it: not half of a surrogate pair."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _default(model: "TransformersModel", layers: Layers | None) -> Layers:
    depth = len(blocks(model))
    return sorted({depth * i // 6 for i in range(1, 6)}) if layers is None else layers


def _chosen(
    model: "TransformersModel", vectors: Mapping[int, SteeringVector], layers: Layers | None
) -> dict[int, SteeringVector]:
    if not isinstance(vectors, Mapping):
        raise InputError(
            "vectors must be a mapping of layers to vectors, {layer: vector}, not a "
            f"{type(vectors).__name__}"
        )
    for layer, vector in vectors.items():
        steered = list(vector.directions) if isinstance(vector, SteeringVector) else []
        if steered != [layer]:
            raise InputError(
                f"layer {layer}: expected a SteeringVector that steers this block alone, found "
                + (f"one of blocks {steered}" if steered else f"a {type(vector).__name__}")
            )
    wanted = sorted(vectors) if layers is None else asked_layers(model, layers)
    missing = [layer for layer in wanted if layer not in vectors]
    if missing or not wanted:
        raise InputError(
            f"no vector was given for layers {missing or list(wanted)}; there are {sorted(vectors)}"
        )
    return {layer: vectors[layer] for layer in wanted}


class _Half:
    """Examples with a target, as they are read with and without a system prompt.

    Attributes
    ----------
    corpus : Corpus
        Those that have one both ways.
    system : str or None
    plain, prompted : Targets
        Without the system prompt, and with it; the same thing where there is none.
    """

    def __init__(
        self, model: "TransformersModel", corpus: Corpus, system: str | None, target: Target
    ) -> None:
        self.system = system
        plain = targets(model, corpus, target)
        ids = set(plain.ids)
        if system is not None:
            require_system(model, system)
            ids &= set(targets(model, with_system(corpus, system), target).ids)
        self.corpus = Corpus((e for e in corpus if e.id in ids), corpus.name)
        if len(self.corpus) < 2:
            raise InputError(
                f"{len(self.corpus)} of the {len(corpus)} examples of a half have a "
                f'target="{target}" that fits the context; two or more are needed'
            )
        self.plain = targets(model, self.corpus, target)
        self.prompted = (
            self.plain
            if system is None
            else targets(model, with_system(self.corpus, system), target)
        )

    def kl_to_text(
        self, model: "TransformersModel", vector: SteeringVector | None
    ) -> NDArray[np.float64]:
        """``KL(text prompt || vector)`` on the references, [n]; NaN without a text prompt."""
        if self.system is None:
            return np.full(len(self.corpus), np.nan)
        return divergence(
            model, _answers(self.prompted.right), _answers(self.plain.right), None, vector
        )


def _answers(rows: Sequence[Tokens]) -> list[Span]:
    """The positions that predict the tokens of each response."""
    return [Span(row.ids.tolist(), row.response_start - 1, row.response_end - 1) for row in rows]


def _values(model: "TransformersModel", found: Targets) -> NDArray[np.float64]:
    """The target of every example, [n], nats per response token."""
    _, right = pooled(model, found.right, [], logprob=True)
    if not found.wrong:
        return right.astype(np.float64)
    _, wrong = pooled(model, found.wrong, [], logprob=True)
    return right.astype(np.float64) - found.ratio * wrong


def _times(multiple: float, vector: SteeringVector) -> SteeringVector:
    """A multiple of a vector, which still says where it comes from, and its dose if it has one."""
    source = None
    if vector.source is not None:
        source = vector.source | {"multiple": multiple}
        if is_finite(dose := source.get("dose")):
            source["dose"] = multiple * dose
    return SteeringVector((multiple * vector).directions, source=source)


def _tried(
    model: "TransformersModel",
    half: _Half,
    vectors: Mapping[int, SteeringVector],
    doses: Sequence[float],
    goal: Goal,
    store: Path | None,
    progress: bool,
) -> pd.DataFrame:
    todo = [(layer, dose) for layer in vectors for dose in doses]
    pushes = [dose * vectors[layer] for layer, dose in todo]
    rows = pd.DataFrame(todo, columns=["layer", "dose"])
    rows["effect"] = measure(model, half.plain, pushes, store, progress=progress).mean(axis=1)
    rows["kl_to_text"] = np.nan
    if goal == "likeness":
        bar = tqdm(pushes, desc="likeness", unit="vector", disable=not progress)
        rows["kl_to_text"] = [half.kl_to_text(model, push).mean() for push in bar]
    return rows


def _reported(
    model: "TransformersModel",
    half: _Half,
    vector: SteeringVector,
    sentences: tuple[list[Span], list[Span]],
    store: Path | None,
    seed: int,
) -> pd.DataFrame:
    plain, prompted = sentences
    unsteered = _values(model, half.plain)
    arms = [("unsteered", unsteered, 0.0, half.kl_to_text(model, None), 0.0)]
    if half.system is not None:
        pairs = zip(half.prompted.right, half.plain.right, strict=True)
        extra = float(np.mean([p.response_start - q.response_start for p, q in pairs]))
        kl = float(divergence(model, plain, prompted).mean())
        arms.append(
            ("text prompt", _values(model, half.prompted), kl, np.zeros(len(unsteered)), extra)
        )
    kl = float(divergence(model, plain, plain, None, vector).mean())
    pushed = unsteered + measure(model, half.plain, [vector], store, progress=False)[0]
    arms.append(("vector", pushed, kl, half.kl_to_text(model, vector), 0.0))
    rows = [
        [arm, values.mean(), *mean_interval(values - unsteered, seed), unlike.mean(), kl, tokens]
        for arm, values, kl, unlike, tokens in arms
    ]
    columns = ["arm", "value", "effect", "low", "high", "kl_to_text", "kl", "tokens"]
    return pd.DataFrame(rows, columns=columns)


def _pass_rates(
    model: "TransformersModel",
    half: _Half,
    vector: SteeringVector,
    sampling: Sampling,
    store: str | Path | None,
) -> pd.DataFrame:
    """Pass rates by arm, with intervals."""
    arms: list[tuple[str, Corpus, SteeringVector | None]] = [("unsteered", half.corpus, None)]
    if half.system is not None:
        arms.append(("text prompt", with_system(half.corpus, half.system), None))
    arms.append(("vector", half.corpus, vector))
    rows = {}
    for arm, corpus, steering in arms:
        # Another grid, or another half to fit on, chooses another vector.
        name = arm.replace(" ", "-") if steering is None else f"{arm}-{steering.fingerprint}"
        folder = None if store is None else Path(store) / name
        found = sampling.passes(model, corpus, steering, folder)
        rates = (found["c"] / found["n"]).to_numpy(dtype=np.float64)
        rows[arm] = mean_interval(rates, sampling.seed)
    columns = ["pass_rate", "pass_low", "pass_high"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)
