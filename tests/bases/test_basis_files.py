"""A saved basis is the same basis."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from mnskills_viz.bases.basis import load_basis
from mnskills_viz.bases.pca import PCABasis
from mnskills_viz.bases.random import RandomBasis
from mnskills_viz.bases.sae import SAEBasis
from mnskills_viz.errors import InputError

SOURCE = {"model": "tiny", "layers": [3], "scales": [np.float32(0.5)], "width": np.int64(12)}

pytestmark = pytest.mark.filterwarnings("ignore:the dictionary is not better")


def rows() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((80, 12)).astype(np.float32)


def bases() -> list:
    return [
        PCABasis(n_axes=np.int64(4)),
        RandomBasis(n_axes=4, random_state=5),
        SAEBasis(n_axes=4, n_latents=24, k=3, orthogonalize="qr", max_epochs=3),
    ]


@pytest.mark.parametrize("basis", bases(), ids=lambda basis: type(basis).__name__)
def test_a_loaded_basis_is_the_saved_one(basis, tmp_path):
    basis.fit(rows(), source=SOURCE).save(tmp_path / "basis")
    loaded = load_basis(tmp_path / "basis")
    assert type(loaded) is type(basis)
    assert loaded.get_params() == basis.get_params()
    assert loaded.fingerprint == basis.fingerprint
    assert loaded.n_axes_ == 4
    assert loaded.n_features_in_ == 12
    assert loaded.n_samples_ == 80
    assert loaded.source_ == {"model": "tiny", "layers": [3], "scales": [0.5], "width": 12}
    for name in ("components_", "mean_", "scale_", "explained_variance_ratio_"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(basis, name))
        assert getattr(loaded, name).dtype == np.float32
    np.testing.assert_array_equal(loaded.transform(rows()), basis.transform(rows()))


def test_the_dictionary_comes_back_with_its_basis(tmp_path):
    basis = bases()[2].fit(rows())
    basis.save(tmp_path / "basis")
    loaded = load_basis(tmp_path / "basis")
    np.testing.assert_array_equal(loaded.latents_, basis.latents_)
    np.testing.assert_array_equal(loaded.source_cosine_, basis.source_cosine_)
    assert loaded.dictionary_accepted_ == basis.dictionary_accepted_
    assert loaded.dictionary_fvu_ == basis.dictionary_fvu_
    assert loaded.dictionary_.history_ == basis.dictionary_.history_
    assert loaded.dictionary_.get_params() == basis.dictionary_.get_params()
    assert loaded.dictionary_.fvu(rows()) == basis.dictionary_.fvu(rows())


@pytest.mark.parametrize("which", range(3))
def test_fitting_and_saving_again_gives_the_same_bytes(which, tmp_path):
    for name in ("first", "second"):
        bases()[which].fit(rows(), source=SOURCE).save(tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert files[:2] == ["basis.json", "basis.safetensors"]
    assert files[2:] == (["cfg.json", "sae_weights.safetensors"] if which == 2 else [])
    for file in files:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


def test_saving_a_loaded_basis_gives_the_same_bytes(tmp_path):
    bases()[2].fit(rows(), source=SOURCE).save(tmp_path / "first")
    load_basis(tmp_path / "first").save(tmp_path / "second")
    for file in ("basis.safetensors", "basis.json", "cfg.json", "sae_weights.safetensors"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


def test_others_can_read_the_file(tmp_path):
    basis = PCABasis(n_axes=3).fit(rows())
    basis.save(tmp_path / "basis")
    np.testing.assert_array_equal(
        load_file(tmp_path / "basis" / "basis.safetensors")["components"], basis.components_
    )


def test_column_names_come_back(tmp_path):
    frame = pd.DataFrame(rows()).add_prefix("c")
    basis = PCABasis(n_axes=3).fit(frame)
    basis.save(tmp_path / "basis")
    assert load_basis(tmp_path / "basis").transform(frame).shape == (80, 3)


def test_the_fingerprint_changes_with_the_axes():
    prints = {RandomBasis(n_axes=3, random_state=seed).fit(rows()).fingerprint for seed in range(3)}
    assert len(prints) == 3
    assert all(len(text) == 16 for text in prints)


def damage_tensors(folder: Path) -> None:
    (folder / "basis.safetensors").write_bytes(b"not tensors")


def remove_tensors(folder: Path) -> None:
    (folder / "basis.safetensors").unlink()


def swap_tensors(folder: Path) -> None:
    RandomBasis(n_axes=3).fit(rows()).save(folder.parent / "other")
    (folder.parent / "other" / "basis.safetensors").replace(folder / "basis.safetensors")


def name_another_class(folder: Path) -> None:
    facts = json.loads((folder / "basis.json").read_text()) | {"class": "os.system"}
    (folder / "basis.json").write_text(json.dumps(facts))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (damage_tensors, "not safetensors"),
        (remove_tensors, "cannot read"),
        (swap_tensors, "fingerprint"),
        (name_another_class, "os.system"),
    ],
)
def test_a_damaged_folder_is_one_clear_line(harm, said, tmp_path):
    PCABasis(n_axes=3).fit(rows()).save(tmp_path / "basis")
    harm(tmp_path / "basis")
    with pytest.raises(InputError, match=said) as caught:
        load_basis(tmp_path / "basis")
    assert "\n" not in str(caught.value)


def test_a_source_that_json_cannot_hold_is_named(tmp_path):
    basis = PCABasis(n_axes=3).fit(rows(), source={"model": object()})
    with pytest.raises(InputError, match=r"source\['model'\] is a object"):
        basis.save(tmp_path / "basis")
    assert not (tmp_path / "basis").exists()


def test_pca_does_not_load_torch():
    modules = "mnskills_viz.bases.pca, mnskills_viz.bases.random, mnskills_viz.bases.quality"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
