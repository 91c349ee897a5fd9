"""Strategies that cover a space: skill space, or that of the texts."""

from collections.abc import Callable

import numpy as np

from ..errors import InputError
from . import coverage
from .basket import Basket, Draw, FloatArray, IntArray, Pick
from .task import Task
from .text_vectors import text_vectors, unit_rows


def d_optimal(task: Task, basket: Basket) -> Draw:
    """Rows that spread in all directions of skill space: `coverage.d_optimal`."""
    z = _whitened(task)
    ridge = max(1.0, task.rows) / z.shape[1]
    covered = coverage.d_optimal(z, ridge, *_takes(task, basket))
    return _draw(
        task,
        basket,
        covered,
        lambda gain, _: f"Adds {gain:.3g} to the log-determinant of what is covered.",
        f"log-determinant reached: {covered.objective:.5g}, with ridge {ridge:.3g}",
    )


def k_center(task: Task, basket: Basket) -> Draw:
    """Rows far from each other in skill space: `coverage.k_center`."""
    covered = coverage.k_center(_whitened(task), *_takes(task, basket))
    return _draw(
        task,
        basket,
        covered,
        lambda gain, is_first: (
            f"{gain:.3g} standard deviations from the "
            + ("mean of the pool, the farthest." if is_first else "nearest row taken before.")
        ),
        f"covering radius reached: {covered.objective:.3g} standard deviations",
    )


def facility_location(task: Task, basket: Basket) -> Draw:
    """Rows that resemble the rest in skill space: `coverage.facility_location`."""
    covered = coverage.facility_location(_whitened(task), *_takes(task, basket))
    doubt = ""
    if covered.standard_error:
        doubt = f" (standard error {covered.standard_error:.2g}: estimated from a sample)"
    return _draw(
        task,
        basket,
        covered,
        lambda gain, _: f"Adds {gain:.3g} to the rows' likeness to their nearest pick.",
        f"likeness of all {len(task.pool.order)} rows to their nearest pick reached: "
        f"{covered.objective:.6g}{doubt}",
    )


def text_diversity(task: Task, basket: Basket) -> Draw:
    """Rows whose texts are far from each other: `coverage.k_center` on unit text embeddings.

    Farthest points, because that is how the paper covers skill space: against it, only the space
    differs. Facility location would favor common texts, and D-optimality in hundreds of dimensions
    needs as many rows before one direction is better known than another. Between unit vectors the
    distance grows as the cosine falls.
    """
    pool = task.pool
    if pool.text_vectors is not None:
        vectors, embedding, made_by = unit_rows(pool.text_vectors), "given", "given with the pool"
    elif pool.texts is not None:
        # Batches and word counts depend on the order: the one that the ids decide.
        by_id = np.arange(len(pool.ids)) if pool.ids.by_id is None else pool.ids.by_id
        found = text_vectors([pool.texts[row] for row in by_id], task.embedding)
        vectors = np.empty_like(found.vectors)
        vectors[by_id] = found.vectors
        embedding, made_by = found.embedding, found.made_by
    else:
        raise InputError(
            'strategy "text_diversity" needs texts: the text of each row, or its embedding [n, d]'
        )
    covered = coverage.k_center(vectors[pool.order], *_takes(task, basket))
    draw = _draw(
        task,
        basket,
        covered,
        lambda gain, is_first: (
            "Its text is the farthest from the mean of all."
            if is_first
            else f"Its text has cosine {1 - gain**2 / 2:.2f} with the nearest taken before."
        ),
        f"text embeddings: {made_by}",
    )
    return Draw(draw.picks, draw.notes, embedding)


def _whitened(task: Task) -> FloatArray:
    """Whitened coordinates on the axes named, rows in the order drawn."""
    axes, order = task.axes(), task.pool.order
    Z = task.coordinates if len(axes) == task.pool.n_axes else task.coordinates[:, axes]
    z = Z[order]
    z /= task.pool.scale[axes]
    return coverage.whitened(z)


def _takes(
    task: Task, basket: Basket
) -> tuple[Callable[[int], bool], Callable[[], bool], IntArray]:
    """How a coverage greedy sees the basket: by a row's place in the order drawn."""
    order = task.pool.order
    taken = task.pool.place[np.array(basket.taken, dtype=np.int64)]
    return lambda row: basket.take(int(order[row])), basket.is_full, taken


def _draw(
    task: Task,
    basket: Basket,
    covered: coverage.Covered,
    why: Callable[[float, bool], str],
    note: str,
) -> Draw:
    """The picks of a coverage greedy, each with its gain in words; `why` is told of the first."""
    n_before = len(basket.taken) - len(covered.picks)
    picks = tuple(
        Pick(int(task.pool.order[row]), None, why(gain, n_before + number == 0))
        for number, (row, gain) in enumerate(covered.picks)
    )
    return Draw(picks, (note,))
