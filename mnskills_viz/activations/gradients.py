"""How the model's preference for a right answer changes with its residual stream.

One backward pass gives, for every example and every layer at once, the gradient of a target with
respect to a vector added to the residual stream after that layer.
"""

import hashlib
import json
import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..corpus import Corpus, Example
from ..errors import InputError
from ..files import write_bytes
from ..models import blocks, context_length, d_model, exclusive, longest_shared, torch_module
from .passes import Layers, chosen_layers
from .tokens import Tokens, tokenize
from .trace import padded, plan_batches, residual, response_logprob

if TYPE_CHECKING:
    import torch
    from nnsight.modeling.transformers import TransformersModel

Target = Literal["contrast", "reference"]
Phase = Literal["prompt", "generation"]
PHASES: tuple[Phase, ...] = ("prompt", "generation")

# Training keeps every activation of the batch: a quarter of what collecting takes.
TOKEN_BUDGET = 1024


@dataclass(frozen=True, slots=True)
class Gradients:
    """Per-example gradients of a target, one vector a layer.

    Attributes
    ----------
    ids : list of str
        Examples, in corpus order; those that give no target are left out.
    layers : list of int
    values : ndarray of float32, [n]
        The target itself, nats per response token.
    skipped : list of str
        Ids without response, longer than the model's context, or, for the contrast, without an
        answer that can be corrupted.
    """

    ids: list[str]
    layers: list[int]
    values: NDArray[np.float32]
    skipped: list[str]
    _by_phase: dict[Phase, NDArray[np.float32]]

    def matrix(self, layer: int, phases: Sequence[Phase] = PHASES) -> NDArray[np.float32]:
        """Gradient with respect to a vector added at `layer` to all tokens of `phases`.

        Returns
        -------
        ndarray of float32, [n, d_model]
            Nats per response token, per unit of the residual stream.
        """
        if layer not in self.layers:
            raise InputError(f"layer {layer} has no gradients; there are layers {self.layers}")
        at = self.layers.index(layer)
        total: NDArray[np.float32] = np.sum([self._by_phase[p][at] for p in phases], axis=0)
        return total

    def save(self, path: Path, source: dict[str, Any]) -> None:
        """Keep the gradients as safetensors, with what made them; see `load`."""
        from safetensors.numpy import save

        about = {"ids": self.ids, "layers": self.layers, "skipped": self.skipped, "source": source}
        tensors = {"values": self.values} | {str(p): g for p, g in self._by_phase.items()}
        write_bytes(path, save(tensors, metadata={"mnskills": json.dumps(about)}))

    @classmethod
    def load(cls, path: Path, source: dict[str, Any]) -> "Gradients | None":
        """Read gradients that `save` kept; None if there are none, or others made them."""
        from safetensors import SafetensorError, safe_open

        if not path.exists():
            return None
        try:
            with safe_open(path, framework="numpy") as file:
                about = json.loads(file.metadata()["mnskills"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} is damaged ({error}); delete it to compute again") from error
        if about["source"] != source:
            return None
        by_phase: dict[Phase, NDArray[np.float32]] = {p: tensors[p] for p in PHASES}
        return cls(about["ids"], about["layers"], tensors["values"], about["skipped"], by_phase)


def gradients(
    model: "TransformersModel",
    corpus: Corpus,
    layers: Layers = "all",
    target: Target = "contrast",
    token_budget: int = TOKEN_BUDGET,
    progress: bool = True,
) -> Gradients:
    """Differentiate a target with respect to vectors added at every layer.

    Parameters
    ----------
    model : TransformersModel
    corpus : Corpus
        Examples with responses; for the contrast also with answers, or numbers in the response.
    layers : "all" or list of int
    target : {"contrast", "reference"}
        ``"contrast"``: log-probability of the reference less that of the reference with its final
        answer changed wherever it occurs (skill, with the style of the text cancelled);
        ``"reference"``: log-probability of the reference. Both per response token.
    token_budget : int
        Most tokens in a batch, padding included.
    progress : bool

    Returns
    -------
    Gradients

    Raises
    ------
    InputError
        No example gives a target.
    """
    chosen = list(chosen_layers(model, layers))
    found = targets(model, corpus, target)
    bar = tqdm(
        total=found.n_tokens,
        desc="gradients",
        unit="tok",
        unit_scale=True,
        disable=not progress,
    )
    with bar:
        values, by_phase = _differentiate(model, found.right, chosen, token_budget, bar)
        if found.wrong:
            lower, lower_phase = _differentiate(model, found.wrong, chosen, token_budget, bar)
            ratio = found.ratio
            values = values - ratio * lower
            by_phase = {p: by_phase[p] - ratio[:, None] * lower_phase[p] for p in PHASES}
    return Gradients(found.ids, chosen, values, found.skipped, by_phase)


# ---------------------------------------------------------------------------------- targets


@dataclass(frozen=True, slots=True)
class Targets:
    """What is differentiated: of each example one text, or one less another.

    Attributes
    ----------
    ids : list of str
        Examples that have a target, in corpus order.
    right : list of Tokens
        With the reference response.
    wrong : list of Tokens
        With the corrupted one, for the contrast; else empty.
    skipped : list of str
        Ids of the other examples.
    """

    ids: list[str]
    right: list[Tokens]
    wrong: list[Tokens]
    skipped: list[str]

    @property
    def n_tokens(self) -> int:
        """Tokens that the model reads."""
        return sum(map(len, self.right)) + sum(map(len, self.wrong))

    @property
    def ratio(self) -> NDArray[np.float32]:
        """What the wrong text's mean counts, [n]: lengths of the wrong over the right response.

        A changed answer may be longer: sums are compared, then divided by the reference's length.
        """
        pairs = zip(self.wrong, self.right, strict=True)
        return np.array([_n_response(w) / _n_response(r) for w, r in pairs], dtype=np.float32)


def targets(model: "TransformersModel", corpus: Corpus, target: Target) -> Targets:
    """Render the examples that have a target; see `gradients`.

    Raises
    ------
    InputError
        Unknown target, or no example has one.
    """
    if target not in ("contrast", "reference"):
        raise InputError(f'target must be "contrast" or "reference", not {target!r}')
    answered = [replace(e, response=plain_response(e.response)) for e in corpus]
    wrong = {e.id: corrupt(e) for e in answered} if target == "contrast" else {}
    used = [e for e in answered if e.response and (target == "reference" or wrong[e.id])]
    # One token to spare: a changed answer may be longer.
    limit = context_length(model) or math.inf
    pairs = zip(used, tokenize(model.tokenizer, used), strict=True)
    fitting = [(example, row) for example, row in pairs if len(row) < limit]
    used, right = [example for example, _ in fitting], [row for _, row in fitting]
    if not used:
        raise InputError(
            f'target="{target}" needs responses'
            + (" with an answer or a number to change" if wrong else "")
            + f" that fit the model's context; none of the {len(corpus)} examples does"
        )
    changed = [replace(e, response=wrong[e.id] or "") for e in used] if wrong else []
    kept = {e.id for e in used}
    return Targets(
        ids=[e.id for e in used],
        right=right,
        wrong=tokenize(model.tokenizer, changed) if changed else [],
        skipped=[e.id for e in corpus if e.id not in kept],
    )


def _n_response(row: Tokens) -> int:
    return row.response_end - row.response_start


# ---------------------------------------------------------------------------------- corruption

_NUMBER = r"\d+(?:[.,]\d+)*"


def plain_response(response: str) -> str:
    """Return a response without a calculator's annotations, GSM8K's ``<<48/2=24>>``."""
    return re.sub(r"<<[^<>]*>>", "", response)


def corrupt(example: Example) -> str | None:
    """Return the reference with its final answer changed, as little as possible.

    A numeric answer gets one digit changed; words are put in another order, or one letter is
    changed. The change is made wherever the answer stands by itself, so that a worked solution
    that computes it early and repeats it stays of one mind; an operand that happens to equal the
    answer changes with it. Seeded by the example's id.

    Returns
    -------
    str or None
        None if the response has no answer to change.
    """
    seed = int.from_bytes(hashlib.sha256(example.id.encode()).digest()[:8])
    for answer in (example.answer, *re.findall(_NUMBER, example.response)[-1:]):
        if answer:
            wrong = _wrong(answer, random.Random(seed))  # noqa: S311 - not for secrets
            changed = _replace_alone(example.response, answer, wrong)
            if changed != example.response:
                return changed
    return None


def _replace_alone(text: str, answer: str, wrong: str) -> str:
    """Replace `answer` where it is not a part of something longer: 5 in 15 or 2.5, no in north.

    A sign belongs to a number only where no operand stands before it: -5 is not in 10-5.
    """
    border_left = r"(?<![\w.])" if answer[0].isalnum() else r"(?<![\w)])"
    border_right = r"(?!\w|[.,]\d)" if answer[-1].isalnum() else ""
    pattern = border_left + re.escape(answer) + border_right
    return re.sub(pattern, lambda _: wrong, text)


def _wrong(answer: str, rng: random.Random) -> str:
    digits = [i for i, letter in enumerate(answer) if letter.isdigit()]
    if digits:
        at = rng.choice(digits)
        leading = at == digits[0] and len(digits) > 1
        others = [d for d in "0123456789"[leading:] if d != answer[at]]
        return answer[:at] + rng.choice(others) + answer[at + 1 :]
    opposites = {
        "yes": "no",
        "no": "yes",
        "true": "false",
        "false": "true",
        "even": "odd",
        "odd": "even",
    }
    if answer.lower() in opposites:
        other = opposites[answer.lower()]
        return other.capitalize() if answer[0].isupper() else other
    words = answer.split(" ")
    if len(set(words)) > 1:
        shuffled = words[:]
        while shuffled == words:
            rng.shuffle(shuffled)
        return " ".join(shuffled)
    letters = [i for i, letter in enumerate(answer) if letter.isalpha()] or [0]
    at = rng.choice(letters)
    alphabet = (
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if answer[at].isupper() else "abcdefghijklmnopqrstuvwxyz"
    )
    return answer[:at] + rng.choice([a for a in alphabet if a != answer[at]]) + answer[at + 1 :]


# ---------------------------------------------------------------------------------- backward


def _differentiate(
    model: "TransformersModel", rows: Sequence[Tokens], layers: list[int], budget: int, bar: Any
) -> tuple[NDArray[np.float32], dict[Phase, NDArray[np.float32]]]:
    """Mean response log-probability [n], and its gradients {phase: [n_layers, n, d]}."""
    values = np.empty(len(rows), dtype=np.float32)
    found: dict[Phase, NDArray[np.float32]] = {}
    for batch in plan_batches([len(row) for row in rows], budget, longest_shared(model)):
        chosen = [rows[i] for i in batch]
        value, grads = _backward(model, chosen, layers)
        values[batch] = value
        for phase, grad in zip(PHASES, np.moveaxis(grads, 2, 0), strict=True):
            whole = found.setdefault(phase, np.empty((len(layers), len(rows), grad.shape[2]), "f4"))
            whole[:, batch] = grad
        bar.update(sum(map(len, chosen)))
    return values, found


def _backward(
    model: "TransformersModel", rows: Sequence[Tokens], layers: list[int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """One batch: values [b], gradients [n_layers, b, n_phases, d].

    A zero vector per example and phase is added to the residual stream after every layer; the
    gradient with respect to it is exact for any vector added there.
    """
    import nnsight
    import torch

    module = torch_module(model)
    ids = torch.tensor(padded([r.ids for r in rows]), dtype=torch.long, device=module.device)
    phases = torch.stack([_phase_mask(rows, phase) for phase in PHASES], dim=-1).to(module.device)
    width = d_model(model)
    added = [
        torch.zeros(len(rows), len(PHASES), width, device=module.device, requires_grad=True)
        for _ in layers
    ]
    envoys = blocks(model)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with exclusive(model), torch.enable_grad():
        with model.trace(inputs, use_cache=False):
            for layer, vectors in zip(layers, added, strict=True):
                output = envoys[layer].output
                hidden = residual(output, ids, width)
                shifted = hidden + (phases @ vectors).to(hidden.dtype)
                envoys[layer].output = (
                    (shifted, *output[1:]) if isinstance(output, tuple | list) else shifted
                )
            values = nnsight.save(response_logprob(model.output.logits, ids, rows))
        found = torch.autograd.grad(values.sum(), added)
    return values.detach().cpu().numpy(), torch.stack(found).cpu().numpy()


def _phase_mask(rows: Sequence[Tokens], phase: Phase) -> "torch.Tensor":
    """Which real tokens belong to a phase [b, t], as float32."""
    import torch

    masks = [(np.arange(len(row)) < row.response_start) == (phase == "prompt") for row in rows]
    return torch.tensor(padded(masks), dtype=torch.float32)
