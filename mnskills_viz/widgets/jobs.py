"""Long work in a thread of its own, one at a time: with progress, and it can be stopped."""

import threading
import time
from collections.abc import Callable

from ..errors import InputError
from ..progress import Stopped, Tell, listening

OFTEN = 0.25
"""Seconds between two reports of progress."""


class Job:
    """The one place for long work.

    Parameters
    ----------
    progressed : callable
        Gets how much is done, of how much (0: not known), and seconds left or None; at most every
        quarter second.
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

    def start(self, work: Callable[[], Callable[[], None]]) -> None:
        """Begin.

        Parameters
        ----------
        work : callable
            Whatever in it tells of its progress is heard, and ends with `Stopped` when no more is
            wanted. It handles its own errors, `Stopped` among them, and returns what is to be said
            of it: that is called when other work can begin.

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

    def _work(self, work: Callable[[], Callable[[], None]]) -> None:
        try:
            with listening(self._listener()):
                done = work()
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

    def _listener(self) -> Tell:
        began = time.monotonic()
        last = 0.0
        part = 0

        def hear(done: int, total: int) -> None:
            nonlocal began, last, part
            if self._stop.is_set():
                raise Stopped
            if not done and not total:
                return
            now = time.monotonic()
            if total != part:  # another part of the work: seconds left are of it alone
                began, part = now, total
            is_whole = done == total > 0
            if now - last < OFTEN and not is_whole:
                return
            last = now
            left = (now - began) * (total - done) / done if done and total else None
            self._progressed(done, total, left)

        return hear
