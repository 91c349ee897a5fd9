"""What a model is asked for: to prefer a right answer to the same one corrupted."""

import hashlib
import math
import random
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ..corpus import Corpus, Example
from ..errors import InputError
from ..models import context_length
from .tokens import Tokens, tokenize

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel

Target = Literal["contrast", "reference"]


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
