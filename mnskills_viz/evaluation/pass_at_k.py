"""pass@k: the chance that at least one of k samples is right."""

from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError


@overload
def pass_at_k(n: int, c: int, k: int) -> float: ...
@overload
def pass_at_k(n: ArrayLike, c: ArrayLike, k: int) -> float | NDArray[np.float64]: ...
def pass_at_k(n: ArrayLike, c: ArrayLike, k: int) -> float | NDArray[np.float64]:
    """Unbiased estimate of pass@k from samples of each problem.

    ``1 - C(n - c, k) / C(n, k)``, as ``1 - prod over i of (1 - c / (n - i))`` for i from 0 to
    ``k - 1``: the chance that k draws without replacement are all wrong. Its terms neither
    overflow nor cancel (Chen et al. 2021, "Evaluating large language models trained on code").

    Parameters
    ----------
    n : int or array_like of int
        Samples of each problem.
    c : int or array_like of int
        How many of them are right.
    k : int

    Returns
    -------
    float or ndarray of float64
        A float for two ints, else an array of their common shape.

    Raises
    ------
    InputError
        k below 1 or above n, c below 0 or above n, or numbers that are not whole.
    """
    samples, right = _whole(n, "n"), _whole(c, "c")
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise InputError(f"pass@k: k must be a whole number of at least 1, not {k!r}")
    try:
        samples, right = np.broadcast_arrays(samples, right)
    except ValueError as error:
        raise InputError(
            f"pass@k: n of shape {samples.shape} and c of shape {right.shape} do not belong "
            "together"
        ) from error
    if samples.size and samples.min() < k:
        raise InputError(f"pass@{k} needs at least {k} samples a problem, found {samples.min()}")
    wrong = (right < 0) | (right > samples)
    if wrong.any():
        raise InputError(
            f"pass@k: c must lie between 0 and n, found c = {right[wrong][0]} of "
            f"n = {samples[wrong][0]}"
        )
    all_wrong = np.ones(samples.shape)
    for i in range(k):
        # Once n - c draws were wrong, none is left: a factor of 0, and of less after it.
        all_wrong *= np.maximum(0.0, 1.0 - right / (samples - i))
    return 1.0 - all_wrong if samples.ndim else float(1.0 - all_wrong)


def _whole(values: ArrayLike, name: str) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.size and (array.dtype.kind not in "iuf" or (array != np.floor(array)).any()):
        raise InputError(f"pass@k: {name} must be whole numbers, not {values!r:.60}")
    return array.astype(np.int64)
