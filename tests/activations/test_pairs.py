"""Pairs read as one row are compared with plain passes of the model over each text alone."""

import functools

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import mnskills_viz as mn
from mnskills_viz.activations.pairs import (
    PairRow,
    inputs,
    n_shared,
    pair_rows,
    plan_rows,
    reads_pairs,
    values_of,
)
from mnskills_viz.activations.targets import targets
from mnskills_viz.corpus import Example
from tests.activations.test_architectures import ARCHITECTURES

WIDE = {"sliding_window": 4096}
TOGETHER = {
    "llama": {},
    "qwen3": {},
    "gemma2": WIDE,  # soft caps on attention and on logits, every other layer a window
    "gemma3_text": WIDE,
    "mistral": WIDE,
    "phi3": {},
    "olmo2": {},
    "gpt2": {},  # learned positions
    "gpt_neox": {},
    "qwen3_moe": {},
}
APART = {
    "bloom": {},  # counts positions in the mask
    "mamba": {"hidden_size": 32, "num_hidden_layers": 3, "state_size": 8},
}
# Its attention counts places in the row, not positions, for a mask and a window of its own.
GPT_NEO = {
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 4,
    "attention_types": [[["global", "local"], 1]],
    "max_position_embeddings": 1024,
}


def tiny(name: str, tokenizer, **changes):
    """A random model of an architecture, all of whose layers matter, in float32."""
    from nnsight.modeling.transformers import TransformersModel

    options = ARCHITECTURES[name][1] if name in ARCHITECTURES else {}
    ids = {f"{t}_token_id": getattr(tokenizer, f"{t}_token_id") for t in ("bos", "eos", "pad")}
    config = AutoConfig.for_model(name, vocab_size=len(tokenizer), **ids, **(options | changes))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = AutoModelForCausalLM.from_config(config)
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.data *= 4
    module.eval().requires_grad_(False)
    return TransformersModel(module, tokenizer=tokenizer, task="text-generation")


@pytest.fixture(scope="module")
def build(tiny_model):
    @functools.cache
    def of(name: str):
        return tiny(name, tiny_model.tokenizer, **(TOGETHER | APART).get(name, {}))

    return of


@pytest.fixture(scope="module")
def corpus(demo_rows):
    return mn.Corpus([e for e in demo_rows[:12] if any(c.isdigit() for c in e.response)], "few")


def mean_logprob(model, row) -> float:
    """Of the response, from one text alone and nothing of ours but its tokens."""
    ids = torch.tensor(row.ids[None], dtype=torch.long)
    with torch.no_grad():
        scores = model._module(ids).logits[0].double().log_softmax(-1)
    picked = scores[torch.arange(len(row) - 1), ids[0, 1:]]
    return picked[row.response_start - 1 : row.response_end - 1].mean().item()


def plain_values(model, found) -> np.ndarray:
    values = np.array([mean_logprob(model, row) for row in found.right])
    if found.wrong:
        values -= found.ratio * np.array([mean_logprob(model, row) for row in found.wrong])
    else:
        assert found.right
    return values


def values(model, found, budget=600) -> np.ndarray:
    """Targets from rows as the package reads them."""
    rows = pair_rows(model, found)
    total = np.zeros(len(found.ids))
    for batch in plan_rows(model, rows, budget):
        with torch.inference_mode():
            read = values_of(model, [rows[i] for i in batch]).numpy()
        np.add.at(total, [rows[i].example for i in batch], read)
    return total


@pytest.mark.parametrize("name", TOGETHER)
def test_two_texts_in_one_row_read_as_each_alone(build, corpus, name):
    model, found = build(name), targets(build(name), corpus, "contrast")
    rows = pair_rows(model, found)
    assert len(rows) == len(found.ids)
    assert all(row.is_pair for row in rows)
    expected = plain_values(model, found)
    assert np.abs(expected).max() > 0.02
    np.testing.assert_allclose(values(model, found), expected, atol=2e-5)


@pytest.mark.parametrize("name", APART)
def test_models_that_cannot_read_texts_apart(build, corpus, name):
    model, found = build(name), targets(build(name), corpus, "contrast")
    rows = pair_rows(model, found)
    assert not any(row.is_pair for row in rows)
    assert len(rows) == 2 * len(found.ids)
    assert not reads_pairs(model)
    np.testing.assert_allclose(values(model, found), plain_values(model, found), atol=2e-5)


@pytest.mark.parametrize("name", ["llama", "gemma2", "bloom"])
def test_a_single_target_needs_no_second_text(build, corpus, name):
    found = targets(build(name), corpus, "reference")
    expected = plain_values(build(name), found)
    np.testing.assert_allclose(values(build(name), found), expected, atol=2e-5)


@pytest.mark.parametrize(
    ("name", "window_is", "options"),
    [("gemma2", "sliding_window", {}), ("gpt_neo", "window_size", GPT_NEO)],
)
def test_rows_longer_than_a_window_are_read_apart(tiny_model, corpus, name, window_is, options):
    """Some pairs fit into the window, others do not: each is read as it must be."""
    found = targets(tiny_model, corpus, "contrast")
    long = [len(r) + len(w) - n_shared(r, w) for r, w in zip(found.right, found.wrong, strict=True)]
    window = sorted(long)[len(long) // 2]
    model = tiny(name, tiny_model.tokenizer, **options, **{window_is: window})
    rows = pair_rows(model, found)
    assert {row.example for row in rows if row.is_pair} == {
        i for i, length in enumerate(long) if length <= window
    }
    for batch in plan_rows(model, rows, 10_000):  # a window of the model's is not for our masks
        assert len({rows[i].is_pair for i in batch}) == 1
    np.testing.assert_allclose(values(model, found), plain_values(model, found), atol=2e-5)


def test_dynamic_rotation_is_that_of_each_text_alone(tiny_model, corpus):
    found = targets(tiny_model, corpus, "contrast")
    short = int(np.median([len(row) for row in found.right]))
    scaling = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10_000.0}
    scaling["original_max_position_embeddings"] = short
    model = tiny("llama", tiny_model.tokenizer, rope_parameters=scaling)
    rows = pair_rows(model, found)
    assert 0 < sum(row.is_pair for row in rows) < len(found.ids)
    np.testing.assert_allclose(values(model, found), plain_values(model, found), atol=2e-5)


def test_the_mask_is_needed(build, corpus):
    """A second tail that saw the first would give other values."""
    model = build("llama")
    rows = pair_rows(model, targets(model, corpus, "contrast"))
    seeing = [
        PairRow(
            r.example, r.ids, r.positions, len(r), len(r), r.is_prompt, r.at, r.scored, r.weights
        )
        for r in rows
    ]
    with torch.inference_mode():
        assert (values_of(model, rows) - values_of(model, seeing)).abs().max() > 0.01


def test_the_head_reads_only_the_places_that_count(build, corpus):
    model = build("gemma2")
    rows = pair_rows(model, targets(model, corpus, "contrast"))
    read = []
    head = model._module.get_output_embeddings()
    handle = head.register_forward_hook(lambda _m, args, _out: read.append(args[0].shape[:-1]))
    with torch.inference_mode():
        values_of(model, rows)
    handle.remove()
    assert read == [(1, sum(len(row.at) for row in rows))]
    assert read[0][1] < 0.5 * sum(map(len, rows))
    assert not head._forward_pre_hooks


def test_texts_share_all_that_they_begin_with(tiny_model, corpus):
    found = targets(tiny_model, corpus, "contrast")
    for right, wrong, row in zip(
        found.right, found.wrong, pair_rows(tiny_model, found), strict=True
    ):
        shared = n_shared(right, wrong)
        assert (right.ids[:shared] == wrong.ids[:shared]).all()
        assert row.ids[: len(right)].tolist() == right.ids.tolist()
        assert row.ids[:shared].tolist() + row.ids[row.second :].tolist() == wrong.ids.tolist()
        assert row.positions[row.second] == row.shared == shared
        assert row.is_prompt.sum() == right.response_start


def test_answers_that_differ_from_the_first_token_on(build):
    """The place before the tails is scored twice: for the first token of either."""
    model = build("llama")
    short = mn.Corpus([Example("a", "Is 4 even?", "yes", "yes"), Example("b", "3+4?", "7", "7")])
    found = targets(model, short, "contrast")
    np.testing.assert_allclose(values(model, found), plain_values(model, found), atol=2e-5)


def test_masks_are_of_the_models_dtype(tiny_folder, corpus):
    model = mn.load_model(str(tiny_folder), dtype="bfloat16")
    assert reads_pairs(model)
    found = targets(model, corpus, "contrast")
    assert inputs(model, pair_rows(model, found))["attention_mask"].dtype == torch.bfloat16
    exact = plain_values(mn.load_model(str(tiny_folder), dtype="float32"), found)
    assert np.corrcoef(values(model, found), exact)[0, 1] > 0.99
