"""How far training on a row would lower the probe's loss, by gradients."""

import numpy as np
from numpy.typing import NDArray

from .matrix import FloatArray, each_block


def gradient_cosines(gradients: FloatArray, probe: FloatArray) -> NDArray[np.float64]:
    """Cosine of each row's gradient with the mean gradient of the probe, [n].

    A small step of gradient descent on a row changes the probe's mean loss by minus the product of
    the two gradients (TracIn: Pruthi et al. 2020); the cosine takes the length of the row's out,
    which short rows have more of (LESS: Xia et al. 2024).

    Parameters
    ----------
    gradients : ndarray, [n, d]
        Gradient of each row, or a sketch of it.
    probe : ndarray, [m, d]
        Gradients of the probe's examples, sketched alike.

    Returns
    -------
    ndarray of float64, [n]
        In [-1, 1]; 0 where either gradient is zero.
    """
    target = _unit(mean_gradient(probe)[None])[0]

    # Row by row with einsum: a matrix product rounds a row by where it stands.
    def cosines(block: FloatArray) -> NDArray[np.float64]:
        products: NDArray[np.float64] = np.einsum("ij,j->i", _unit(block.astype(float)), target)
        return products

    every: NDArray[np.float64] = np.concatenate(each_block(cosines, gradients))
    return every.clip(-1.0, 1.0)


def mean_gradient(probe: FloatArray) -> NDArray[np.float64]:
    """Mean of gradients, [d]; 0 where they cancel but for rounding."""
    mean: NDArray[np.float64] = probe.mean(axis=0, dtype=np.float64)
    rounding = 10 * np.finfo(np.float64).eps * np.abs(probe).max(axis=0)
    mean[np.abs(mean) <= rounding] = 0.0
    return mean


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of length 1, zeros left as they are."""
    # By the largest first: squares of what is very large or very small are not numbers any more.
    largest = np.abs(rows).max(axis=1, keepdims=True)
    rows = np.divide(rows, largest, out=np.zeros_like(rows), where=largest > 0)
    lengths: NDArray[np.float64] = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
    unit: NDArray[np.float64] = np.divide(rows, lengths, out=rows, where=lengths > 0)
    return unit
