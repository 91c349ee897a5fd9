"""PCA and the random control, against scikit-learn and by property."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import skew
from sklearn.decomposition import PCA
from sklearn.utils.estimator_checks import check_estimator

from mnskills_viz.activations.moments import Moments
from mnskills_viz.bases import scatter as scatter_module
from mnskills_viz.bases.pca import PCABasis
from mnskills_viz.bases.random import RandomBasis
from mnskills_viz.bases.scatter import scatter
from mnskills_viz.errors import InputError


def rows(n: int, d: int, dtype: type = np.float64, seed: int = 0) -> np.ndarray:
    """Rows with falling spreads, far from the origin, skewed."""
    generator = np.random.default_rng(seed)
    spreads = 0.8 ** np.arange(d)
    turn, _ = np.linalg.qr(generator.standard_normal((d, d)))
    return ((generator.gamma(2.0, size=(n, d)) * spreads) @ turn + 20.0).astype(dtype)


def largest_error(axes: np.ndarray) -> float:
    return float(np.abs(axes @ axes.T - np.eye(len(axes))).max())


@pytest.mark.filterwarnings("ignore:n_axes")
@pytest.mark.parametrize("basis", [PCABasis(n_axes=3), RandomBasis(n_axes=3)])
def test_scikit_learn_accepts_it_as_an_estimator(basis):
    check_estimator(basis)


@pytest.mark.parametrize("shape", [(300, 20), (20, 300)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 1e-3)])
def test_pca_agrees_with_scikit_learn(shape, dtype, tolerance):
    X = rows(*shape, dtype)
    ours, theirs = PCABasis(n_axes=8).fit(X), PCA(8, svd_solver="full").fit(X.astype(np.float64))
    cosines = np.abs(np.einsum("ij,ij->i", ours.components_, theirs.components_))
    np.testing.assert_allclose(cosines, 1.0, atol=tolerance)
    np.testing.assert_allclose(
        ours.explained_variance_ratio_, theirs.explained_variance_ratio_, rtol=tolerance
    )
    n = len(X)
    np.testing.assert_allclose(
        ours.scale_**2, theirs.explained_variance_ * (n - 1) / n, rtol=tolerance
    )
    np.testing.assert_allclose(ours.mean_, theirs.mean_, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", [PCABasis, RandomBasis])
def test_coordinates_are_centred_unscaled_and_keep_their_type(kind, dtype):
    X = rows(100, 12, dtype)
    basis = kind(n_axes=5).fit(X)
    Z = basis.transform(X)
    assert Z.dtype == basis.components_.dtype == basis.scale_.dtype == dtype
    assert basis.transform(X.astype(np.float32)).dtype == np.float32
    np.testing.assert_allclose(Z, (X - X.mean(axis=0)) @ basis.components_.T, atol=2e-5)
    np.testing.assert_allclose(Z.std(axis=0), basis.scale_, rtol=1e-5)
    assert 0 < basis.explained_variance_ratio_.sum() <= 1 + 1e-6


def test_one_huge_column_does_not_drown_the_others_in_float32():
    X = rows(400, 20).astype(np.float32)
    X[:, 0] = 1e5 * np.random.default_rng(1).standard_normal(400)
    ours, exact = PCABasis(n_axes=4).fit(X), PCA(4, svd_solver="full").fit(X.astype(np.float64))
    cosines = np.abs(np.einsum("ij,ij->i", ours.components_, exact.components_))
    np.testing.assert_allclose(cosines, 1.0, atol=1e-3)


def test_half_precision_rows_become_float32():
    assert PCABasis(n_axes=2).fit_transform(rows(30, 5).astype(np.float16)).dtype == np.float32


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(3, 40),
    d=st.integers(1, 40),
    decay=st.floats(0.05, 1.0),
    size=st.sampled_from([1e-6, 1.0, 1e6]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_axes_are_orthonormal_however_ill_conditioned_the_rows(seed, n, d, decay, size, dtype):
    generator = np.random.default_rng(seed)
    X = size * generator.standard_normal((n, d)) * decay ** np.arange(d)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        basis = PCABasis(n_axes=32).fit(X.astype(dtype))
    assert 1 <= basis.n_axes_ <= min(n - 1, d, 32)
    assert largest_error(basis.components_) < 1e-5
    # an axis far below the first one comes in the order of its variance up to rounding
    assert (np.diff(basis.scale_) <= 1e-5 * basis.scale_[0]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(200, 30), (30, 200)])
def test_axes_above_the_rank_are_clipped_with_a_warning(shape, dtype):
    generator = np.random.default_rng(0)
    X = generator.standard_normal((shape[0], 4)) @ generator.standard_normal((4, shape[1])) + 3
    with pytest.warns(UserWarning, match="n_axes=32 clipped to 4"):
        basis = PCABasis(n_axes=32).fit(X.astype(dtype))
    assert basis.n_axes_ == len(basis.components_) == len(basis.scale_) == 4


def test_coordinates_skew_positive():
    Z = PCABasis(n_axes=6).fit_transform(-rows(500, 10))
    assert (skew(Z) > 0).all()


def test_without_skewness_the_largest_loading_is_positive():
    half = rows(50, 6)
    symmetric = np.concatenate([half, 2 * half.mean(axis=0) - half])
    axes = PCABasis(n_axes=6).fit(symmetric).components_
    assert (np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1) > 0).all()


def test_random_axes_follow_the_seed_and_not_the_rows():
    first = RandomBasis(n_axes=4, random_state=3).fit(rows(50, 9)).components_
    again = RandomBasis(n_axes=4, random_state=3).fit(rows(80, 9, seed=5)).components_
    other = RandomBasis(n_axes=4, random_state=4).fit(rows(50, 9)).components_
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    assert largest_error(first) < 1e-12


@pytest.mark.parametrize("kind", [PCABasis, RandomBasis])
@pytest.mark.parametrize(
    ("X", "n_axes", "said"),
    [
        (rows(10, 3), 0, "n_axes must be an integer of 1 or more, got 0"),
        (rows(10, 3), 2.5, "got 2.5"),
        (rows(1, 3), 2, r"1 sample\(s\)"),
        (np.ones((10, 3)), 2, "all 10 rows are equal"),
        (np.where(np.eye(10, 3), np.nan, 1.0), 2, "NaN or inf in 3 of 10 rows, first in row 0"),
    ],
)
def test_wrong_input_is_one_clear_line(kind, X, n_axes, said):
    with pytest.raises(InputError, match=said) as caught:
        kind(n_axes=n_axes).fit(X)
    assert "\n" not in str(caught.value)


def test_another_width_is_refused():
    with pytest.raises(InputError, match="X has 4 features, but PCABasis is expecting 3"):
        PCABasis(n_axes=2).fit(rows(10, 3)).transform(rows(10, 4))


@pytest.mark.parametrize("shape", [(3000, 20), (20, 3000), (1200, 1100)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_are_exact_about_a_mean_far_longer_than_the_spread(shape, dtype, monkeypatch):
    monkeypatch.setattr(scatter_module, "BLOCK_BYTES", 2**16)  # many blocks
    X = (np.random.default_rng(0).standard_normal(shape) + 500).astype(dtype)
    X[: len(X) // 2] += 3  # in the order of their source: the first block tells nothing
    mean, products = scatter(X, np.dtype(dtype))
    exact = X.astype(np.float64) - X.mean(axis=0, dtype=np.float64)
    expected = exact.T @ exact if shape[0] >= shape[1] else exact @ exact.T
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(mean, X.mean(axis=0, dtype=np.float64), rtol=1e-6)
    largest = np.abs(expected).max() / shape[0]
    np.testing.assert_allclose(products, expected / shape[0], atol=tolerance * largest)


def test_lanczos_finds_what_eigh_finds():
    X = rows(1500, 1100)
    ours, theirs = PCABasis(n_axes=8).fit(X), PCA(8, svd_solver="full").fit(X)
    cosines = np.abs(np.einsum("ij,ij->i", ours.components_, theirs.components_))
    np.testing.assert_allclose(cosines, 1.0, atol=1e-9)


def test_moments_give_the_axes_of_their_rows():
    X = rows(300, 12, np.float32)
    moments = Moments.of(X[:100]) + Moments.of(X[100:])
    ours, theirs = PCABasis(n_axes=5).fit(moments), PCABasis(n_axes=5).fit(X.astype(np.float64))
    np.testing.assert_allclose(
        np.abs(np.einsum("ij,ij->i", ours.components_, theirs.components_)), 1.0, atol=1e-9
    )
    for name in ("scale_", "mean_", "explained_variance_ratio_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-8)
    assert ours.n_samples_ == 300
    assert ours.transform(X).shape == (300, 5)
    with pytest.warns(UserWarning, match="n_axes=32 clipped to 12"):
        assert PCABasis().fit(moments).n_axes_ == 12


@pytest.mark.parametrize(
    ("n_axes", "X", "said"),
    [
        ("auto", Moments.of(rows(9, 3)), "moments have none"),
        (2, Moments.of(rows(1, 3)), "needs 2 rows"),
        (2, Moments.of(np.full((9, 3), 7.1)), "all 9 rows are equal"),
        (1.5, rows(9, 3), "share of the variance between 0 and 1"),
        ("many", rows(9, 3), "or \"auto\", got 'many'"),
        (True, rows(9, 3), "must be an integer of 1 or more"),
    ],
)
def test_wrong_numbers_of_axes_and_moments_are_one_clear_line(n_axes, X, said):
    with pytest.raises(InputError, match=said):
        PCABasis(n_axes=n_axes).fit(X)


@pytest.mark.parametrize("share", [0.3, 0.8, 0.999])
def test_a_share_of_the_variance_takes_the_fewest_axes_that_hold_it(share):
    X = rows(400, 30)
    basis = PCABasis(n_axes=share).fit(X)
    assert basis.n_axes_ == PCA(share, svd_solver="full").fit(X).n_components_
    held = basis.explained_variance_ratio_.cumsum()
    assert held[-1] >= share
    assert basis.n_axes_ == 1 or held[-2] < share


@pytest.mark.parametrize("planted", [1, 3, 7])
@pytest.mark.parametrize("shape", [(400, 40), (60, 200)])
def test_auto_counts_the_axes_above_chance(planted, shape):
    n, d = shape
    generator = np.random.default_rng(planted)
    strong = 2 * generator.standard_normal((n, planted)) @ generator.standard_normal((planted, d))
    noise = generator.standard_normal(shape) * generator.uniform(0.5, 3, d)  # of unequal spread
    assert PCABasis(n_axes="auto").fit(strong + noise).n_axes_ == planted


def test_auto_keeps_one_axis_of_nothing_but_noise():
    counts = [
        PCABasis(n_axes="auto").fit(np.random.default_rng(seed).standard_normal((300, 20))).n_axes_
        for seed in range(10)
    ]
    assert sum(count > 2 for count in counts) <= 1


def test_rows_larger_than_memory_are_read_a_block_at_a_time(tmp_path):
    """In a process of its own, which may allocate less than half of what the rows take."""
    code = """
import resource, sys
import numpy as np
from mnskills_viz.bases.pca import PCABasis
X = np.load(sys.argv[1], mmap_mode="r")
PCABasis(n_axes=8).fit(X[:40_000])  # libraries are loaded, threads have started
status = open("/proc/self/status").read()
cap = int(status.split("VmData:")[1].split()[0]) * 1024 + int(0.4 * X.nbytes)
resource.setrlimit(resource.RLIMIT_DATA, (cap, cap))
basis = PCABasis(n_axes=8).fit(X)
print(basis.explained_variance_ratio_.sum())
"""
    rows = np.lib.format.open_memmap(
        tmp_path / "rows.npy", "w+", dtype=np.float32, shape=(400_000, 256)
    )
    rows[:, :4] = np.random.default_rng(0).standard_normal((400_000, 4))
    rows.flush()
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "rows.npy"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(1)
