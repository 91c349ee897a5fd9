"""The blind quiz: who knows an axis by its labels tells at which pole unseen rows lie."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

Rows = NDArray[np.int64]

Z_95 = 1.959963984540054
"""97.5 % point of the normal distribution."""


@dataclass(frozen=True, slots=True)
class Score:
    """How a quiz went.

    Attributes
    ----------
    right, n : int
        Right answers, and questions.
    share : float
        Of right answers; who guesses gets 0.5.
    low, high : float
        95 % interval of the share (Wilson): keeps its level better for few questions than the
        textbook's, and is narrower than the exact one (Brown, Cai and DasGupta, Statist. Sci. 16,
        2001, 101).
    """

    right: int
    n: int
    share: float
    low: float
    high: float


def questions(
    z: NDArray[np.floating[Any]],
    shown: Sequence[int] | NDArray[np.integer[Any]] = (),
    n: int = 10,
    seed: int = 0,
) -> Rows:
    """Draw rows to ask about: as many of one pole as of the other, none that was shown.

    A row may be asked about when it is in the outer third at its end of the axis and on that side
    of 0. The right answer is the sign of its coordinate.

    Parameters
    ----------
    z : ndarray, [n_rows]
        Coordinates of all rows on the axis, centred, in any unit.
    shown : sequence of int
        Rows that were among the examples on the card.
    n : int
        Questions. The poles' numbers differ by 1 at most: where a pole has too few rows there are
        fewer questions.
    seed : int
        The same seed draws the same rows in the same order.

    Returns
    -------
    ndarray of int64, [<= n]
        In the order to ask.

    Raises
    ------
    InputError
        `n` below 1, or a pole has no row that was not shown.
    """
    if n < 1:
        raise InputError(f"the number of questions must be at least 1, not {n}")
    generator = np.random.default_rng(seed)
    candidates = [generator.permutation(rows[~np.isin(rows, shown)]) for rows in _outer_thirds(z)]
    if min(map(len, candidates)) == 0:
        raise InputError(
            f"no rows are left for a quiz: of {len(z)} rows {len(shown)} were shown, and a pole "
            "has no other; show fewer examples, or add rows"
        )
    # Chance says which pole has the odd question.
    first, second = (candidates[i] for i in generator.permutation(2))
    n_first = min(len(first), len(second) + 1, (n + 1) // 2)
    n_second = min(len(second), n_first + 1, n - n_first)
    asked = np.concatenate([first[:n_first], second[:n_second]])
    return generator.permutation(asked).astype(np.int64)


def _outer_thirds(z: NDArray[np.floating[Any]]) -> tuple[Rows, Rows]:
    """Rows of the lowest third that lie below 0, and of the highest that lie above."""
    n, third = len(z), max(1, len(z) // 3)
    if n == 0:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    low, high = np.partition(z, [third - 1, n - third])[[third - 1, n - third]]
    return np.flatnonzero((z <= low) & (z < 0)), np.flatnonzero((z >= high) & (z > 0))


def score(answers: Sequence[int], truth: Sequence[int]) -> Score:
    """Count right answers.

    Parameters
    ----------
    answers, truth : sequence of int, [n]
        Poles, +1 or -1, in one order. 0 for "cannot tell" is not right.

    Raises
    ------
    InputError
        Not as many answers as questions, or none.
    """
    if len(answers) != len(truth):
        raise InputError(f"{len(truth)} questions need as many answers, not {len(answers)}")
    n = len(truth)
    if n == 0:
        raise InputError("no question was answered: there is nothing to score")
    right = sum(int(a == b) for a, b in zip(answers, truth, strict=True))
    share = right / n
    centre = (share + Z_95**2 / (2 * n)) / (1 + Z_95**2 / n)
    half = Z_95 * (share * (1 - share) / n + Z_95**2 / (4 * n**2)) ** 0.5 / (1 + Z_95**2 / n)
    # All right or all wrong: the limit is there exactly, up to rounding.
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return Score(right, n, share, 0.0 if right == 0 else low, 1.0 if right == n else high)
