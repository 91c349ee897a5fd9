"""The control: directions drawn blind to the rows, or in the span of a basis."""

import numpy as np
import pytest

from mnskills_viz import InputError, PCABasis, RandomBasis

X = np.random.default_rng(0).standard_normal((80, 12)) * 0.7 ** np.arange(12)


def test_as_many_axes_within_a_basis_span_what_it_spans():
    basis = PCABasis(n_axes=4).fit(X)
    turned = RandomBasis(n_axes=4, random_state=3).fit(X, within=basis)
    projectors = [b.components_.T @ b.components_ for b in (basis, turned)]
    np.testing.assert_allclose(projectors[0], projectors[1], atol=1e-12)
    np.testing.assert_allclose(turned.components_ @ turned.components_.T, np.eye(4), atol=1e-12)
    # The variance is that of the span, and no axis is one of the basis.
    np.testing.assert_allclose((turned.scale_**2).sum(), (basis.scale_**2).sum())
    assert np.abs(turned.components_ @ basis.components_.T).max() < 0.99


def test_the_scale_is_that_of_the_rows_along_each_axis():
    basis = PCABasis(n_axes=4).fit(X)
    turned = RandomBasis(n_axes=3).fit(X, within=basis)
    np.testing.assert_allclose(turned.scale_, turned.transform(X).std(axis=0), rtol=1e-9)


def test_a_draw_within_is_by_seed():
    basis = PCABasis(n_axes=4).fit(X)
    one, same, other = (RandomBasis(4, seed).fit(X, within=basis) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.components_, same.components_)
    assert np.abs(one.components_ - other.components_).max() > 0.1


def test_more_axes_than_the_span_has_are_clipped_with_a_warning():
    basis = PCABasis(n_axes=4).fit(X)
    with pytest.warns(UserWarning, match="the basis to draw within has 4 axes"):
        assert RandomBasis(n_axes=6).fit(X, within=basis).n_axes_ == 4


def test_a_basis_of_another_width_is_refused():
    basis = PCABasis(n_axes=4).fit(X[:, :8])
    with pytest.raises(InputError, match="within has axes of width 8, and rows have 12"):
        RandomBasis(n_axes=4).fit(X, within=basis)
