"""Gradients are compared with finite differences of forward passes that add the vector by hand."""

import numpy as np
import pytest
import torch

import mnskills_viz as mn
from mnskills_viz.activations.gradients import Gradients
from mnskills_viz.activations.targets import corrupt, plain_response
from mnskills_viz.activations.tokens import tokenize
from mnskills_viz.corpus import Example
from tests.activations.test_pairs import tiny


def target(model, example, layer, vector, which):
    """Mean response log-probability with a vector added at one layer, by a plain hook."""
    row = tokenize(model.tokenizer, [example])[0]
    positions = torch.arange(len(row)) < row.response_start
    mask = (positions if which == "prompt" else ~positions).float()[None, :, None]

    def add(_module, _args, output):
        hidden = output[0] if isinstance(output, tuple) else output
        shifted = hidden + mask * torch.tensor(vector, dtype=hidden.dtype)
        return (shifted, *output[1:]) if isinstance(output, tuple) else shifted

    handle = model._module.model.layers[layer].register_forward_hook(add)
    ids = torch.tensor(row.ids[None], dtype=torch.long)
    with torch.no_grad():
        scores = model._module(ids).logits[0].log_softmax(-1)
    handle.remove()
    picked = scores[torch.arange(len(row) - 1), ids[0, 1:]]
    return picked[row.response_start - 1 :].mean().item()


@pytest.mark.parametrize("phase", ["prompt", "generation"])
@pytest.mark.parametrize("layer", [0, 2])
def test_reference_gradients_are_the_slopes_of_forward_passes(tiny_model, demo_rows, layer, phase):
    examples = demo_rows[:3]
    found = mn.gradients(tiny_model, examples, target="reference", progress=False)
    direction = np.random.default_rng(0).standard_normal(32).astype(np.float32)
    step = 3e-3
    for i, example in enumerate(examples):
        up = target(tiny_model, example, layer, step * direction, phase)
        down = target(tiny_model, example, layer, -step * direction, phase)
        slope = found.matrix(layer, [phase])[i] @ direction
        assert slope == pytest.approx((up - down) / (2 * step), rel=0.02, abs=2e-3)


@pytest.mark.parametrize("phase", ["prompt", "generation"])
@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "bloom"])
def test_the_contrast_is_reference_less_corrupted(tiny_model, demo_rows, name, phase):
    """Whether two texts are one row of the model's or two."""
    wide = {"sliding_window": 4096} if name == "gemma2" else {}
    model = tiny(name, tiny_model.tokenizer, **wide)
    examples = mn.Corpus([e for e in demo_rows if corrupt(e)][:4])
    found = mn.gradients(model, examples, layers=[1, 2], progress=False)
    reference = mn.gradients(model, examples, layers=[1, 2], target="reference", progress=False)
    wrong = mn.Corpus([Example(e.id, e.prompt, corrupt(e) or "") for e in examples])
    changed = mn.gradients(model, wrong, layers=[1, 2], target="reference", progress=False)
    lengths = [
        [len(r) - r.response_start for r in tokenize(model.tokenizer, list(c))]
        for c in (wrong, examples)
    ]
    ratio = np.divide(*lengths)
    np.testing.assert_allclose(
        found.values, reference.values - ratio * changed.values, rtol=1e-4, atol=1e-5
    )
    for layer in (1, 2):
        expected = reference.matrix(layer, [phase]) - ratio[:, None] * changed.matrix(
            layer, [phase]
        )
        np.testing.assert_allclose(found.matrix(layer, [phase]), expected, rtol=2e-3, atol=2e-5)


def test_gradients_do_not_depend_on_which_layers_are_asked_for(tiny_model, demo_rows):
    """Below the lowest nothing is kept, and a vector enters there."""
    every = mn.gradients(tiny_model, demo_rows[:4], progress=False)
    for layers in ([0], [3], [1, 3]):
        some = mn.gradients(tiny_model, demo_rows[:4], layers=layers, progress=False)
        for layer in layers:
            np.testing.assert_allclose(
                some.matrix(layer), every.matrix(layer), rtol=1e-5, atol=1e-7
            )


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("34 + 27 = 61\nAnswer: 61", "61"),
        ("5 of 15 is 1/3, 2.5 of 7.5 too\nAnswer: 5", "5"),
        ("It is 4 x 5 = 20.", None),
        ("Sorted: 3 7 9\nAnswer: 3 7 9", "3 7 9"),
        ("Answer: Yes", "Yes"),
        ("Answer: cat dog", "cat dog"),
        ("Answer: q", "q"),
        ("10-5 = 5, 0-5 = -5", "-5"),
        ("15-10 = 5.0", "5"),
    ],
)
def test_corruption_changes_the_answer_everywhere_and_nothing_else(response, answer):
    example = Example("x", "?", response, answer)
    wrong = corrupt(example)
    assert wrong is not None
    assert wrong != response
    assert len(wrong.split("\n")) == len(response.split("\n"))
    assert corrupt(example) == wrong  # seeded by the id
    if response.startswith("5 of 15"):
        assert wrong.startswith(wrong[-1] + " of 15 is 1/3, 2.5 of 7.5 too")


def test_operands_are_not_signs_and_annotations_go():
    wrong = corrupt(Example("x", "?", "10-5 = 5, 0-5 = -5", "-5"))
    assert wrong is not None
    assert wrong.startswith("10-5 = 5, 0-5 = -")
    assert plain_response("48/2 = <<48/2=24>>24 clips") == "48/2 = 24 clips"


def test_numbers_within_words_and_numbers_stay():
    wrong = corrupt(Example("x", "?", "15 cats, 5.5 dogs, x5, 5\nAnswer: 5", "5"))
    assert wrong is not None
    assert wrong.startswith("15 cats, 5.5 dogs, x5, ")
    assert "Answer: 5" not in wrong


def test_nearly_every_demo_example_has_a_contrast():
    corpus = mn.load_corpus("demo", split="probe")
    assert sum(corrupt(e) is None for e in corpus) < 0.02 * len(corpus)


def test_examples_without_a_target_are_named(tiny_model):
    corpus = mn.load_corpus(
        [{"id": "a", "prompt": "2+2?", "response": "4"}, {"id": "b", "prompt": "?"}]
    )
    found = mn.gradients(tiny_model, corpus, layers=[1], progress=False)
    assert (found.ids, found.skipped) == (["a"], ["b"])
    with pytest.raises(mn.InputError, match="none of the 1 examples does"):
        mn.gradients(tiny_model, mn.load_corpus([{"prompt": "?"}]))
    with pytest.raises(mn.InputError, match="layers 0 to 3"):
        mn.gradients(tiny_model, corpus, layers=[4])


def test_gradients_are_read_back_only_by_who_made_them(tiny_model, demo_rows, tmp_path):
    found = mn.gradients(tiny_model, demo_rows[:2], layers=[1, 2], progress=False)
    found.save(tmp_path / "g.safetensors", {"by": 1})
    again = Gradients.load(tmp_path / "g.safetensors", {"by": 1})
    assert again is not None
    np.testing.assert_array_equal(again.matrix(2), found.matrix(2))
    assert Gradients.load(tmp_path / "g.safetensors", {"by": 2}) is None
    assert Gradients.load(tmp_path / "none.safetensors", {}) is None
    (tmp_path / "g.safetensors").write_bytes(b"junk")
    with pytest.raises(mn.InputError, match="is damaged"):
        Gradients.load(tmp_path / "g.safetensors", {"by": 1})
