import numpy as np
import pytest

from mnskills_viz.axes.examples import poles
from mnskills_viz.axes.neighbours import ROWS_AT_ONCE, latents_behind, similar_axes
from mnskills_viz.bases.pca import PCABasis
from mnskills_viz.bases.random import RandomBasis
from mnskills_viz.bases.sae import SAEBasis, SparseAutoencoder
from mnskills_viz.errors import InputError


def of_layer(layer, weights="one"):
    return {
        "layer": layer,
        "layers": [layer],
        "scales": [1.0],
        "widths": [12],
        "model": {"weights": weights},
    }


@pytest.fixture(scope="module")
def rows():
    """Sums of a few of twenty directions, each with its own strength."""
    generator = np.random.default_rng(0)
    directions = generator.standard_normal((20, 12))
    codes = generator.exponential(size=(600, 20)) * (generator.random((600, 20)) < 0.15)
    noise = 0.1 * generator.standard_normal((600, 12))
    return (5 + codes @ directions + noise).astype(np.float32)


@pytest.fixture(scope="module")
def pca(rows):
    return PCABasis(n_axes=6).fit(rows, source=of_layer(3))


@pytest.fixture(scope="module")
def dictionary(rows):
    return SparseAutoencoder(n_latents=32, k=4, max_epochs=8).fit(rows, source=of_layer(3))


def test_every_axis_is_held_against_every_other(rows, pca):
    other = RandomBasis(n_axes=4, random_state=1).fit(rows, source=of_layer(3))
    z, z_other = pca.transform(rows), other.transform(rows)
    table = similar_axes(pca, other, z, z_other)
    assert len(table) == 24
    for row in table.itertuples():
        cosine = pca.components_[row.axis].astype(float) @ other.components_[row.other_axis]
        correlation = np.corrcoef(z[:, row.axis], z_other[:, row.other_axis])[0, 1]
        assert row.cosine == pytest.approx(cosine, abs=1e-6)
        assert row.correlation == pytest.approx(correlation, abs=1e-5)
    for _, mine in table.groupby("axis"):
        assert mine["correlation"].abs().is_monotonic_decreasing


def test_correlations_over_many_rows_that_drift_are_numpys(pca):
    n = 2 * ROWS_AT_ONCE + 100
    z = np.random.default_rng(0).standard_normal((n, 6)).astype(np.float32)
    z += np.linspace(20, 24, n, dtype=np.float32)[:, None]
    z[:, 3] -= z[:, 2]
    table = similar_axes(pca, pca, z, z[:, ::-1]).set_index(["axis", "other_axis"])
    expected = np.corrcoef(z.T.astype(np.float64))[:, ::-1]
    for (axis, other), row in table.iterrows():
        assert row["correlation"] == pytest.approx(expected[axis, other], abs=1e-5)


def test_of_one_axis_the_nearest_are_named(rows, pca):
    z = pca.transform(rows)
    turned = pca.components_[[5, 4, 3, 2, 1, 0]]
    other = PCABasis(n_axes=6).fit(rows, source=of_layer(3))
    other.components_ = -turned
    table = similar_axes(pca, other, z, other.transform(rows), axis=2, n=2)
    assert table["axis"].tolist() == [2, 2]
    assert table["other_axis"].tolist()[0] == 3
    assert table["cosine"][0] == pytest.approx(-1)
    assert table["correlation"][0] == pytest.approx(-1)


@pytest.mark.parametrize("source", [of_layer(4), of_layer(3, "another"), None, {"note": "mine"}])
def test_directions_of_two_spaces_have_no_cosine(rows, pca, source):
    other = PCABasis(n_axes=2).fit(rows, source=source)
    table = similar_axes(pca, other, pca.transform(rows), other.transform(rows))
    assert table["cosine"].isna().all()
    assert table["correlation"].notna().all()


def test_bases_of_different_widths_are_compared_by_their_rows(rows, pca):
    wide = np.concatenate([rows, rows[:, ::-1]], axis=1)
    other = PCABasis(n_axes=2).fit(wide, source=of_layer("concat"))
    table = similar_axes(pca, other, pca.transform(rows), other.transform(wide), axis=0)
    assert table["cosine"].isna().all()
    assert table["correlation"].abs().max() > 0.5


def test_an_axis_that_does_not_vary_goes_with_none(rows, pca):
    z = pca.transform(rows)
    z[:, 1] = 0.5
    table = similar_axes(pca, pca, z, pca.transform(rows), axis=1)
    assert table["correlation"].isna().all()


def test_latents_behind_an_axis_agree_with_their_definition(rows, pca, dictionary):
    z = pca.transform(rows).astype(np.float64)[:, 1]
    codes = dictionary.encode(rows).toarray().astype(np.float64)
    table = latents_behind(dictionary, pca, 1, rows, n=32).set_index("latent")
    assert sorted(table.index) == np.flatnonzero(codes.any(axis=0)).tolist()
    ends = poles(z, 20)
    for latent, row in table.iterrows():
        code, direction = codes[:, latent], dictionary.components_[latent].astype(np.float64)
        along = direction @ pca.components_[1]
        assert row["cosine"] == pytest.approx(along / np.linalg.norm(direction), abs=1e-6)
        assert row["correlation"] == pytest.approx(np.corrcoef(code, z)[0, 1], abs=1e-6)
        share = along * np.cov(code, z, ddof=0)[0, 1] / z.var()
        assert row["share"] == pytest.approx(share, abs=1e-6)
        assert row["density"] == (code > 0).mean()
        assert row["positive"] == pytest.approx(code[ends.positive].mean(), rel=1e-5)
        assert row["negative"] == pytest.approx(code[ends.negative].mean(), rel=1e-5)
    assert table["share"].is_monotonic_decreasing


def test_shares_of_the_latents_and_of_what_they_leave_out_sum_to_one(rows, pca, dictionary):
    z = pca.transform(rows).astype(np.float64)
    left = rows - dictionary.decode(dictionary.encode(rows))
    for axis in range(pca.n_axes_):
        along = left.astype(np.float64) @ pca.components_[axis]
        rest = np.cov(along, z[:, axis], ddof=0)[0, 1] / z[:, axis].var()
        shares = latents_behind(dictionary, pca, axis, rows, n=32)["share"]
        assert shares.sum() + rest == pytest.approx(1, abs=1e-5)


def test_the_latent_that_an_axis_was_made_from_points_along_it_and_fires_at_its_pole(rows):
    basis = SAEBasis(n_axes=1, n_latents=32, k=4, max_epochs=8).fit(rows)
    table = latents_behind(basis, basis, 0, rows, n=32).set_index("latent")
    source = table.loc[basis.latents_[0]]
    assert source["cosine"] == table["cosine"].max() == pytest.approx(1, abs=1e-5)
    assert source["positive"] > source["negative"] == 0


def test_what_was_encoded_before_is_not_encoded_again(rows, pca, dictionary):
    known = {"codes": dictionary.encode(rows), "z": pca.transform(rows)[:, 2]}
    table = latents_behind(dictionary, pca, 2, **known)
    assert table.equals(latents_behind(dictionary, pca, 2, rows))
    assert len(table) == 8


def test_what_cannot_be_compared_is_refused_in_one_line(rows, pca, dictionary):
    z = pca.transform(rows)
    elsewhere = PCABasis(n_axes=2).fit(rows, source=of_layer(4))
    narrow = PCABasis(n_axes=2).fit(rows[:, :5])
    wrong = [
        (lambda: similar_axes(pca, pca, z, z[:-1]), r"z_other must be \[600, 6\]"),
        (lambda: similar_axes(pca, pca, z[:, :2], z), r"z must be \[600, 6\]"),
        (lambda: similar_axes(pca, pca, z, z, axis=6), "axes 0 to 5, not 6"),
        (lambda: similar_axes(pca, pca, z, z, n=0), "n must be an integer of 1 or more"),
        (lambda: latents_behind(pca, pca, 0, rows), "PCABasis has no latents"),
        (lambda: latents_behind(dictionary, pca, -1, rows), "axes 0 to 5, not -1"),
        (lambda: latents_behind(dictionary, elsewhere, 0, rows), "layer 3, the basis of layer 4"),
        (lambda: latents_behind(dictionary, narrow, 0, rows), "of width 12, the basis of 5"),
        (lambda: latents_behind(dictionary, pca, 0), "give X, or both codes and z"),
        (
            lambda: latents_behind(dictionary, pca, 0, rows, codes=dictionary.encode(rows[:9])),
            r"codes must be \[600, 32\]",
        ),
    ]
    for refused, message in wrong:
        with pytest.raises(InputError, match=message) as error:
            refused()
        assert "\n" not in str(error.value)
