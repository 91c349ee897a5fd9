"""The SQLite file that a study's journals are kept in: one connection a process, held open.

Opening the file costs 2 ms and, now and then, 200; a commit on an open connection 0.02 ms, or
0.3 ms where it waits for the disk.
"""

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import InputError

WAIT = 10.0
"""Seconds that a writer waits for the others."""

_SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at TEXT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('set', 'undo', 'redo')),
        basis TEXT, axis INTEGER, field TEXT, value TEXT,
        step INTEGER
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS views (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at TEXT NOT NULL,
        session TEXT NOT NULL,
        state TEXT NOT NULL,
        python TEXT NOT NULL,
        event INTEGER NOT NULL
    )
    """,
)
# `step` is the id of the first of the events that were made together; NULL: the event alone.
# `event` is the last event when the view was opened: both tables have one order, whatever the
# clock does.


class Journal:
    """A journal file that several threads, processes and notebooks read and write at once.

    Parameters
    ----------
    path : Path
        Made when it is first written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._forget()

    def __del__(self, getpid: Callable[[], int] = os.getpid) -> None:
        # Left to itself, a connection lives on until its reference cycle is collected. When the
        # interpreter ends, `os` may be gone before.
        if self._process == getpid():
            self._close()

    def _forget(self) -> None:
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection | None]:
        """The journal as it is now; None while there is none."""
        with self._held("read"):
            yield self._opened() if self.path.exists() else None

    @contextlib.contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """The journal, held for writing: what is read here cannot change before it is acted on.

        Parameters
        ----------
        durable : bool
            On disk when the block ends. If not, a power cut may lose the last writes; a killed
            process loses none.
        """
        with self._held("write"):
            connection = self._opened()
            connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _held(self, to: str) -> Iterator[None]:
        """One thread at a time."""
        if self._process != os.getpid():
            # A forked process may not even close what its parent opened.
            _LEFT_TO_THE_PARENT.append(self._connection)
            self._forget()
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                self._close()
                raise InputError(f"cannot {to} {self.path}: {error}") from error

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None or _file_at(self.path) != self._file:
            self._close()  # the file was removed, or another one is in its place
            self._connection = _connect(self.path)
            self._file = _file_at(self.path)
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()  # what was not committed is rolled back
        self._connection = self._file = None


_LEFT_TO_THE_PARENT: list[sqlite3.Connection | None] = []


def _file_at(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _connect(path: Path) -> sqlite3.Connection:
    # The journal's lock sees to it that one thread at a time uses the connection.
    connection = sqlite3.connect(path, timeout=WAIT, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("BEGIN IMMEDIATE")
        for table in _SCHEMA:
            connection.execute(table)
        columns = [name for _, name, *_ in connection.execute("PRAGMA table_info(events)")]
        if "step" not in columns:  # a journal from before there were steps of many changes
            connection.execute("ALTER TABLE events ADD COLUMN step INTEGER")
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection
