"""What callers give, checked: lists of prompts, of numbers, of doses."""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..corpus import Prompt
from ..errors import InputError
from .vector import is_finite


def require_list(prompts: Sequence[Prompt], what: str) -> None:
    """Refuse none, one in place of a list of them, and what is no list."""
    if isinstance(prompts, Mapping) or not hasattr(prompts, "__getitem__"):
        raise InputError(f"{what}: a list of texts was expected, not a {type(prompts).__name__}")
    if isinstance(prompts, str) or (len(prompts) and isinstance(prompts[0], Mapping)):
        raise InputError(f"{what}: a list was expected; put this one in a list: [prompt]")
    if not len(prompts):
        raise InputError(f"{what}: the list is empty; give at least one")


def numbers(
    values: Iterable[float], expected: str, passes: Callable[[float], bool] = lambda _: True
) -> list[float]:
    """Finite numbers ascending, each once.

    Raises
    ------
    InputError
        None, a number that does not pass or is not finite, or what is no list of numbers; the
        line says what was `expected`.
    """
    found: list[Any] = []
    with contextlib.suppress(TypeError):  # one number in place of a list
        found = list(values)
    if not found or not all(is_finite(value) and passes(value) for value in found):
        said = " ".join(repr(values).split())
        raise InputError(f"{expected}, in a list of at least one, not {said:.60}")
    return sorted({float(value) + 0.0 for value in found})  # -0.0 is 0


def positive_doses(doses: Iterable[float]) -> list[float]:
    """Doses of which both signs are tried, ascending, each once.

    Raises
    ------
    InputError
        None, or some that are not finite and above 0.
    """
    return numbers(doses, "doses must be finite numbers above 0", lambda dose: dose > 0)
