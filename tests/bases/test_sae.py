"""The sparse autoencoder and its basis, on dictionaries we planted ourselves."""

import warnings

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.utils.estimator_checks import check_estimator

from mnskills_viz.bases import sparse_training
from mnskills_viz.bases.sae import SAEBasis, SparseAutoencoder, strongest_directions
from mnskills_viz.errors import InputError


def planted(n: int, d: int, n_true: int, active: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows [n, d] that are sums of a few of the true unit directions [n_true, d]."""
    generator = np.random.default_rng(0)
    true = generator.standard_normal((n_true, d))
    true /= np.linalg.norm(true, axis=1, keepdims=True)
    codes = generator.random((n, n_true))
    codes = np.where(codes.argsort(axis=1).argsort(axis=1) < active, codes, 0)
    codes[codes > 0] = generator.uniform(0.5, 1.5, int((codes > 0).sum()))
    rows = codes @ true + 0.01 * generator.standard_normal((n, d))
    return (5 * rows + 2).astype(np.float32), true


@pytest.fixture(scope="module")
def world():
    return planted(4000, 64, 96, 4)


@pytest.fixture(scope="module")
def sae(world):
    return SparseAutoencoder(n_latents=192, k=4).fit(world[0])


@pytest.mark.filterwarnings("ignore:n_axes", "ignore:the dictionary is not better")
@pytest.mark.parametrize(
    "estimator",
    [
        SparseAutoencoder(n_latents=12, k=3, max_epochs=3),
        SAEBasis(n_axes=3, n_latents=12, k=3, max_epochs=3),
    ],
)
def test_scikit_learn_accepts_it_as_an_estimator(estimator):
    check_estimator(estimator)


def test_the_planted_directions_are_found(world, sae):
    rows, true = world
    assert np.abs(true @ sae.components_.T).max(axis=1).mean() > 0.9
    held_out, first = sae.validation_rows_, sae.history_[0]
    assert len(held_out) == 400
    assert sae.fvu(rows[held_out]) < 0.1 < first["val_fvu"]


def test_history_tells_each_epoch(sae):
    assert len(sae.history_) == sae.n_iter_ <= 50
    assert set(sae.history_[0]) == {"epoch", "train_fvu", "val_fvu", "l0", "dead_share"}
    assert all(0 <= entry["dead_share"] <= 1 and entry["l0"] <= 4 for entry in sae.history_)


def test_decoder_rows_have_unit_length(sae):
    np.testing.assert_allclose(np.linalg.norm(sae.components_, axis=1), 1, atol=1e-5)


def test_at_most_k_latents_are_active_and_those_the_largest(world, sae):
    rows = world[0][:300]
    codes = sae.encode(rows)
    assert scipy.sparse.issparse(codes)
    assert codes.shape == (300, 192)
    assert codes.dtype == np.float32
    assert np.diff(codes.indptr).max() <= 4
    preactivations = (rows - sae.mean_) @ sae.encoder_ + sae.encoder_bias_
    fourth = np.sort(preactivations, axis=1)[:, -4][:, None]
    expected = np.where(preactivations >= fourth, np.maximum(preactivations, 0), 0)
    np.testing.assert_allclose(codes.toarray(), expected, atol=1e-3)


def test_fvu_is_the_formula_and_codes_may_be_dense(world, sae):
    rows = world[0][:300].astype(np.float64)
    codes = sae.encode(rows).toarray()
    rebuilt = codes @ sae.components_ + sae.mean_
    np.testing.assert_allclose(sae.decode(codes), rebuilt, rtol=1e-6)
    formula = ((rows - rebuilt) ** 2).sum() / ((rows - rows.mean(axis=0)) ** 2).sum()
    assert sae.fvu(rows) == pytest.approx(formula, rel=1e-5)


def test_the_same_seed_gives_the_same_arrays_and_leaves_global_chance_alone():
    rows, _ = planted(120, 16, 24, 3)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, again, other = (
        SparseAutoencoder(n_latents=300, k=3, max_epochs=4, random_state=seed).fit(rows)
        for seed in (0, 0, 1)
    )
    assert torch.equal(torch.rand(3), expected)
    for name in ("components_", "encoder_", "encoder_bias_"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert not np.allclose(first.components_, other.components_)


def test_training_does_not_mind_that_gradients_are_off():
    rows, _ = planted(60, 16, 24, 3)
    with torch.no_grad():
        inside = SparseAutoencoder(n_latents=30, k=3, max_epochs=3).fit(rows)
    outside = SparseAutoencoder(n_latents=30, k=3, max_epochs=3).fit(rows)
    np.testing.assert_array_equal(inside.components_, outside.components_)


def test_the_unit_of_the_rows_does_not_matter():
    rows, _ = planted(200, 16, 24, 3)
    small, large = (
        SparseAutoencoder(n_latents=40, k=3, max_epochs=5).fit(factor * rows)
        for factor in (1.0, 1024.0)  # a power of two: rounding is the same
    )
    np.testing.assert_allclose(small.components_, large.components_, atol=1e-5)
    np.testing.assert_allclose(
        1024 * small.encode(rows).toarray(), large.encode(1024 * rows).toarray(), rtol=1e-3, atol=1
    )


def test_training_stops_when_the_held_out_rows_stop_gaining():
    noise = np.random.default_rng(0).standard_normal((200, 32)).astype(np.float32)
    sae = SparseAutoencoder(n_latents=64, k=2, max_epochs=50, patience=2).fit(noise)
    losses = [entry["val_fvu"] for entry in sae.history_]
    assert sae.n_iter_ < 50
    rows = noise[sae.validation_rows_] - noise.mean(axis=0)
    left = rows - (sae.decode(sae.encode(noise[sae.validation_rows_])) - sae.mean_)
    assert (left**2).sum() / (rows**2).sum() == pytest.approx(min(losses), rel=1e-2)


def test_progress_hears_of_every_epoch():
    heard = []
    rows, _ = planted(60, 16, 24, 3)
    sae = SparseAutoencoder(n_latents=30, k=3, max_epochs=3)
    sae.fit(rows, progress=lambda epoch, most, metrics: heard.append((epoch, most, metrics)))
    assert heard == [(i, 3, entry) for i, entry in enumerate(sae.history_, start=1)]


def test_the_auxiliary_loss_revives_dead_latents(world, monkeypatch):
    """Half the latents start too short ever to be among the largest k."""
    usual = sparse_training._start

    def half_dead(*arguments):
        weights = usual(*arguments)
        with torch.no_grad():
            weights.encoder[:64] *= 0.05
        return weights

    monkeypatch.setattr(sparse_training, "_start", half_dead)
    shares = {}
    for weight in (0.0, sparse_training.AUX_WEIGHT):
        monkeypatch.setattr(sparse_training, "AUX_WEIGHT", weight)
        sae = SparseAutoencoder(n_latents=128, k=4, max_epochs=15).fit(world[0])
        shares[weight] = [entry["dead_share"] for entry in sae.history_]
    (without, revived) = shares.values()
    assert without[-1] >= 0.45
    assert revived[0] >= 0.45
    assert revived[-1] < 0.2


@pytest.mark.parametrize("method", ["lowdin", "qr"])
def test_axes_are_orthonormal_and_point_with_their_latents(world, method):
    rows, _ = world
    basis = SAEBasis(n_axes=10, n_latents=192, k=4, orthogonalize=method, max_epochs=10).fit(rows)
    np.testing.assert_allclose(basis.components_ @ basis.components_.T, np.eye(10), atol=1e-5)
    directions = basis.dictionary_.components_[basis.latents_]
    cosines = (basis.components_ * directions).sum(axis=1)
    np.testing.assert_allclose(basis.source_cosine_, cosines, atol=1e-5)
    assert (cosines > 0.5).all()
    assert len(set(basis.latents_)) == 10
    assert basis.transform(rows).dtype == np.float32
    assert basis.dictionary_accepted_
    assert basis.dictionary_fvu_ < basis.pca_fvu_


def test_the_choice_takes_the_largest_variance_per_unit_of_what_is_left():
    spread = np.diag([3.0, 2.0, 1.0])
    tilted = np.array([np.cos(0.3), np.sin(0.3), 0.0])
    directions = np.stack([np.eye(3)[2], tilted, np.eye(3)[0], np.eye(3)[1]])
    # after the first axis, what is left of the tilted one is the second axis: no worse than it
    assert strongest_directions(directions, spread, 3).tolist() in ([2, 1, 0], [2, 3, 0])


def test_a_dictionary_worse_than_pca_is_said_to_be():
    line = np.random.default_rng(0).standard_normal((300, 2)) @ np.ones((2, 24))
    line += 0.01 * np.random.default_rng(1).standard_normal((300, 24))
    with pytest.warns(UserWarning, match="the dictionary is not better than PCA"):
        basis = SAEBasis(n_axes=2, n_latents=30, k=2, max_epochs=1).fit(line)
    assert not basis.dictionary_accepted_
    assert basis.dictionary_fvu_ >= basis.pca_fvu_


@pytest.mark.filterwarnings("ignore:the dictionary is not better")
def test_axes_above_the_rank_are_clipped_with_a_warning():
    generator = np.random.default_rng(0)
    flat = generator.standard_normal((80, 3)) @ generator.standard_normal((3, 12))
    with pytest.warns(UserWarning, match="n_axes=32 clipped to 3"):
        assert SAEBasis(n_latents=64, k=3, max_epochs=5).fit(flat).n_axes_ == 3


def test_fewer_rows_than_latents_still_train():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        basis = SAEBasis(n_axes=4, n_latents=200, k=8, max_epochs=3).fit(planted(12, 16, 24, 3)[0])
    assert np.isfinite(basis.components_).all()
    assert np.isfinite(basis.dictionary_.encoder_).all()


@pytest.mark.parametrize("kind", [SparseAutoencoder, SAEBasis])
@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"variant": "jump"}, "variant 'jump' is not available; available: \"topk\""),
        ({"n_latents": 8, "k": 9}, "k=9 latents cannot be active out of n_latents=8"),
        ({"k": 0}, "k must be an integer of 1 or more, got 0"),
        ({"max_epochs": 0}, "max_epochs must be an integer of 1 or more"),
    ],
)
def test_wrong_parameters_are_one_clear_line(kind, params, said):
    with pytest.raises(InputError, match=said):
        kind(**params).fit(planted(20, 8, 12, 2)[0])


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (np.ones((1, 4)), r"1 sample\(s\)"),
        (np.ones((9, 4)), "all 9 rows are equal"),
        (np.where(np.eye(9, 4), np.inf, 1.0), "NaN or inf in 4 of 9 rows"),
    ],
)
def test_wrong_rows_are_one_clear_line(rows, said):
    with pytest.raises(InputError, match=said):
        SparseAutoencoder(n_latents=8, k=2).fit(rows)


def test_codes_of_another_width_are_refused(sae):
    with pytest.raises(InputError, match=r"codes must be \[n, 192\], got \(2, 5\)"):
        sae.decode(np.zeros((2, 5)))
