"""Values said of axes, in steps: which can be said, and what stands after undo and redo."""

import bisect
import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

from ..errors import InputError

Field = Literal["positive", "negative", "notes", "state", "quiz"]
FIELDS = ("positive", "negative", "notes", "state", "quiz")
POLES = {"positive": 1, "negative": -1}
STATES = ("", "draft", "confirmed")

Key = tuple[str, int, str]
"""Basis, axis and field."""

_SCORE = re.compile(r"([0-9]{1,6})/([0-9]{1,6})")


class Change(NamedTuple):
    """One value that is set.

    Attributes
    ----------
    basis : str
        Name of the basis in the study.
    axis : int
    field : {"positive", "negative", "notes", "state", "quiz"}
        Labels of both poles, notes, state, score of the blind quiz.
    value : str
        Empty takes the value away.
    """

    basis: str
    axis: int
    field: str
    value: str


def checked(change: Change) -> Change:
    """The change as it can be kept.

    Raises
    ------
    InputError
        No such field, or a value that it cannot have.
    """
    basis, axis, field, value = change
    if field not in FIELDS:
        raise InputError(f"field must be one of {', '.join(FIELDS)}, not {field!r}")
    if not isinstance(value, str):
        raise InputError(f"the {field} of axis {axis} must be text, not {value!r}")
    if field == "state" and value not in STATES:
        raise InputError(f"state must be one of {STATES}, not {value!r}")
    if field == "quiz" and value and not _is_score(value):
        raise InputError(f"quiz must be right answers of all, such as '7/10', not {value!r}")
    return Change(str(basis), int(axis), field, _whole_characters(value))


def _is_score(value: str) -> bool:
    found = _SCORE.fullmatch(value)
    return found is not None and int(found[1]) <= int(found[2])


def _whole_characters(text: str) -> str:
    """Text that UTF-8 can hold: half a character, as JSON can bring one, is replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


# --------------------------------------------------------------------------------------- steps


class Step(NamedTuple):
    """Changes that are undone together.

    Attributes
    ----------
    number : int
        Later steps have greater ones.
    session : str
        Whose undo takes it back; empty if it was made without a session.
    changes : tuple of Change
    """

    number: int
    session: str
    changes: tuple[Change, ...]


class Steps:
    """What was set, undone and redone, and the values that this comes to.

    Values are those of all steps that stand, in the order in which they were made: what one
    session undoes or redoes never hides what another has set later.
    """

    def __init__(self) -> None:
        self._done: list[Step] = []
        self._undone: list[Step] = []
        self._for_good: dict[Key, str] = {}
        self._values: dict[Key, str] | None = {}

    def add(self, kind: str, step: Step) -> None:
        """Go on by a step, ``"set"``, or by an ``"undo"`` or ``"redo"`` of the step's session."""
        if kind == "set" and moved_aside(step.changes):
            self._bar(step.changes)
        elif kind == "set":
            self._done.append(step)
            self._undone = [undone for undone in self._undone if undone.session != step.session]
            if self._values is not None:
                self._values |= _values_of(step.changes)
        elif kind == "undo" and (last := self.to_undo(step.session)):
            self._done.remove(last)
            self._undone.append(last)
            self._values = None
        elif kind == "redo" and (last := self.to_redo(step.session)):
            self._undone.remove(last)
            bisect.insort(self._done, last)
            self._values = None

    def to_undo(self, session: str) -> Step | None:
        """Return the last step that stands, of a session; of all if it is empty."""
        return _last(self._done, session)

    def to_redo(self, session: str) -> Step | None:
        """Return the step that was undone last, of a session; of all if it is empty."""
        return _last(self._undone, session)

    def values(self) -> dict[Key, str]:
        """Values that stand."""
        if self._values is None:
            self._values = dict(self._for_good)
            for step in self._done:
                self._values |= _values_of(step.changes)
        return self._values

    def tells_of(self, basis: str) -> bool:
        """Whether an undo or redo could change what is said of a basis."""
        return any(c.basis == basis for s in (*self._done, *self._undone) for c in s.changes)

    def _bar(self, changes: Iterable[Change]) -> None:
        """Make changes for good: no undo or redo goes past them in their bases."""
        bases = {change.basis for change in changes}
        now = self.values() | _values_of(changes)
        self._for_good |= {key: value for key, value in now.items() if key[0] in bases}
        self._done = _without(bases, self._done)
        self._undone = _without(bases, self._undone)
        self._values = None


def moving_aside(
    basis: str, fingerprint: str, said: Iterable[tuple[int, str, str]]
) -> tuple[Change, ...]:
    """Changes that move what was said of a basis, (axis, field, value), to another name."""
    return tuple(
        change
        for axis, field, value in said
        for change in (
            Change(f"{basis}@{fingerprint}", axis, field, value),
            Change(basis, axis, field, ""),
        )
    )


def moved_aside(changes: tuple[Change, ...]) -> tuple[str, str] | None:
    """Basis and fingerprint, where the changes are what `moving_aside` gives.

    Journals have no mark for this: theirs of before there was one are to be read too.
    """
    if not changes:
        return None
    basis, _, fingerprint = changes[0].basis.rpartition("@")
    said = [(change.axis, change.field, change.value) for change in changes[::2]]
    return (basis, fingerprint) if changes == moving_aside(basis, fingerprint, said) else None


def _last(steps: list[Step], session: str) -> Step | None:
    return next((step for step in reversed(steps) if session in ("", step.session)), None)


def _values_of(changes: Iterable[Change]) -> dict[Key, str]:
    return {(change.basis, change.axis, change.field): change.value for change in changes}


def _without(bases: set[str], steps: list[Step]) -> list[Step]:
    """The steps without their changes in some bases."""
    kept = (
        step._replace(changes=tuple(c for c in step.changes if c.basis not in bases))
        for step in steps
    )
    return [step for step in kept if step.changes]
