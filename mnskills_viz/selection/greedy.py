"""The greedy choice of rows whose gains only fall as others are taken.

What spares the work is a shortlist: as long as its best row gains more than any other row did when
all were last looked at, nobody needs to look at the others (Minoux 1978). Between two looks the
gains of the shortlist alone are kept up to date, after every pick.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..bases.scatter import few_threads
from ..progress import tell

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.int64]
Take = Callable[[int], bool]
Full = Callable[[], bool]

SHORTLIST = 8192
"""Rows whose gains are kept up to date."""

PATIENCE = 256
"""Picks after which all rows are looked at again, lest rounding add up."""

TIE = 1e-9
"""Gains that differ by less, relatively, are equal: rounding must not order rows."""

CLOSE = 256
"""Rows that are looked at exactly where bounds do not tell which gains most."""

BLOCK = 512
"""Rows in a product: what it gives stays in a core's cache."""


class Covered(NamedTuple):
    """What a greedy choice took, and what it reached."""

    picks: list[tuple[int, float]]
    """Rows in the order taken, each with its gain: what it added to the objective when taken."""

    objective: float
    """Of the rows taken before and of the picks together, over the whole pool."""

    standard_error: float = 0.0
    """Of the objective, where a sample of the pool stands for all of it; 0 where it is exact."""


class Gains(Protocol):
    """What each row would add to an objective. They need no unit, only an order."""

    blur: float
    """How much more than a row gains `bounds` may say."""

    def bounds(self) -> FloatArray:
        """What each row gains now, or up to `blur` more, [n] float64; yours to write to."""

    def watch(self, rows: IntArray) -> None:
        """Say which rows' bounds `add` shall keep up to date."""

    def exact(self, rows: IntArray, bounds: FloatArray) -> FloatArray:
        """What these rows gain now, [len(rows)] float64; `bounds` are theirs."""

    def add(self, row: int, gain: float, watched: FloatArray) -> float:
        """Count a row as chosen that gained so much, and lower the bounds of the rows watched.

        It is one of those that `exact` was last asked for. Gives its gain in the unit of the
        objective.
        """


def greedy(
    gains: Gains,
    free: NDArray[np.bool_],
    take: Take,
    full: Full,
    room: int = SHORTLIST,
) -> list[tuple[int, float]]:
    """Rows by their gain, as long as there are any and the basket is not full.

    Parameters
    ----------
    gains : Gains
    free : ndarray of bool, [n]
        Rows that may be asked for; those that were are struck out.
    take, full : callable
        See `coverage`.
    room : int
        How many rows `gains` can watch.

    Returns
    -------
    list of (row, gain)
        In the order taken.
    """
    picks: list[tuple[int, float]] = []
    while free.any() and not full():
        bounds = gains.bounds()
        bounds[~free] = -np.inf
        short, limit = _highest(bounds, min(SHORTLIST, room))
        watched = bounds[short]
        gains.watch(short)
        changes = 0
        while changes < PATIENCE and not full() and watched.max() > -np.inf:
            place, gain = _best(gains, short, watched)
            if changes and gain * (1 - TIE) <= limit:
                break
            row = int(short[place])
            watched[place] = -np.inf
            free[row] = False
            if take(row):
                picks.append((row, gains.add(row, gain, watched)))
                changes += gain > 0
    return picks


def _highest(values: FloatArray, count: int) -> tuple[IntArray, float]:
    """Rows of the highest finite values, in their order, and the highest of the other values.

    Of equal values the first rows.
    """
    finite: IntArray = np.flatnonzero(values > -np.inf)
    if len(finite) <= count:
        return finite, -np.inf
    limit = float(np.partition(values, -count - 1)[-count - 1])
    above = np.flatnonzero(values > limit)
    level = np.flatnonzero(values == limit)[: count - len(above)]
    rows: IntArray = np.sort(np.concatenate([above, level]))
    return rows, limit


def _best(gains: Gains, short: IntArray, watched: FloatArray) -> tuple[int, float]:
    """Where in the shortlist the row with the largest gain is, the first of equals, and its gain.

    Of rows whose bounds are too near each other to tell, as many as `CLOSE` are told apart.
    """
    top = float(watched.max())
    near = np.flatnonzero(watched >= top - TIE * abs(top) - gains.blur)
    if len(near) > CLOSE:
        near = np.sort(near[np.argsort(-watched[near], kind="stable")[:CLOSE]])
    exact = gains.exact(short[near], watched[near])
    best = float(exact.max())
    place = int(np.argmax(exact >= best - TIE * abs(best)))
    return int(near[place]), float(exact[place])


@contextmanager
def on_one_thread() -> Iterator[None]:
    """BLAS on one thread, for small products: others hardly help, and have to be waited for."""
    with few_threads():
        yield


def in_blocks(work: Callable[[slice], None], n: int, size: int | None = None) -> None:
    """Call `work` on blocks of n rows, of `BLOCK` or `size`, on as many threads as BLAS has.

    BLAS itself is held to one thread meanwhile: a block is too small to share, and what is done
    to it beside the product would be done on one.
    """
    size = size or BLOCK
    blocks = [slice(start, min(start + size, n)) for start in range(0, n, size)]
    with few_threads() as threads:
        if threads == 1 or len(blocks) <= 1:
            _each(work, blocks)
            return
        share = -(-len(blocks) // (8 * threads))
        shares = [blocks[i : i + share] for i in range(0, len(blocks), share)]
        with ThreadPoolExecutor(threads) as pool:
            # Whoever listens hears of every thread's blocks.
            contexts = [copy_context() for _ in shares]
            list(pool.map(lambda context, some: context.run(_each, work, some), contexts, shares))


def _each(work: Callable[[slice], None], blocks: list[slice]) -> None:
    for block in blocks:
        tell()
        work(block)
