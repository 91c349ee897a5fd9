"""What a strategy is told."""

from dataclasses import dataclass

from .basket import FloatArray, Pole
from .pool import Pool


@dataclass(frozen=True, slots=True)
class Task:
    """What a strategy may look at.

    Attributes
    ----------
    pool : Pool
    budget : int
        In the pool's unit, included rows counted.
    poles : tuple of (axis, +1 or -1), or None
        The poles that were named; None stands for all that the strategy considers.
    embedding : str or None
        The text embedding that has to be used; None: the best that is here.
    """

    pool: Pool
    budget: int
    poles: tuple[Pole, ...] | None = None
    embedding: str | None = None

    @property
    def coordinates(self) -> FloatArray:
        """The pool's coordinates, [n, k], not divided by their scale."""
        assert self.pool.Z is not None  # noqa: S101 - only influence goes without
        return self.pool.Z

    @property
    def rows(self) -> float:
        """About how many rows the budget pays for."""
        return float(self.budget / self.pool.cost.mean())

    def axes(self) -> list[int]:
        """Axes of the poles that were named, or all."""
        if self.poles is None:
            return list(range(self.pool.n_axes))
        return sorted({axis for axis, _ in self.poles})
