"""Labels of poles and notes on axes, in an append-only journal.

Nothing is overwritten: every change is an event, undo and redo are events too, and what is shown
is a replay. Several notebooks may write to one journal at once. Beside it lies the journal of
looking: where people were, so that they can go on there.
"""

import contextlib
import datetime
import itertools
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import InputError
from .changes import FIELDS as FIELDS
from .changes import POLES, Field, Step, Steps, checked, moved_aside, moving_aside
from .changes import STATES as STATES
from .changes import Change as Change
from .journal import CannotWriteError, Journal
from .label_files import read_labels, write_labels

_VIEW_WAITS = 0.2
"""Seconds that a view waits for other writers: it is not worth more."""


class Annotations:
    """What people said about axes, and where they looked, kept in one SQLite file.

    Parameters
    ----------
    path : Path
        The file; made on the first change.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._journal = Journal(path)
        self._replay: _Replay | None = None

    def __reduce__(self) -> tuple[type["Annotations"], tuple[Path]]:
        return Annotations, (self._path,)  # another process opens the file itself

    # ------------------------------------------------------------------------------- change

    def set(self, basis: str, axis: int, field: Field, value: str, *, session: str = "") -> None:
        """Set a label, the notes, the state or the quiz score of an axis; saved when this returns.

        Another label takes the quiz score away: it belongs to the label that was tried.

        Parameters
        ----------
        basis : str
            Name of the basis in the study.
        axis : int
        field : {"positive", "negative", "notes", "state", "quiz"}
        value : str
            Empty takes the value away.
        session : str
            Whose undo takes it back.
        """
        self.set_many([Change(basis, axis, field, value)], session=session)

    def set_many(self, changes: Iterable[tuple[str, int, str, str]], *, session: str = "") -> int:
        """Set several values as one step, which one undo takes back; saved when this returns.

        Another label takes the quiz score of its axis away, if the changes bring none.

        Parameters
        ----------
        changes : iterable of Change, or of (basis, axis, field, value)
        session : str
            Whose undo takes them back.

        Returns
        -------
        int
            How many values are others than before.

        Raises
        ------
        InputError
            One of them cannot be set; then none is.
        """
        wanted = {(c.basis, c.axis, c.field): c for c in (checked(Change(*c)) for c in changes)}
        with self._journal.writing() as journal:
            now = self._replayed(journal).steps.values()
            new = [c for key, c in wanted.items() if now.get(key, "") != c.value]
            for basis, axis in {(c.basis, c.axis): None for c in new if c.field in POLES}:
                tried = (basis, axis, "quiz")
                if tried not in wanted and now.get(tried):
                    new.append(Change(*tried, ""))
            _append_step(journal, new, session)
        return len(new)

    def set_aside(self, basis: str, fingerprint: str) -> None:
        """Keep what was said about a basis that is fitted anew, under ``BASIS@FINGERPRINT``.

        This cannot be undone, and neither can what was said about the basis before.
        """
        if not self._path.exists():
            return
        with self._journal.writing() as journal:
            steps = self._replayed(journal).steps
            now = steps.values()
            said = [(*key[1:], value) for key, value in now.items() if key[0] == basis and value]
            if not said and steps.tells_of(basis):
                # Nothing to move, but something to undo or redo: a step that changes no value.
                there = now.get((f"{basis}@{fingerprint}", 0, "positive"), "")
                said = [(0, "positive", there)]
            _append_step(journal, moving_aside(basis, fingerprint, said))

    def undo(self, *, session: str = "") -> Change | None:
        """Take back the last step that stands.

        Values become what they would be without it: what was set after it stays.

        Parameters
        ----------
        session : str
            Only a step of this session; empty takes the last of all.

        Returns
        -------
        Change or None
            What it had set, of a step of many the first; None if there is none.
        """
        with self._journal.writing() as journal:
            step = self._replayed(journal).steps.to_undo(session)
            if step:
                _append(journal, "undo", session=session)
        return step.changes[0] if step else None

    def redo(self, *, session: str = "") -> Change | None:
        """Bring back the step that was taken back last, to its old place among the others.

        Parameters and what is returned are those of `undo`. A new step of a session ends what
        could be redone of its own steps.
        """
        with self._journal.writing() as journal:
            step = self._replayed(journal).steps.to_redo(session)
            if step:
                _append(journal, "redo", session=session)
        return step.changes[0] if step else None

    # -------------------------------------------------------------------------------- values

    def get(self, basis: str, axis: int, field: Field) -> str:
        """Return a value; empty where nothing was said."""
        with self._journal.reading() as journal:
            return self._replayed(journal).steps.values().get((basis, int(axis), field), "")

    def labels(self, basis: str) -> dict[tuple[int, int], str]:
        """Labels of a basis's poles: ``(axis, +1 or -1) -> text``."""
        with self._journal.reading() as journal:
            return {
                (axis, POLES[field]): value
                for (name, axis, field), value in self._replayed(journal).steps.values().items()
                if name == basis and field in POLES and value
            }

    def table(self) -> pd.DataFrame:
        """All axes that something was said about.

        Returns
        -------
        DataFrame
            ``basis axis positive negative notes state quiz``.
        """
        with self._journal.reading() as journal:
            return self._replayed(journal).table().copy()

    def _replayed(self, journal: sqlite3.Connection | None) -> "_Replay":
        """What the events come to; only those that are new are read."""
        if self._replay is None or self._replay.journal is not journal:
            self._replay = _Replay(journal)
        self._replay.catch_up()
        return self._replay

    # --------------------------------------------------------------------------------- files

    def export(self, path: str | Path, about: Mapping[str, Any] | None = None) -> Path:
        """Write all labels, notes, states and quiz scores to a file; see `write_labels`.

        Parameters
        ----------
        path : path
            Ends in ``.csv`` or ``.json``.
        about : mapping, optional
            What a JSON file says of their origin: fingerprints of the bases, model, corpus.
        """
        return write_labels(self.table().to_dict("records"), Path(path), about)

    def read(self, path: str | Path, bases: Mapping[str, int] | None = None) -> int:
        """Take over what a file says, as one step of undo; see `read_labels`.

        Axes and columns that the file does not have stay as they are.

        Parameters
        ----------
        path : path
            Ends in ``.csv`` or ``.json``.
        bases : mapping of str to int, optional
            Names of the bases that there are, and how many axes each has; others are refused.

        Returns
        -------
        int
            How many values are others than before.

        Raises
        ------
        InputError
            Something is wrong in the file: which line, and what. Nothing is taken over then.
        """
        return self.set_many(read_labels(Path(path), bases))

    # --------------------------------------------------------------------------------- views

    def record_view(self, session: str, state: Mapping[str, Any], python: str) -> None:
        """Note where somebody looks.

        A killed process loses none; a power cut may lose the last ones. Where the journal can
        only be read, or another process holds it for long, the view is dropped without a word.

        Parameters
        ----------
        session : str
            Tells one explorer from another.
        state : mapping
            What JSON holds.
        python : str
            The line that shows the same.
        """
        said = json.dumps(state, ensure_ascii=True)
        with (
            contextlib.suppress(CannotWriteError),
            self._journal.writing(durable=False, wait=_VIEW_WAITS) as journal,
        ):
            journal.execute(
                "INSERT INTO views (at, session, state, python, event) "
                "VALUES (?, ?, ?, ?, (SELECT COALESCE(MAX(id), 0) FROM events))",
                (_now(), session, said, python),
            )

    def last_view(self) -> dict[str, Any] | None:
        """Where somebody looked last, in whatever session.

        None if nobody did, or if what is kept of it is no JSON object.
        """
        with self._journal.reading() as journal:
            if journal is None:
                return None
            found = journal.execute("SELECT state FROM views ORDER BY id DESC LIMIT 1").fetchone()
        try:
            state = json.loads(found[0]) if found else None
        except (ValueError, RecursionError):
            return None
        return state if isinstance(state, dict) else None

    def history(self, n: int | None = None) -> pd.DataFrame:
        """What was looked at and said, in order.

        Parameters
        ----------
        n : int, optional
            Only the last `n`.

        Returns
        -------
        DataFrame
            ``at session python``, a row a view and a row a step: when (UTC), the session (empty
            where there was none), and the Python line that does the same.
        """
        if n is not None and n < 0:
            raise InputError(f"n must be 0 or more, not {n}")
        with self._journal.reading() as journal:
            rows = [] if journal is None else [*_steps(journal), *_views(journal, n)]
        rows.sort(key=lambda row: row[0])
        shown = rows if n is None else rows[len(rows) - min(n, len(rows)) :]
        table = pd.DataFrame([row[1:] for row in shown], columns=["at", "session", "python"])
        return table.assign(at=pd.to_datetime(table["at"], utc=True, format="ISO8601"))


class _Replay:
    """What the events of a journal come to.

    Attributes
    ----------
    journal : Connection or None
    steps : Steps
    """

    def __init__(self, journal: sqlite3.Connection | None) -> None:
        self.journal = journal
        self.steps = Steps()
        self._last = 0
        self._table: pd.DataFrame | None = None

    def catch_up(self) -> None:
        """Apply the events that have come since."""
        if self.journal is None:
            return
        for kind, step in _new_steps(self.journal, self._last):
            self.steps.add(kind, step)
            self._last = step.number
            self._table = None

    def table(self) -> pd.DataFrame:
        """Values that stand, a row an axis; see `Annotations.table`."""
        if self._table is None:
            rows: dict[tuple[str, int], dict[str, str]] = {}
            for (basis, axis, field), value in self.steps.values().items():
                if value:
                    rows.setdefault((basis, axis), dict.fromkeys(FIELDS, ""))[field] = value
            records = [{"basis": basis, "axis": axis, **rows[basis, axis]} for basis, axis in rows]
            table = pd.DataFrame(records, columns=["basis", "axis", *FIELDS])
            self._table = table.sort_values(["basis", "axis"], ignore_index=True)
        return self._table


# -------------------------------------------------------------------------------------- events


def _new_steps(journal: sqlite3.Connection, last: int) -> Iterator[tuple[str, Step]]:
    """Steps after event `last`, each with its kind; its number is that of its last event."""
    events = journal.execute(
        "SELECT id, COALESCE(step, id), COALESCE(session, ''), kind, basis, axis, field, value "
        "FROM events WHERE id > ? ORDER BY id",
        (last,),
    ).fetchall()
    for _, together in itertools.groupby(events, key=lambda event: event[1]):
        step = list(together)
        changes = tuple(Change(*event[4:]) for event in step if event[3] == "set")
        yield step[0][3], Step(step[-1][0], step[0][2], changes)


def _append_step(journal: sqlite3.Connection, changes: Iterable[Change], session: str = "") -> None:
    """One step; the events of a step of many know its first."""
    first = None
    for change in changes:
        event = _append(journal, "set", change, first, session)
        first = first or event


def _append(
    journal: sqlite3.Connection,
    kind: str,
    change: Change | None = None,
    step: int | None = None,
    session: str = "",
) -> int | None:
    values = change or (None,) * 4
    added = journal.execute(
        "INSERT INTO events (at, kind, basis, axis, field, value, step, session) "
        "VALUES (?,?,?,?,?,?,?,?)",
        (_now(), kind, *values, step, session),
    )
    return added.lastrowid


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


# ------------------------------------------------------------------------------------- history

_Row = tuple[tuple[int, int], str, str, str]
"""Place in the order of both tables; when, session, Python line."""


def _steps(journal: sqlite3.Connection) -> Iterator[_Row]:
    times = dict(journal.execute("SELECT id, at FROM events"))
    for kind, step in _new_steps(journal, 0):
        line = f"study.annotations.{_as_python(kind, step)}"
        yield (step.number, 0), times[step.number], step.session, line


def _as_python(kind: str, step: Step) -> str:
    session = f"session={step.session!r}" if step.session else ""
    if kind != "set":
        return f"{kind}({session})"
    if aside := moved_aside(step.changes):
        return f"set_aside{aside}"
    told = [repr(tuple(change)) for change in step.changes]
    name, values = (
        ("set", told[0][1:-1]) if len(told) == 1 else ("set_many", f"[{', '.join(told)}]")
    )
    return f"{name}({', '.join(filter(None, (values, session)))})"


def _views(journal: sqlite3.Connection, n: int | None) -> list[_Row]:
    rows = journal.execute(
        "SELECT event, id, at, session, python FROM views ORDER BY id DESC LIMIT ?",
        (-1 if n is None else n,),
    )
    return [((event, number), at, session, python) for event, number, at, session, python in rows]
