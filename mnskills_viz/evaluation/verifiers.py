"""Verifiers: is the answer of a text right? Text in, float out."""

import functools
import importlib
import importlib.metadata
import math
import re
import threading
from collections.abc import Callable, Iterable
from typing import Any

from ..corpus import Example
from ..errors import InputError
from .answers import STRICT_MARK, final_answer, rational, strict_answer, tagged_answer

Verifier = str | Callable[[Example, str], float]
"""A name, or a function of an example and a text that says how right the text is, from 0 to 1."""

PASS = 1.0
"""Scores below it do not pass: reasoning-gym gives parts of it for an answer of the right form."""

REGEX = "regex:"
NAMES = ("auto", "exact", "number", "gsm8k", "math-verify", "reasoning-gym")
PACKAGES = {"math-verify": "math_verify", "reasoning-gym": "reasoning_gym"}

SECONDS = 5
"""After which Math-Verify gives up on an expression, where it can."""

_NUMBER = re.compile(r"[-+]?\$?[0-9][0-9,]*(?:\.[0-9]+)?(?:/[0-9]+)?\s?(?:\\?%)?")
_UNREAD = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"%|percent",
        r"\\circ|\\degree|°",
        r"\\(?:thick)?approx|\\sim|≈",
        r"\\[lcv]?dots|…",
        r"[0-9]\s*_",
        r"'",
        r"\\(?:text\w*|mathrm|mbox)\s*\{[^{}]*"
        r"\b(?:is|are|was|or|and|not|no|nor|but|if|than|to|either|maybe|wrong|instead)\b",
    )
)
"""What Math-Verify reads past, and what makes another answer of a number."""

_TWO_WAYS = ("true", "false", "yes", "no")
_DOLLAR = re.compile(r"\\?\$")
_NAME = re.compile(r"[A-Za-z](?:_?\{?\w\}?)?(?:\(\w\))?")


def verify(verifier: Verifier, example: Example, text: str) -> float:
    r"""Judge one text.

    Parameters
    ----------
    verifier : str or callable
        - ``"exact"``: the answer after the last ``Answer:`` is the example's, upper and lower case
          alike. Where neither the example's reference nor its data asks for that mark, a text
          without it is an answer as a whole.
        - ``"number"``: the same, read as an exact rational number.
        - ``"gsm8k"``: the number after the last ``####``, or in the last ``\boxed{}``.
        - ``"math-verify"``: what the text states last, by Math-Verify; with a percent sign,
          degrees or an approximation only where the example's answer has them.
        - ``"reasoning-gym"``: the scorer of the data set in the example's metadata.
        - ``"regex:PATTERN"``: the first group (or all) of the pattern's last match is the answer.
        - ``"auto"``: what `verifier_of` says of the example.
        - a function of example and text.
    example : Example
    text : str
        What the model wrote.

    Returns
    -------
    float
        From 0 to 1. Only 1 passes. An answer must be all that is stated as the answer. Text after
        it is judged only so far: a sentence that begins with "No,", "Wait", "Actually" or the like
        takes back an answer in a box, in tags or after a mark; ``"exact"`` and ``"number"`` allow
        no text after theirs. Units beside a number are not judged.

    Raises
    ------
    InputError
        Unknown verifier, a package that is missing, an example that it cannot judge by, or a
        function that returns no number.

    Notes
    -----
    Math-Verify and some of reasoning-gym's scorers hand the text to sympy, which may think for
    ever, and evaluates it. `evaluate` does this in a process of its own, with a time-out.
    """
    if not isinstance(verifier, str):
        return _by_function(verifier, example, text)
    name = verifier_of(example) if verifier == "auto" else verifier
    if name.startswith(REGEX):
        return _by_regex(name.removeprefix(REGEX), example, text)
    if name not in _VERIFIERS:
        raise InputError(
            f"unknown verifier {name!r}; expected one of {', '.join(NAMES)}, regex:PATTERN, or a "
            "function of (example, text)"
        )
    return _VERIFIERS[name](example, text)


def verifier_of(example: Example) -> str:
    """The verifier that suits an example.

    The one that its data names (column ``verifier``); reasoning-gym's where its metadata names a
    data set of it; Math-Verify for answers in numbers or LaTeX; else ``"exact"``.
    """
    named = example.meta.get("verifier")
    if named in _VERIFIERS:
        return str(named)
    if _source_dataset(example) is not None:
        return "reasoning-gym"
    answer = (example.answer or "").strip()
    if _NUMBER.fullmatch(answer) or any(sign in answer for sign in "\\^$"):
        return "math-verify"
    return "exact"


def require_verifier(verifier: Verifier, examples: Iterable[Example]) -> None:
    """Refuse, before anything is generated, what could not be judged afterwards.

    Raises
    ------
    InputError
        Unknown verifier, a pattern that is none, missing packages, or examples without answer.
    """
    if not isinstance(verifier, str):
        if not callable(verifier):
            raise InputError(f"a verifier is a name or a function, not {verifier!r}")
        return
    if verifier.startswith(REGEX):
        _compiled(verifier.removeprefix(REGEX))
    elif verifier not in NAMES:
        raise InputError(
            f"unknown verifier {verifier!r}; expected one of {', '.join(NAMES)}, regex:PATTERN, or "
            "a function of (example, text)"
        )
    needed, without, unknown = set(), [], []
    for example in examples:
        name = verifier_of(example) if verifier == "auto" else verifier
        needed.add(name)
        if name == "reasoning-gym":
            if _source_dataset(example) is None:
                unknown.append(example.id)
        elif not (example.answer or "").strip():
            without.append(example.id)
    if without:
        raise InputError(
            f"{len(without)} examples have no answer to verify by: {_few(without)}; give them an "
            "answer column, leave them out, or pass a function of (example, text)"
        )
    if unknown:
        raise InputError(
            f"{len(unknown)} examples name no reasoning-gym data set (metadata source_dataset): "
            f"{_few(unknown)}"
        )
    for name in sorted(needed & PACKAGES.keys()):
        _package(name)


def versions_of(verifiers: Iterable[str]) -> dict[str, str]:
    """Versions of the packages behind some verifiers."""
    return {n: importlib.metadata.version(n) for n in sorted(set(verifiers) & PACKAGES.keys())}


def _few(ids: list[str]) -> str:
    return ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")


# --------------------------------------------------------------------------------- verifiers


def _by_function(function: Callable[[Example, str], float], example: Example, text: str) -> float:
    said = function(example, text)
    try:
        score = float(said)
    except (TypeError, ValueError):
        score = math.nan
    if math.isnan(score):
        raise InputError(
            f"example {example.id}: the verifier function said {said!r:.60}; it must return a "
            "number from 0 to 1"
        )
    return score


def _given(example: Example, text: str) -> str:
    """The answer of a text by the demo corpus's rule; the whole text where no mark is asked for."""
    strict = strict_answer(text)
    if strict is not None:
        return strict
    asked = STRICT_MARK in example.response or "verifier" in example.meta
    return "" if asked else text.strip().removesuffix(".")


def _exact(example: Example, text: str) -> float:
    return float(_given(example, text).lower() == _answer(example).removesuffix(".").lower())


def _number(example: Example, text: str) -> float:
    expected = rational(_answer(example))
    if expected is None:
        raise InputError(
            f"example {example.id}: the answer {example.answer!r:.60} is not a number such as -7, "
            '0.65 or 3/4; use verifier "exact" or "math-verify"'
        )
    return float(rational(_given(example, text)) == expected)


def _gsm8k(example: Example, text: str) -> float:
    stated = final_answer(text) if "####" in text or "boxed" in text else None
    expected = final_answer(_answer(example))
    if stated is None or expected is None:
        return 0.0
    given = rational(_plain(stated))
    return float(given is not None and given == rational(_plain(expected)))


def _plain(number: str) -> str:
    """A number without currency, percent sign and separators of thousands."""
    bare = number.strip().removeprefix("\\").removeprefix("$").removesuffix("%").removesuffix("\\")
    return re.sub(r",(?=[0-9]{3}(?:[,.]|$))", "", bare.strip())


def _math_verify(example: Example, text: str) -> float:
    given = final_answer(text)
    expected = final_answer(_answer(example))
    if given is None or expected is None or not _is_balanced(given):
        return 0.0
    if any(sign.search(given) and not sign.search(expected) for sign in _UNREAD):
        return 0.0
    if "=" not in expected and "=" in given:
        # Math-Verify takes what stands right of the sign: 6 = 5 would be 5, and x + 1 = 5 too.
        *before, given = (part.strip() for part in given.split("="))
        for part in before:
            if not _NAME.fullmatch(part) and not _same_mathematics(part, given):
                return 0.0
    return float(_same_mathematics(expected, given))


def _is_balanced(answer: str) -> bool:
    depth = 0
    for sign in answer:
        depth += {"{": 1, "}": -1}.get(sign, 0)
        if depth < 0:
            return False
    return depth == 0


def _same_mathematics(gold: str, given: str) -> bool:
    library = _package("math-verify")
    # Its time-out needs the main thread's alarm; elsewhere whoever calls must be able to stop us.
    seconds = SECONDS if threading.current_thread() is threading.main_thread() else None
    latex = [library.LatexExtractionConfig(boxed_match_priority=0)]
    parsed = [
        # Boxed, so that all of it is read, and nothing is searched in it.
        library.parse(rf"\boxed{{{_DOLLAR.sub('', one)}}}", latex, parsing_timeout=seconds)
        for one in (gold, given)
    ]
    return bool(library.verify(*parsed, timeout_seconds=seconds))


def _reasoning_gym(example: Example, text: str) -> float:
    library = _package("reasoning-gym")
    name = _source_dataset(example)
    if name is None:
        raise InputError(f"example {example.id} names no reasoning-gym data set (source_dataset)")
    tagged = tagged_answer(text)
    given = tagged if tagged is not None else _given(example, text)
    nested = example.meta.get("metadata")
    entry = {
        "question": example.prompt_text,
        "answer": example.answer,
        "metadata": nested if isinstance(nested, dict) else example.meta,
    }
    try:
        scorer = library.get_score_answer_fn(name)
    except ValueError as error:
        raise InputError(f"example {example.id}: reasoning-gym has no data set {name!r}") from error
    try:
        score = float(scorer(given, entry))
    except Exception:  # scorers raise all kinds of things at answers of the wrong form
        return 0.0
    # Some of them find the right answer anywhere in what they are given, or take all that is not
    # "True" for "False".
    answer = (example.answer or "").strip()
    other = answer.lower() in _TWO_WAYS and given.lower() != answer.lower()
    return min(score, 0.5) if other or _is_among(answer, given) else score


def _is_among(answer: str, given: str) -> bool:
    """Whether `given` has the words of `answer` in a row, and more words."""
    wanted, words = answer.lower().split(), given.lower().split()
    n = len(wanted)
    if not n or len(words) <= n:
        return False
    bare = [word.strip(".,;:!?\"'()") for word in words]
    return any(wanted in (words[i : i + n], bare[i : i + n]) for i in range(len(words) - n + 1))


def _by_regex(pattern: str, example: Example, text: str) -> float:
    match = None
    for match in _compiled(pattern).finditer(text):  # noqa: B007 - the last one counts
        pass
    if match is None:
        return 0.0
    found = match[1] if match.re.groups else match[0]
    return float((found or "").strip().lower() == _answer(example).lower())


@functools.lru_cache(maxsize=8)
def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.MULTILINE)
    except re.error as error:
        raise InputError(f"verifier {REGEX}{pattern}: not a pattern ({error})") from error


def _answer(example: Example) -> str:
    answer = (example.answer or "").strip()
    if not answer:
        raise InputError(f"example {example.id} has no answer to verify by")
    return answer


def _source_dataset(example: Example) -> str | None:
    nested = example.meta.get("metadata")
    places = [nested, example.meta] if isinstance(nested, dict) else [example.meta]
    return next((str(p["source_dataset"]) for p in places if p.get("source_dataset")), None)


@functools.cache
def _package(name: str) -> Any:
    import logging

    try:
        found = importlib.import_module(PACKAGES[name])
    except ImportError as error:
        raise InputError(
            f'verifier "{name}" needs a package that is not installed; run: '
            "pip install 'mnskills_viz[verify]'"
        ) from error
    logging.getLogger(PACKAGES[name]).setLevel(logging.ERROR)  # it tells of every time-out
    return found


_VERIFIERS: dict[str, Callable[[Example, str], float]] = {
    "exact": _exact,
    "number": _number,
    "gsm8k": _gsm8k,
    "math-verify": _math_verify,
    "reasoning-gym": _reasoning_gym,
}
