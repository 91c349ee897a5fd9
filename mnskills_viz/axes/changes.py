"""One value said of an axis, and which values can be said."""

import re
from typing import Literal, NamedTuple

from ..errors import InputError

Field = Literal["positive", "negative", "notes", "state", "quiz"]
FIELDS = ("positive", "negative", "notes", "state", "quiz")
STATES = ("", "draft", "confirmed")

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
