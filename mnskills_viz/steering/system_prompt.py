"""Vectors that stand in for a system prompt, at no token a request.

From a text system prompt (with it minus without), or from successes (right answers minus wrong
ones to the same problem).
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..activations.collect import collect
from ..activations.passes import Layers, chosen_layers
from ..activations.tokens import Role, Tokens, tokenize
from ..corpus import Corpus, Example, Message, Prompt
from ..errors import InputError
from ..evaluation.grading import passes
from ..evaluation.run import graded
from ..evaluation.samples import HEADER, Kept
from ..files import read_json
from ..generation import encode
from ..models import context_length, identity
from .divergence import pooled
from .inputs import require_list
from .sampled import Sampling
from .vector import SteeringVector, is_whole

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel

Answer = tuple[Example, str, bool]
"""A problem, a sampled answer to it, and whether it passes."""

UNIT = "measured mean differences"


# ------------------------------------------------------------------------------- from a text


def from_system_prompt(
    model: "TransformersModel",
    system: str,
    prompts: Sequence[Prompt],
    layers: Layers = "all",
    responses: Sequence[str] | None = None,
) -> dict[int, SteeringVector]:
    """What a system prompt adds to the residual stream, on average, layer by layer.

    Mean over prompts of the row with the system message minus the row without. A row is the mean
    over tokens that stand in both: the prompt's own and what follows them (role marks, the
    generation prompt), aligned from the right; neither the system text's own tokens nor attention
    sinks count. Without it means as the template renders the prompt alone, with the system text
    that some templates then write themselves.

    Where there are responses as the system prompt asks for, rows are over their tokens instead:
    there the model acts on it. [SmolLM2-135M, asked to speak French, layer 15: at its best dose
    the vector raises the log-probability of other French answers by 0.10 nats a token from the
    prompts' tokens, by 0.46 from the responses', the text itself by 1.02.]

    Parameters
    ----------
    model : TransformersModel
        With a chat template.
    system : str
    prompts : sequence of str or chat messages
        What a user would ask; a str becomes a user's message.
    layers : "all" or list of int
    responses : sequence of str, optional
        An answer to each prompt: references, or what the model writes under the system prompt.

    Returns
    -------
    dict of int to SteeringVector
        Layer -> its vector alone; 1 times it is the measured difference. Use one layer at a time:
        what is added is carried on by the layers after it.

    Raises
    ------
    InputError
        No chat template, one that takes no system message, an empty system text or prompt, one
        that has a system message or does not fit the context, responses that are empty or not as
        many, or an unknown layer.
    """
    chosen = asked_layers(model, layers)
    require_list(prompts, "prompts")
    answers = [""] * len(prompts) if responses is None else list(responses)
    if len(answers) != len(prompts) or not (responses is None or all(answers)):
        raise InputError(
            f"responses: one to each of {len(prompts)} prompts was expected, none empty; found "
            f"{sum(map(bool, answers))} with text"
        )
    chats = [_as_chat(prompt) for prompt in prompts]
    without, with_it = _both(model, system, chats, answers)
    tails = [_tail(*pair) for pair in zip(without, with_it, strict=True)]
    if responses is not None:
        tails = [min(t, len(r) - r.response_start) for t, r in zip(tails, without, strict=True)]
    before, after = (
        pooled(model, rows, chosen, masks=list(map(_last, rows, tails)))[0]
        for rows in (without, with_it)
    )
    difference = (after.astype(np.float64) - before).mean(axis=1)
    about = {"from": "system prompt", "system": system, "prompts": len(prompts)}
    return _vectors(model, dict(zip(chosen, difference, strict=True)), about)


def _vectors(
    model: "TransformersModel",
    differences: Mapping[int, NDArray[np.float64]],
    about: dict[str, Any],
) -> dict[int, SteeringVector]:
    """One vector a layer, which says what it is a difference of."""
    about = about | {"dose": 1.0, "unit": UNIT, "model": identity(model).as_dict()}
    return {
        layer: SteeringVector({layer: difference}, source=about | {"layer": layer})
        for layer, difference in differences.items()
    }


def asked_layers(model: "TransformersModel", layers: Layers) -> tuple[int, ...]:
    """The layers asked for, ascending.

    Raises
    ------
    InputError
        One in place of a list, none, or some that the model does not have.
    """
    is_list = isinstance(layers, Collection) and all(map(is_whole, layers))
    if not isinstance(layers, str) and not is_list:
        raise InputError(f'layers must be "all" or a list of integers, not {layers!r:.60}')
    return chosen_layers(model, layers)


def _as_chat(prompt: Prompt) -> list[Message]:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def _both(
    model: "TransformersModel",
    system: str,
    chats: Sequence[list[Message]],
    responses: Sequence[str],
) -> tuple[list[Tokens], list[Tokens]]:
    """Chats as the model reads them without the system message, and with it."""
    require_system(model, system)
    encode(model, chats, max_new_tokens=0)  # says which prompt is none, or does not fit
    prompted = [_prompted(chat, system, f"prompt {i}") for i, chat in enumerate(chats)]
    without, with_it = (
        tokenize(
            model.tokenizer,
            [
                Example(f"prompt {i}", *pair)
                for i, pair in enumerate(zip(some, responses, strict=True))
            ],
        )
        for some in (chats, prompted)
    )
    limit = context_length(model)
    for i, row in enumerate(with_it):
        if limit is not None and len(row) > limit:
            raise InputError(
                f"prompt {i}: its {len(row)} tokens, the system prompt's among them, do not fit "
                f"the model's context of {limit}"
            )
    return without, with_it


def require_system(model: "TransformersModel", system: str) -> None:
    """Refuse a text that is none, and a template that does not take it.

    Raises
    ------
    InputError
        As said.
    """
    if not isinstance(system, str) or not system.strip():
        raise InputError("the system prompt is empty; give it as text")
    if model.tokenizer.chat_template is None:
        raise InputError("the model has no chat template, and so no place for a system prompt")
    asked: list[Message] = [{"role": "user", "content": "?"}]
    tokenize(model.tokenizer, [Example("a question", asked)])
    try:
        tokenize(model.tokenizer, [Example("a question", _prompted(asked, system, "it"))])
    except InputError as error:
        reason = str(error).partition("rejects the prompt (")[2].rstrip(")") or str(error)
        raise InputError(
            f"the model's chat template takes no system message ({reason}); put the text into the "
            "user's message, or use a vector from successes"
        ) from error


def with_system(corpus: Corpus, system: str) -> Corpus:
    """The same examples under a system prompt."""
    return Corpus(
        (replace(e, prompt=_prompted(e.messages, system, f"example {e.id}")) for e in corpus),
        corpus.name,
    )


def _prompted(chat: list[Message], system: str, name: str) -> list[Message]:
    if any(message["role"] == "system" for message in chat):
        raise InputError(f"{name} has a system message of its own; take it out")
    return [{"role": "system", "content": system}, *chat]


def _tail(without: Tokens, with_it: Tokens) -> int:
    """How many tokens at the end both have, from the prompt's first own one on."""
    own = len(without) - int(np.flatnonzero(without.roles == Role.PROMPT)[0])
    differs = np.flatnonzero(without.ids[-own:] != with_it.ids[-own:])
    return own - (int(differs[-1]) + 1) if len(differs) else own


def _last(row: Tokens, n: int) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = np.arange(len(row)) >= len(row) - n
    return mask


# ---------------------------------------------------------------------------- from successes


def from_successes(
    model: "TransformersModel",
    answers: Iterable[Answer],
    layers: Layers = "all",
    progress: bool = True,
) -> dict[int, SteeringVector]:
    """What right answers have that wrong ones to the same problem lack, layer by layer.

    Rows over the tokens of the answer; mean of the right ones minus mean of the wrong ones of a
    problem, averaged over problems that have both. Across problems it would be what makes a
    problem easy.

    Parameters
    ----------
    model : TransformersModel
    answers : iterable of (Example, str, bool)
        Several sampled answers to each problem, and whether they pass; see `judged_answers`.
        Empty ones are left out.
    layers : "all" or list of int
    progress : bool

    Returns
    -------
    dict of int to SteeringVector
        Layer -> its vector alone; 1 times it is the measured difference.

    Raises
    ------
    InputError
        No problem has both a right and a wrong answer, or an unknown layer.
    """
    chosen = asked_layers(model, layers)
    examples: dict[str, Example] = {}
    told: dict[str, tuple[Counter[str], Counter[str]]] = {}
    for example, text, passed in answers:
        examples[example.id] = example
        if text:
            told.setdefault(example.id, (Counter(), Counter()))[bool(passed)][text] += 1
    both = {name: sides for name, sides in told.items() if all(sides)}
    if not both:
        raise InputError(
            f"none of {len(examples)} problems has both a right and a wrong answer; sample more "
            "answers, or problems that the model solves now and then"
        )
    shares: list[tuple[str, str, float]] = []
    for name, sides in both.items():
        for side, sign in zip(sides, (-1, +1), strict=True):
            total = sum(side.values()) * len(both)
            shares += [(name, text, sign * count / total) for text, count in side.items()]
    corpus = Corpus(
        replace(examples[name], id=str(i), response=text)
        for i, (name, text, _) in enumerate(shares)
    )
    rows = collect(model, corpus, layers=chosen, tokens="response", progress=progress)
    weights = np.array([share for _, _, share in shares])
    differences = {layer: weights @ rows.matrix(layer).astype(np.float64) for layer in chosen}
    return _vectors(model, differences, {"from": "successes", "problems": len(both)})


def judged_answers(
    model: "TransformersModel",
    corpus: Corpus,
    sampling: Sampling | None = None,
    store: str | Path | None = None,
    progress: bool = True,
) -> list[Answer]:
    """Sample answers and judge them, for `from_successes`.

    Parameters
    ----------
    model : TransformersModel
    corpus : Corpus
        Problems with answers, unless the verifier does without.
    sampling : Sampling, optional
    store : path, optional
        As `mnskills_viz.evaluate` takes it: what was sampled there is not sampled again.
    progress : bool

    Raises
    ------
    InputError
        As `mnskills_viz.evaluate`.
    """
    how = sampling or Sampling()
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "answers" if store is None else Path(store)
        graded(
            model,
            corpus,
            n=how.n,
            temperature=how.temperature,
            verifier=how.verifier,
            seed=how.seed,
            max_new_tokens=how.max_new_tokens,
            logprobs=False,
            store=folder,
            progress=progress,
        )
        kept = Kept(read_json(folder / HEADER), folder)
        found = kept.graded_by(how.verifier) if isinstance(how.verifier, str) else None
    examples = {example.id: example for example in corpus}
    texts = [(examples[name], text) for (name, _), text in kept.texts.items()]
    verdicts = passes(how.verifier, texts) if found is None else [found[key] for key in kept.texts]
    return [(*pair, passed) for pair, passed in zip(texts, verdicts, strict=True)]
