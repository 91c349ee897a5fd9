import threading

import numpy as np
import pytest
import torch

import mnskills_viz as mn
from tests.activations.test_collect import reference_rows


@pytest.fixture
def vector():
    return np.random.default_rng(1).standard_normal(32).astype(np.float32)


def logits(model, ids):
    with torch.no_grad():
        return model._module(ids).logits


def test_steering_adds_the_vector_after_the_block_at_every_position(tiny_model, vector):
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])

    def add(_module, _args, output):
        hidden = output[0] if isinstance(output, tuple) else output
        shifted = hidden + torch.tensor(vector)
        return (shifted, *output[1:]) if isinstance(output, tuple) else shifted

    handle = tiny_model._module.model.layers[2].register_forward_hook(add)
    expected = logits(tiny_model, ids)
    handle.remove()
    with mn.SteeringVector({2: vector}).apply(tiny_model):
        torch.testing.assert_close(logits(tiny_model, ids), expected)
    with mn.SteeringVector({2: vector}).apply(tiny_model, ("generation",)):
        later = logits(tiny_model, ids)
    assert torch.equal(later, logits(tiny_model, ids))  # a plain forward pass is all prompt


def test_a_trace_sees_the_steered_stream(tiny_model, vector):
    ids = torch.tensor([[5, 6, 7, 8]])
    before = logits(tiny_model, ids)
    with mn.SteeringVector({1: vector}).apply(tiny_model):
        with tiny_model.trace({"input_ids": ids, "attention_mask": torch.ones_like(ids)}):
            traced = tiny_model.output.logits.save()
        steered = logits(tiny_model, ids)
    torch.testing.assert_close(traced, steered)
    assert not torch.allclose(before, steered)
    assert torch.equal(before, logits(tiny_model, ids))  # nothing is left behind


def test_dose_zero_changes_nothing_bit_for_bit(tiny_study, tiny_model):
    nothing = mn.SteeringVector.from_axis(tiny_study.basis("pca-1"), 0, dose=0.0)
    ids = torch.tensor([[5, 6, 7, 8]])
    with nothing.apply(tiny_model):
        steered = logits(tiny_model, ids)
    assert torch.equal(steered, logits(tiny_model, ids))


def test_the_dose_is_in_standard_deviations(tiny_study, tiny_model):
    """Under steering the pooled row moves by the dose on its axis and not at all on the others."""
    basis = tiny_study.basis("pca-1")
    vector = mn.SteeringVector.from_axis(basis, 3, dose=1.5)
    for example in tiny_study.corpus[:4]:
        before = reference_rows(tiny_model, example)[0][1]
        with vector.apply(tiny_model):
            after = reference_rows(tiny_model, example)[0][1]
        moved = basis.transform(after[None])[0] - basis.transform(before[None])[0]
        np.testing.assert_allclose(moved, 1.5 * basis.scale_[3] * np.eye(8)[3], atol=1e-4)


def test_a_trace_sees_it_from_the_next_block_on(tiny_study, tiny_model):
    vector = mn.SteeringVector.from_axis(tiny_study.basis("pca-1"), 0, dose=2.0)
    corpus = tiny_study.corpus[:3]
    before = mn.collect(tiny_model, corpus, progress=False)
    with vector.apply(tiny_model):
        after = mn.collect(tiny_model, corpus, progress=False)
    for layer, is_moved in ((0, False), (1, False), (2, True), (3, True)):
        assert (np.abs(after.matrix(layer) - before.matrix(layer)).max() > 1e-3) == is_moved


def test_phases_part_a_generation(tiny_model, vector):
    prompt = ["2 + 2 is"]
    big = 40 * mn.SteeringVector({1: vector})

    def run(*phases):
        steering = big.apply(tiny_model, phases) if phases else None
        return mn.generate(tiny_model, prompt, steering=steering, max_new_tokens=12)[0][0]

    plain, prompt_only, later, both = (
        run(),
        run("prompt"),
        run("generation"),
        run("prompt", "generation"),
    )
    assert len({plain, prompt_only, both}) == 3
    # The first new token comes from the prompt's pass: it is steered only if the prompt is.
    first = [
        mn.generate(tiny_model, prompt, s, max_new_tokens=1)[0][0]
        for s in (None, big.apply(tiny_model, ("generation",)))
    ]
    assert first[0] == first[1]
    assert later != plain


def test_vectors_compose(vector):
    a, b = mn.SteeringVector({1: vector}), mn.SteeringVector({1: vector, 2: 2 * vector})
    total = 2 * a + b - a
    np.testing.assert_allclose(total.directions[1], 2 * vector, rtol=1e-6)
    np.testing.assert_allclose(total.directions[2], 2 * vector, rtol=1e-6)


def test_hooks_go_when_the_block_raises(tiny_model, vector):
    ids = torch.tensor([[5, 6]])
    before = logits(tiny_model, ids)
    with pytest.raises(RuntimeError), mn.SteeringVector({1: vector}).apply(tiny_model):
        raise RuntimeError
    assert torch.equal(before, logits(tiny_model, ids))


def test_wrong_vectors_say_so(tiny_model, tiny_study, vector):
    with pytest.raises(mn.InputError, match="block 9 is not there; the model has 0 to 3"):
        mn.SteeringVector({9: vector}).apply(tiny_model).__enter__()
    with pytest.raises(mn.InputError, match="width 5, the model 32"):
        mn.SteeringVector({1: np.ones(5)}).apply(tiny_model).__enter__()
    with pytest.raises(mn.InputError, match="NaN or infinite"):
        mn.SteeringVector({1: np.full(32, np.nan)})
    with pytest.raises(mn.InputError, match="at least one"):
        mn.SteeringVector({})
    with pytest.raises(mn.InputError, match="phases must be among"):
        mn.SteeringVector({1: vector}).apply(tiny_model, ("later",)).__enter__()
    with pytest.raises(mn.InputError, match="axes 0 to 7"):
        mn.SteeringVector.from_axis(tiny_study.basis("pca-1"), 8)


def test_another_thread_does_not_read_a_steered_model(tiny_study, tiny_model):
    """A cell that collects while a widget steers waits, and gets unsteered rows."""
    corpus = tiny_study.corpus[:3]
    expected = mn.collect(tiny_model, corpus, progress=False).matrix(3)
    found = []
    reader = threading.Thread(
        target=lambda: found.append(mn.collect(tiny_model, corpus, progress=False).matrix(3))
    )
    with mn.SteeringVector.from_axis(tiny_study.basis("pca-1"), 0, dose=9.0).apply(tiny_model):
        reader.start()
        reader.join(timeout=0.5)
        assert not found
    reader.join()
    np.testing.assert_array_equal(found[0], expected)
