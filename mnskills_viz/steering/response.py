"""What a dose does to the text that comes out, and how far one can push.

A model that is steered along an axis writes; the model as it was reads what was written. At the
steered layer the coordinate moves by the dose, whatever the dose does: only text, later layers and
the distribution over next tokens tell.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..activations.tokens import Role, Tokens
from ..bases.basis import Basis, plain
from ..corpus import Prompt
from ..decoding import Sampler, decode
from ..errors import InputError
from ..generation import BATCH_ROWS, encode, require_numbers, steered
from ..models import blocks
from .divergence import Span, divergence, pooled
from .inputs import numbers, require_list
from .vector import SteeringVector, is_whole

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel

DOSES = (-8.0, -4.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
BLOCKS_LATER = 5
NGRAM = 4

NEUTRAL = (
    "The river rises in the hills to the north and flows past three small towns before it "
    "reaches the sea.",
    "Bread is made from flour, water, salt and yeast, and is left to rise before it is baked.",
    "The library opens at nine in the morning and closes at six, except on Sundays.",
    "Most trees lose their leaves in autumn, when the days grow shorter and the nights cold.",
    "She put the letter on the table, took her coat and went out to catch the last train.",
    "Copper conducts heat and electricity well, which is why wires and pans are made of it.",
    "The committee met on Tuesday to discuss the new road and agreed to wait for the report.",
    "Whales are mammals: they breathe air, and their young are born alive and fed on milk.",
)
"""Sentences about nothing in particular. What a dose does to them is a side effect, whatever the
axis is about, and compares across axes and studies; the prompts would mix it with the effect."""


# ------------------------------------------------------------------------------------ one dose


@dataclass(frozen=True, slots=True)
class Trial:
    """What every dose is tried on.

    Attributes
    ----------
    prompts : sequence of str or chat messages
        To complete, as `generate` takes them: a str goes in raw.
    neutral : sequence of str or chat messages
        Texts that the axis is not about; a str is read raw.
    later : int, optional
        Block after the steered one, where the push is looked for again; default 5 blocks later,
        or the last one.
    max_new_tokens : int
    temperature : float
        0 is greedy.
    seed : int

    Raises
    ------
    InputError
        No list of texts, an empty one, or a number that is none of these.
    """

    prompts: Sequence[Prompt]
    neutral: Sequence[Prompt] = NEUTRAL
    later: int | None = None
    max_new_tokens: int = 48
    temperature: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, texts in (("prompts", self.prompts), ("neutral texts", self.neutral)):
            require_list(texts, name)
        if self.later is not None and not is_whole(self.later):
            raise InputError(f"later must be the number of a block or None, not {self.later!r}")
        require_numbers(self.max_new_tokens, self.temperature, self.seed)


@dataclass(frozen=True, slots=True)
class Response:
    """What a model did under one dose; a pure function of model, vector and trial.

    Attributes
    ----------
    texts : list of str
        Completions, one a prompt.
    n_tokens : list of int
        Tokens of each, the one that ends it left out.
    ended : list of bool
        Whether each ended by itself before `max_new_tokens`.
    repetition : list of float
        See `repetition`.
    logprobs : list of float
        Mean log-probability of each under the unsteered model, nats per token; NaN if empty.
    coordinates : list of list of float, [n_prompts, n_axes]
        Of the completion's tokens as the unsteered model reads them, in standard deviations; NaN
        if empty.
    kl : float
        ``KL(unsteered || steered)`` of the next-token distributions on the neutral texts, mean
        over all of their tokens, nats.
    moved : list of float, [n_axes]
        By how much the rows of the neutral texts move along the axes' directions at the later
        block, in standard deviations; NaN where there is none, and of concatenated layers.
    """

    texts: list[str]
    n_tokens: list[int]
    ended: list[bool]
    repetition: list[float]
    logprobs: list[float]
    coordinates: list[list[float]]
    kl: float
    moved: list[float]

    @property
    def perplexity(self) -> float:
        """Of all completions under the unsteered model; NaN if all are empty."""
        weights = np.asarray(self.n_tokens, dtype=np.float64)
        if not weights.any():
            return float("nan")
        nats = np.where(weights > 0, self.logprobs, 0.0) @ weights
        return float(np.exp(-nats / weights.sum()))

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, NaN as null; `from_dict` reads it back."""
        found: dict[str, Any] = plain(asdict(self), "response")
        return found

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> "Response":
        """Read what `as_dict` gave."""
        numbers = ("repetition", "logprobs", "coordinates", "kl", "moved")
        return cls(**found | {n: np.array(found[n], dtype=np.float64).tolist() for n in numbers})


def respond(
    model: "TransformersModel",
    basis: Basis,
    vector: SteeringVector,
    trial: Trial,
    layer: int | None = None,
) -> Response:
    """Let a steered model write, and the model as it is read it.

    The tokens that were written are read as they are, not decoded and encoded again.

    Parameters
    ----------
    model : TransformersModel
    basis : Basis
        Whose coordinates are read.
    vector : SteeringVector
        One dose of an axis.
    trial : Trial
    layer : int, optional
        Where to read coordinates, for a basis that does not say where it was fitted.

    Returns
    -------
    Response

    Raises
    ------
    InputError
        No prompts, an empty one or one that does not fit, a vector or basis of another model, or
        a later block that is not later.
    """
    layers, scales = _reading_layers(basis, layer)
    later = _later(model, vector, trial.later)
    neutral = encode(model, trial.neutral, max_new_tokens=0)
    prompts = encode(model, trial.prompts, trial.max_new_tokens)
    written = _write(model, vector, prompts, trial)
    ended = [len(tokens) < trial.max_new_tokens for tokens in written]
    contents = [_content(model, *one) for one in zip(written, ended, strict=True)]
    logprobs, means = _read(model, prompts, contents, layers)
    said = [bool(tokens) for tokens in contents]
    coordinates = np.full((len(prompts), basis.n_axes_), np.nan)
    if any(said):
        rows = np.concatenate([m / s for m, s in zip(means, scales, strict=True)], axis=1)
        coordinates[said] = basis.transform(rows) / basis.scale_
    spans = [Span(ids, 0, len(ids)) for ids in neutral]
    kl = divergence(model, spans, spans, None, vector)
    return Response(
        texts=[model.tokenizer.decode(tokens, skip_special_tokens=True) for tokens in contents],
        n_tokens=[len(tokens) for tokens in contents],
        ended=ended,
        repetition=[repetition(tokens) for tokens in contents],
        logprobs=logprobs,
        coordinates=coordinates.tolist(),
        kl=float(np.average(kl, weights=[len(ids) for ids in neutral])),
        moved=_moved(model, basis, vector, neutral, later).tolist(),
    )


def repetition(tokens: Sequence[Hashable], n: int = NGRAM) -> float:
    """Share of a text's n-grams that it has had before: ``1 - distinct / all``.

    Parameters
    ----------
    tokens : sequence
        Token ids, or words.
    n : int

    Returns
    -------
    float
        From 0 to nearly 1; 0 for a text that is shorter than `n`.
    """
    grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _reading_layers(basis: Basis, layer: int | None) -> tuple[list[int], list[float]]:
    """Blocks whose rows make a row of the basis, and what each is divided by."""
    source = basis.source_ or {}
    if source.get("layer") == "concat":
        return list(source["layers"]), list(source["scales"])
    fitted = source.get("layer", layer)
    if not is_whole(fitted):
        raise InputError("the basis does not say its layer; give layer=")
    return [int(fitted)], [1.0]


def _later(model: "TransformersModel", vector: SteeringVector, later: int | None) -> int | None:
    """The block where a push is looked for again; None if the last block is steered."""
    depth, pushed = len(blocks(model)), max(vector.directions)
    if later is None:
        return min(pushed + BLOCKS_LATER, depth - 1) if pushed < depth - 1 else None
    if not pushed < later < depth:
        raise InputError(
            f"later={later}: a block after the steered one was expected, {pushed + 1} to "
            f"{depth - 1}"
            if pushed < depth - 1
            else f"later={later}: block {pushed} is steered, the last one; leave later out"
        )
    return later


def _write(
    model: "TransformersModel",
    vector: SteeringVector,
    prompts: list[list[int]],
    trial: Trial,
) -> list[list[int]]:
    """Tokens that the steered model adds to each prompt, as `generate` would."""
    import torch

    queue = sorted(((i, 0) for i in range(len(prompts))), key=lambda job: len(prompts[job[0]]))
    sampler = Sampler(trial.temperature, trial.seed)
    encoded = dict(enumerate(prompts))
    with steered(model, vector), torch.inference_mode():
        rows = decode(model, encoded, queue, trial.max_new_tokens, sampler, BATCH_ROWS)
        found = dict(rows)
    return [found[i, 0] for i in range(len(prompts))]


def _content(model: "TransformersModel", tokens: list[int], ended: bool) -> list[int]:
    """A completion without the token that ends it."""
    ends = ended or tokens[-1] in model.tokenizer.all_special_ids
    return tokens[:-1] if ends else tokens


def _read(
    model: "TransformersModel",
    prompts: list[list[int]],
    completions: list[list[int]],
    layers: list[int],
) -> tuple[list[float], NDArray[np.float32]]:
    """Read completions unsteered.

    Returns mean log-probabilities [n], NaN for empty ones, and the pooled rows of the others
    [n_layers, n_said, d_model].
    """
    said = [i for i, tokens in enumerate(completions) if tokens]
    rows = [_answered(prompts[i], completions[i]) for i in said]
    logprobs = np.full(len(completions), np.nan)
    if not rows:
        return logprobs.tolist(), np.empty((len(layers), 0, 0), dtype=np.float32)
    means, found = pooled(model, rows, layers, logprob=True)
    logprobs[said] = found
    return logprobs.tolist(), means


def _answered(prompt: list[int], completion: list[int]) -> Tokens:
    """A prompt and its completion as they were read and written, token by token."""
    ids = np.array(prompt + completion, dtype=np.int32)
    roles = np.full(len(ids), Role.PROMPT, dtype=np.uint8)
    roles[len(prompt) :] = Role.RESPONSE
    return Tokens("", ids, np.zeros((len(ids), 2), dtype=np.int32), roles, len(prompt))


def _moved(
    model: "TransformersModel",
    basis: Basis,
    vector: SteeringVector,
    texts: list[list[int]],
    later: int | None,
) -> NDArray[np.float64]:
    """Mean change of the rows of texts at a later block, along the axes, [n_axes].

    NaN where no block is later, and of concatenated layers: those directions, in rows that are
    divided by each layer's scale, are not directions of any one block.
    """
    if later is None or (basis.source_ or {}).get("layer") == "concat":
        return np.full(basis.n_axes_, np.nan)
    rows = [_answered([], ids) for ids in texts]
    before, _ = pooled(model, rows, [later])
    with steered(model, vector):
        after, _ = pooled(model, rows, [later])
    change = (after - before)[0].mean(axis=0, dtype=np.float64)
    found: NDArray[np.float64] = basis.components_.astype(np.float64) @ change / basis.scale_
    return found


# ------------------------------------------------------------------------------ dose by dose


def dose_response(
    model: "TransformersModel",
    basis: Basis,
    axis: int,
    prompts: Sequence[Prompt],
    doses: Sequence[float] = DOSES,
    layer: int | None = None,
    later: int | None = None,
    neutral: Sequence[Prompt] | None = None,
    max_new_tokens: int = 48,
    temperature: float = 0.0,
    seed: int = 0,
    vector_of: Callable[[float], SteeringVector] | None = None,
    on_dose: Callable[[float, Response], object] | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Push a model along an axis, dose by dose, and say what comes of it.

    Parameters
    ----------
    model : TransformersModel
    basis : Basis
    axis : int
    prompts : sequence of str or chat messages
        To complete under every dose; as `generate` takes them.
    doses : sequence of float
        Standard deviations of the axis; 0 is always added.
    layer : int, optional
        Block to push after; default the layer that the basis was fitted at.
    later : int, optional
        Block where the push is looked for again; default 5 blocks later, or the last one.
    neutral : sequence of str or chat messages, optional
        Texts to measure side effects on; default `NEUTRAL`, a few plain sentences.
    max_new_tokens, temperature, seed
        As in `generate`.
    vector_of : callable, optional
        Dose -> vector, for axes that `SteeringVector.from_axis` does not make (concatenated
        layers).
    on_dose : callable, optional
        Takes a dose and its `Response` as soon as it is there.
    progress : bool

    Returns
    -------
    DataFrame
        As `response_table` gives it: a row a dose, ascending.

    Raises
    ------
    InputError
        No such axis or layer, no doses or some that are not finite, no prompts, or an empty or
        overlong one.
    """
    SteeringVector.require_axis(basis, axis, 0.0)
    grid = dose_grid(doses)
    trial = Trial(
        prompts,
        NEUTRAL if neutral is None else neutral,
        later,
        max_new_tokens,
        temperature,
        seed,
    )
    responses = {}
    for dose in tqdm(grid, desc="doses", unit="dose", disable=not progress):
        vector = (
            SteeringVector.from_axis(basis, axis, layer, dose)
            if vector_of is None
            else vector_of(dose)
        )
        responses[dose] = respond(model, basis, vector, trial, layer)
        if on_dose is not None:
            on_dose(dose, responses[dose])
    return response_table(responses, axis)


def dose_grid(doses: Sequence[float]) -> list[float]:
    """Doses ascending, each once, with 0.

    Raises
    ------
    InputError
        None, or some that are no finite numbers.
    """
    return sorted({0.0, *numbers(doses, "doses must be finite numbers")})


def response_table(responses: Mapping[float, Response], axis: int) -> pd.DataFrame:
    """Put responses to doses of an axis side by side.

    Parameters
    ----------
    responses : mapping of float to Response
        Dose -> what it did; with dose 0.
    axis : int

    Returns
    -------
    DataFrame
        A row a dose, ascending:

        - ``dose``: standard deviations of the axis.
        - ``perplexity``: of the completions under the unsteered model.
        - ``repetition``: mean share of repeated 4-grams of tokens in a completion.
        - ``ended``: share of completions that end by themselves; ``length``: their mean length in
          tokens. An end that comes early shows in the one or the other.
        - ``shift``: mean change of the axis's coordinate over the completions' tokens, as the
          unsteered model reads them, against the completions of dose 0, in standard deviations;
          ``leakage``: root mean square of the same over the other axes, each in its own standard
          deviations.
        - ``kl``: KL(unsteered || steered) on neutral texts, nats per token.
        - ``carried``: how much of the dose is found on the axis's direction at a later block, on
          neutral texts (1: all of it); ``carried_leakage``: root mean square over the other axes,
          per unit of dose. NaN at dose 0, where no block is later, and for axes of
          concatenated layers, whose directions are those of no one block.
        - ``texts``: list of the completions.

    Raises
    ------
    InputError
        Dose 0 is missing.
    """
    if 0.0 not in responses:
        raise InputError("dose 0 is missing: what a dose does is told against it")
    at_zero = np.array(responses[0.0].coordinates)
    rows = []
    for dose, found in sorted(responses.items()):
        change = np.array(found.coordinates) - at_zero
        known = change[np.isfinite(change).all(axis=1)]
        shift = known.mean(axis=0) if len(known) else np.full(change.shape[1], np.nan)
        carried = np.array(found.moved) / dose if dose else np.full(len(found.moved), np.nan)
        rows.append(
            {
                "dose": dose,
                "perplexity": found.perplexity,
                "repetition": float(np.mean(found.repetition)),
                "ended": float(np.mean(found.ended)),
                "length": float(np.mean(found.n_tokens)),
                "shift": shift[axis],
                "leakage": _rms(np.delete(shift, axis)),
                "kl": found.kl,
                "carried": carried[axis],
                "carried_leakage": _rms(np.delete(carried, axis)),
                "texts": list(found.texts),
            }
        )
    return pd.DataFrame(rows)


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else float("nan")
