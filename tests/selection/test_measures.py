"""Coverage, against brute force and closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from mnskills_viz.errors import InputError
from mnskills_viz.selection import measures
from mnskills_viz.selection.measures import coverage, nearest_distances


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 60),
    k=st.integers(1, 9),
    m=st.integers(1, 20),
    dtype=st.sampled_from([np.float32, np.float64]),
    held=st.booleans(),
)
def test_every_measure_is_that_of_brute_force(seed, n, k, m, dtype, held):
    draw = np.random.default_rng(seed)
    z = (draw.normal(size=(n, k)) + 5).astype(dtype)
    held_out = (draw.normal(size=(17, k)) + 5).astype(dtype) if held else None
    chosen = draw.permutation(n)[:m]
    found = coverage(z, chosen, held_out, ridge=0.5, binned_axes=3)

    targets = z if held_out is None else held_out
    nearest = cdist(targets.astype(float), z[chosen].astype(float)).min(axis=1)
    assert found.radius == pytest.approx(nearest.max())
    assert found.radius_95 == pytest.approx(np.quantile(nearest, 0.95))
    assert found.mean_distance == pytest.approx(nearest.mean())
    assert found.rows == len(targets)

    spread = sum(np.outer(row, row) for row in z[chosen].astype(float))
    eigen = np.linalg.eigvalsh(spread)
    assert found.log_det == pytest.approx(np.log(eigen.clip(0) + 0.5).sum())
    assert found.participation == pytest.approx(eigen.sum() ** 2 / (eigen**2).sum())

    middle = [np.median(z[:, a]) for a in range(min(3, k))]
    side = {tuple(bool(x > y) for x, y in zip(row, middle, strict=False)) for row in targets}
    filled = {tuple(bool(x > y) for x, y in zip(row, middle, strict=False)) for row in z[chosen]}
    assert found.bins == len(side)
    assert found.empty_bins == len(side - filled) / len(side)


def test_of_two_rows_that_float32_cannot_tell_apart_the_nearer_is_taken():
    far = np.array([[3.0], [-3.0]])  # they keep the middle at 0, and products large
    for seed in range(200):
        near = 2 + 1e-3 * np.random.default_rng(seed).normal(size=(8, 1))
        chosen = np.concatenate([near[1:], far])
        (found,) = nearest_distances(near[:1], chosen)
        assert found == pytest.approx(np.abs(near[0] - chosen).min(), abs=1e-12)


def test_blocks_change_nothing(monkeypatch):
    draw = np.random.default_rng(0)
    targets, chosen = draw.normal(size=(500, 6)), draw.normal(size=(40, 6))
    whole = nearest_distances(targets, chosen)
    monkeypatch.setattr(measures, "PAIRS_AT_ONCE", 300)
    np.testing.assert_array_equal(nearest_distances(targets, chosen), whole)


def test_a_chosen_row_is_at_distance_zero_however_far_from_the_origin():
    z = np.random.default_rng(1).normal(size=(300, 20)) + 1e4
    distances = nearest_distances(z, z[::7])
    assert (distances[::7] == 0).all()
    np.testing.assert_allclose(distances, cdist(z, z[::7]).min(axis=1), rtol=1e-6)


def test_a_grid_of_known_geometry():
    line = np.arange(11.0)[:, None]
    found = coverage(line, [2, 7], ridge=1.0)
    assert found.radius == 3  # 10 from 7
    assert found.mean_distance == pytest.approx((2 + 1 + 0 + 1 + 2 + 2 + 1 + 0 + 1 + 2 + 3) / 11)
    assert found.log_det == pytest.approx(np.log(1 + 4 + 49))
    axes = np.diag([2.0, 2.0, 2.0, 0.0])
    assert coverage(axes, [0, 1, 2]).participation == pytest.approx(3)
    assert coverage(axes, [3]).participation == 0
    assert coverage(axes, [0, 1, 2]).ridge == 3 / 4


def test_the_log_determinant_grows_by_what_d_optimal_gains():
    z = np.random.default_rng(3).normal(size=(30, 5))
    before, after = (coverage(z, range(m), ridge=2.0).log_det for m in (9, 10))
    kept = 2 * np.eye(5) + z[:9].T @ z[:9]
    assert after - before == pytest.approx(np.log1p(z[9] @ np.linalg.solve(kept, z[9])))


def test_bins_split_the_pool_in_halves_and_all_of_it_leaves_none_empty():
    z = np.random.default_rng(4).normal(size=(4000, 8)) + 3
    everything = coverage(z, range(4000))
    assert (everything.bins, everything.empty_bins, everything.radius) == (64, 0, 0)
    assert coverage(z, [0]).empty_bins == 63 / 64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((3, 2)), []), "chosen must be a list of rows"),
        ((np.ones((3, 2)), [3]), "beyond the pool's 3"),
        ((np.ones((3, 2)), [0], np.ones((2, 1))), "on the same axes"),
        ((np.full((3, 2), np.nan), [0]), "NaN"),
        ((np.ones(3), [0]), "z has shape"),
    ],
)
def test_bad_input_is_one_line(arguments, message):
    with pytest.raises(InputError, match=message):
        coverage(*arguments)
    with pytest.raises(InputError, match="ridge must be above 0"):
        coverage(np.ones((3, 2)), [0], ridge=0)
