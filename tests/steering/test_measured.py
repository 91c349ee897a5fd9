"""Measured doses are compared with plain passes over each text alone, steered by `apply`."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import mnskills_viz as mn
from mnskills_viz.activations.targets import targets
from mnskills_viz.models import block_modules
from mnskills_viz.steering import measured
from mnskills_viz.steering.measured import measure
from tests.activations.test_pairs import plain_values, tiny

BUDGET = 300


@pytest.fixture(scope="module")
def corpus(demo_rows):
    return mn.Corpus([e for e in demo_rows[:14] if any(c.isdigit() for c in e.response)], "few")


@pytest.fixture(scope="module")
def found(tiny_model, corpus):
    return targets(tiny_model, corpus, "contrast")


@pytest.fixture(scope="module")
def vectors():
    """At several blocks, of several blocks, and one that is taken out; all width 32."""
    rng = np.random.default_rng(0)
    a, b, c = rng.standard_normal((3, 32)).astype(np.float32)
    return [
        mn.SteeringVector({2: a}),
        mn.SteeringVector({0: b}),
        mn.SteeringVector({1: a, 2: -c}),
        mn.SteeringVector({1: b}, mode="ablate"),
    ]


def measured_plainly(model, found, vectors) -> np.ndarray:
    before = plain_values(model, found)
    changes = []
    for vector in vectors:
        with vector.apply(model):
            changes.append(plain_values(model, found) - before)
    return np.array(changes)


def quiet(model, found, vectors, **options) -> np.ndarray:
    return measure(model, found, vectors, progress=False, token_budget=BUDGET, **options)


@pytest.mark.parametrize("target", ["contrast", "reference"])
@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "mistral", "qwen3_moe", "bloom"])
def test_each_vector_does_what_steered_passes_show(tiny_model, corpus, vectors, name, target):
    wide = {"sliding_window": 4096} if name == "gemma2" else {}
    model = tiny(name, tiny_model.tokenizer, **wide)
    found = targets(model, corpus, target)
    expected = measured_plainly(model, found, vectors)
    assert np.abs(expected).max(axis=1).min() > 0.01
    np.testing.assert_allclose(quiet(model, found, vectors), expected, atol=5e-5)


def test_a_dose_of_nothing_changes_nothing_at_all(tiny_model, found, vectors):
    nothing = [0.0 * vectors[0], 0.0 * vectors[2], vectors[1], 0.0 * vectors[1]]
    changes = quiet(tiny_model, found, nothing)
    assert (changes[[0, 1, 3]] == 0).all()
    assert (changes[2] != 0).all()


def test_blocks_below_the_steered_one_run_once_a_batch(tiny_model, found, vectors, monkeypatch):
    runs = dict.fromkeys(range(4), 0)

    def count(block):
        def forward(*args, **kwargs):
            runs[block] += 1
            return type(modules[block]).forward(modules[block], *args, **kwargs)

        return forward

    at_two = [factor * vectors[0] for factor in (1.0, 2.0, 3.0, 4.0)]
    quiet(tiny_model, found, at_two)  # what is tried once is tried
    modules = block_modules(tiny_model)
    for block, module in enumerate(modules):
        monkeypatch.setitem(module.__dict__, "forward", count(block))
    counting = [module.forward for module in modules]
    quiet(tiny_model, found, at_two)
    # Whoever had replaced a forward has it back.
    assert [module.forward for module in modules] == counting
    assert runs[0] == runs[1] == runs[2]
    assert runs[3] == 5 * runs[0]  # four vectors, and none
    assert runs[0] >= 2


@pytest.mark.filterwarnings("ignore:overflow")
def test_the_model_is_itself_again_also_after_an_error(tiny_model, found, vectors):
    ids = torch.tensor([[5, 6, 7]])
    before = tiny_model._module(ids).logits
    modules = block_modules(tiny_model)
    forwards = [module.__dict__.get("forward") for module in modules]
    quiet(tiny_model, found, vectors)
    broken = mn.SteeringVector(dict.fromkeys((1, 2), np.full(32, 3e38)))
    with pytest.raises(mn.InputError, match="the target is not finite"):
        quiet(tiny_model, found, [broken])
    assert [module.__dict__.get("forward") for module in modules] == forwards
    assert not tiny_model._module.get_output_embeddings()._forward_pre_hooks
    assert torch.equal(tiny_model._module(ids).logits, before)


def test_an_architecture_that_cannot_be_parted_is_run_whole(tiny_model, found, vectors):
    """A model whose last block reads what the attention of the first left aside in this pass."""
    model = tiny("llama", tiny_model.tokenizer)
    first, last = block_modules(model)[0], block_modules(model)[-1]
    aside = {}
    own = last.forward
    model._module.register_forward_pre_hook(lambda *_: aside.clear())
    first.self_attn.register_forward_hook(lambda _m, _a, output: aside.update(left=output[0]))
    last.forward = lambda hidden, *args, **kwargs: own(hidden + aside["left"], *args, **kwargs)
    expected = measured_plainly(model, found, vectors)
    assert not measured._way(model).resumes
    np.testing.assert_allclose(quiet(model, found, vectors), expected, atol=5e-5)


def test_what_all_rows_begin_with_is_read_once(tiny_model, corpus, vectors):
    """A system prompt, steered like all other tokens."""
    system = {"role": "system", "content": "You count well, and say what you find."}
    asked = [
        replace(e, prompt=[system, {"role": "user", "content": e.prompt_text}]) for e in corpus
    ]
    found = targets(tiny_model, mn.Corpus(asked), "contrast")
    lengths = []

    def note(_module, args, kwargs):
        lengths.append(kwargs["input_ids"].shape)

    handle = tiny_model._module.register_forward_pre_hook(note, with_kwargs=True)
    changes = quiet(tiny_model, found, vectors)
    handle.remove()
    begun = [shape for shape in lengths if shape[0] == 1 and shape[1] > 15]
    assert len(begun) == len(lengths) / 2
    read_once = sum(rows * tokens for rows, tokens in lengths)
    n_passes = len(vectors) + 1 + len({min(v.directions) for v in vectors})
    assert read_once < 0.9 * n_passes * sum(map(len, measured.pair_rows(tiny_model, found)))
    expected = measured_plainly(tiny_model, found, vectors)
    np.testing.assert_allclose(changes, expected, atol=5e-5)


# ------------------------------------------------------------------------------------- the store


def lines(store: Path) -> list[dict]:
    return [json.loads(line) for line in store.read_text().splitlines()[1:]]


def test_a_second_call_reads_and_adds_only_what_is_new(tiny_model, found, vectors, tmp_path):
    store = tmp_path / "doses"
    expected = quiet(tiny_model, found, vectors)
    np.testing.assert_array_equal(quiet(tiny_model, found, vectors[:2], store=store), expected[:2])
    first = store.read_bytes()
    np.testing.assert_array_equal(quiet(tiny_model, found, vectors[:2], store=store), expected[:2])
    assert store.read_bytes() == first
    np.testing.assert_array_equal(quiet(tiny_model, found, vectors, store=store), expected)
    assert store.read_bytes().startswith(first)
    once = [(line["batch"], line["vector"]) for line in lines(store)]
    assert len(once) == len(set(once))
    assert len(once) % (len(vectors) + 1) == 0


def test_other_examples_and_targets_are_other_batches(tiny_model, corpus, found, vectors, tmp_path):
    store = tmp_path / "doses"
    quiet(tiny_model, found, vectors[:1], store=store)
    for other in (
        targets(tiny_model, corpus[:4], "contrast"),
        targets(tiny_model, corpus, "reference"),
    ):
        kept = quiet(tiny_model, other, vectors[:1], store=store)
        np.testing.assert_array_equal(kept, quiet(tiny_model, other, vectors[:1]))


def test_a_torn_last_line_is_measured_again(tiny_model, found, vectors, tmp_path):
    store = tmp_path / "doses"
    expected = quiet(tiny_model, found, vectors[:2], store=store)
    whole = store.read_bytes()
    for size in (0, 5, len(whole.split(b"\n")[0]), len(whole) - 30, len(whole) - 1):
        store.write_bytes(whole[:size])
        np.testing.assert_array_equal(quiet(tiny_model, found, vectors[:2], store=store), expected)
        assert store.read_bytes() == whole


def test_what_is_not_ours_is_refused_in_a_line(tiny_model, found, vectors, tmp_path):
    store = tmp_path / "doses"
    quiet(tiny_model, found, vectors[:1], store=store)
    other = tiny("llama", tiny_model.tokenizer)
    with pytest.raises(mn.InputError, match="was made by something else"):
        quiet(other, targets(other, mn.load_corpus("demo", limit=4), "contrast"), [], store=store)
    content = store.read_text().splitlines()
    content[2] = content[2][:-5]
    store.write_text("\n".join(content) + "\n")
    with pytest.raises(mn.InputError, match="line 3 is damaged; delete the file"):
        quiet(tiny_model, found, vectors[:1], store=store)
    with pytest.raises(mn.InputError, match="is a folder, a file was expected"):
        quiet(tiny_model, found, vectors[:1], store=tmp_path)
    for wrong, said in (
        (mn.SteeringVector({9: np.ones(32)}), "block 9 is not there"),
        (mn.SteeringVector({1: np.ones(5)}), "made for another model"),
    ):
        with pytest.raises(mn.InputError, match=said):
            quiet(tiny_model, found, [wrong], store=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def work_of(folder):
    model = mn.load_model(str(folder), dtype="float32")
    rng = np.random.default_rng(1)
    vectors = [mn.SteeringVector({1: rng.standard_normal(32)}) for _ in range(12)]
    found = targets(model, mn.load_corpus("demo", limit=16), "contrast")
    return functools.partial(measure, model, found, vectors, token_budget=200, progress=False)


def drive(folder: str, store: str, *goals: str) -> None:
    """Measure in forked processes, each killed when so many lines are there; say how many were."""
    torch.set_num_threads(1)  # no thread is lost in a fork
    work, found = work_of(folder), []
    for goal in map(int, goals):
        child = os.fork()
        if not child:
            work(store=store)
            os._exit(0)
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            if n_lines(Path(store)) >= goal:
                os.kill(child, signal.SIGKILL)
            time.sleep(0.001)
        found.append(n_lines(Path(store)))
    print(json.dumps(found))


def test_killed_at_any_moment_and_resumed_equals_uninterrupted(tiny_folder, tmp_path):
    work, store = work_of(tiny_folder), tmp_path / "killed"
    expected = work(store=tmp_path / "whole")
    total = n_lines(tmp_path / "whole")
    goals = [total * share // 100 for share in (1, 30, 70)]
    command = [sys.executable, "-m", "tests.steering.test_measured", tiny_folder, store, *goals]
    ran = subprocess.run(list(map(str, command)), capture_output=True, check=True)
    left = json.loads(ran.stdout)
    assert left == sorted(left)  # each went on where the last was killed
    assert left[0] < left[-1]
    assert 0 < left[1] < total
    # Another process may lay its arrays out otherwise, and add in another order.
    np.testing.assert_allclose(work(store=store), expected, rtol=0, atol=1e-6)
    assert n_lines(store) == total


def n_lines(store: Path) -> int:
    """Measurements in a store."""
    return max(0, store.read_bytes().count(b"\n") - 1) if store.exists() else 0


if __name__ == "__main__":
    drive(*sys.argv[1:])
