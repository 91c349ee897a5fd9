"""Rows are compared with plain transformers, run on one example at a time."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mnskills_viz as mn
from mnskills_viz.activations.collector import Here
from mnskills_viz.activations.tokens import counted, tokenize
from mnskills_viz.activations.trace import plan_batches


def reference_rows(model, example, which="content"):
    """Means of every block's output over counted tokens, by hooks on the transformers model."""
    row = tokenize(model.tokenizer, [example], closing=which == "all")[0]
    found = []
    module = model._module

    def keep(_module, _args, output):
        found.append((output[0] if isinstance(output, tuple) else output)[0].float().numpy())

    handles = [block.register_forward_hook(keep) for block in module.model.layers]
    with torch.no_grad():
        logits = module(torch.tensor(row.ids[None], dtype=torch.long)).logits[0].float()
    for handle in handles:
        handle.remove()
    means = []
    for hidden in found:
        norms = np.linalg.norm(hidden, axis=1)
        mask = counted(row, which)
        below = mask & (norms <= 4 * np.sort(norms)[(len(norms) - 1) // 2])
        means.append(hidden[below if below.any() else mask].mean(axis=0))
    scores = logits.log_softmax(-1)[np.arange(len(row)) - 1, torch.tensor(row.ids).long()]
    return np.stack(means), scores[row.response_start : row.response_end].mean().item()


def relative_errors(found, expected):
    """Of each row of [n, d]."""
    return np.linalg.norm(found - expected, axis=-1) / np.linalg.norm(expected, axis=-1)


def test_every_layer_equals_plain_transformers(tiny_model, demo_rows):
    acts = mn.collect(tiny_model, demo_rows, errors=True, progress=False, token_budget=512)
    assert acts.ids == demo_rows.ids
    for i in range(0, len(demo_rows), 7):
        means, logprob = reference_rows(tiny_model, demo_rows[i])
        found = np.stack([acts.matrix(layer)[i] for layer in acts.layers])
        assert relative_errors(found, means).max() < 1e-5
        assert acts.logprobs[i] == pytest.approx(logprob, abs=1e-4)


def word_problems(n):
    """Questions and worked solutions of GSM8K's kind, of different lengths."""
    rng = random.Random(0)
    names, things = ["Mia", "Omar", "Lena", "Tom"], ["apples", "marbles", "stamps", "books"]
    rows = []
    for i in range(n):
        a, b, c = (rng.randint(2, 40) for _ in range(3))
        name, thing = rng.choice(names), rng.choice(things)
        question = f"{name} has {a} bags with {b} {thing} in each bag."
        solution = f"The bags hold {a} * {b} = <<{a}*{b}={a * b}>>{a * b} {thing}."
        total = a * b
        for _ in range(i % 3):
            question += f" Then {name} buys {c} more {thing}."
            solution += f"\nThat makes {total} + {c} = <<{total}+{c}={total + c}>>{total + c}."
            total += c
        rows.append(
            {
                "question": f"{question} How many {thing} does {name} have?",
                "answer": f"{solution}\n#### {total}",
            }
        )
    return mn.load_corpus(rows)


class Replayed:
    """Reads in this process once, and gives the same rows again."""

    def __init__(self):
        self.tables = []

    def read(self, *arguments):
        if not self.tables:
            self.tables += Here().read(*arguments)
        yield from self.tables


def test_the_embedded_model_equals_plain_transformers(embedded, tmp_path):
    corpus, engine = word_problems(64), Replayed()
    expected = np.stack([reference_rows(embedded, example)[0] for example in corpus], axis=1)
    acts = mn.collect(embedded, corpus, progress=False, engine=engine)
    store = tmp_path / "a.lance"
    stored = mn.collect(embedded, corpus, progress=False, engine=engine, store=store)
    half = mn.collect(mn.load_model("embedded", dtype="bfloat16"), corpus, progress=False)
    assert len(acts.layers) == 30
    for layer in acts.layers:
        assert relative_errors(acts.matrix(layer), expected[layer]).max() < 1e-4
        assert relative_errors(stored.matrix(layer), expected[layer]).max() < 5e-4
        assert relative_errors(half.matrix(layer), expected[layer]).max() < 2e-2


def test_the_sink_would_have_drowned_the_rest(embedded, demo_rows):
    options = {"layers": [15], "tokens": "all", "progress": False}
    without = mn.collect(embedded, demo_rows[:2], **options).matrix(15)
    plain = mn.collect(embedded, demo_rows[:2], exclude_sinks=False, **options).matrix(15)
    assert (np.linalg.norm(plain, axis=1) > 3 * np.linalg.norm(without, axis=1)).all()


@pytest.mark.parametrize("tokens", ["prompt", "last-of-prompt"])
def test_rows_depend_on_the_prompt_alone_when_it_alone_counts(tiny_model, tokens):
    pair = [{"id": "a", "prompt": "2+2?", "response": "4"}, {"id": "b", "prompt": "2+2?"}]
    pooling = "mean" if tokens == "prompt" else "last"
    acts = mn.collect(
        tiny_model, mn.load_corpus(pair), tokens="prompt", pooling=pooling, progress=False
    )
    np.testing.assert_allclose(acts.matrix(2)[0], acts.matrix(2)[1], rtol=1e-5, atol=1e-6)


def test_batches_do_not_change_rows(tiny_model, demo_rows):
    one = mn.collect(tiny_model, demo_rows, token_budget=1, progress=False)
    many = mn.collect(tiny_model, demo_rows, token_budget=100_000, progress=False)
    np.testing.assert_allclose(one.matrix(3), many.matrix(3), rtol=1e-4, atol=1e-5)


@given(st.lists(st.integers(1, 200), max_size=40), st.integers(1, 400))
def test_the_plan_takes_every_row_once_within_the_budget(lengths, budget):
    plan = plan_batches(lengths, budget)
    assert sorted(i for batch in plan for i in batch) == list(range(len(lengths)))
    for batch in plan:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget


def test_tokens_shows_the_mask_that_was_used(tiny_model, demo_rows):
    acts = mn.collect(tiny_model, demo_rows[:3], progress=False)
    table = acts.tokens(1)
    counted_text = "".join(table["text"][table["counted"]])
    assert counted_text == demo_rows[1].prompt + demo_rows[1].response
    assert not table["counted"][0]


def test_concat_gives_every_layer_one_weight(tiny_study):
    X = tiny_study.activations.matrix("concat")
    width = X.shape[1] // 4
    parts = [X[:, i * width : (i + 1) * width] for i in range(4)]
    shares = [np.linalg.norm(p - p.mean(axis=0)) ** 2 / len(p) for p in parts]
    np.testing.assert_allclose(shares, 1.0, rtol=1e-4)
    assert len(tiny_study.activations.source("concat")["scales"]) == 4


def test_another_model_or_other_options_are_refused(tiny_model, demo_rows, tmp_path):
    store = tmp_path / "a.lance"
    mn.collect(tiny_model, demo_rows[:4], store=store, progress=False)
    with pytest.raises(mn.InputError, match=r"options.tokens: content there, prompt here"):
        mn.collect(tiny_model, demo_rows[:4], store=store, tokens="prompt", progress=False)
    with pytest.raises(mn.InputError, match=r"corpus.rows: 4 there, 5 here"):
        mn.collect(tiny_model, demo_rows[:5], store=store, progress=False)


def test_two_writers_do_not_meet(tiny_model, demo_rows, tmp_path):
    from mnskills_viz.activations.store import held

    with (
        held(tmp_path / "a.lance"),
        pytest.raises(mn.InputError, match="written by another process"),
    ):
        mn.collect(tiny_model, demo_rows[:2], store=tmp_path / "a.lance", progress=False)


def test_a_layer_beyond_float16_is_stored_wide(tiny_folder, demo_rows, tmp_path):
    model = mn.load_model(str(tiny_folder), dtype="float32")
    model._module.model.layers[2].mlp.down_proj.weight.data *= 1e6
    plain = mn.collect(model, demo_rows[:6], progress=False)
    stored = mn.collect(model, demo_rows[:6], progress=False, store=tmp_path / "a.lance")
    assert np.abs(plain.matrix(2)).max() > 65504
    np.testing.assert_allclose(stored.matrix(2), plain.matrix(2), rtol=1e-6)
    np.testing.assert_allclose(stored.matrix(1), plain.matrix(1), rtol=1e-3, atol=1e-4)


def test_weights_that_are_not_finite_name_an_example(tiny_folder, demo_rows):
    model = mn.load_model(str(tiny_folder), dtype="float32")
    model._module.model.layers[1].mlp.down_proj.weight.data[0, 0] = float("nan")
    with pytest.raises(mn.InputError, match="activations are not finite"):
        mn.collect(model, demo_rows[:2], progress=False)


def test_bad_options_are_refused_before_the_model_runs(tiny_model, demo_rows):
    for options, said in (
        ({"layers": [9]}, "layers 0 to 3"),
        ({"layers": "some"}, 'layers must be "all"'),
        ({"pooling": "max"}, "pooling must be"),
        ({"tokens": "some"}, "tokens must be"),
        ({"max_length": 5}, "longer than max_length 5"),
        ({"max_length": 0}, "max_length must be at least 1"),
    ):
        with pytest.raises(mn.InputError, match=said):
            mn.collect(tiny_model, demo_rows[:2], **options)
    unanswered = mn.load_corpus([{"prompt": "2+2?"}])
    with pytest.raises(mn.InputError, match="no token that counts"):
        mn.collect(tiny_model, unanswered, tokens="response")


def test_rows_that_are_too_long_are_cut_when_asked(tiny_model, demo_rows):
    acts = mn.collect(tiny_model, demo_rows[:5], max_length=12, truncate=True, progress=False)
    assert acts.truncated.all()
    assert all(len(acts.tokens(i)) == 12 for i in range(5))


def test_a_row_never_exceeds_the_models_context(tiny_model):
    long = mn.load_corpus([{"prompt": "one two three " * 600, "response": "4"}])
    for options in ({}, {"max_length": 5000}):
        with pytest.raises(mn.InputError, match="longer than max_length 1024"):
            mn.collect(tiny_model, long, **options)
    both = mn.Corpus([*long, *mn.load_corpus([{"id": "short", "prompt": "2+2?", "response": "4"}])])
    assert mn.gradients(tiny_model, both, layers=[1], progress=False).ids == ["short"]


def test_the_reference_loss_is_the_responses_whatever_counts(tiny_model, demo_rows):
    losses = [
        mn.collect(tiny_model, demo_rows[:3], tokens=t, errors=True, progress=False).logprobs
        for t in ("content", "all")
    ]
    np.testing.assert_allclose(*losses, atol=1e-5)


def test_rows_above_the_shared_length_are_alone():
    assert plan_batches([9, 8, 3, 2], 100, 5) == [[0], [1], [2, 3]]


def test_stores_that_are_none(tmp_path):
    with pytest.raises(mn.InputError, match="collect them first"):
        mn.Activations.open(tmp_path / "nothing")
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "x").write_text("junk")
    with pytest.raises(mn.InputError, match="not a readable store"):
        mn.Activations.open(tmp_path / "junk")
