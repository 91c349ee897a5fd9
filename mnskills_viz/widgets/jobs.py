"""Long work in a thread of its own, one at a time: with progress, and it can be stopped."""

import threading
import time
from collections.abc import Callable

from ..errors import InputError

Tell = Callable[[int, int], None]
"""Takes how much is done, of how much (0: not known); raises `Stopped` when no more is wanted."""

OFTEN = 0.25
"""Seconds between two reports of progress."""


class Stopped(Exception):  # noqa: N818 - no error: somebody asked for it
    """The work was stopped; what it had kept stays."""


class Job:
    """The one place for long work.

    Parameters
    ----------
    progressed : callable
        Gets how much is done, of how much, and seconds left or None; at most every quarter second.
    """

    def __init__(self, progressed: Callable[[int, int, float | None], None]) -> None:
        self._progressed = progressed
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._busy = threading.Event()

    @property
    def is_running(self) -> bool:
        """Whether work is under way."""
        return self._busy.is_set()

    def start(self, work: Callable[[Tell], Callable[[], None]]) -> None:
        """Begin.

        Parameters
        ----------
        work : callable
            Handles its own errors, `Stopped` among them, and returns what is to be said of it:
            that is called when other work can begin.

        Raises
        ------
        InputError
            Other work is under way.
        """
        if self.is_running:
            raise InputError("a run is under way; wait until it is done, or stop it")
        self._stop.clear()
        self._busy.set()
        self._thread = threading.Thread(target=self._work, args=(work,), daemon=True)
        self._thread.start()

    def _work(self, work: Callable[[Tell], Callable[[], None]]) -> None:
        try:
            done = work(self._teller())
        finally:
            self._busy.clear()
        done()

    def stop(self) -> None:
        """Ask the work to end at its next step."""
        self._stop.set()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the work is done."""
        if self._thread is not None:
            self._thread.join(timeout)

    def _teller(self) -> Tell:
        began = time.monotonic()
        last = 0.0

        def tell(done: int, total: int) -> None:
            nonlocal last
            if self._stop.is_set():
                raise Stopped
            now = time.monotonic()
            is_whole = done == total > 0
            if now - last < OFTEN and not is_whole:
                return
            last = now
            left = (now - began) * (total - done) / done if done and total else None
            self._progressed(done, total, left)

        return tell
