"""What random directions would reach: an axis has to be better than the best of them."""

import numpy as np
from numpy.typing import NDArray

DRAWS = 10_000
LEVEL = 0.95


def null_maximum(
    gradient: NDArray[np.float64], components: NDArray[np.floating], rng: np.random.Generator
) -> float:
    """95 % point of ``max |<g, q>|`` over as many random orthonormal directions as there are axes.

    Two kinds of random directions are drawn, and the larger of their points counts. *Isotropic*:
    the projections of ``g`` on `k` random orthonormal directions of ``R^d`` are, in distribution,
    ``|g|`` times the first `k` coordinates of a random unit vector. *Within the span* of the axes,
    rotated: the same with the part of ``g`` that lies in the span, and the unit vectors of
    ``R^k``. An axis beyond the first lies where the gradient is; beyond the second it does so
    better than any other mixture of the axes would by chance.

    Parameters
    ----------
    gradient : ndarray, [d]
        The mean over examples.
    components : ndarray, [k, d]
        Orthonormal axes.
    rng : numpy Generator

    Returns
    -------
    float
        In the units of `gradient`, for directions of unit length.

    Notes
    -----
    All are compared at equal norm: the utility ``sigma_a <g, q_a>`` of an axis has the limit
    ``sigma_a`` times this point. Compared in units of sigma, axes along which rows vary most
    would always win.

    Of sets of `k` axes that are drawn at random, at most 5 % have one beyond the limit: 2 to 3 %
    of isotropic sets, since the larger of two points counts, and 5 % of rotations of a span that
    holds more of the gradient than chance (none of one that holds less).

    The limit is conditional on the gradient as measured: it says whether an axis is special for
    these examples. That the mean over them is noisy is what the bootstrap interval is for.
    """
    k, d = components.shape
    within = components.astype(np.float64) @ gradient
    points = [
        length * np.quantile(_largest(k, width, rng), LEVEL)
        for length, width in ((np.linalg.norm(gradient), d), (np.linalg.norm(within), k))
    ]
    return float(max(points))


def _largest(k: int, width: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Largest of the first `k` absolute coordinates of random unit vectors of `width`, drawn."""
    first = rng.standard_normal((DRAWS, k))
    # The other coordinates are needed for their length only.
    rest = rng.chisquare(width - k, DRAWS) if width > k else 0.0
    lengths = np.sqrt(np.square(first).sum(axis=1) + rest)
    largest: NDArray[np.float64] = np.abs(first).max(axis=1) / lengths
    return largest
