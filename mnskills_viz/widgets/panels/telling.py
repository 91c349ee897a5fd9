"""Runs of the model that tell of every pass, and can be stopped at any token."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ...models import torch_module
from ...progress import tell

if TYPE_CHECKING:
    from nnsight.modeling.transformers import TransformersModel

OnPass = Callable[[int | None], object]
"""Takes how many tokens the model has read of the texts it goes on with; None outside of decoding.
"""


@contextlib.contextmanager
def each_pass(model: "TransformersModel", on_pass: OnPass) -> Iterator[None]:
    """Call `on_pass` before every pass of the model in this thread; what it raises ends the run.

    Passes that other threads make are not ours: a cell that collects meanwhile is neither counted
    nor stopped.
    """
    here = threading.get_ident()
    raised: list[BaseException] = []

    def before(_module: Any, _inputs: Any, options: dict[str, Any]) -> None:
        if threading.get_ident() != here:
            return
        try:
            on_pass(_already_read(options))
        except BaseException as error:
            raised.append(error)
            raise

    handle = torch_module(model).register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield
    except BaseException as error:
        if raised and error is not raised[0]:  # a trace wraps what is raised in it
            raise raised[0] from None
        raise
    finally:
        handle.remove()


def _already_read(options: dict[str, Any]) -> int | None:
    cache = options.get("past_key_values")
    if cache is None or not hasattr(cache, "get_seq_length"):
        return None
    return int(cache.get_seq_length())


class TokenCount:
    """Tells of the tokens that are decoded, for `each_pass`.

    Parameters
    ----------
    total : int
        Tokens of the whole run.
    most : int
        Tokens of one part of it; a part that ends early makes the next one begin where it should.
    """

    def __init__(self, total: int, most: int) -> None:
        self._total, self._most = total, most
        self._before = self._within = 0

    def part(self, number: int) -> None:
        """Begin a part of the run, from 0."""
        self._before, self._within = number * self._most, 0
        self._say()

    def __call__(self, read: int | None) -> None:
        """Count a pass."""
        if read:  # the first pass reads a prompt, every other one a token that was chosen
            self._within = min(self._within + 1, self._most)
        self._say()

    def _say(self) -> None:
        tell(min(self._before + self._within, self._total), self._total)
