"""The sparse autoencoder and its basis, on dictionaries we planted ourselves."""

import warnings
from copy import deepcopy

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator

from mnskills_viz.bases import sparse_training
from mnskills_viz.bases.sae import SAEBasis, strongest_directions
from mnskills_viz.bases.sparse_autoencoder import SparseAutoencoder, unexplained
from mnskills_viz.bases.sparse_state import Checkpoint
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
        SparseAutoencoder(n_latents=12, k=3, max_epochs=3, variant="batchtopk"),
        SparseAutoencoder(n_latents=12, k=3, max_epochs=3, variant="matryoshka"),
        SAEBasis(n_axes=3, n_latents=12, k=3, max_epochs=3),
    ],
)
def test_scikit_learn_accepts_it_as_an_estimator(estimator):
    check_estimator(estimator)


def test_the_planted_directions_are_found(world, sae):
    rows, true = world
    best = np.abs(true @ sae.components_.T).max(axis=1)
    assert best.mean() > 0.97
    assert (best > 0.9).mean() >= 0.95
    held_out, first = sae.validation_rows_, sae.history_[0]
    assert len(held_out) == 400
    assert sae.fvu(rows[held_out]) < 0.1 < first["val_fvu"]


@pytest.mark.parametrize("variant", ["batchtopk", "matryoshka"])
def test_a_batch_shares_its_active_latents_out(world, variant):
    rows, true = world
    sae = SparseAutoencoder(n_latents=192, k=4, variant=variant).fit(rows)
    assert np.abs(true @ sae.components_.T).max(axis=1).mean() > 0.9
    assert sae.fvu(rows[sae.validation_rows_]) < 0.15
    codes = sae.encode(rows)
    active = np.diff(codes.indptr)
    assert active.mean() == pytest.approx(4, rel=0.05)
    assert active.min() < 4 < active.max()
    scores = (rows - sae.mean_) @ sae.encoder_ + sae.encoder_bias_
    expected = np.where(scores > sae.threshold_, np.maximum(scores, 0), 0)
    np.testing.assert_allclose(codes.toarray(), expected, atol=1e-3)
    # a row's codes do not depend on the rows beside it
    np.testing.assert_allclose(sae.encode(rows[:1]).toarray(), codes[:1].toarray(), atol=1e-4)


def test_the_first_part_of_a_matryoshka_dictionary_stands_by_itself(world):
    rows, _ = world
    left = {}
    for variant in ("batchtopk", "matryoshka"):
        sae = SparseAutoencoder(n_latents=192, k=4, variant=variant, max_epochs=15).fit(rows)
        codes = sae.encode(rows).toarray()
        codes[:, 48:] = 0
        left[variant] = unexplained(rows, sae.decode(codes))
    assert left["matryoshka"] < 0.9 * left["batchtopk"]


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


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_training_does_not_mind_that_gradients_are_off(off):
    rows, _ = planted(60, 16, 24, 3)
    with off():
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


class Killed(BaseException):
    """Stands for kill -9: nothing in between may catch it."""


@pytest.mark.parametrize("variant", ["topk", "matryoshka"])
@pytest.mark.parametrize("epoch", [1, 4])
def test_killed_and_resumed_it_is_the_same_dictionary(variant, epoch, tmp_path, monkeypatch):
    monkeypatch.setattr(Checkpoint.__init__, "__defaults__", (0.0,))  # after every epoch
    rows, _ = planted(120, 16, 24, 3)
    sae = SparseAutoencoder(n_latents=40, k=3, variant=variant, max_epochs=6, patience=9)
    expected = clone(sae).fit(rows)
    file = tmp_path / "checkpoint.safetensors"

    def kill(at: int, *_: object) -> None:
        if at == epoch:
            raise Killed

    with pytest.raises(Killed):
        clone(sae).fit(rows, progress=kill, checkpoint=file)
    assert file.exists()
    heard = []
    sae.fit(rows, progress=lambda at, *_: heard.append(at), checkpoint=file)
    assert heard == list(range(epoch + 1, 7))
    assert not file.exists()
    assert sae.history_ == expected.history_
    for name in ("components_", "encoder_", "encoder_bias_", "threshold_"):
        np.testing.assert_array_equal(getattr(sae, name), getattr(expected, name))


def test_a_checkpoint_of_another_training_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Checkpoint.__init__, "__defaults__", (0.0,))
    rows, _ = planted(120, 16, 24, 3)
    file = tmp_path / "checkpoint.safetensors"

    def kill(*_: object) -> None:
        raise Killed

    with pytest.raises(Killed):
        SparseAutoencoder(n_latents=40, k=3).fit(rows, progress=kill, checkpoint=file)
    for params, X, said in (
        ({"n_latents": 40, "k": 4}, rows, r"other k\)"),
        ({"n_latents": 40, "k": 3}, rows[[0, 2, 1, *range(3, 120)]], r"other rows\)"),
    ):
        with pytest.raises(InputError, match=said):
            SparseAutoencoder(**params).fit(X, checkpoint=file)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match="not a whole checkpoint"):
        SparseAutoencoder(n_latents=40, k=3).fit(rows, checkpoint=file)


def test_rows_may_be_a_file_mapped_to_memory_or_a_tensor(tmp_path):
    rows, _ = planted(120, 16, 24, 3)
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    first, second, third = (
        SparseAutoencoder(n_latents=30, k=3, max_epochs=3).fit(X)
        for X in (rows, mapped, torch.from_numpy(rows))
    )
    np.testing.assert_array_equal(first.components_, second.components_)
    np.testing.assert_array_equal(first.components_, third.components_)


@pytest.mark.filterwarnings("ignore:the dictionary is not better")
def test_axes_may_come_from_a_dictionary_that_is_there_already(world, sae):
    rows, _ = world
    basis = SAEBasis(n_axes=6).fit(rows, dictionary=sae)
    assert basis.dictionary_ is sae
    trained = SAEBasis(n_axes=6, n_latents=192, k=4).fit(rows)
    np.testing.assert_allclose(basis.components_, trained.components_, atol=1e-6)
    with pytest.raises(InputError, match="the dictionary is of width 64, X of 10"):
        SAEBasis().fit(rows[:, :10], dictionary=sae)
    few = SAEBasis(n_axes=6).fit(rows[:50], dictionary=sae)  # fewer than it was trained on
    short = deepcopy(sae)
    short.components_, short.encoder_ = sae.components_ * 5e-4, sae.encoder_ / 5e-4
    short.encoder_bias_ = sae.encoder_bias_ / 5e-4
    np.testing.assert_allclose(
        SAEBasis(n_axes=6).fit(rows[:50], dictionary=short).components_, few.components_, atol=1e-5
    )


def test_numpy_numbers_are_parameters_and_later_ones_change_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(Checkpoint.__init__, "__defaults__", (0.0,))
    rows, _ = planted(60, 16, 24, 3)
    sae = SparseAutoencoder(np.int64(30), np.int64(3), max_epochs=np.int64(2))
    sae.fit(rows, checkpoint=tmp_path / "file")
    codes = sae.encode(rows)
    assert (sae.set_params(k=7).encode(rows) != codes).nnz == 0
    sae.save(tmp_path / "sae")
    assert (SparseAutoencoder.load(tmp_path / "sae").encode(rows) != codes).nnz == 0


def test_torch_s_default_number_format_does_not_matter():
    rows, _ = planted(60, 16, 24, 3)
    expected = SparseAutoencoder(n_latents=30, k=3, max_epochs=2).fit(rows).components_
    torch.set_default_dtype(torch.float64)
    try:
        found = SparseAutoencoder(n_latents=30, k=3, max_epochs=2).fit(rows).components_
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_array_equal(found, expected)


def test_rows_far_from_zero_train_as_those_about_it():
    rows, _ = planted(200, 16, 24, 3)
    near = SparseAutoencoder(n_latents=40, k=3, max_epochs=5).fit(rows.astype(np.float64))
    far = SparseAutoencoder(n_latents=40, k=3, max_epochs=5).fit(rows.astype(np.float64) + 2**12)
    np.testing.assert_allclose(far.components_, near.components_, atol=1e-3)
    with pytest.raises(InputError, match="too far for float32; subtract their mean"):
        SparseAutoencoder(n_latents=40, k=3).fit(rows.astype(np.float64) + 1e9)


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
        (
            {"variant": "jumprelu"},
            'variant \'jumprelu\' cannot be trained; available: "topk", "batchtopk", "matryoshka"',
        ),
        ({"n_latents": 8, "k": 9}, "k=9 latents cannot be active out of n_latents=8"),
        ({"k": 0}, "k must be an integer of 1 or more, got 0"),
        ({"max_epochs": 0}, "max_epochs must be an integer of 1 or more"),
        ({"random_state": -1}, "random_state must be an integer of 0 or more, got -1"),
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


@pytest.mark.parametrize("rate", ["a", 0.0, float("nan"), 1e30])
def test_a_learning_rate_that_cannot_be_is_one_clear_line(rate):
    with pytest.raises(InputError, match="learning_rate"):
        SparseAutoencoder(n_latents=8, k=2, learning_rate=rate).fit(planted(40, 8, 12, 2)[0])


def test_codes_of_another_width_are_refused(sae):
    with pytest.raises(InputError, match=r"codes must be \[n, 192\], got \(2, 5\)"):
        sae.decode(np.zeros((2, 5)))
