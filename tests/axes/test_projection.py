"""The plane of categories is compared with scikit-learn's."""

import numpy as np
import pytest

import mnskills_viz as mn
from mnskills_viz.axes.projection import categories_apart, sample

N = 600


@pytest.fixture(scope="module")
def z():
    rng = np.random.default_rng(0)
    centres = np.array([[3, 0, 0], [0, 3, 0], [0, 0, 3], [0, 0, 0]])
    return (rng.normal(size=(N, 3)) + centres[np.arange(N) % 4]).astype(np.float32)


def test_a_sample_takes_of_every_group_its_share_and_none_twice():
    groups = np.repeat([0, 1, 2, 3], [10_000, 3_000, 200, 1])
    rows = sample(groups, 1_000)
    assert len(set(rows)) == len(rows) <= 1_000 + 4
    assert (np.diff(rows) > 0).all()
    shares = np.bincount(groups[rows]) / len(rows)
    np.testing.assert_allclose(shares[:3], np.bincount(groups)[:3] / len(groups), atol=0.01)
    assert (groups[rows] == 3).sum() == 1


def test_a_sample_of_few_rows_is_all_of_them():
    assert sample(np.zeros(5, dtype=int), 10).tolist() == [0, 1, 2, 3, 4]


def test_categories_apart_is_scikit_learns_discriminant(z):
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    codes = np.where(np.arange(N) % 4 < 3, np.arange(N) % 4, -1)
    found = categories_apart(z, codes)
    known = codes >= 0
    plane = LinearDiscriminantAnalysis(n_components=2).fit(z[known], codes[known])
    np.testing.assert_allclose(found, plane.transform(z), atol=1e-4)


@pytest.mark.parametrize(
    "codes",
    [np.arange(N) % 2, np.arange(N), np.full(N, -1)],
    ids=["two", "one row each", "none"],
)
def test_what_spans_no_plane_is_refused_in_a_line(z, codes):
    with pytest.raises(mn.InputError, match="choose two axes instead"):
        categories_apart(z, codes)


def test_one_axis_is_no_plane(z):
    with pytest.raises(mn.InputError, match="choose two axes instead"):
        categories_apart(z[:, :1], np.arange(N) % 3)
