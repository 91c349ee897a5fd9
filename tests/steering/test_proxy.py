import numpy as np
import pytest

import mnskills_viz as mn
from mnskills_viz.steering.null import null_maximum
from tests.activations.test_gradients import target


def test_first_order_utility_is_the_slope_of_steered_passes(tiny_study, tiny_model):
    """Against small measured doses of every axis, both phases, reference target."""
    basis, corpus = tiny_study.basis("pca-1"), tiny_study.corpus[:4]
    table = mn.proxy(tiny_model, basis, corpus, target="reference", progress=False)
    dose = 1e-2
    for axis in (0, 3, 7):
        slopes = []
        for example in corpus:
            ends = []
            for sign in (1, -1):
                with mn.SteeringVector.from_axis(basis, axis, dose=sign * dose).apply(tiny_model):
                    ends.append(target(tiny_model, example, 1, np.zeros(32), "prompt"))
            slopes.append((ends[0] - ends[1]) / (2 * dose))
        assert table["utility"][axis] == pytest.approx(np.mean(slopes), rel=0.05, abs=1e-3)


def test_columns_are_the_contract(tiny_study):
    table = tiny_study.results("proxy", "pca-1")
    assert list(table.columns) == (
        ["axis", "layer", "dose", "utility", "low", "high", "damage", "null_low", "null_high"]
    )
    assert (table["low"] <= table["utility"]).all()
    assert (table["utility"] <= table["high"]).all()


def test_the_null_is_the_maximum_over_random_orthonormal_directions():
    """The closed-form draw agrees with drawing orthonormal sets by QR."""
    rng = np.random.default_rng(0)
    d, k = 40, 5
    g = rng.standard_normal(d)
    axes = np.linalg.qr(rng.standard_normal((d, k)))[0].T
    axes -= np.outer(axes @ g, g) / (g @ g)  # axes that hold nothing of g: the span adds nothing
    axes = np.linalg.qr(axes.T)[0].T
    drawn = [np.abs(np.linalg.qr(rng.standard_normal((d, k)))[0].T @ g).max() for _ in range(4000)]
    found = null_maximum(g, axes, np.random.default_rng(1))
    assert found == pytest.approx(np.quantile(drawn, 0.95), rel=0.04)


def test_random_axes_beat_the_null_no_more_often_than_stated():
    rng = np.random.default_rng(0)
    d, k, trials = 64, 8, 400
    g = rng.standard_normal(d)
    beaten = 0
    for _ in range(trials):
        axes = np.linalg.qr(rng.standard_normal((d, k)))[0].T
        beaten += np.abs(axes @ g).max() > null_maximum(g, axes, rng)
    assert beaten / trials < 0.08


def test_a_planted_direction_is_special():
    d, k = 64, 8
    axes = np.eye(d)[:k]
    g = 5 * axes[3] + 0.1 * np.random.default_rng(0).standard_normal(d)
    null = null_maximum(g, axes, np.random.default_rng(0))
    assert abs(axes[3] @ g) > null
    assert (np.abs(np.delete(axes, 3, 0) @ g) < null).all()


def test_a_basis_a_layer_gives_rows_for_each(tiny_study, tiny_model):
    bases = {layer: mn.PCABasis(3).fit(tiny_study.activations.matrix(layer)) for layer in (0, 2)}
    table = mn.proxy(tiny_model, bases, tiny_study.corpus[:3], progress=False)
    assert table["layer"].tolist() == [0, 0, 0, 2, 2, 2]
    with pytest.raises(mn.InputError, match="say where to push"):
        mn.proxy(tiny_model, bases[0], tiny_study.corpus[:3])
    with pytest.raises(mn.InputError, match="method must be"):
        mn.proxy(tiny_model, bases, tiny_study.corpus[:3], method="guess")
