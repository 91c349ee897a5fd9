"""The demo on the embedded model, once, on few rows: what it leaves, and the notebook on top."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import nbclient
import nbformat
import pytest
from typer.testing import CliRunner

import mnskills_viz as mn
from mnskills_viz.cli import app

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def demo_study(embedded, tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "demo_study"
    command = [sys.executable, "-c", "from mnskills_viz.cli import main; main()", "demo"]
    run = subprocess.run(
        [*command, str(folder), "--limit", "44"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert "What embedded varies along" in run.stdout
    return mn.Study.open(folder)


def test_it_leaves_all_that_the_road_promises(demo_study):
    assert demo_study.is_collected
    assert demo_study.activations.matrix(15).shape == (44, 576)
    assert demo_study.basis_names == ["pca-15", "sae-15"]
    assert demo_study.results("proxy", "pca-15") is not None
    assert demo_study.results("proxy", "sae-15") is not None
    assert demo_study.results("steering", "pca-15")["steered"].str.len().gt(0).all()
    assert demo_study.selection_names == ["random", "top", "weakness"]
    assert 0 < (demo_study.path / "report.html").stat().st_size < 3_000_000


def test_the_exports_are_read_by_datasets(demo_study):
    chosen = demo_study.selection("weakness")
    ids = [demo_study.corpus[int(demo_study.pool_rows[i])].id for i in chosen.indices]
    rows = datasets.load_dataset(str(demo_study.path / "exports/weakness-hf"), split="train")
    assert rows["id"][:] == ids
    lines = (demo_study.path / "exports/weakness-trl/train.jsonl").read_text().splitlines()
    responses = {e.id: e.response for e in demo_study.corpus}
    assert [json.loads(x)["completion"][0]["content"] for x in lines] == [responses[i] for i in ids]


def test_the_quickstart_runs_top_to_bottom(demo_study, tmp_path, monkeypatch):
    folder = tmp_path / "study"
    shutil.copytree(demo_study.path, folder)
    monkeypatch.setenv("MNSKILLS_STUDY", str(folder))
    notebook = nbformat.read(ROOT / "notebooks/00_quickstart.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute(cwd=str(tmp_path))
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert not [o for o in outputs if o.output_type == "error"]
    assert any("<svg" in str(o.get("data", {})) for o in outputs)


def test_notebooks_are_committed_without_outputs():
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert notebook.metadata.kernelspec.name == "python3"
        assert not any(cell.get("outputs") for cell in notebook.cells), path.name


def test_every_command_in_the_readme_is_one():
    text = (ROOT / "README.md").read_text()
    verbs = {
        words[1]
        for line in text.splitlines()
        if (words := line.split()) and words[0] == "mnskills" and len(words) > 1
    }
    assert verbs
    for verb in verbs:
        assert CliRunner().invoke(app, [verb, "--help"]).exit_code == 0, verb
