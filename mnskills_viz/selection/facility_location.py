"""Facility location: rows that the others resemble, without an n x n matrix.

The gain of a row is the sum over a reference of ``max(0, likeness - best)``, with `best` the
likeness of each reference row to its nearest pick. A pick changes `best` for few of them, ever
fewer as picks grow many: gains are lowered by what these alone take away, in blocks, and all picks
together cost little more than looking at everything half a dozen times.
"""

import numpy as np

from .greedy import Covered, FloatArray, Full, IntArray, Take, greedy, in_blocks, on_one_thread

EXACT_ROWS = 20_000
"""Up to so many rows, each is compared with each."""

SAMPLE = 10_000
"""Rows that stand for all of a larger pool, and rows that the result is estimated with."""

ROOM = 2**28
"""Bytes that the likeness of the rows watched to the reference may take."""

FEW = 32
"""Rows of that matrix that are worked on at once, to stay in a core's cache."""

WIDTH = 512
"""Columns in a product: what it gives stays in a core's cache."""

ROUNDING = 4e-6
"""What bounds in float32 allow for, as a share of the largest gain there was."""

NOTHING = 1e-13
"""A gain below this for each row of the reference is rounding."""


def facility_location(
    z: FloatArray, take: Take, full: Full, taken: IntArray, reference: FloatArray | None = None
) -> Covered:
    """Rows that the others resemble: greedy on the sum of each row's likeness to its nearest pick.

    Likeness is the cosine, 0 where that is negative. Up to 20,000 rows the sum runs over all of
    them; above that the first 10,000 stand for the rest, so the rows have to come in a drawn
    order. A row of this sample is judged by the others alone: else it would win by its likeness
    to itself, which counts for one row of the pool and not for all that it stands for.

    Parameters
    ----------
    z, take, full, taken
        See `coverage`.
    reference : ndarray, [m, k], optional
        Coordinates of what shall be resembled, instead of the rows: the sum runs over these.

    Returns
    -------
    Covered
        Gains and objective are in units of the sum over all n rows. Where a sample stands for
        them, gains are its own scaled up, and too high: they are the best of many estimates. The
        objective is therefore estimated with 10,000 other rows, that the choice has not looked
        at, and the standard error is theirs.
    """
    sampled = reference is None and len(z) > EXACT_ROWS
    size = SAMPLE if sampled else len(z)
    gains = _Likeness(z, z[:size] if reference is None else reference, taken, sampled)
    free = np.ones(len(z), dtype=bool)
    free[taken] = False
    picks = greedy(gains, free, take, full, max(1, ROOM // (4 * max(1, len(gains.best)))))
    inside = float(gains.best.sum())
    if not sampled:
        return Covered(picks, inside)
    chosen = np.concatenate([taken, np.array([row for row, _ in picks], dtype=np.int64)])
    fresh = _likeness_to_nearest(_unit(z[size : 2 * size]), _unit(z[chosen]))
    rest = len(z) - size
    error = rest * float(fresh.std(ddof=1)) * np.sqrt(1 / len(fresh) - 1 / rest)
    return Covered(picks, inside + rest * float(fresh.mean()), float(error))


class _Likeness:
    """Gains in likeness of the reference to its nearest pick."""

    def __init__(
        self, z: FloatArray, reference: FloatArray, taken: IntArray, sampled: bool
    ) -> None:
        self._z = z
        self._sampled = sampled
        self._scale = len(z) / len(reference) if sampled else 1.0
        self._reference = _unit(reference)
        self._to_itself = np.einsum("ij,ij->i", self._reference, self._reference)
        self.best = _likeness_to_nearest(self._reference, _unit(z[taken]))
        self._units = _units_and_ones(z)
        self._then = self.best
        self._gains = self._between(self.best, None)
        self.blur = ROUNDING * float(self._gains.max(initial=0.0))

    def bounds(self) -> FloatArray:
        if self._then is not self.best:
            self._gains -= self._between(self._then, self.best)
            self._then = self.best
        return self._gains + self.blur / 2

    def watch(self, rows: IntArray) -> None:
        self._rows = rows
        units = np.ascontiguousarray(self._units[rows, :-1].T)
        reference = self._reference.astype(np.float32)
        self._watched = np.empty((len(reference), len(rows)), np.float32)

        def work(block: slice) -> None:
            np.matmul(reference[block], units, out=self._watched[block])

        in_blocks(work, len(reference))

    def exact(self, rows: IntArray, bounds: FloatArray) -> FloatArray:
        with on_one_thread():
            likeness = _unit(self._z[rows]) @ self._reference.T
        self._looked_at, self._likeness = rows, likeness
        gains: FloatArray = np.maximum(likeness - self.best, 0).sum(axis=1)
        if self._sampled:
            self._leave_out_itself(gains, rows, self._to_itself - self.best)
        gains[gains < NOTHING * len(self.best)] = 0
        return gains

    def add(self, row: int, gain: float, watched: FloatArray) -> float:
        best = np.maximum(self.best, self._likeness[np.searchsorted(self._looked_at, row)])
        watched -= self._taken_from_watched(best)
        self.best = best
        return gain * self._scale

    def _taken_from_watched(self, best: FloatArray) -> FloatArray:
        """How much less the rows watched gain with a new `best`, [n_watched]."""
        some = np.flatnonzero(best > self.best)
        low = self.best[some].astype(np.float32)[:, None]
        width = (best - self.best)[some].astype(np.float32)[:, None]
        zeros = np.zeros(self._watched.shape[1], np.float32)  # quicker than the number 0
        shares = np.zeros((-(-len(some) // FEW), self._watched.shape[1]))

        def work(block: slice) -> None:
            for share in range(block.start, block.stop):
                part = slice(share * FEW, (share + 1) * FEW)
                above = self._watched[some[part]]
                above -= low[part]
                np.maximum(above, zeros, out=above)
                np.minimum(above, width[part], out=above)
                shares[share] = above.sum(axis=0)

        in_blocks(work, len(shares), 4)
        taken: FloatArray = shares.sum(axis=0)
        if self._sampled:
            self._leave_out_itself(taken, self._rows, best - self.best)
        return taken

    def _between(self, low: FloatArray, high: FloatArray | None) -> FloatArray:
        """What of each row's likeness to the reference lies between `low` and `high`, summed, [n].

        `low` and `high` (None: as high as it goes) are [m].
        """
        units = self._units
        sums = np.zeros(len(units))
        some = np.arange(len(low)) if high is None else np.flatnonzero(high > low)
        width = None if high is None else (high - low)[some].astype(np.float32)
        # With the ones, the product is likeness - low.
        columns = np.vstack([self._reference[some].T, -low[some]]).astype(np.float32)
        zeros, ones = np.zeros(WIDTH, np.float32), np.ones(WIDTH, np.float32)

        def work(block: slice) -> None:
            rows_here = units[block]
            room = np.empty(len(rows_here) * WIDTH, np.float32)
            for start in range(0, columns.shape[1], WIDTH):
                part = columns[:, start : start + WIDTH]
                n_columns = part.shape[1]
                above = room[: len(rows_here) * n_columns].reshape(len(rows_here), n_columns)
                np.matmul(rows_here, part, out=above)
                np.maximum(above, zeros[:n_columns], out=above)
                if width is not None:
                    np.minimum(above, width[start : start + WIDTH], out=above)
                sums[block] += above @ ones[:n_columns]

        in_blocks(work, len(units))
        if self._sampled:
            own = (self._to_itself if high is None else high) - low
            self._leave_out_itself(sums, None, own)
        return sums

    def _leave_out_itself(self, sums: FloatArray, rows: IntArray | None, own: FloatArray) -> None:
        """Subtract what rows of the sample, its first rows, have by being themselves, [m]."""
        if rows is None:
            sums[: len(own)] -= own
        else:
            inside = rows < len(own)
            sums[inside] -= own[rows[inside]]


def _unit(z: FloatArray) -> FloatArray:
    """Rows divided by their length, float64; zero rows stay zero."""
    z = z.astype(np.float64)
    length = np.sqrt(np.einsum("ij,ij->i", z, z))
    z /= np.where(length > 0, length, 1)[:, None]
    return z


def _units_and_ones(z: FloatArray) -> FloatArray:
    """The same in float32, and a column of ones."""
    units = np.ones((len(z), z.shape[1] + 1), dtype=np.float32)

    def work(block: slice) -> None:
        units[block, :-1] = _unit(z[block])

    in_blocks(work, len(z))
    return units


def _likeness_to_nearest(rows: FloatArray, chosen: FloatArray) -> FloatArray:
    """Likeness of each row to the most like of those chosen, [n]; 0 where none is."""
    nearest = np.zeros(len(rows))

    def work(block: slice) -> None:
        for start in range(0, len(chosen), WIDTH):
            likeness = rows[block] @ chosen[start : start + WIDTH].T
            np.maximum(nearest[block], likeness.max(axis=1), out=nearest[block])

    in_blocks(work, len(rows))
    return nearest
