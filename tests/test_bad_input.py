"""Ten kinds of bad corpus and store: one line, status 2, and nothing half-written.

The command line runs in this process, to import torch once; what needs a signal or a limit, in
one of its own.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import types

import lance
import numpy as np
import pytest
from safetensors.torch import load_file, save_file

import mnskills_viz as mn
from mnskills_viz import cli
from mnskills_viz.activations import collect, collector

ROWS = [{"id": f"r{i}", "prompt": f"What is {i} + 1?", "response": f"{i + 1}"} for i in range(20)]
REMEDY = "restore it from a copy, or delete it and collect again"
OPTIONS = {"progress": False, "token_budget": 64}


def lines(rows, encoding="utf-8"):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode(encoding)


def spoken(stderr):
    """Lines on the standard error, without progress bars."""
    return re.sub(r"(\r[^\r\n]*)+\n", "", stderr).splitlines()


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def mnskills(monkeypatch, capfd):
    """Run a command: its status, what it said on the standard error, what it printed."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["mnskills", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        printed, errors = capfd.readouterr()
        return end.value.code or 0, spoken(errors), printed

    return run


@pytest.fixture
def refusal(mnskills):
    """The one line that a command is refused with."""

    def run(*arguments):
        status, said, printed = mnskills(*arguments)
        assert (status, len(said), printed) == (2, 1, ""), (status, said, printed)
        assert said[0].startswith("mnskills: ")
        return said[0]

    return run


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    file = tmp_path_factory.mktemp("corpus") / "rows.jsonl"
    file.write_bytes(lines(ROWS))
    return file


@pytest.fixture(scope="module")
def asked(corpus, tiny_folder):
    """What follows ``mnskills collect STUDY``."""
    return ["--corpus", corpus, "--model", tiny_folder, "--token-budget", 64]


@pytest.fixture(scope="module")
def create(tmp_path_factory, tiny_folder, corpus):
    """Make a study as the command line does."""

    def made(model=tiny_folder, rows=corpus):
        folder = tmp_path_factory.mktemp("studies") / "study"
        return mn.Study.create(folder, model=str(model), corpus=str(rows))

    return made


@pytest.fixture(scope="module")
def whole(create):
    """A study with all layers."""
    study = create()
    study.collect(**OPTIONS)
    return study


@pytest.fixture(scope="module")
def two_layers(create):
    """A study with some layers."""
    study = create()
    study.collect(layers=[0, 2], **OPTIONS)
    return study


@pytest.fixture(scope="module")
def begun(create):
    """A study with some rows."""
    study = create()

    def read(*arguments):
        for number, table in enumerate(collector.Here().read(*arguments)):
            if number == 4:
                raise KeyboardInterrupt
            yield table

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collect, "BYTES_A_COMMIT", 1)
        with pytest.raises(KeyboardInterrupt):
            study.collect(engine=types.SimpleNamespace(read=read), **OPTIONS)
    assert 0 < len(mn.Activations.open(study.path / "activations.lance")) < len(ROWS)
    return study


@pytest.fixture
def copied(tmp_path, request):
    """A copy of one of the studies above, and its store."""

    def copy(name, folder=tmp_path):
        study = folder / name
        shutil.copytree(request.getfixturevalue(name).path, study)
        return study, study / "activations.lance"

    return copy


@pytest.fixture
def with_weights(tmp_path, tiny_folder):
    """The tiny model with other weights."""

    def made(name, change):
        folder = tmp_path / "other-model"
        shutil.copytree(tiny_folder, folder)
        tensors = load_file(folder / "model.safetensors")
        change(tensors[name])
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    return made


def assert_equals(study, whole):
    found, expected = mn.Study.open(study).activations, whole.activations
    assert found.ids == expected.ids
    assert found.layers == expected.layers
    np.testing.assert_array_equal(found.logprobs, expected.logprobs)
    for layer in expected.layers:
        np.testing.assert_array_equal(found.matrix(layer), expected.matrix(layer))
    assert {p.name for p in study.glob(".*")} == {".activations.lance.lock"}


# ------------------------------------------------------------------------------------- corpora

ACCENTED = [ROWS[0], ROWS[1] | {"prompt": "Où est le café?"}, ROWS[2]]
TABLE = "prompt,response\n1+1?,2\nOù est le café?,là\n"
SAVE = "save the file as UTF-8"

CORPORA = {
    "empty.jsonl": (b"", "the file is empty; expected at least one row"),
    "empty.csv": (b"", "the file is empty; expected at least one row"),
    "blank.jsonl": (b"\n \n", "no rows"),
    "only-a-header.csv": (b"prompt,response\n", "no rows"),
    "no-prompt.jsonl": (
        lines([{"a": "x", "b": "y"}] * 3),
        "3 bad rows: no prompt column among 'a', 'b': say which with --prompt COLUMN: lines 1-3",
    ),
    "no-prompt.csv": (b"a,b\nx,y\n", "say which with --prompt COLUMN: line 2"),
    "latin-1.jsonl": (lines(ACCENTED, "latin-1"), f"not UTF-8: line 2; {SAVE}"),
    "latin-1.csv": (TABLE.encode("latin-1"), f"line 3 is not UTF-8 .*{SAVE}"),
    "latin-1.json": (json.dumps(ACCENTED, ensure_ascii=False).encode("latin-1"), SAVE),
    "utf-16.jsonl": (lines(ACCENTED, "utf-16"), f"not UTF-8: lines 1-2; .*; {SAVE}"),
    "utf-16.csv": (TABLE.encode("utf-16"), f"line 1 is not UTF-8 .*{SAVE}"),
    "two-contents.jsonl": (
        lines([*ROWS, ROWS[3] | {"response": "5"}]),
        r"id 'r3' has other content than at line 4: line 21; correct them, .* with --skip-bad",
    ),
    "damaged.parquet": (b"PAR1 and no more", "cannot be read as Parquet"),
    "one-row.jsonl": (lines(ROWS[:1]), "cannot be parted into a pool and a probe set"),
}


@pytest.mark.parametrize("name", CORPORA)
def test_a_bad_corpus_is_refused_in_one_line_and_leaves_no_study(
    tmp_path, tiny_folder, refusal, name
):
    content, said = CORPORA[name]
    (tmp_path / name).write_bytes(content)
    line = refusal(
        "collect", tmp_path / "study", "--corpus", tmp_path / name, "--model", tiny_folder
    )
    assert str(tmp_path / name) in line
    assert re.search(said, line), line
    assert files(tmp_path) == {name: content}
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_row_of_two_million_tokens_is_refused_within_a_minute(tmp_path, tiny_folder, refusal):
    file = tmp_path / "long.jsonl"
    file.write_bytes(lines([*ROWS, {"id": "endless", "prompt": "the " * 2_000_000}]))
    begun = time.monotonic()
    line = refusal("collect", tmp_path / "study", "--corpus", file, "--model", tiny_folder)
    assert time.monotonic() - begun < 60
    tokens = re.search(r"1 of 21 rows .* 1024 \(the longest, endless, has ([\d,]+) tokens\)", line)
    assert tokens, line
    assert int(tokens[1].replace(",", "")) >= 2_000_000
    assert "pass --truncate to cut them" in line
    assert [p.name for p in tmp_path.iterdir()] == [file.name]


def test_a_corpus_that_has_changed_is_refused(copied, corpus, tmp_path, tiny_folder, refusal):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(lines(ROWS[:-1]))
    study, _ = copied("two_layers")
    before = files(study)
    line = refusal("collect", study, "--corpus", file, "--model", tiny_folder)
    assert "corpus SHA-256" in line
    assert "choose another folder" in line
    assert files(study) == before


# -------------------------------------------------------------------------------------- models


@pytest.mark.parametrize(
    "name", ["model.layers.1.mlp.down_proj.weight", "model.norm.weight", "lm_head.weight"]
)
def test_weights_that_are_not_numbers_are_refused(tmp_path, corpus, with_weights, refusal, name):
    model = with_weights(name, lambda weight: weight.view(-1)[:1].fill_(float("nan")))
    line = refusal("collect", tmp_path / "study", "--corpus", corpus, "--model", model)
    assert re.search(r"example r\d+: the model's .* are not finite \(NaN or infinite weights", line)
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize("verb", ["the same layers", "more layers", "fit"])
@pytest.mark.parametrize("other", ["model", "corpus"])
def test_another_study_s_store_is_refused(
    tmp_path, create, with_weights, copied, corpus, tiny_folder, refusal, other, verb
):
    if other == "model":
        stranger = create(model=with_weights("model.embed_tokens.weight", lambda w: w.add_(1)))
    else:
        (tmp_path / "other.jsonl").write_bytes(lines([r | {"response": "7"} for r in ROWS]))
        stranger = create(rows=tmp_path / "other.jsonl")
    stranger.collect(layers=[0, 2], **OPTIONS)
    study, store = copied("two_layers")
    shutil.rmtree(store)
    shutil.copytree(stranger.path / "activations.lance", store)
    before = files(study)
    layers = {"the same layers": ["--layer", 0, "--layer", 2], "more layers": []}
    line = (
        refusal("fit", study, "--axes", 4)
        if verb == "fit"
        else refusal("collect", study, "--corpus", corpus, "--model", tiny_folder, *layers[verb])
    )
    assert f"{store} was made by something else" in line
    assert {"model": "model.weights: ", "corpus": "corpus.hash: "}[other] in line
    assert files(study) == before


# --------------------------------------------------------------------------------------- bases


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--layer", "middle"], "--layer middle: expected a number such as 15, or auto"),
        (["--layer", "-1"], "--layer -1: expected a number such as 15, or auto"),
        (["--layer", 1], "layer 1 was not collected; there are layers 0, 2"),
        (["--layer", "auto"], "16 of 16 rows have an error.* name a layer instead"),
        (["--kind", "active", "--layer", 1], "layer 1 was not collected"),
        (["--kind", "activ"], "must be one of pca, sae, active, random, not 'activ'"),
        (["--kind", "active", "--name", "../x"], "cannot be a name"),
    ],
)
def test_a_basis_that_cannot_be_fitted_is_refused_in_one_line(copied, refusal, options, said):
    study, _ = copied("two_layers")
    before = files(study)
    assert re.search(said, refusal("fit", study, *options))
    assert files(study) == before


# -------------------------------------------------------------------------------------- stores

DAMAGES = {
    "truncated": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "emptied": lambda file: file.write_bytes(b""),
    "zeroed": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "overwritten": lambda file: file.write_bytes(b"not what was here" * 40),
    "missing": lambda file: file.unlink(),
}
DATA_DAMAGES = [name for name in DAMAGES if name != "overwritten"]


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "missing"])
@pytest.mark.parametrize("name", ["two_layers", "begun"])
def test_a_corrupt_manifest_is_said_in_one_line(copied, asked, refusal, name, damage):
    study, store = copied(name)
    for file in (store / "_versions").glob("*.manifest"):
        DAMAGES[damage](file)
    before = files(study)
    for verb in (["collect", study, *asked], ["fit", study]):
        line = refusal(*verb)
        assert str(store) in line
        assert "delete it and collect again" in line
    assert files(study) == before


@pytest.mark.parametrize("damage", DATA_DAMAGES)
@pytest.mark.parametrize("name", ["two_layers", "begun"])
def test_a_damaged_data_file_is_named(copied, asked, refusal, name, damage):
    study, store = copied(name)
    file = sorted((store / "data").iterdir())[0]
    opened = mn.Activations.open(store)
    DAMAGES[damage](file)
    before = files(study)
    named = rf"activations\.lance: .*\(data/{file.name} (is missing|has|is).*\); {REMEDY}"
    for read in (lambda: opened.matrix(0), lambda: mn.Activations.open(store).matrix(0)):
        with pytest.raises(mn.InputError, match=named):
            read()
    resumed = mn.Study.open(study)
    with pytest.raises(mn.InputError, match=named):
        mn.collect(resumed.model, resumed.corpus, errors=True, store=store, **OPTIONS)
    for verb in (["collect", study, *asked], ["fit", study]):
        assert re.search(named, refusal(*verb))
    assert files(study) == before


@pytest.mark.parametrize("damage", DATA_DAMAGES)
def test_a_damaged_file_of_a_store_beside_is_named(copied, asked, refusal, damage):
    """That of layers that were being added when the process was stopped."""
    study, store = copied("two_layers")
    shutil.copytree(copied("begun")[1], study / ".activations.lance.added")
    file = sorted((study / ".activations.lance.added" / "data").iterdir())[0]
    DAMAGES[damage](file)
    before = files(store)
    named = rf"\.activations\.lance\.added: .*\(data/{file.name} (is missing|has|is).*\); {REMEDY}"
    assert re.search(named, refusal("collect", study, *asked))
    assert files(store) == before


def test_layers_that_are_whole_are_read_beside_one_that_is_damaged(copied, whole):
    study, store = copied("two_layers")
    old = set((store / "data").iterdir())
    mn.Study.open(study).collect(**OPTIONS)
    (added,) = set((store / "data").iterdir()) - old
    DAMAGES["truncated"](added)
    acts = mn.Activations.open(store)
    np.testing.assert_array_equal(acts.matrix(2), whole.activations.matrix(2))
    with pytest.raises(mn.InputError, match=rf"data/{added.name} has [\d,]+ of its [\d,]+ bytes"):
        acts.matrix(1)


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({b"mnskills": b'{"format": 1}'}, "a store of format 1, this version reads 2"),
        ({}, "not a store of activations of this package"),
    ],
    ids=["an older format", "another package's"],
)
def test_a_store_of_another_format_says_what_to_do(copied, asked, refusal, metadata, said):
    study, store = copied("two_layers")
    rows = lance.dataset(str(store)).to_table().replace_schema_metadata(metadata)
    shutil.rmtree(store)
    lance.write_dataset(rows, str(store))
    before = files(study)
    for verb in (["collect", study, *asked], ["fit", study]):
        line = refusal(*verb)
        assert f"{store}: {said}" in line
        assert re.search("delete it .*collect again", line), line
    assert files(study) == before


# ---------------------------------------------------------------------------------------- disks


def test_what_will_not_fit_is_refused_before_the_model_runs(
    tmp_path, copied, asked, refusal, monkeypatch
):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=1000))
    said = r"GB are needed and .* are free there; collect fewer layers, or choose another folder"
    assert re.search(said, refusal("collect", tmp_path / "study", *asked))
    assert not (tmp_path / "study").exists()
    study, _ = copied("two_layers")
    before = files(study)
    assert re.search(said, refusal("collect", study, *asked))
    assert files(study) == before


@pytest.fixture
def small_disk(tmp_path):
    """A disk of a megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small disk")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.parametrize("name", ["begun", "two_layers"])
def test_on_a_full_disk_earlier_rows_are_intact_and_a_later_run_completes(
    copied, asked, mnskills, whole, small_disk, name
):
    """However much is free: every step of the collection is the one that finds the disk full."""
    reasons = set()
    for free in range(0, 1024, 4):
        study, store = copied(name, small_disk)
        acts = mn.Activations.open(store)
        had, rows = acts.ids, acts.matrix(0)
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - free * 1024))
        status, said, _ = mnskills("collect", study, *asked)
        has = mn.Activations.open(store)
        where = [has.ids.index(one) for one in had]
        np.testing.assert_array_equal(has.matrix(0)[where], rows)
        ballast.unlink()
        if status:
            assert (status, len(said)) == (2, 1), said
            reasons |= set(re.findall("are needed and|No space left", said[0]))
            assert re.search("choose another folder(, then run the same again)?$", said[0])
            assert mnskills("collect", study, *asked)[0] == 0
        assert_equals(study, whole)
        shutil.rmtree(study)
        if not status:
            break
    assert reasons == {"are needed and", "No space left"}


TOO_LARGE = """
import resource
from mnskills_viz.activations import collect, store
from mnskills_viz.cli import main

collect.BYTES_A_COMMIT = 1
append, appended = store.append, []

def tight(path, rows):
    appended.append(rows)
    if len(appended) == 4:
        resource.setrlimit(resource.RLIMIT_FSIZE, (512, resource.RLIM_INFINITY))
    append(path, rows)

store.append = tight
main()
"""

SLOW = """
import time
from mnskills_viz.activations import collect, store
from mnskills_viz.cli import main

collect.BYTES_A_COMMIT = 1
append = store.append

def slow(path, rows):
    append(path, rows)
    time.sleep(0.1)

store.append = slow
main()
"""


def test_rows_before_a_write_that_failed_are_intact(tmp_path, asked, mnskills, whole):
    study = tmp_path / "study"
    command = [sys.executable, "-c", TOO_LARGE, "collect", str(study), *map(str, asked)]
    run = subprocess.run(command, capture_output=True, check=False)
    (line,) = spoken(run.stderr.decode())
    assert run.returncode == 2
    assert line.startswith(f"mnskills: cannot write {study}/activations.lance: File too large; ")
    assert "run the same again" in line
    some = mn.Activations.open(study / "activations.lance")
    assert 0 < len(some) < len(ROWS)
    where = [whole.activations.ids.index(one) for one in some.ids]
    np.testing.assert_array_equal(some.matrix(3), whole.activations.matrix(3)[where])
    assert mnskills("collect", study, *asked)[0] == 0
    assert_equals(study, whole)


def test_an_interrupt_says_how_to_go_on_and_what_is_there_is_kept(tmp_path, asked, mnskills, whole):
    # Python drops an interrupt that comes while C code calls back: one in three must arrive.
    for attempt in range(3):
        study = tmp_path / f"study-{attempt}"
        command = [sys.executable, "-c", SLOW, "collect", str(study), *map(str, asked)]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # In the background of a script interrupts are ignored, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        while len(list(study.glob("activations.lance/_versions/*.manifest"))) < 3:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=60)
        if process.returncode:
            break
    assert (process.returncode, printed) == (130, b"")
    said = ["mnskills: interrupted; run the same command again to go on"]
    assert spoken(errors.decode()) == said
    assert 3 <= len(mn.Activations.open(study / "activations.lance")) < len(ROWS)
    assert mnskills("collect", study, *asked)[0] == 0
    assert_equals(study, whole)


# --------------------------------------------------------------------------------------- places


@pytest.mark.parametrize("place", ["below a file", "a file", "/proc", "too long a name"])
def test_a_place_that_cannot_be_written_is_said(tmp_path, asked, refusal, place):
    file = tmp_path / "file"
    file.write_text("mine")
    study = {
        "below a file": file / "study",
        "a file": file,
        "/proc": "/proc/study",
        "too long a name": tmp_path / ("n" * 300),
    }[place]
    line = refusal("collect", study, *asked)
    assert str(study) in line
    assert "choose another folder" in line
    assert files(tmp_path) == {"file": b"mine"}


def test_a_store_that_is_a_file_is_said(copied, asked, refusal):
    study, store = copied("two_layers")
    shutil.rmtree(store)
    store.write_text("mine")
    line = refusal("collect", study, *asked)
    assert f"{store}: not a readable store" in line
    assert REMEDY in line
    assert store.read_text() == "mine"
