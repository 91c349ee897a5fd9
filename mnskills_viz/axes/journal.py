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

_TABLES = {
    "events": """(
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at TEXT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('set', 'undo', 'redo')),
        basis TEXT, axis INTEGER, field TEXT, value TEXT,
        step INTEGER, session TEXT
    )""",
    "views": """(
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at TEXT NOT NULL,
        session TEXT NOT NULL,
        state TEXT NOT NULL,
        python TEXT NOT NULL,
        event INTEGER NOT NULL
    )""",
}
# `step` is the id of the first of the events that were made together; NULL: the event alone.
# `event` is the last event when the view was opened: both tables have one order, whatever the
# clock does.

_ADDED = {"step": "INTEGER", "session": "TEXT"}
"""Columns of the events that older journals do not have."""


class CannotWriteError(InputError):
    """The journal can only be read, or another process has held it for too long."""


_SHUT = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)


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
        # interpreter ends, or a journal was never whole, parts may be missing: nobody wants to
        # read of that.
        try:
            if self._process == getpid():
                self._close()
        except Exception:  # noqa: S110
            pass

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
    def writing(self, *, durable: bool = True, wait: float = WAIT) -> Iterator[sqlite3.Connection]:
        """The journal, held for writing: what is read here cannot change before it is acted on.

        Parameters
        ----------
        durable : bool
            On disk when the block ends. If not, a power cut may lose the last writes; a killed
            process loses none.
        wait : float
            Seconds to wait while another process writes.

        Raises
        ------
        CannotWriteError
            It waited in vain, or the file can only be read.
        """
        with self._held("write"):
            connection = self._opened(wait)
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
                shut = to == "write" and _code(error) in _SHUT
                refusal = CannotWriteError if shut else InputError
                raise refusal(f"cannot {to} {self.path}: {error}") from error

    def _opened(self, wait: float = WAIT) -> sqlite3.Connection:
        if self._connection is None or _file_at(self.path) != self._file:
            self._close()  # the file was removed, or another one is in its place
            self._connection, sees_others = _connect(self.path, wait)
            self._file = _file_at(self.path) if sees_others else None
        self._connection.execute(f"PRAGMA busy_timeout={1000 * wait:.0f}")
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


def _code(error: sqlite3.Error) -> int:
    """SQLite's result code, without what it adds for detail."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _connect(path: Path, wait: float) -> tuple[sqlite3.Connection, bool]:
    """A connection, for reading only if no other can be; whether it sees what others write."""
    uri = path.absolute().as_uri()
    try:
        return _ready(uri, wait, _bring_up_to_date), True
    except sqlite3.OperationalError as error:
        if _code(error) not in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
            raise
    try:
        return _ready(f"{uri}?mode=ro", wait, _show_up_to_date), True
    except sqlite3.OperationalError:
        # SQLite wants to make files beside the journal. It need not where nobody writes; but
        # then it would pass over what is only in the -wal file.
        beside = path.with_name(f"{path.name}-wal")
        if beside.exists() and beside.stat().st_size:
            raise
    return _ready(f"{uri}?mode=ro&immutable=1", wait, _show_up_to_date), False


def _ready(
    uri: str, wait: float, prepare: Callable[[sqlite3.Connection], None]
) -> sqlite3.Connection:
    # The journal's lock sees to it that one thread at a time uses the connection.
    connection = sqlite3.connect(uri, wait, isolation_level=None, check_same_thread=False, uri=True)
    try:
        prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _bring_up_to_date(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    if any(_missing(connection)):  # so that who finds all there does not wait for a writer
        connection.execute("BEGIN IMMEDIATE")
        tables, columns = _missing(connection)
        for table in tables:
            connection.execute(f"CREATE TABLE {table} {_TABLES[table]}")
        for column in columns:
            connection.execute(f"ALTER TABLE events ADD COLUMN {column} {_ADDED[column]}")
        connection.execute("COMMIT")


def _show_up_to_date(connection: sqlite3.Connection) -> None:
    """Show a file that may not be changed as if it were up to date."""
    tables, columns = _missing(connection)
    connection.execute("PRAGMA temp_store=MEMORY")
    for table in tables:
        connection.execute(f"CREATE TEMP TABLE {table} {_TABLES[table]}")
    if columns:
        empty = ", ".join(f"NULL AS {column}" for column in columns)
        view = f"SELECT *, {empty} FROM main.events"  # noqa: S608 - names of our own
        connection.execute(f"CREATE TEMP VIEW events AS {view}")


def _missing(connection: sqlite3.Connection) -> tuple[list[str], list[str]]:
    """Tables that an older journal does not have, and columns of its events."""
    there = {
        table: [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]
        for table in _TABLES
    }
    tables = [table for table, columns in there.items() if not columns]
    columns = [name for name in _ADDED if there["events"] and name not in there["events"]]
    return tables, columns
