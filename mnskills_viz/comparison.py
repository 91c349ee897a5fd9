"""Two studies of one corpus, before and after training: what moved."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .errors import InputError
from .selection import pole_name
from .selection.weakness import POSTERIOR_95, reference_errors
from .study import Study

Array = NDArray[np.float64]


def compare(before: Study, after: Study, basis: str | None = None) -> pd.DataFrame:
    """How each axis moved, and how the errors at its poles did.

    Both models read the same texts; everything is measured on the axes of the first study, about
    its mean and in its standard deviations. Errors are losses of the references on the probe,
    both placed among the losses of the first model: ranked each among its own they would average
    0.5 for ever. An example belongs to a pole by its coordinate in the first study (prompt side).

    Parameters
    ----------
    before, after : Study
        Of one corpus, collected at the basis's layer; usually `after` has an adapter that was
        trained on an export of `before` as its model.
    basis : str, optional
        Name of a basis of `before`; may be left out while there is one only.

    Returns
    -------
    DataFrame
        One row an axis:

        - ``axis``;
        - ``shift``, ``shift_low``, ``shift_high``: mean change of the probe's coordinates over
          the tokens of prompt and reference, in standard deviations of the pool before, with a
          95 % interval of the paired mean;
        - for ``positive`` and ``negative``: ``error_POLE_before``, ``error_POLE_after``: mean error
          of the probe, weighted by membership ``max(0, pole * z)``; ``change_POLE`` with
          ``change_POLE_low`` and ``change_POLE_high``, a 95 % interval; below 0 is better.

        ``attrs`` holds ``basis``, ``mean_error_before`` and ``mean_error_after``.

    Raises
    ------
    InputError
        Different corpora, rows read in different ways, a layer that `after` has not collected, or
        models of different width.
    """
    name = before.basis_name(basis)
    fitted = before.basis(name)
    _require_alike(before, after)
    probe = before.probe_rows
    moved = fitted.transform(after.activations.matrix_as(fitted.source_ or {})[probe])
    steps = (moved.astype(np.float64) - before.coordinates(name)[probe]) / fitted.scale_
    shift, half = steps.mean(axis=0), POSTERIOR_95 * steps.std(axis=0, ddof=1) / len(steps) ** 0.5

    error_before, error_after = _errors(before, after)
    ruler = before.ruler(name)
    z = (ruler.probe / ruler.scale).astype(np.float64)
    columns: dict[str, Array] = {
        "shift": shift,
        "shift_low": shift - half,
        "shift_high": shift + half,
    }
    for pole, sign in (("positive", 1), ("negative", -1)):
        members = np.maximum(0.0, sign * z)
        was, is_now = (_weighted(members, errors) for errors in (error_before, error_after))
        change, margin = is_now - was, _margin(members, error_after - error_before)
        columns |= {
            f"error_{pole}_before": was,
            f"error_{pole}_after": is_now,
            f"change_{pole}": change,
            f"change_{pole}_low": change - margin,
            f"change_{pole}_high": change + margin,
        }
    table = pd.DataFrame({"axis": np.arange(fitted.n_axes_)} | columns)
    table.attrs |= {
        "basis": name,
        "mean_error_before": float(error_before.mean()),
        "mean_error_after": float(error_after.mean()),
    }
    return table


def changed_poles(table: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Poles of `compare` whose errors fell, and those whose errors rose, by their intervals.

    Each interval errs in 1 of 40 cases on either side: of 64 poles that did not change, 1 or 2 are
    in each list.
    """
    fell, rose = [], []
    for row in table.to_dict("records"):
        for pole, sign in (("positive", 1), ("negative", -1)):
            if row[f"change_{pole}_high"] < 0:
                fell.append(pole_name(row["axis"], sign))
            if row[f"change_{pole}_low"] > 0:
                rose.append(pole_name(row["axis"], sign))
    return fell, rose


def compare_examples(before: Study, after: Study) -> pd.DataFrame:
    """Loss of every probe example's reference before and after, the most improved first.

    Returns
    -------
    DataFrame
        ``id category loss_before loss_after change``, losses in nats per response token. What was
        fixed and what was broken by a verifier's judgement is in `paired_difference`.
    """
    _require_alike(before, after)
    rows = before.probe_rows
    losses = [-study.activations.logprobs[rows].astype(np.float64) for study in (before, after)]
    examples = before.corpus.take(rows)
    table = pd.DataFrame(
        {
            "id": examples.ids,
            "category": [example.category for example in examples],
            "loss_before": losses[0],
            "loss_after": losses[1],
            "change": losses[1] - losses[0],
        }
    )
    return table.sort_values("change", kind="stable", ignore_index=True)


def _require_alike(before: Study, after: Study) -> None:
    if before.about["corpus"]["hash"] != after.about["corpus"]["hash"]:
        raise InputError(
            f"{before.path} and {after.path} are studies of different corpora; make the second "
            "with the corpus of the first and the trained model"
        )
    sources = [study.activations.source_of_all for study in (before, after)]
    if sources[0]["options"] != sources[1]["options"]:
        raise InputError(
            f"{before.path} and {after.path} were collected with different options "
            f"({sources[0]['options']} and {sources[1]['options']}); collect alike"
        )
    widths = [source["model"]["d_model"] for source in sources]
    if widths[0] != widths[1]:
        raise InputError(f"the models' residual streams differ in width: {widths[0]}, {widths[1]}")


def _errors(before: Study, after: Study) -> tuple[Array, Array]:
    """Errors on the probe, both in the distribution of the losses before."""
    rows = before.probe_rows
    frozen, now = (-s.activations.logprobs[rows].astype(np.float64) for s in (before, after))
    if np.isnan(frozen).any() or np.isnan(now).any():
        raise InputError(
            f"{before.path}: comparing errors needs a reference response for every probe example"
        )
    return reference_errors(frozen), reference_errors(now, frozen)


def _weighted(members: Array, errors: Array) -> Array:
    """Mean error of each pole, [k], of memberships [m, k]; NaN where nobody is."""
    return _share(members.T @ errors, members.sum(axis=0))


def _margin(members: Array, change: Array) -> Array:
    """Half the width of a 95 % interval of the weighted mean of `change`; see `pole_weakness`."""
    spread = ((members * (change[:, None] - _weighted(members, change))) ** 2).sum(axis=0)
    known = (members > 0).sum(axis=0) >= 2
    return POSTERIOR_95 * _share(np.sqrt(spread), np.where(known, members.sum(axis=0), 0.0))


def _share(part: Array, whole: Array) -> Array:
    share: Array = np.full(len(whole), np.nan)
    return np.divide(part, whole, out=share, where=whole > 0)
