"""Sketches are compared with exact gradients of the weights, by plain autograd, a row at a time."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

import mnskills_viz as mn
from mnskills_viz.activations import sketch as sketches
from mnskills_viz.activations.sketch import GradientSketch, random_directions
from mnskills_viz.activations.targets import corrupt
from mnskills_viz.activations.tokens import tokenize
from mnskills_viz.corpus import Example
from mnskills_viz.selection.influence import gradient_cosines

QUIET = {"progress": False}


def logprob(module, row):
    """Mean log-probability of the response, written out."""
    ids = torch.tensor(row.ids[None].astype(np.int64))
    scores = module(ids, use_cache=False).logits[0].log_softmax(-1)
    picked = scores[torch.arange(len(row) - 1), ids[0, 1:]]
    return picked[row.response_start - 1 :].mean()


def exact(model, examples):
    """Gradients over all weight matrices [n, n_weights]; which weights are the blocks'; values."""
    module = model._module
    weights = {name: p for name, p in module.named_parameters() if p.ndim == 2}
    found, values = [], []
    module.requires_grad_(True)
    for row in tokenize(model.tokenizer, list(examples)):
        value = logprob(module, row)
        grads = torch.autograd.grad(value, list(weights.values()))
        found.append(torch.cat([grad.flatten() for grad in grads]).numpy())
        values.append(value.item())
    module.requires_grad_(False)
    of_blocks = [np.full(p.numel(), ".layers." in n or ".h." in n) for n, p in weights.items()]
    return np.array(found), np.concatenate(of_blocks), np.array(values)


def trained(folder, corpus, steps):
    """The tiny model after some steps of Adam on the demo's pool."""
    model = mn.load_model(str(folder), dtype="float32")
    module = model._module
    rows = tokenize(model.tokenizer, list(corpus))
    module.requires_grad_(True)
    adam = torch.optim.Adam(module.parameters(), lr=3e-3)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        batch = [rows[i] for i in rng.choice(len(rows), 16)]
        ids = torch.zeros(len(batch), max(map(len, batch)), dtype=torch.long)
        labels = torch.full_like(ids, -100)
        for i, row in enumerate(batch):
            ids[i, : len(row)] = torch.from_numpy(row.ids)
            labels[i, row.response_start : len(row)] = ids[i, row.response_start : len(row)]
        adam.zero_grad()
        module(ids, labels=labels).loss.backward()
        adam.step()
    module.requires_grad_(False)
    return model


@pytest.fixture(scope="module")
def gpt2(tiny_model, tmp_path_factory):
    """An architecture whose linear maps are no `torch.nn.Linear`."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("gpt2")
    config = GPT2Config(
        vocab_size=len(tiny_model.tokenizer), n_embd=32, n_layer=2, n_head=4, n_positions=512
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        GPT2LMHeadModel(config).save_pretrained(folder)
    tiny_model.tokenizer.save_pretrained(folder)
    return mn.load_model(str(folder), dtype="float32")


# ----------------------------------------------------------------------------------- the truth


@pytest.mark.parametrize("name", ["tiny_model", "gpt2"])
def test_inner_products_are_those_of_the_weights_gradients(request, demo_rows, name):
    """Up to a noise of 1 / sqrt(width)."""
    model, examples = request.getfixturevalue(name), demo_rows[:6]
    weights, of_blocks, _ = exact(model, examples)
    weights = weights[:, of_blocks]
    length = np.linalg.norm(weights, axis=1)
    cosines = weights @ weights.T / np.outer(length, length)
    worst = []
    for width in (256, 16_384):
        found = mn.gradient_sketch(model, examples, width=width, **QUIET).values
        assert found.shape == (6, width)
        assert found.dtype == np.float32
        worst.append(np.abs(found @ found.T / np.outer(length, length) - cosines).max())
    assert worst[1] < 5 / 128
    assert worst[1] < worst[0] / 3


@pytest.mark.parametrize("steps", [0, 40])
def test_influence_agrees_with_exact_products_over_the_weights(tiny_folder, steps):
    """Of the blocks, which LoRA trains; embeddings and head would change the ranking.

    Little in a random model, and most where training has just begun.
    """
    demo = mn.load_corpus("demo")
    pool, probe = demo.split("pool")[:80], demo.split("probe")[:30]
    model = trained(tiny_folder, demo.split("pool")[200:1200], steps)
    found, wanted = (mn.gradient_sketch(model, c, **QUIET).values for c in (pool, probe))
    cosines = gradient_cosines(found, wanted)
    products = cosines * np.linalg.norm(found, axis=1)
    weights, of_blocks, values = exact(model, pool)
    mean = exact(model, probe)[0].mean(axis=0)
    exactly = weights[:, of_blocks] @ mean[of_blocks]
    exactly_cosines = exactly / np.linalg.norm(weights[:, of_blocks], axis=1)
    assert spearmanr(products, exactly).statistic > 0.9
    assert spearmanr(cosines, exactly_cosines).statistic > 0.9
    # What the model finds likely does not say it.
    assert abs(spearmanr(values, exactly_cosines).statistic) < 0.5


# ----------------------------------------------------------------------------------- plumbing


def test_a_row_does_not_depend_on_its_batch(tiny_model, demo_rows):
    alone = mn.gradient_sketch(tiny_model, demo_rows[:8], width=100, token_budget=1, **QUIET)
    padded = mn.gradient_sketch(tiny_model, demo_rows[:8], width=100, **QUIET)
    assert alone.ids == padded.ids == demo_rows[:8].ids
    scale = np.abs(alone.values).max()
    np.testing.assert_allclose(padded.values, alone.values, rtol=0, atol=1e-5 * scale)


def test_sketches_of_layers_add_up(tiny_model, demo_rows):
    """Each layer has directions of its own, whichever others are sketched with it."""
    parts = [
        mn.gradient_sketch(tiny_model, demo_rows[:4], width=100, layers=layers, **QUIET).values
        for layers in ([0], [1, 3], [2], "all")
    ]
    np.testing.assert_allclose(sum(parts[:3]), parts[3], rtol=0, atol=1e-5)
    assert all(np.abs(part).max() > 1e-3 for part in parts)


def test_the_contrast_is_reference_less_corrupted(tiny_model, demo_rows):
    examples = mn.Corpus([e for e in demo_rows if corrupt(e)][:4])
    wrong = mn.Corpus([Example(e.id, e.prompt, corrupt(e) or "") for e in examples])
    lengths = [
        [len(r) - r.response_start for r in tokenize(tiny_model.tokenizer, list(c))]
        for c in (wrong, examples)
    ]
    right, lower = (mn.gradient_sketch(tiny_model, c, **QUIET).values for c in (examples, wrong))
    found = mn.gradient_sketch(tiny_model, examples, target="contrast", **QUIET).values
    ratio = np.divide(*lengths)[:, None]
    np.testing.assert_allclose(found, right - ratio * lower, rtol=0, atol=1e-5)


def test_the_seed_makes_the_directions(tiny_model, demo_rows):
    one, again, other = (
        mn.gradient_sketch(tiny_model, demo_rows[:2], width=50, seed=s, **QUIET) for s in (0, 0, 1)
    )
    np.testing.assert_array_equal(one.values, again.values)
    assert not np.allclose(one.values, other.values)


@pytest.mark.parametrize(("n", "k"), [(40, 8), (8, 8), (8, 40)])
def test_directions_keep_inner_products_on_average(n, k):
    drawn = [random_directions(f"0/{i}", n, k).astype(float) for i in range(400)]
    gram = drawn[0].T @ drawn[0] if n >= k else drawn[0] @ drawn[0].T
    np.testing.assert_allclose(gram, max(n, k) * np.eye(min(n, k)), atol=1e-5 * max(n, k))
    mean = np.mean([d @ d.T for d in drawn], axis=0)
    np.testing.assert_allclose(mean, k * np.eye(n), atol=0.15 * k)
    np.testing.assert_allclose(np.mean(drawn, axis=0), 0, atol=0.25 * np.sqrt(max(n / k, 1)))


def test_the_model_is_left_as_it_was(tiny_model, demo_rows):
    row = tokenize(tiny_model.tokenizer, demo_rows[:1])[0]
    with torch.no_grad():
        before = logprob(tiny_model._module, row)
    modules = list(tiny_model._module.model.layers.modules())
    hooks = [len(module._forward_hooks) for module in modules]
    mn.gradient_sketch(tiny_model, demo_rows[:2], width=50, **QUIET)
    with torch.no_grad():
        assert logprob(tiny_model._module, row) == before
    assert [len(module._forward_hooks) for module in modules] == hooks
    assert all(p.grad is None for p in tiny_model._module.parameters())


# ----------------------------------------------------------------------------------- bad input


def test_rows_without_response_and_too_long_are_named(tiny_model):
    corpus = mn.load_corpus(
        [
            {"id": "a", "prompt": "2+2?", "response": "4"},
            {"id": "b", "prompt": "?"},
            {"id": "c", "prompt": "?", "response": "word " * 2000},
        ]
    )
    found = mn.gradient_sketch(tiny_model, corpus, width=9, **QUIET)
    assert (found.ids, found.skipped) == (["a"], ["b", "c"])
    with pytest.raises(mn.InputError, match="none of the 1 examples does"):
        mn.gradient_sketch(tiny_model, corpus[1:2], **QUIET)


def test_a_gradient_that_is_not_finite_is_named(tiny_folder):
    model = mn.load_model(str(tiny_folder), dtype="float32")
    corpus = mn.load_corpus(
        [{"id": name, "prompt": name, "response": "yes"} for name in ("good", "b#d", "fine")]
    )
    token = model.tokenizer.convert_tokens_to_ids("#")
    model._module.model.embed_tokens.weight.data[token] = torch.nan
    with pytest.raises(mn.InputError, match=r"^example b#d: its gradient is not finite"):
        mn.gradient_sketch(model, corpus, width=9, **QUIET)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"width": 0}, r"^width \(0\) and token_budget \(1024\) must be at least 1$"),
        ({"target": "loss"}, 'target must be "contrast" or "reference"'),
        ({"layers": [4]}, "the model has layers 0 to 3"),
    ],
)
def test_wrong_options_are_one_line(tiny_model, demo_rows, options, said):
    with pytest.raises(mn.InputError, match=said):
        mn.gradient_sketch(tiny_model, demo_rows[:2], **options, **QUIET)


# --------------------------------------------------------------------------------------- on disk

OPTIONS = {"width": 64, "token_budget": 128, "progress": False}
CHILD = """
import sys
import mnskills_viz as mn
from mnskills_viz.activations import sketch
sketch.BATCHES_A_PART = 2
folder, model, corpus = sys.argv[1:]
rows = mn.Corpus.from_jsonl(open(corpus).read(), "demo")
model = mn.load_model(model, dtype="float32")
mn.gradient_sketch(model, rows, width=64, token_budget=128, progress=False, store=folder)
"""


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(sketches, "BATCHES_A_PART", 2)


def test_killed_and_resumed_ends_with_the_bytes_of_uninterrupted(
    tiny_folder, tiny_model, demo_rows, tmp_path, small_parts
):
    (tmp_path / "corpus.jsonl").write_text(demo_rows.to_jsonl())
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(killed), str(tiny_folder), tmp_path / "corpus.jsonl"],
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    waited = time.monotonic() + 60
    while len(list(killed.glob("part-*"))) < 3:
        assert child.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < waited, "it wrote nothing"
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    child.wait()
    (killed / ".part-00003.safetensors.abc.tmp").write_bytes(b"half")  # killed while it wrote
    with pytest.raises(mn.InputError, match=r"is not finished \(\d+ of \d+ parts are missing\)"):
        GradientSketch.open(killed)

    begun = {path: path.stat().st_mtime_ns for path in killed.glob("part-*")}
    resumed = mn.gradient_sketch(tiny_model, demo_rows, store=killed, **OPTIONS)
    assert {path: path.stat().st_mtime_ns for path in begun} == begun  # not computed again
    expected = mn.gradient_sketch(tiny_model, demo_rows, store=whole, **OPTIONS)
    assert files(killed) == files(whole)
    assert len(files(whole)) > 5
    np.testing.assert_array_equal(resumed.values, expected.values)
    plain = mn.gradient_sketch(tiny_model, demo_rows, **OPTIONS)
    np.testing.assert_array_equal(plain.values, expected.values)


def test_a_finished_sketch_is_read_without_the_model(tiny_model, demo_rows, tmp_path, small_parts):
    made = mn.gradient_sketch(tiny_model, demo_rows[:12], store=tmp_path / "s", **OPTIONS)
    read = GradientSketch.open(tmp_path / "s")
    np.testing.assert_array_equal(read.values, made.values)
    assert (read.ids, read.skipped, read.source) == (made.ids, made.skipped, made.source)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "s").iterdir()}
    again = mn.gradient_sketch(tiny_model, demo_rows[:12], store=tmp_path / "s", **OPTIONS)
    np.testing.assert_array_equal(again.values, made.values)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "s").iterdir()} == before


def test_what_something_else_made_is_refused_in_one_line(
    tiny_model, demo_rows, tmp_path, small_parts
):
    store = tmp_path / "s"
    mn.gradient_sketch(tiny_model, demo_rows[:6], store=store, **OPTIONS)
    before = files(store)
    for options, said in (
        ({"width": 65}, "width: 64 there, 65 here"),
        ({"seed": 1}, "seed: 0 there, 1 here"),
        ({"layers": [1]}, r"layers: \[0, 1, 2, 3\] there, \[1\] here"),
        ({"target": "contrast"}, "target: reference there, contrast here"),
    ):
        with pytest.raises(mn.InputError, match=said) as refused:
            mn.gradient_sketch(tiny_model, demo_rows[:6], store=store, **(OPTIONS | options))
        assert "\n" not in str(refused.value)
    with pytest.raises(mn.InputError, match=r"corpus\.rows: 6 there, 5 here"):
        mn.gradient_sketch(tiny_model, demo_rows[:5], store=store, **OPTIONS)
    assert files(store) == before


def test_what_is_damaged_or_no_sketch_is_refused(tiny_model, demo_rows, tmp_path):
    store = tmp_path / "s"
    mn.gradient_sketch(tiny_model, demo_rows[:2], store=store, **OPTIONS)
    (store / "part-00000.safetensors").write_bytes(b"junk")
    with pytest.raises(mn.InputError, match=r"part-00000\.safetensors is damaged"):
        GradientSketch.open(store)
    (store / "sketch.json").write_text(json.dumps({"ids": []}))
    with pytest.raises(mn.InputError, match=r"sketch\.json is damaged"):
        GradientSketch.open(store)
    (tmp_path / "file").write_text("")
    with pytest.raises(mn.InputError, match="is a file, a folder was expected"):
        mn.gradient_sketch(tiny_model, demo_rows[:2], store=tmp_path / "file", **OPTIONS)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("")
    with pytest.raises(mn.InputError, match="holds no sketch"):
        mn.gradient_sketch(tiny_model, demo_rows[:2], store=tmp_path / "other", **OPTIONS)
    with pytest.raises(mn.InputError, match="cannot read"):
        GradientSketch.open(tmp_path / "none")
