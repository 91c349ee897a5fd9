"""The active subspace, against planted functions and a dense computation of its definition."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import skew
from sklearn.utils.estimator_checks import check_estimator

from mnskills_viz.bases.active_subspace import ActiveSubspaceBasis, gradient_share
from mnskills_viz.bases.basis import checked_rows, load_basis
from mnskills_viz.bases.pca import PCABasis
from mnskills_viz.errors import InputError

SHARES = ("gradient_share_", "utility_share_")


class WithGradients(ActiveSubspaceBasis):
    """An estimator that scikit-learn can fit: its checks give rows, and no gradients."""

    def fit(self, X, y=None):
        width = checked_rows(self, X, fitting=True, least=2).shape[1]
        gradients = np.random.default_rng(0).standard_normal((16, width))
        return super().fit(X, gradients=gradients)


def noise(m: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((m, d))


def world(n: int = 2000, m: int = 64, d: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, gradients at some of them, and the 2 directions [2, d] that vary and matter.

    ``f(x) = x_4^2 / 2 + 3 x_5 + 5 sum_j sin(x_j)`` for j from 6: of the coordinates, 0 to 3 vary
    most and do not matter, 4 and 5 vary and matter, and the others matter most and hardly vary.
    """
    generator = np.random.default_rng(0)
    turn, _ = np.linalg.qr(generator.standard_normal((d, d)))
    x = generator.standard_normal((n, d))
    x *= np.array([10.0] * 4 + [3.0] * 2 + [0.1] * (d - 6))
    slopes = np.zeros((m, d))
    slopes[:, 4], slopes[:, 5], slopes[:, 6:] = x[:m, 4], 3.0, 5 * np.cos(x[:m, 6:])
    return x @ turn + 7, slopes @ turn, turn[4:6]


def overlap(axes: np.ndarray, planted: np.ndarray) -> float:
    """Share of the planted directions' square length in the span of orthonormal axes."""
    return float(np.square(planted @ axes.T).sum() / len(planted))


@pytest.mark.filterwarnings("ignore:n_axes")
def test_scikit_learn_accepts_it_as_an_estimator():
    check_estimator(WithGradients(n_axes=3))


def test_it_finds_what_varies_and_matters_where_variance_and_gradient_alone_do_not():
    X, G, planted = world()
    _, _, steepest = np.linalg.svd(G, full_matrices=False)
    assert overlap(ActiveSubspaceBasis(n_axes=2).fit(X, gradients=G).components_, planted) > 0.95
    assert overlap(PCABasis(n_axes=2).fit(X).components_, planted) < 0.01
    assert overlap(steepest[:2], planted) < 0.6  # sees only the linear one, among the steep


@pytest.mark.parametrize("m", [12, 90])  # fewer gradients than columns, and more
def test_it_is_the_definition_computed_densely(m):
    n, d, k = 3000, 20, 6
    X, G = noise(n, d) * 0.8 ** np.arange(d) + 5, noise(m, d, 1)
    variances, vectors = np.linalg.eigh(np.cov(X.T, ddof=0))
    root = (vectors * np.sqrt(variances)) @ vectors.T
    values, w = np.linalg.eigh(root @ (G.T @ G / m) @ root)
    assert (np.diff(values[::-1][:k]) < 0).all()
    q, _ = np.linalg.qr(root @ w[:, ::-1][:, :k])
    basis = ActiveSubspaceBasis(n_axes=k).fit(X, gradients=G)
    np.testing.assert_allclose(np.abs(np.einsum("dk,kd->k", q, basis.components_)), 1, atol=1e-9)


def test_shares_are_those_of_the_other_half():
    """By hand: halves of the gradients, dense roots, nothing shared with the implementation."""
    n, d, m, k = 400, 15, 30, 4
    X, G = noise(n, d) * 0.8 ** np.arange(d), noise(m, d, 1)
    variances, vectors = np.linalg.eigh(np.cov(X.T, ddof=0))
    root = (vectors * np.sqrt(variances)) @ vectors.T
    order = np.random.default_rng(3).permutation(m)
    gradient, utility = [], []
    for mine, others in ((order[:15], order[15:]), (order[15:], order[:15])):
        _, w = np.linalg.eigh(root @ G[mine].T @ G[mine] @ root)
        w = w[:, ::-1][:, :k]
        q, _ = np.linalg.qr(root @ w)
        gradient.append(np.square(G[others] @ q).sum(0) / np.square(G[others]).sum())
        utility.append(np.square(G[others] @ root @ w).sum(0) / np.square(G[others] @ root).sum())
    basis = ActiveSubspaceBasis(n_axes=k, random_state=3).fit(X, gradients=G)
    np.testing.assert_allclose(basis.gradient_share_, np.mean(gradient, axis=0), rtol=1e-9)
    np.testing.assert_allclose(basis.utility_share_, np.mean(utility, axis=0), rtol=1e-9)
    assert basis.gradient_share_total_ == pytest.approx(np.mean(gradient, axis=0).sum())
    assert basis.gradient_share_chance_ == pytest.approx(k / d)


def test_shares_of_noise_are_those_of_chance_out_of_sample_only():
    X, G = noise(4000, 200), noise(64, 200, 1)
    basis = ActiveSubspaceBasis(n_axes=24).fit(X, gradients=G)
    chance = 24 / 200
    assert basis.gradient_share_chance_ == pytest.approx(chance)
    assert basis.gradient_share_total_ == pytest.approx(chance, abs=0.03)
    assert basis.utility_share_.sum() == pytest.approx(chance, abs=0.03)
    assert gradient_share(basis.components_, G).sum() > 3 * chance  # where it was fitted


def test_what_is_planted_is_held_out_of_sample_too():
    X, G, _ = world()
    basis = ActiveSubspaceBasis(n_axes=2).fit(X, gradients=G)
    assert basis.utility_share_.sum() > 0.9
    assert basis.n_gradients_ == 64


@pytest.mark.parametrize("size", [1e-30, 1e-3, 1e25])
def test_the_unit_of_the_gradients_does_not_matter(size):
    X, G, _ = world()
    once, again = (ActiveSubspaceBasis(4).fit(X, gradients=g) for g in (G, size * G))
    np.testing.assert_allclose(once.components_, again.components_, atol=1e-9)
    np.testing.assert_allclose(once.gradient_share_, again.gradient_share_, rtol=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(3, 40),
    d=st.integers(1, 40),
    m=st.integers(1, 50),
    decay=st.floats(0.05, 1.0),
    size=st.sampled_from([1e-6, 1.0, 1e6]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_axes_are_orthonormal_however_ill_conditioned(seed, n, d, m, decay, size, dtype):
    X = size * noise(n, d, seed) * decay ** np.arange(d)
    G = noise(m, d, seed + 1) * decay ** np.arange(d)[::-1] + 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        basis = ActiveSubspaceBasis(n_axes=32).fit(X.astype(dtype), gradients=G.astype(dtype))
    assert 1 <= basis.n_axes_ <= min(n - 1, d, m, 32)
    assert np.abs(basis.components_ @ basis.components_.T - np.eye(basis.n_axes_)).max() < 1e-5
    shares = [getattr(basis, name) for name in SHARES]
    assert all(np.isnan(s).all() or 0 <= np.nansum(s) <= 1 + 1e-9 for s in shares)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fitting_again_gives_the_same_and_types_are_kept(dtype):
    X, G, _ = world()
    once, again = (ActiveSubspaceBasis(5).fit(X.astype(dtype), gradients=G) for _ in range(2))
    assert once.fingerprint == again.fingerprint
    assert once.components_.dtype == once.transform(X.astype(dtype)).dtype == dtype
    np.testing.assert_allclose(once.transform(X.astype(dtype)).std(axis=0), once.scale_, rtol=1e-4)


def test_axes_above_the_rank_are_clipped_with_a_warning():
    X, G, _ = world()
    with pytest.warns(UserWarning, match="n_axes=32 clipped to 3: 2000 rows and 3 gradients"):
        basis = ActiveSubspaceBasis(n_axes=32).fit(X, gradients=G[:3])
    assert len(basis.components_) == len(basis.gradient_share_) == 3
    flat = noise(200, 4) @ noise(4, 30, 1) + 3
    with pytest.warns(UserWarning, match="clipped to 4"):
        ActiveSubspaceBasis(n_axes=8).fit(flat.astype(np.float32), gradients=G)


def test_axes_that_half_of_the_gradients_cannot_give_have_no_share():
    X, G, _ = world()
    basis = ActiveSubspaceBasis(n_axes=5).fit(X, gradients=G[:8])
    assert np.isnan(basis.gradient_share_).tolist() == [False] * 4 + [True]
    assert basis.gradient_share_chance_ == pytest.approx(4 / 30)
    alone = ActiveSubspaceBasis(n_axes=1).fit(X, gradients=G[:1])
    assert np.isnan(alone.gradient_share_total_)


def test_the_positive_pole_raises_the_target():
    X, G, _ = world()
    basis = ActiveSubspaceBasis(n_axes=6).fit(X, gradients=G)
    assert (basis.components_ @ G.mean(axis=0) > 0).all()
    opposite = ActiveSubspaceBasis(n_axes=6).fit(X, gradients=-G)
    np.testing.assert_allclose(opposite.components_, -basis.components_, atol=1e-9)


def test_without_a_mean_gradient_coordinates_skew_positive():
    X, G, _ = world()
    X = X + np.random.default_rng(1).gamma(0.2, 4, X.shape)
    for sign in (1, -1):
        there_and_back = np.concatenate([G, -G])
        Z = (
            ActiveSubspaceBasis(n_axes=4)
            .fit(sign * X, gradients=there_and_back)
            .transform(sign * X)
        )
        assert (skew(Z) > 0).all()


def test_a_loaded_basis_is_the_saved_one(tmp_path):
    X, G, _ = world()
    for m, folder in ((64, "a"), (1, "b")):  # one gradient: shares that are not known
        basis = ActiveSubspaceBasis(n_axes=1, random_state=2).fit(
            X, gradients=G[:m], source={"layer": 3}
        )
        basis.save(tmp_path / folder)
        loaded = load_basis(tmp_path / folder)
        assert type(loaded) is ActiveSubspaceBasis
        assert loaded.get_params() == basis.get_params()
        assert loaded.fingerprint == basis.fingerprint
        assert loaded.n_gradients_ == m
        assert loaded.source_ == {"layer": 3}
        for name in (*SHARES, "gradient_share_total_", "gradient_share_chance_"):
            np.testing.assert_array_equal(getattr(loaded, name), getattr(basis, name))
        np.testing.assert_array_equal(loaded.transform(X), basis.transform(X))


def test_any_basis_can_be_measured_with_gradients():
    X, G, _ = world()
    whole = gradient_share(PCABasis(n_axes=30).fit(X).components_, G)
    assert whole.shape == (30,)
    assert whole.sum() == pytest.approx(1)
    axis = np.eye(30)[:1]
    assert gradient_share(axis, G)[0] == pytest.approx(np.sum(G[:, 0] ** 2) / np.sum(G**2))


@pytest.mark.parametrize(
    ("gradients", "said"),
    [
        (None, r"compute them with mn\.gradients\(model, corpus\)"),
        (noise(5, 29), r"must be \[m, 30\].*got the shape \(5, 29\)"),
        (noise(1, 30)[0], r"got the shape \(30,\)"),
        (noise(0, 30), r"got the shape \(0, 30\)"),
        (np.where(np.eye(5, 30), np.nan, 1.0), "NaN or inf in 5 of 5 rows, first in row 0"),
        (np.zeros((5, 30)), "all 5 gradients are zero: the target does not depend on this layer"),
        ([["a"] * 30], "must be a matrix of numbers"),
    ],
)
def test_wrong_gradients_are_one_clear_line(gradients, said):
    with pytest.raises(InputError, match=said) as caught:
        ActiveSubspaceBasis(n_axes=2).fit(world()[0], gradients=gradients)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("X", "n_axes", "said"),
    [
        (noise(10, 30), 0, "n_axes must be an integer of 1 or more, got 0"),
        (noise(1, 30), 2, r"1 sample\(s\)"),
        (np.ones((10, 30)), 2, "all 10 rows are equal"),
        (np.eye(40)[:, :30] * (np.arange(30) < 5), 2, "none of the 3 gradients has a part along"),
    ],
)
def test_wrong_rows_are_one_clear_line(X, n_axes, said):
    gradients = noise(3, 30) * (np.arange(30) >= 5)
    with pytest.raises(InputError, match=said) as caught:
        ActiveSubspaceBasis(n_axes=n_axes).fit(X, gradients=gradients)
    assert "\n" not in str(caught.value)


def test_axes_to_be_measured_must_fit_the_gradients():
    with pytest.raises(InputError, match=r"axes must be a matrix \[k, d\]"):
        gradient_share(np.ones(3), noise(5, 3))
    with pytest.raises(InputError, match=r"gradients must be \[m, 3\]"):
        gradient_share(np.eye(3), noise(5, 4))
