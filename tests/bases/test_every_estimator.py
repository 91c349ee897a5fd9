"""What holds for all bases and for the dictionary, whatever is in the rows."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import ThreadpoolController

from mnskills_viz.bases.active_subspace import ActiveSubspaceBasis
from mnskills_viz.bases.pca import PCABasis
from mnskills_viz.bases.random import RandomBasis
from mnskills_viz.bases.sae import SAEBasis
from mnskills_viz.bases.scatter import mean_of
from mnskills_viz.bases.sparse_autoencoder import SparseAutoencoder
from mnskills_viz.errors import InputError

D = 10
SLOPES = np.random.default_rng(9).standard_normal((30, D))


class WithSlopes(ActiveSubspaceBasis):
    """Gradients are data like rows: here some are given beforehand."""

    def fit(self, X, y=None):
        return super().fit(X, gradients=SLOPES)


BASES = [
    PCABasis(n_axes=4),
    RandomBasis(n_axes=4),
    WithSlopes(n_axes=4),
    SAEBasis(n_axes=4, n_latents=24, k=3, max_epochs=2),
    SAEBasis(n_axes=4, n_latents=24, k=3, max_epochs=2, variant="matryoshka", orthogonalize="qr"),
]
DICTIONARIES = [
    SparseAutoencoder(n_latents=24, k=3, max_epochs=2, variant=variant)
    for variant in ("topk", "batchtopk", "matryoshka")
]
every_basis = pytest.mark.parametrize("basis", BASES, ids=str)
every_estimator = pytest.mark.parametrize("estimator", [*BASES, *DICTIONARIES], ids=str)


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "n_axes=|the dictionary is not better", UserWarning)
        yield


def rows(n: int = 60) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, D)) * 0.8 ** np.arange(D) + 5


@every_basis
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(4, 40),
    decay=st.floats(0.02, 1.0),
    size=st.sampled_from([1e-6, 1.0, 1e6]),
    offset=st.sampled_from([0.0, 1e3]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_axes_are_orthonormal_on_ill_conditioned_rows(basis, seed, n, decay, size, offset, dtype):
    generator = np.random.default_rng(seed)
    X = size * (generator.standard_normal((n, D)) * decay ** np.arange(D) + offset)
    axes = basis.fit(X.astype(dtype)).components_
    assert 1 <= len(axes) <= 4
    np.testing.assert_allclose(axes @ axes.T, np.eye(len(axes)), atol=1e-5)
    assert np.isfinite(basis.scale_).all()


@every_estimator
@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda X: np.where(np.eye(*X.shape) > 0, np.nan, X), "NaN or inf in 10 of 60 rows"),
        (lambda X: np.where(np.eye(*X.shape) > 0, np.inf, X), "first in row 0"),
        (lambda X: X[:1], r"1 sample\(s\)"),
        (lambda X: X[:0], r"0 sample\(s\)"),
        (lambda X: X[0], "Expected 2D array"),
        (lambda X: np.full_like(X, 7.1), "all 60 rows are equal"),
        (lambda X: np.zeros(X.shape, dtype=np.float32), "all 60 rows are equal"),
        (lambda X: np.full(X.shape, "a"), "could not convert string to float"),
    ],
    ids=["nan", "inf", "one row", "no row", "a vector", "equal rows", "zeros", "text"],
)
def test_rows_that_cannot_be_fitted_are_one_clear_line(estimator, harm, said):
    with pytest.raises((InputError, ValueError), match=said) as caught:
        estimator.fit(harm(rows()))
    assert "\n" not in str(caught.value)


@every_estimator
def test_rows_of_another_width_are_refused(estimator):
    estimator.fit(rows())
    with pytest.raises(InputError, match=f"{D - 1} features"):
        estimator.transform(rows()[:, 1:])


@every_estimator
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_tensors_are_rows(estimator, dtype):
    tensor = torch.from_numpy(rows()).to(dtype).requires_grad_()
    array = tensor.detach().to(torch.float64 if dtype == torch.float64 else torch.float32).numpy()
    found = estimator.fit(tensor).transform(tensor)
    expected = estimator.fit(array).transform(array)
    assert found.dtype == expected.dtype == array.dtype
    assert abs(found - expected).max() == 0


@every_estimator
def test_fitting_twice_gives_identical_arrays(estimator):
    first = estimator.fit(rows()).components_.copy()
    np.testing.assert_array_equal(estimator.fit(rows()).components_, first)


@every_basis
def test_the_layout_of_rows_in_memory_does_not_matter(basis, tmp_path):
    np.save(tmp_path / "rows.npy", rows())
    expected = basis.fit(rows()).transform(rows())
    for same in (np.load(tmp_path / "rows.npy", mmap_mode="r"), np.asfortranarray(rows())):
        np.testing.assert_allclose(
            np.abs(basis.fit(same).transform(same)), np.abs(expected), atol=1e-5
        )


def test_fits_in_threads_are_those_without_and_leave_the_threads_as_they_were():
    X = np.random.default_rng(0).standard_normal((40_000, 64))
    libraries = ThreadpoolController().select(user_api="blas")
    before = [library.num_threads for library in libraries.lib_controllers]
    expected = PCABasis(n_axes=4).fit(X)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: PCABasis(n_axes=4).fit(X), range(8)))
    for basis in found:
        np.testing.assert_array_equal(basis.components_, expected.components_)
        np.testing.assert_array_equal(basis.scale_, expected.scale_)
    assert [library.num_threads for library in libraries.lib_controllers] == before


@pytest.mark.parametrize("basis", BASES[:2], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_column_that_never_changes_hides_nothing(basis, dtype):
    X = rows().astype(dtype)
    X[:, 3] = 1e8
    basis.fit(X)
    assert basis.n_axes_ == 4
    np.testing.assert_allclose(basis.components_ @ basis.components_.T, np.eye(4), atol=1e-5)


@pytest.mark.parametrize("size", [1e-30, 1e-12, 1e12, 1e18])
def test_the_unit_of_rows_does_not_matter_to_pca(size):
    X = rows().astype(np.float32)
    expected, found = PCABasis(n_axes=3).fit(X), PCABasis(n_axes=3).fit(X * np.float32(size))
    np.testing.assert_allclose(found.components_, expected.components_, atol=1e-4)
    np.testing.assert_allclose(found.scale_ / np.float32(size), expected.scale_, rtol=1e-4)


def test_rows_whose_squares_are_no_numbers_are_refused():
    with pytest.raises(InputError, match="too large for their squares"):
        PCABasis(n_axes=3).fit(rows() * 1e200)


def test_one_row_far_away_leaves_the_mean_of_the_others():
    X = np.random.default_rng(0).standard_normal((200_000, 4)).astype(np.float32)
    X[0] = 1e6
    np.testing.assert_allclose(mean_of(X), X.mean(axis=0, dtype=np.float64), atol=1e-3)
