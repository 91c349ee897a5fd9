"""Sufficient statistics of rows: enough for exact PCA, without the rows."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from ..errors import InputError


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Count, sum and second moments of rows; those of two sets of rows add up.

    Attributes
    ----------
    count : int
    total : ndarray of float64, [d]
        Sum of the rows.
    second : ndarray of float64, [d, d]
        Sum of the outer products ``x x'``.
    """

    count: int
    total: NDArray[np.float64]
    second: NDArray[np.float64]

    @classmethod
    def of(cls, X: npt.ArrayLike) -> "Moments":
        """Moments of the rows of `X`, [n, d]."""
        rows = np.asarray(X, dtype=np.float64)
        return cls(len(rows), rows.sum(axis=0), rows.T @ rows)

    @classmethod
    def none(cls, width: int) -> "Moments":
        """Moments of no row of `width` entries."""
        return cls(0, np.zeros(width), np.zeros((width, width)))

    def __add__(self, other: "Moments") -> "Moments":
        """Moments of both sets of rows together."""
        if self.total.shape != other.total.shape:
            raise InputError(
                f"moments of width {len(self.total)} and of width {len(other.total)} do not add up"
            )
        return Moments(
            self.count + other.count, self.total + other.total, self.second + other.second
        )

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean of the rows, [d]."""
        return self.total / self.count

    @property
    def covariance(self) -> NDArray[np.float64]:
        """Covariance of the rows with ``n - 1`` below, [d, d]."""
        if self.count < 2:
            raise InputError(f"a covariance needs 2 rows, there are {self.count}")
        scatter = self.second - np.outer(self.total, self.mean)
        return scatter / (self.count - 1)


def as_arrays(moments: Mapping[int, Moments]) -> dict[str, NDArray[np.float64]]:
    """Moments of several layers as named arrays, for a file; `from_arrays` reads them back."""
    arrays = {}
    for layer, found in moments.items():
        arrays[f"{layer:03d}.count"] = np.array(float(found.count))
        arrays[f"{layer:03d}.total"] = found.total
        arrays[f"{layer:03d}.second"] = found.second
    return arrays


def from_arrays(arrays: Mapping[str, NDArray[np.float64]]) -> dict[int, Moments]:
    """Read what `as_arrays` wrote."""
    layers = sorted({int(name.partition(".")[0]) for name in arrays})
    return {
        layer: Moments(
            int(arrays[f"{layer:03d}.count"]),
            arrays[f"{layer:03d}.total"],
            arrays[f"{layer:03d}.second"],
        )
        for layer in layers
    }
