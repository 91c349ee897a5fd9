"""The blind quiz: at which pole an example lies, told by the labels alone."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from ...axes.examples import POLES
from ...axes.quiz import questions, score
from ...errors import InputError
from ...study import Study
from .naming import Json

QUESTIONS = 10


@dataclass(frozen=True, slots=True)
class Quiz:
    """A blind quiz under way.

    Attributes
    ----------
    basis : str
    axis : int
    labels : (str, str)
        Of the negative and the positive pole.
    rows : tuple of int
        One a question.
    z : tuple of float
        Where they lie.
    answers : tuple of int
        +1 or -1, those given so far.
    """

    basis: str
    axis: int
    labels: tuple[str, str]
    rows: tuple[int, ...]
    z: tuple[float, ...]
    answers: tuple[int, ...] = ()

    @property
    def is_done(self) -> bool:
        """Whether every question has its answer."""
        return len(self.answers) == len(self.rows)

    @property
    def truth(self) -> tuple[int, ...]:
        """The pole that each row lies at."""
        return tuple(1 if value > 0 else -1 for value in self.z)

    @property
    def right(self) -> int:
        """Right answers so far."""
        return sum(a == t for a, t in zip(self.answers, self.truth, strict=False))

    @property
    def result(self) -> str:
        """``"7/10"``; empty before the last answer."""
        return f"{self.right}/{len(self.rows)}" if self.is_done else ""


def quiz_of(
    study: Study,
    basis: str,
    axis: int,
    shown: Iterable[int],
    seed: int = 0,
    n: int = QUESTIONS,
) -> Quiz:
    """Begin a quiz: which pole an example lies at, told by the labels alone.

    Parameters
    ----------
    study : Study
    basis : str
    axis : int
    shown : iterable of int
        Rows that were seen with their side; none of them is asked.
    seed : int
    n : int
        Questions, if there are as many rows.

    Raises
    ------
    InputError
        No pole has a label, or no row is left to ask.
    """
    said = study.annotations.labels(basis)
    labels = (said.get((axis, -1), ""), said.get((axis, 1), ""))
    if not any(labels):
        raise InputError(f"axis {axis} has no label to try; name a pole first")
    z = study.z(basis)[:, axis]
    rows = questions(z, np.array(sorted(shown), dtype=np.int64), n, seed)
    return Quiz(basis, axis, labels, tuple(int(r) for r in rows), tuple(float(z[r]) for r in rows))


def answered(quiz: Quiz, pole: int) -> Quiz:
    """The quiz with one more answer, +1 or -1."""
    if pole not in POLES:
        raise InputError(f"the answer must be 1 or -1, not {pole!r}")
    if quiz.is_done:
        raise InputError("the quiz is over; start it again")
    return replace(quiz, answers=(*quiz.answers, pole))


def quiz_shown(study: Study, quiz: Quiz) -> Json:
    """A quiz for people.

    Returns
    -------
    dict
        ``basis axis negative positive n at right done said``; ``example``: the question, ``row
        prompt response category``, None when it is over; ``last``: ``right z row`` of the last
        answer, or None.
    """
    at = len(quiz.answers)
    example = None
    if not quiz.is_done:
        asked = study.corpus[quiz.rows[at]]
        example = {
            "row": quiz.rows[at],
            "prompt": asked.prompt_text,
            "response": asked.response,
            "category": asked.category,
        }
    last = None
    if at:
        right = quiz.answers[-1] == quiz.truth[at - 1]
        last = {"right": right, "z": quiz.z[at - 1], "row": quiz.rows[at - 1]}
    return {
        "basis": quiz.basis,
        "axis": quiz.axis,
        "negative": quiz.labels[0],
        "positive": quiz.labels[1],
        "n": len(quiz.rows),
        "at": at,
        "example": example,
        "last": last,
        "right": quiz.right,
        "done": quiz.is_done,
        "said": _verdict(quiz) if quiz.is_done else "",
    }


def _verdict(quiz: Quiz) -> str:
    found = score(quiz.answers, quiz.truth)
    told = (
        f"{found.right} of {found.n} right: {found.share:.0%} [{found.low:.0%}, {found.high:.0%}]"
    )
    if found.low > 0.5:
        return f"{told}. The label tells the poles apart."
    return f"{told}. Guessing is right half of the time: the label is not better yet."
