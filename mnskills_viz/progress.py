"""How far long work is, told to whoever listens; a listener may end it.

Loops that can take long call `tell` at every step. Nobody need listen. What a listener raises comes
out of the loop: that is how work is stopped, between two steps and never in the middle of one, so
what is written in one piece is whole or not there.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

Tell = Callable[[int, int], object]
"""Takes how much is done, of how much (0: not known); both 0 say that the work goes on, no more."""


class Stopped(Exception):  # noqa: N818 - no error: somebody asked for it
    """The work was stopped; what it had kept stays."""


_LISTENER: ContextVar[Tell | None] = ContextVar("listener", default=None)


def tell(done: int = 0, total: int = 0) -> None:
    """Say how far the work is, or only that it goes on."""
    if (listener := _LISTENER.get()) is not None:
        listener(done, total)


@contextlib.contextmanager
def listening(listener: Tell) -> Iterator[None]:
    """Hear what work in this block tells; other threads only where they run in its context."""
    before = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(before)
