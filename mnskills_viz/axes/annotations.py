"""Labels of poles and notes on axes, in an append-only journal.

Nothing is overwritten: every change is an event, undo and redo are events too, and what is shown
is a replay. Several notebooks may write to one journal at once.
"""

import contextlib
import datetime
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from ..errors import InputError

Field = Literal["positive", "negative", "notes", "state"]
FIELDS = ("positive", "negative", "notes", "state")
STATES = ("", "draft", "confirmed")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('set', 'undo', 'redo')),
    basis TEXT, axis INTEGER, field TEXT, value TEXT
)
"""


@dataclass(frozen=True, slots=True)
class Change:
    """One value that was set."""

    basis: str
    axis: int
    field: str
    value: str


class Annotations:
    """What people said about axes, kept in one SQLite file.

    Parameters
    ----------
    path : Path
        The file; made on the first change.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextlib.contextmanager
    def _journal(self) -> Iterator[sqlite3.Connection]:
        """The journal, held for writing: what is read here cannot change before it is acted on."""
        try:
            connection = sqlite3.connect(self._path, timeout=10, isolation_level=None)
        except sqlite3.Error as error:
            raise InputError(f"cannot open {self._path}: {error}") from error
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            # On disk when a change is said to be saved.
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_SCHEMA)
            yield connection
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise InputError(f"cannot write {self._path}: {error}") from error
        finally:
            connection.close()  # what was not committed is rolled back

    def set(self, basis: str, axis: int, field: Field, value: str) -> None:
        """Set a label, the notes or the state of an axis; saved when this returns.

        Parameters
        ----------
        basis : str
            Name of the basis in the study.
        axis : int
        field : {"positive", "negative", "notes", "state"}
        value : str
            Empty takes the value away.
        """
        if field not in FIELDS:
            raise InputError(f"field must be one of {', '.join(FIELDS)}, not {field!r}")
        if field == "state" and value not in STATES:
            raise InputError(f"state must be one of {STATES}, not {value!r}")
        change = Change(basis, int(axis), field, value)
        with self._journal() as journal:
            if _values(_replay(journal)[0]).get((basis, int(axis), field), "") != value:
                _append(journal, "set", change)

    def set_aside(self, basis: str, fingerprint: str) -> None:
        """Keep what was said about a basis that is fitted anew, under ``BASIS@FINGERPRINT``."""
        if not self._path.exists():
            return
        with self._journal() as journal:
            for (name, axis, field), value in _values(_replay(journal)[0]).items():
                if name == basis and value:
                    _append(journal, "set", Change(f"{basis}@{fingerprint}", axis, field, value))
                    _append(journal, "set", Change(basis, axis, field, ""))

    def undo(self) -> Change | None:
        """Take back the last change that stands; returns it, or None if there is none."""
        with self._journal() as journal:
            done, _ = _replay(journal)
            if done:
                _append(journal, "undo")
        return done[-1] if done else None

    def redo(self) -> Change | None:
        """Bring back the change that was taken back last; returns it, or None."""
        with self._journal() as journal:
            _, undone = _replay(journal)
            if undone:
                _append(journal, "redo")
        return undone[-1] if undone else None

    def _now(self) -> dict[tuple[str, int, str], str]:
        """Values that stand: ``(basis, axis, field) -> value``."""
        if not self._path.exists():
            return {}
        with self._journal() as journal:
            return _values(_replay(journal)[0])

    def get(self, basis: str, axis: int, field: Field) -> str:
        """Return a value; empty where nothing was said."""
        return self._now().get((basis, int(axis), field), "")

    def labels(self, basis: str) -> dict[tuple[int, int], str]:
        """Labels of a basis's poles: ``(axis, +1 or -1) -> text``."""
        pole = {"positive": 1, "negative": -1}
        return {
            (axis, pole[field]): value
            for (name, axis, field), value in self._now().items()
            if name == basis and field in pole and value
        }

    def table(self) -> pd.DataFrame:
        """All axes that something was said about: ``basis axis positive negative notes state``."""
        rows: dict[tuple[str, int], dict[str, str]] = {}
        for (basis, axis, field), value in self._now().items():
            rows.setdefault((basis, axis), dict.fromkeys(FIELDS, ""))[field] = value
        records = [
            {"basis": basis, "axis": axis, **fields} for (basis, axis), fields in rows.items()
        ]
        columns = ["basis", "axis", *FIELDS]
        return pd.DataFrame(records, columns=columns).sort_values(
            ["basis", "axis"], ignore_index=True
        )


def _append(journal: sqlite3.Connection, kind: str, change: Change | None = None) -> None:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    values = (change.basis, change.axis, change.field, change.value) if change else (None,) * 4
    journal.execute(
        "INSERT INTO events (at, kind, basis, axis, field, value) VALUES (?,?,?,?,?,?)",
        (now, kind, *values),
    )


def _replay(journal: sqlite3.Connection) -> tuple[list[Change], list[Change]]:
    """Changes that stand, and those that could be redone, each in order."""
    done: list[Change] = []
    undone: list[Change] = []
    events = journal.execute("SELECT kind, basis, axis, field, value FROM events ORDER BY id")
    for kind, *values in events:
        if kind == "set":
            done.append(Change(*values))
            undone.clear()
        elif kind == "undo" and done:
            undone.append(done.pop())
        elif kind == "redo" and undone:
            done.append(undone.pop())
    return done, undone


def _values(done: list[Change]) -> dict[tuple[str, int, str], str]:
    return {(c.basis, c.axis, c.field): c.value for c in done}
