"""The command line, run as a person runs it: in a process of its own."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import mnskills_viz as mn
from mnskills_viz.cli import app

SHARED = Path(__file__).parents[2] / "shared" / "data"
MNSKILLS = [sys.executable, "-c", "from mnskills_viz.cli import main; main()"]


def mnskills(*arguments, expect=0):
    """In a process of its own, as a person runs it."""
    run = subprocess.run(
        [*MNSKILLS, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert run.returncode == expect, run.stderr[-3000:]
    return run


def verb(*arguments):
    """In this process, to save the imports."""
    run = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert run.exit_code == 0, run.output
    return run.stdout


def test_wrong_input_is_one_line_and_status_2(tmp_path):
    (tmp_path / "bad.jsonl").write_text('{"prompt": "fine"}\n{"prompt": ""}\nnope\n')
    for arguments, said in (
        (["fit", tmp_path / "none"], "no study there"),
        (["collect", tmp_path / "a", "--corpus", tmp_path / "bad.jsonl"], "not JSON: line 3"),
    ):
        run = mnskills(*arguments, expect=2)
        assert said in run.stderr
        assert run.stderr.count("\n") == 1
        assert not (tmp_path / "a").exists()  # nothing half-written
    with pytest.raises(mn.InputError, match="say --corpus FILE"):
        verb("collect", tmp_path / "a")
    with pytest.raises(mn.InputError, match="embeded"):  # a mistyped model leaves no study behind
        verb("collect", tmp_path / "a", "--corpus", "demo", "--limit", 20, "--model", "embeded")
    assert not (tmp_path / "a").exists()
    assert "Usage" in mnskills("fly", expect=2).stderr


def test_bad_rows_are_skipped_when_asked(tmp_path, tiny_folder):
    file = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"{i} + 1?", "response": f"{i + 1}"} for i in range(20)]
    file.write_text("\n".join(["{", *map(json.dumps, rows)]))
    with pytest.raises(mn.InputError, match="not JSON: line 1"):
        verb("collect", tmp_path / "a", "--corpus", file, "--model", tiny_folder)
    asked = ["collect", tmp_path / "a", "--corpus", file, "--model", tiny_folder, "--skip-bad"]
    assert "1 bad rows skipped" in verb(*asked)
    file.write_text("\n".join(map(json.dumps, rows[:9])))
    with pytest.raises(mn.InputError, match="corpus SHA-256"):
        verb(*asked)


def test_every_verb_explains_itself():
    listed = mnskills("--help").stdout
    names = {command.name or command.callback.__name__ for command in app.registered_commands}
    verbs = "demo collect fit axes proxy steer select export preflight sft eval compare report lab"
    assert {*verbs.split(), "doctor"} == names
    for name in names:
        assert name in listed
        assert "Usage" in verb(name, "--help")
    assert "torch" in verb("doctor")


@pytest.mark.filterwarnings("ignore:no pole is weaker")
def test_the_whole_road_on_a_file_of_ones_own(tmp_path, tiny_folder):
    """GSM8K if it is there, else rows of its shape."""
    corpus = SHARED / "gsm8k_train.jsonl"
    if not corpus.exists():
        corpus = tmp_path / "gsm.jsonl"
        rows = [
            {
                "question": f"What is {i} + {i + 3}?",
                "answer": f"{i} + {i + 3} = {2 * i + 3}\n#### {2 * i + 3}",
            }
            for i in range(150)
        ]
        corpus.write_text("\n".join(map(json.dumps, rows)))
    study = tmp_path / "my_gsm"
    collect = ["collect", study, "--corpus", corpus, "--limit", "120", "--model", tiny_folder]
    assert "96 pool, 24 probe" in verb(*collect)
    assert "96 pool, 24 probe" in verb(*collect)  # again: nothing to do
    with pytest.raises(mn.InputError, match="limit 120 there, 130 here"):
        verb(*collect[:4], "--limit", 130)
    with pytest.raises(mn.InputError, match=r"model .* there, 'embedded' here"):
        verb(*collect[:4], "--model", "embedded")
    assert "pca-2: 6 axes at layer 2" in verb("fit", study, "--axes", 6)
    assert "utility" in verb("proxy", study, "--examples", 6)
    assert "weakness_positive" in verb("axes", study)
    labels = tmp_path / "labels.csv"
    labels.write_text("basis,axis,positive\npca-2,1,long answers\n")
    assert "labels changed: 1" in verb("axes", study, "--read-labels", labels)
    assert "long answers" in verb("axes", study, "--write-labels", tmp_path / "out.json")
    assert "long answers" in (tmp_path / "out.json").read_text()
    steered = verb("steer", study, "How many?", "--axis", 1, "--max-new-tokens", 4)
    assert "unsteered:" in steered
    verb("select", study, "--budget", 12)
    verb("select", study, "--strategy", "top", "--axis", "2-", "--budget", 5)
    recipe = study / "selections" / "weakness" / "recipe.json"
    assert "12 rows, the same as in its receipts" in verb("select", study, "--recipe", recipe)
    said = verb("export", study, "--format", "trl").splitlines()
    assert said[0] == "weakness-trl: the trainer will take every row whole"
    exported = Path(said[1])
    lines = (exported / "train.jsonl").read_text().splitlines()
    assert len(lines) == 12
    assert all({"prompt", "completion"} == set(json.loads(line)) for line in lines)
    assert "too-long" in verb("preflight", study, "--max-length", 10)
    assert "eval --adapter weakness-trl" in verb("sft", study, "--batch-size", 4)
    assert "errors fell at" in verb("compare", study, "weakness-trl", "--basis", "pca-2")
    sampling = ("--split", "probe", "--n", 1, "--max-new-tokens", 2)
    said = verb("eval", study, *sampling, "--adapter", "weakness-trl", "--against", "base")
    assert "from base to weakness-trl:" in said
    assert "difference" in said
    assert Path(verb("report", study).strip()).exists()


def test_doses_layers_and_vectors_come_from_the_command_line(tmp_path, tiny_study):
    study = shutil.copytree(tiny_study.path, tmp_path / "study")
    of_basis = ("--basis", "pca-1")
    few = ("--examples", 6, "--dose", 0.5, "--axis", 2)
    said = verb("proxy", study, *of_basis, "--method", "dose", *few).splitlines()
    assert {"utility", "damage", "null_high"} <= {*said[0].split()}
    assert said[1].split()[:3] == ["2", "1", "0.5"]
    assert "of 4 layers" in verb("proxy", study, "--layers", "--examples", 6)
    push = ("steer", study, "--axis", 2, "--dose", 1.5, *of_basis)
    said = verb(*push, "--grid", "--max-new-tokens", 3)
    assert "perplexity" in said
    assert "keep the text whole" in said
    for name in ("a.gguf", "a.pt", "a.safetensors"):
        assert "axis 2 of pca-1, dose +1.5" in verb(*push, "--export", tmp_path / name)
        assert (tmp_path / name).stat().st_size > 100
    vector = mn.SteeringVector.load(tmp_path / "a.safetensors")
    assert vector.fingerprint == tiny_study.vector("pca-1", 2, 1.5).fingerprint
    for arguments, said in (
        (push, "give a PROMPT, --grid or --export"),
        ((*push, "--export", "a.bin"), "expected a name in .gguf, .pt, .safetensors"),
        (("proxy", study, *of_basis, "--dose", 1), "belong to --method dose"),
        (("proxy", study, "--layers", "--method", "dose"), "--layers fits axes of its own"),
    ):
        with pytest.raises(mn.InputError, match=re.escape(said)):
            verb(*arguments)


def test_ids_and_caps_come_from_the_command_line(tmp_path, tiny_study):
    study = shutil.copytree(tiny_study.path, tmp_path / "study")
    pool = tiny_study.pool
    (tmp_path / "wanted").write_text(f"{pool[5].id}\n{pool[2].id}\n")
    (tmp_path / "unwanted").write_text(f"{pool[7].id}\n")
    capped = pool[0].category
    options = ("--strategy", "random", "--basis", "pca-1", "--cap", f"{capped}=2")
    lists = ("--include", tmp_path / "wanted", "--exclude", tmp_path / "unwanted")
    verb("select", study, *options, *lists, "--budget", 20)
    chosen = mn.Study.open(study).selection("random").receipts["id"].tolist()
    assert chosen[:2] == [pool[5].id, pool[2].id]
    assert pool[7].id not in chosen
    categories = {e.id: e.category for e in pool}
    assert sum(categories[i] == capped for i in chosen) <= 2
    with pytest.raises(mn.InputError, match="expected CATEGORY=ROWS"):
        verb("select", study, "--basis", "pca-1", "--cap", "lists")
    with pytest.raises(mn.InputError, match=r"--pilot 3: say which pole, 3\+ or 3-"):
        verb("proxy", study, "--basis", "pca-1", "--pilot", "3")


@pytest.mark.filterwarnings("ignore:no layer tells")
def test_a_layer_is_chosen_and_the_curve_shown(tmp_path, tiny_study):
    study = shutil.copytree(tiny_study.path, tmp_path / "study")
    said = verb("fit", study, "--layer", "auto", "--axes", 4, "--name", "chosen").splitlines()
    assert said[0].split() == ["layer", "probe", "probe_se", "stability", "variance", "chosen"]
    assert [line.split()[0] for line in said[1:5]] == ["0", "1", "2", "3"]
    chosen = next(line.split()[0] for line in said[1:5] if line.endswith("True"))
    assert said[5].startswith("probe: ")
    assert said[6].startswith(f"chosen: 4 axes at layer {chosen}, ")
    with pytest.raises(
        mn.InputError, match="--layer middle: expected a number such as 15, or auto"
    ):
        verb("fit", study, "--layer", "middle")


def test_axes_by_share_and_a_dictionary_that_says_what_it_leaves(tmp_path, tiny_study):
    study = shutil.copytree(tiny_study.path, tmp_path / "study")
    said = verb("fit", study, "--layer", 2, "--axes", 0.5)
    share = float(said.split(" of variance")[0].split()[-1].rstrip("%"))
    assert 50 <= share < 80
    with pytest.warns(UserWarning, match="n_axes=3 clipped|not better than PCA"):
        said = verb(
            *("fit", study, "--kind", "sae", "--layer", 2, "--axes", 3, "--latents", 64),
            *("--k", 4, "--variant", "batchtopk", "--epochs", 2),
        )
    assert "of held-out rows the dictionary leaves" in said
    assert mn.SparseAutoencoder.load(study / "bases" / "sae-2").variant == "batchtopk"
    for arguments, complaint in (
        (("--axes", "many"), "--axes many: expected a number such as 32"),
        (("--latents", 64), "belong to --kind sae"),
    ):
        with pytest.raises(mn.InputError, match=complaint):
            verb("fit", study, *arguments)


def test_an_active_basis_says_how_much_of_the_gradient_it_holds(tmp_path, tiny_study):
    study = shutil.copytree(tiny_study.path, tmp_path / "study")
    said = verb("fit", study, "--kind", "active", "--layer", 2, "--axes", 4)
    assert "active-2: 4 axes at layer 2" in said
    assert "of the gradient, cross-fitted; as many random directions hold 12.5%" in said
    assert "utility" in verb("proxy", study, "--basis", "active-2", "--examples", 12)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, tiny_folder):
    folder = tmp_path_factory.mktemp("whole") / "demo"
    verb("demo", folder, "--model", tiny_folder, "--limit", 60)
    return mn.Study.open(folder)


@pytest.mark.parametrize("where", ["activations.lance", "selections/random"])
def test_a_demo_that_was_killed_goes_on_and_ends_the_same(
    tmp_path, tiny_folder, uninterrupted, where
):
    """Killed when a first trace of `where` appears, then started again."""
    options = ["--model", str(tiny_folder), "--limit", "60"]
    study = tmp_path / "demo"
    process = subprocess.Popen(
        [*MNSKILLS, "demo", str(study), *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (study / where).exists() and process.poll() is None:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it had ended before"
    verb("demo", study, *options)
    finished = mn.Study.open(study)
    assert finished.activations.ids == uninterrupted.activations.ids
    for layer in finished.activations.layers:
        rows = [s.activations.matrix(layer) for s in (finished, uninterrupted)]
        np.testing.assert_array_equal(*rows)
    for name in ("random", "top", "weakness"):
        chosen = [s.selection(name).indices for s in (finished, uninterrupted)]
        np.testing.assert_array_equal(*chosen)
    lines = [
        (s.path / "exports/weakness-trl/train.jsonl").read_bytes()
        for s in (finished, uninterrupted)
    ]
    assert lines[0] == lines[1]
    assert (study / "report.html").exists()


def test_a_demo_does_not_take_over_another_study(tiny_study):
    run = mnskills("demo", tiny_study.path, "--limit", "60", expect=2)
    assert "holds another study" in run.stderr
