"""Dictionaries go to SAELens and come from it, and encode the same on both sides."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from mnskills_viz.bases.sae import SAEBasis
from mnskills_viz.bases.sparse_autoencoder import SparseAutoencoder
from mnskills_viz.errors import InputError

D, M, K = 24, 60, 4
VARIANTS = ["topk", "batchtopk", "matryoshka"]


@pytest.fixture(scope="module")
def rows():
    generator = np.random.default_rng(0)
    mixed = generator.standard_normal((300, D)) @ generator.standard_normal((D, D))
    return (mixed + 20).astype(np.float32)


@pytest.fixture(scope="module")
def sae_lens():
    return pytest.importorskip("sae_lens")


def ours(variant, rows):
    sae = SparseAutoencoder(n_latents=M, k=K, variant=variant, max_epochs=4)
    return sae.fit(rows, source={"layer": 3, "model": {"name": "tiny"}})


@pytest.mark.parametrize("variant", VARIANTS)
def test_sae_lens_reads_ours(variant, rows, sae_lens, tmp_path):
    sae = ours(variant, rows)
    sae.save(tmp_path / "sae", format="sae_lens")
    theirs = sae_lens.SAE.load_from_disk(tmp_path / "sae")
    with torch.no_grad():
        codes = theirs.encode(torch.from_numpy(rows))
        rebuilt = theirs.decode(codes)
    expected = sae.encode(rows)
    assert 0.5 * K < expected.nnz / len(rows) <= 1.1 * K
    np.testing.assert_allclose(codes.numpy(), expected.toarray(), atol=1e-5 * expected.max())
    np.testing.assert_allclose(rebuilt.numpy(), sae.decode(expected), atol=1e-4)
    assert theirs.cfg.metadata.hook_name == "blocks.3.hook_resid_post"
    assert theirs.cfg.metadata.mnskills_viz["source"] == sae.source_


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_was_saved_comes_back_whole(variant, rows, tmp_path):
    sae = ours(variant, rows)
    sae.save(tmp_path / "sae")
    loaded = SparseAutoencoder.load(tmp_path / "sae")
    assert loaded.get_params() == sae.get_params()
    assert loaded.history_ == sae.history_
    assert loaded.source_ == sae.source_
    for name in ("components_", "encoder_", "encoder_bias_", "mean_", "validation_rows_"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(sae, name))
    np.testing.assert_array_equal(loaded.encode(rows).toarray(), sae.encode(rows).toarray())
    loaded.save(tmp_path / "again")
    for file in ("cfg.json", "sae_weights.safetensors"):
        assert (tmp_path / "sae" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("TopK", {"k": K}),
        ("TopK", {"k": K, "rescale_acts_by_decoder_norm": False, "apply_b_dec_to_input": False}),
        ("BatchTopK", {"k": K}),
        ("MatryoshkaBatchTopK", {"k": K, "matryoshka_widths": [20, M]}),
        ("JumpReLU", {}),
        ("Standard", {}),
    ],
)
def test_ours_reads_sae_lens(architecture, options, rows, sae_lens, tmp_path):
    torch.manual_seed(0)
    config = getattr(sae_lens, f"{architecture}TrainingSAEConfig")(d_in=D, d_sae=M, **options)
    training = getattr(sae_lens, f"{architecture}TrainingSAE")(config)
    with torch.no_grad():
        training.b_dec.copy_(torch.from_numpy(rows).mean(dim=0))
        training.b_enc.normal_(0, 0.1)
        training.W_dec.mul_(torch.rand(M, 1) + 0.5)  # lengths that matter
        for name in ("threshold", "topk_threshold"):
            if hasattr(training, name):
                getattr(training, name).fill_(0.05)
    training.save_inference_model(str(tmp_path / "sae"))
    theirs = sae_lens.SAE.load_from_disk(tmp_path / "sae")
    with torch.no_grad():
        codes = theirs.encode(torch.from_numpy(rows))
        rebuilt = theirs.decode(codes)
    assert codes.count_nonzero() > len(rows)
    sae = SparseAutoencoder.load(tmp_path / "sae")
    found = sae.encode(rows)
    np.testing.assert_allclose(found.toarray(), codes.numpy(), atol=1e-5 * float(codes.max()))
    np.testing.assert_allclose(sae.decode(found), rebuilt.numpy(), atol=1e-4)
    # and it serves: axes out of it, a basis saved and loaded
    with pytest.warns(UserWarning, match="not better than PCA"):
        basis = SAEBasis(n_axes=3).fit(rows, dictionary=sae)
    np.testing.assert_allclose(basis.components_ @ basis.components_.T, np.eye(3), atol=1e-5)


def change(folder, **entries):
    config = json.loads((folder / "cfg.json").read_text()) | entries
    (folder / "cfg.json").write_text(json.dumps(config))


def without(folder, name):
    tensors = load_file(folder / "sae_weights.safetensors")
    del tensors[name]
    save_file(tensors, folder / "sae_weights.safetensors")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder: (folder / "cfg.json").unlink(), "cfg.json"),
        (lambda folder: (folder / "sae_weights.safetensors").unlink(), "cannot read"),
        (lambda folder: (folder / "sae_weights.safetensors").write_bytes(b"no"), "not safetensors"),
        (lambda folder: change(folder, architecture="gated"), "architecture 'gated' is not read"),
        (lambda folder: change(folder, d_sae=7), "not of the shape"),
        (lambda folder: change(folder, normalize_activations="layer_norm"), "layer_norm"),
        (lambda folder: change(folder, reshape_activations="hook_z"), "hook_z"),
        (lambda folder: without(folder, "b_dec"), "b_dec"),
    ],
)
def test_a_damaged_or_unknown_folder_is_one_clear_line(harm, said, rows, tmp_path):
    ours("topk", rows).save(tmp_path / "sae")
    harm(tmp_path / "sae")
    with pytest.raises(InputError, match=said) as caught:
        SparseAutoencoder.load(tmp_path / "sae")
    assert "\n" not in str(caught.value)


def test_another_format_is_refused(rows, tmp_path):
    with pytest.raises(InputError, match="format must be \"sae_lens\", not 'pickle'"):
        ours("topk", rows).save(tmp_path / "sae", format="pickle")
    assert not (tmp_path / "sae").exists()
