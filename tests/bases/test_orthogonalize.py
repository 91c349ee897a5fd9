"""Orthonormal rows out of any directions."""

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from mnskills_viz.bases.orthogonalize import independent_rows, orthogonalize
from mnskills_viz.errors import InputError

METHODS = ("lowdin", "qr")


def directions(k: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((k, d))


def largest_error(axes: np.ndarray) -> float:
    return float(np.abs(axes @ axes.T - np.eye(len(axes))).max())


def test_lowdin_is_the_inverse_root_of_the_overlap_times_the_rows():
    rows = directions(6, 20)
    root = np.real(scipy.linalg.sqrtm(rows @ rows.T))
    np.testing.assert_allclose(
        orthogonalize(rows, "lowdin"), np.linalg.inv(root) @ rows, atol=1e-10
    )


def test_qr_keeps_the_first_direction_and_takes_it_out_of_the_second():
    first, second = directions(2, 5)
    axes = orthogonalize(np.stack([first, second]), "qr")
    rest = second - (second @ first) / (first @ first) * first
    np.testing.assert_allclose(axes[0], first / np.linalg.norm(first), atol=1e-12)
    np.testing.assert_allclose(axes[1], rest / np.linalg.norm(rest), atol=1e-12)


def test_lowdin_moves_the_total_less_than_qr():
    rows = directions(8, 12)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    moved = {name: ((orthogonalize(rows, name) - rows) ** 2).sum() for name in METHODS}
    assert moved["lowdin"] < moved["qr"]


@pytest.mark.parametrize("method", METHODS)
def test_dependent_and_zero_rows_are_dropped_and_the_rest_keep_their_source(method):
    a, b, c = directions(3, 7)
    rows = np.stack([a, np.zeros(7), 2 * a, b, a - 3 * b, c])
    axes = orthogonalize(rows, method)
    assert independent_rows(rows).tolist() == [0, 3, 5]
    assert axes.shape == (3, 7)
    assert (np.einsum("ij,ij->i", axes, rows[[0, 3, 5]]) > 0).all()
    # the span is the same: every row is rebuilt from the axes
    np.testing.assert_allclose(rows @ axes.T @ axes, rows, atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_more_rows_than_columns_give_a_square_orthonormal_matrix(method):
    axes = orthogonalize(directions(9, 4).astype(np.float32), method)
    assert axes.shape == (4, 4)
    assert axes.dtype == np.float32
    assert largest_error(axes) < 1e-5


@pytest.mark.parametrize("method", METHODS)
def test_nothing_but_zeros_leaves_nothing(method):
    assert orthogonalize(np.zeros((3, 5)), method).shape == (0, 5)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    k=st.integers(1, 12),
    d=st.integers(1, 12),
    closeness=st.floats(1e-12, 1.0),
    size=st.sampled_from([1e-30, 1.0, 1e30]),
    dtype=st.sampled_from([np.float32, np.float64]),
    method=st.sampled_from(METHODS),
)
def test_orthonormal_however_close_the_rows_are(seed, k, d, closeness, size, dtype, method):
    rows = np.random.default_rng(seed).standard_normal((1, d)) + closeness * directions(k, d, seed)
    axes = orthogonalize((size * rows).astype(dtype), method)
    assert axes.dtype == dtype
    assert 1 <= len(axes) <= min(k, d)
    assert largest_error(axes) < 1e-5


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (np.array([[1.0, np.nan]]), "NaN or inf in 1 of 1 rows, first in row 0"),
        (np.array([[1.0, 2.0], [np.inf, 0.0]]), "first in row 1"),
        (np.empty((0, 4)), r"got the shape \(0, 4\)"),
        (np.ones(4), r"got the shape \(4,\)"),
        (np.array([["a"]]), "real numbers"),
    ],
)
def test_wrong_input_is_one_clear_line(rows, said):
    with pytest.raises(InputError, match=said) as caught:
        orthogonalize(rows)
    assert "\n" not in str(caught.value)


def test_an_unknown_method_names_the_known_ones():
    with pytest.raises(InputError, match=r'available: "lowdin", "qr"'):
        orthogonalize(np.eye(2), "cayley")
