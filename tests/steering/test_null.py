"""The limit that random directions set, and how often they beat it."""

import numpy as np
import pytest
from scipy.stats import binom

from mnskills_viz.steering.null import null_maximum


def frames(k: int, d: int, rng: np.random.Generator, n: int) -> np.ndarray:
    """Uniform orthonormal sets [n, k, d]; signs of rows do not matter here."""
    return np.linalg.qr(rng.standard_normal((n, d, k)))[0].transpose(0, 2, 1)


def spanning(share: float, k: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Axes, and a gradient of length 1 of whose square their span holds `share`."""
    axes = np.eye(d)[:k]
    held = np.full(k, np.sqrt(share / k))
    return axes, np.concatenate([held, np.full(d - k, np.sqrt((1 - share) / (d - k)))])


def assert_rate_is_at_most(level: float, hits: np.ndarray) -> None:
    """So many hits would be a 1 in 1,000 chance at the level."""
    assert hits.sum() <= binom.isf(1e-3, len(hits), level)


def test_the_limit_is_that_of_random_orthonormal_directions():
    """The closed-form draw agrees with drawing orthonormal sets by QR."""
    rng = np.random.default_rng(0)
    d, k = 40, 5
    axes, g = spanning(1e-12, k, d)  # axes that hold nothing of g: the span adds nothing
    drawn = np.abs(frames(k, d, rng, 10_000) @ g).max(axis=1)
    assert null_maximum(g, axes, rng) == pytest.approx(np.quantile(drawn, 0.95), rel=0.015)


def test_the_limit_within_the_span_is_that_of_rotated_axes():
    rng = np.random.default_rng(0)
    axes, g = spanning(0.9, 6, 60)
    rotated = frames(6, 6, rng, 10_000) @ axes
    drawn = np.abs(rotated @ g).max(axis=1)
    assert null_maximum(g, axes, rng) == pytest.approx(np.quantile(drawn, 0.95), rel=0.015)


@pytest.mark.parametrize(("k", "d"), [(8, 64), (32, 576)])
def test_isotropic_axes_beat_the_limit_less_often_than_stated(k, d):
    """At most 5 %, and in truth 1 to 3 %: the larger of two limits counts."""
    rng = np.random.default_rng(1)
    g = rng.standard_normal(d)
    n = 200 if k == 8 else 80
    hits = [np.abs(axes @ g).max() > null_maximum(g, axes, rng) for axes in frames(k, d, rng, n)]
    assert_rate_is_at_most(0.05, np.array(hits))


@pytest.mark.parametrize("times_chance", [0.5, 1, 2, 8])
def test_rotations_within_the_span_beat_the_limit_as_often_as_stated(times_chance):
    rng = np.random.default_rng(2)
    k, d = 32, 576
    axes, g = spanning(times_chance * k / d, k, d)
    limit = null_maximum(g, axes, rng)
    hits = np.abs(frames(k, k, rng, 3000) @ (axes @ g)).max(axis=1) > limit
    # The limit itself is drawn: its own level is known to 0.002.
    assert_rate_is_at_most(0.05 + 3 * 0.0022, hits)
    if times_chance >= 2:  # here it is that of the span, and exact
        assert hits.sum() >= binom.ppf(1e-3, len(hits), 0.05 - 3 * 0.0022)
    if times_chance == 0.5:  # a span that holds less than chance has nothing to show
        assert not hits.any()


def test_a_noisy_mean_of_no_gradient_beats_the_limit_no_more_often():
    """Gradients of examples that are noise alone: some mean there always is."""
    rng = np.random.default_rng(3)
    k, d, n = 8, 64, 20
    means = rng.standard_normal((200, n, d)).mean(axis=1)
    axes = np.eye(d)[:k]
    hits = [np.abs(axes @ g).max() > null_maximum(g, axes, rng) for g in means]
    assert_rate_is_at_most(0.05, np.array(hits))


def test_a_planted_direction_is_special():
    axes = np.eye(64)[:8]
    g = 5 * axes[3] + 0.1 * np.random.default_rng(0).standard_normal(64)
    null = null_maximum(g, axes, np.random.default_rng(0))
    assert abs(axes[3] @ g) > null
    assert (np.abs(np.delete(axes, 3, 0) @ g) < null).all()


def test_the_limit_scales_with_the_gradient_and_knows_no_direction():
    rng = np.random.default_rng(0)
    g, axes = rng.standard_normal(30), frames(4, 30, rng, 1)[0]
    turn = frames(30, 30, rng, 1)[0]
    limit = null_maximum(g, axes, np.random.default_rng(7))
    assert null_maximum(3 * g, axes, np.random.default_rng(7)) == pytest.approx(3 * limit)
    turned = null_maximum(turn @ g, axes @ turn.T, np.random.default_rng(7))
    assert turned == pytest.approx(limit)


def test_axes_that_fill_the_space_leave_no_other_dimensions():
    g = np.array([3.0, 4.0])
    limit = null_maximum(g, np.eye(2), np.random.default_rng(0))
    # The larger of |cos t| and |sin t| exceeds cos(t) for t below 5 % of 45 degrees.
    assert limit == pytest.approx(5 * np.cos(0.05 * np.pi / 4), rel=1e-3)
