"""Where a model fails: the weakness of each pole, shrunk by how little is known about it."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError

Float64Array = NDArray[np.float64]

ENOUGH = 10.0
"""Effective number of examples, ``(sum m)^2 / sum m^2``, from which on a pole shows the spread of
its own errors. Three that fail alike have none, and would be trusted without limit."""

POSTERIOR_95 = 1.959963984540054
"""97.5 % point of the normal distribution: half the width of a 95 % interval, in its sd."""


def pole_weakness(z: ArrayLike, error: ArrayLike) -> pd.DataFrame:
    """How much error gathers at each pole of each axis.

    With ``m = max(0, pole * z)`` an example's membership of a pole and ``e`` its error::

        w      = sum m e / sum m
        SE^2   = sum m^2 (e - w)^2 / (sum m)^2
        tau^2  = max(0, Var w - mean SE^2)
        shrunk = mean e + (w - mean e) tau^2 / (tau^2 + SE^2)
        mass   = max(0, shrunk - mean e) * sum m

    Where fewer than 10 effective examples lie on a pole, SE^2 is at least what the variance of all
    errors would give: ``Var e * sum m^2 / (sum m)^2``.

    That is the normal-normal model of empirical Bayes with a moment estimator of the spread of the
    true weaknesses (Efron & Morris 1975; Morris 1983), pulled to the mean error of the probe.

    Parameters
    ----------
    z : array_like, [m, k]
        Coordinates of the probe examples divided by the axes' scale. Take the scale of the *pool*
        that will be selected from, so that both are measured with one ruler.
    error : array_like, [m]
        Their errors in [0, 1]: `1 - pass rate`, or `reference_errors`.

    Returns
    -------
    DataFrame
        One row a pole, axis by axis, positive pole first:

        - ``axis`` (int), ``pole`` (+1 or -1);
        - ``weakness``: w; NaN where no example lies on the pole;
        - ``shrunk``: w pulled towards the mean error. A pole with fewer than two examples has no
          standard error and is pulled all the way;
        - ``low``, ``high``: shrunk -+ 1.96 posterior standard deviations,
          ``sqrt(tau^2 SE^2 / (tau^2 + SE^2))``. The interval takes tau as known: with tau = 0
          it has no width, which says that the poles cannot be told apart, not that they are exact;
        - ``support``: sum m;
        - ``mass``: the excess error that the pole stands for; all zero when nothing is weak;
        - ``ridge``: coefficient of ``e ~ z``, joint over all axes, signed by the pole: what the
          axis adds when all others are held fixed. More reliable than ``weakness`` where
          axes are correlated in the probe.

        ``table.attrs["mean_error"]`` is the mean error of the probe.

    Raises
    ------
    InputError
        Shapes that do not belong together, numbers that are not finite, errors outside [0, 1], or
        errors that are all equal: there is nothing to tell poles apart by.
    """
    z, error = _checked(z, error)
    mean_error = float(error.mean())
    n_axes = z.shape[1]
    membership = np.maximum(0.0, np.stack([z, -z], axis=2)).reshape(len(z), 2 * n_axes)

    support = membership.sum(axis=0)
    known = (membership > 0).sum(axis=0) >= 2
    with np.errstate(invalid="ignore", divide="ignore"):
        w = membership.T @ error / support
        squared_se = ((membership * (error[:, None] - w)) ** 2).sum(axis=0) / support**2
        # The same with the variance of all errors, for poles with too few to show one.
        by_all = error.var() * (membership**2).sum(axis=0) / support**2
        few = support**2 / (membership**2).sum(axis=0) < ENOUGH
    squared_se = np.where(few, np.maximum(squared_se, by_all), squared_se)
    squared_se[~known] = np.inf
    squared_tau = _spread(w[known], squared_se[known])

    trust = _ratio(squared_tau, squared_tau + squared_se)
    shrunk = mean_error + np.where(known, w - mean_error, 0.0) * trust
    # tau^2 SE^2 / (tau^2 + SE^2), written so that an infinite SE leaves tau^2.
    posterior = np.sqrt(squared_tau * (1.0 - trust))

    table = pd.DataFrame(
        {
            "axis": np.repeat(np.arange(n_axes), 2),
            "pole": np.tile([1, -1], n_axes),
            "weakness": w,
            "shrunk": shrunk,
            "low": shrunk - POSTERIOR_95 * posterior,
            "high": shrunk + POSTERIOR_95 * posterior,
            "support": support,
            "mass": np.maximum(0.0, shrunk - mean_error) * support,
            "ridge": np.outer(_ridge(z, error), [1.0, -1.0]).reshape(-1),
        }
    )
    table.attrs["mean_error"] = mean_error
    return table


def reference_errors(losses: ArrayLike, baseline: ArrayLike | None = None) -> Float64Array:
    """Losses of the reference responses as errors in [0, 1].

    An error is the share of the frozen baseline's losses below it, ties counted half. The baseline
    stays the same while the model learns: ranking each model's losses among themselves would
    give a mean of 0.5 for ever.

    Parameters
    ----------
    losses : array_like, [m]
        Loss of each reference response, in nats per token.
    baseline : array_like, [b], optional
        Losses of the frozen baseline, in any order. Default: `losses` themselves.

    Returns
    -------
    ndarray, [m]
        Errors; with the default baseline they average 0.5.

    Raises
    ------
    InputError
        No losses, or some that are not finite.
    """
    losses = _losses(losses, "losses")
    baseline = np.sort(losses if baseline is None else _losses(baseline, "baseline"))
    below = np.searchsorted(baseline, losses, side="left")
    not_above = np.searchsorted(baseline, losses, side="right")
    return np.asarray((below + not_above) / (2 * len(baseline)), dtype=np.float64)


def _losses(values: ArrayLike, name: str) -> Float64Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise InputError(f"{name} must be a list of at least one number, not shape {array.shape}")
    if not np.isfinite(array).all():
        raise InputError(
            f"{name}: {np.count_nonzero(~np.isfinite(array))} of {len(array)} are NaN or infinite; "
            "leave those examples out"
        )
    return array


def _checked(z: ArrayLike, error: ArrayLike) -> tuple[Float64Array, Float64Array]:
    z = np.asarray(z, dtype=np.float64)
    error = np.asarray(error, dtype=np.float64)
    if z.ndim != 2 or error.shape != (len(z),) or not z.size:
        raise InputError(
            f"probe has shape {z.shape} and error {error.shape}; expected [m, n_axes] and [m]"
        )
    if not np.isfinite(z).all():
        raise InputError("probe holds NaN or infinite coordinates")
    if not np.isfinite(error).all() or error.min() < 0 or error.max() > 1:
        raise InputError("error must lie in [0, 1], without NaN; for losses use reference_errors")
    if error.min() == error.max():
        raise InputError(
            f"all {len(error)} probe examples have the same error ({error[0]:g}), so no pole is "
            "weaker than another; use errors that differ, such as those from log-probability"
        )
    return z, error


def _spread(w: Float64Array, squared_se: Float64Array) -> float:
    """tau^2: what the variance of the poles' weaknesses has beyond their own noise.

    The variance is the unbiased one, since it is compared with an expectation.
    """
    if len(w) < 2:
        return 0.0
    return max(0.0, float(w.var(ddof=1) - squared_se.mean()))


def _ratio(numerator: float, denominator: Float64Array) -> Float64Array:
    """``numerator / denominator``, and 0 for 0 / 0."""
    return np.divide(numerator, denominator, out=np.zeros_like(denominator), where=denominator > 0)


def _ridge(z: Float64Array, error: Float64Array) -> Float64Array:
    """Coefficients of ``e ~ z`` with an intercept, [k].

    The penalty is the one of a grid that generalised cross-validation likes best (Golub, Heath &
    Wahba 1979): smallest ``rss / (m - degrees of freedom)^2``.
    """
    m = len(z)
    left, singular, right = np.linalg.svd(z - z.mean(axis=0), full_matrices=False)
    centred = error - error.mean()
    projected = left.T @ centred
    outside = float(((centred - left @ projected) ** 2).sum())
    best, coefficients = np.inf, np.zeros(z.shape[1])
    for penalty in m * np.logspace(3, -3, 25):
        lost = penalty / (singular**2 + penalty)
        residual = float(((lost * projected) ** 2).sum()) + outside
        freedom = m - 1.0 - float((1.0 - lost).sum())
        # Where the score is flat (fewer examples than axes) rounding must not choose: the
        # stronger penalty stays until another is clearly better.
        if freedom > 0 and residual / freedom**2 < best * (1 - 1e-9):
            best = residual / freedom**2
            coefficients = right.T @ (singular / (singular**2 + penalty) * projected)
    return coefficients
