import dataclasses
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import mnskills_viz as mn
from mnskills_viz.models import differs, identity
from tests.activations.test_collect import reference_rows
from tests.tiny_model import save_tiny_model

FINITE = st.floats(-1e6, 1e6, width=32)
VECTORS = st.dictionaries(
    st.integers(0, 5), arrays(np.float32, 4, elements=FINITE), min_size=1
).map(mn.SteeringVector)


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


def values(vector, blocks=range(6), width=4):
    """All directions in one array, zeros where there is none: float64 [n_blocks, width]."""
    nothing = np.zeros(width)
    return np.array([vector.directions.get(b, nothing) for b in blocks], dtype=np.float64)


@settings(max_examples=60, deadline=None)
@given(VECTORS, VECTORS, st.floats(-100, 100))
def test_vectors_compose_as_their_numbers_do(a, b, factor):
    scale = (np.abs(values(a)) + np.abs(values(b))) * (1 + abs(factor)) + 1e-30
    for found, expected in [
        (a + b, values(a) + values(b)),
        (a - b, values(a) - values(b)),
        (-a, -values(a)),
        (factor * a + b, factor * values(a) + values(b)),
        (a * np.float64(factor), factor * values(a)),
        (np.float64(factor) * a, factor * values(a)),
    ]:
        assert (np.abs(values(found) - expected) <= 1e-6 * scale).all()
        assert all(v.dtype == np.float32 for v in found.directions.values())
    assert list((a + b).directions) == sorted(a.directions.keys() | b.directions.keys())


@settings(max_examples=60, deadline=None)
@given(VECTORS, VECTORS)
def test_a_fingerprint_stands_for_mode_and_directions(a, b):
    same = list(a.directions) == list(b.directions) and all(
        a.directions[block].tobytes() == b.directions[block].tobytes() for block in a.directions
    )
    assert (a.fingerprint == b.fingerprint) == same
    assert len(a.fingerprint) == 16
    assert mn.SteeringVector(a.directions, source={"axis": 1}).fingerprint == a.fingerprint


def test_an_ablation_is_another_vector_and_of_unit_length(vector):
    unit = vector / np.linalg.norm(vector)
    ablation = mn.SteeringVector({1: 1e-30 * vector}, "ablate")
    np.testing.assert_allclose(ablation.directions[1], unit, rtol=1e-5)
    again = mn.SteeringVector(ablation.directions, "ablate")
    assert again.fingerprint == ablation.fingerprint
    assert mn.SteeringVector(ablation.directions).fingerprint != ablation.fingerprint


def test_a_vector_does_not_change_with_what_it_was_made_from(vector):
    made = mn.SteeringVector({1: vector})
    before = made.fingerprint
    vector += 1
    assert made.fingerprint == before


def test_directions_may_be_tensors_lists_and_out_of_order(vector):
    made = mn.SteeringVector({np.int64(3): torch.tensor(vector), 1: vector.tolist()})
    assert list(made.directions) == [1, 3]
    np.testing.assert_array_equal(made.directions[1], made.directions[3])


def test_a_vector_says_where_it_is_from(tiny_study, tiny_model):
    basis = tiny_study.basis("pca-1")
    vector = mn.SteeringVector.from_axis(basis, np.int64(3), dose=-1.5)
    model = identity(tiny_model).as_dict()
    assert vector.source == {
        "axis": 3,
        "layer": 1,
        "dose": -1.5,
        "unit": "standard deviations of the pooled coordinate",
        "basis": basis.fingerprint,
        "model": model,
    }
    assert repr(vector).startswith("SteeringVector(axis 3, dose -1.5, block 1: |")
    assert (2 * vector).source == (vector - vector).source == {"model": model}
    assert (vector + mn.SteeringVector({0: np.ones(32)})).source == {"model": model}
    assert (-mn.SteeringVector({0: np.ones(32)})).source is None
    ablation = mn.SteeringVector.from_axis(basis, 3, mode="ablate")
    np.testing.assert_allclose(ablation.directions[1], basis.components_[3], atol=1e-6)
    assert ablation.source["dose"] is None
    assert repr(mn.SteeringVector({1: np.ones(4)}, source={"dose": "some"})).endswith("|2|)")
    assert repr(ablation) == "SteeringVector(ablate, axis 3, block 1: |1|)"


def test_a_vector_of_another_model_is_refused_and_says_how_to_go_on(tiny_study, tmp_path):
    """Of the same shape, with the same tokenizer, and one weight that differs."""
    vector = mn.SteeringVector.from_axis(tiny_study.basis("pca-1"), 0)
    other = mn.load_model(str(save_tiny_model(tmp_path / "m")), dtype="float32")
    with vector.apply(other):  # the same weights under another name
        pass
    other = mn.load_model(str(tmp_path / "m"), dtype="float32")
    with torch.no_grad():
        other._module.model.layers[0].mlp.up_proj.weight[0, 0] += 1
    ways = [vector.apply, vector.fold, vector.edit]
    for way in [*ways, (2 * vector).apply, (vector - vector).apply]:
        with pytest.raises(mn.InputError, match="made for another model: weights") as caught:
            way(other)
        assert "SteeringVector(vector.directions) can be applied all the same" in str(caught.value)
        assert "\n" not in str(caught.value)
    with mn.SteeringVector(vector.directions).apply(other):
        pass
    deeper = mn.load_model(str(save_tiny_model(tmp_path / "d", layers=5)), dtype="float32")
    with pytest.raises(mn.InputError, match="n_layers 4 there, 5 here"):
        vector.apply(deeper)
    chatless = mn.load_model(str(save_tiny_model(tmp_path / "c", chat=False)), dtype="float32")
    with pytest.raises(mn.InputError, match="tokenizer"):
        vector.apply(chatless)


def test_weights_are_compared_where_the_dtype_allows_it(tiny_folder, tmp_path):
    """A model of bfloat16 is itself in float32, too; what float32 was, bfloat16 cannot tell."""
    exact = mn.load_model(str(tiny_folder), dtype="float32")
    rounded = mn.load_model(str(tiny_folder), dtype="bfloat16")
    half = mn.load_model(str(tiny_folder), dtype="float16")
    ids = {one: identity(model).as_dict() for one, model in [(32, exact), (16, rounded)]}
    assert ids[32]["weights"] != ids[16]["weights"]
    for model in (exact, rounded, half):
        assert differs(model, ids[32]) is None
        assert differs(model, ids[16]) is None
    for model in (exact, rounded, half):
        with torch.no_grad():
            model._module.model.norm.weight[0] = 7
    assert differs(exact, ids[32]).startswith(f"weights {ids[32]['weights']} there, ")
    assert differs(exact, ids[16]).startswith(f"weights {ids[16]['weights']} there, ")
    assert differs(rounded, ids[16]).startswith("weights")
    assert differs(rounded, ids[32]) is None
    assert differs(half, ids[16]) is None
    assert differs(exact, ids[32], weights=False) is None
    assert differs(exact, {"name": "another", "revision": "x"}) is None
    other = dataclasses.asdict(identity(exact)) | {"d_model": 64}
    assert differs(exact, other) == "d_model 64 there, 32 here"


def test_hooks_go_when_the_block_raises(tiny_model, vector):
    ids = torch.tensor([[5, 6]])
    before = logits(tiny_model, ids)
    with pytest.raises(RuntimeError), mn.SteeringVector({1: vector}).apply(tiny_model):
        raise RuntimeError
    assert torch.equal(before, logits(tiny_model, ids))


def test_wrong_vectors_say_so(tiny_model, tiny_study, vector):
    basis = tiny_study.basis("pca-1")
    concat = mn.PCABasis(2).fit(
        tiny_study.activations.matrix("concat"), source=tiny_study.activations.source("concat")
    )
    unknown = mn.PCABasis(2).fit(tiny_study.activations.matrix(1))
    a, ablation = mn.SteeringVector({1: vector}), mn.SteeringVector({1: vector}, "ablate")
    axis = mn.SteeringVector.from_axis
    of_another = mn.SteeringVector(
        {1: vector}, source={"model": identity(tiny_model).as_dict() | {"weights": "x"}}
    )
    cases = [
        (lambda: mn.SteeringVector({9: vector}).apply(tiny_model), "model has 0 to 3"),
        (lambda: mn.SteeringVector({9: vector}).fold(tiny_model), "block 9 is not there"),
        (lambda: mn.SteeringVector({9: vector}).edit(tiny_model), "block 9 is not there"),
        (lambda: mn.SteeringVector({1: np.ones(5)}).apply(tiny_model), "width 5, the model 32"),
        (lambda: mn.SteeringVector({1: np.full(32, np.nan)}), "block 1: .* NaN or infinite"),
        (lambda: mn.SteeringVector({1: np.full(32, 1e60)}), "NaN or infinite"),
        (lambda: mn.SteeringVector({1: np.ones((1, 32))}), "array of shape"),
        (lambda: mn.SteeringVector({1: []}), "array of shape"),
        (lambda: mn.SteeringVector({1: "a vector"}), "expected a vector of numbers"),
        (lambda: mn.SteeringVector({1: vector + 1j}), "found complex ones"),
        (lambda: mn.SteeringVector({1: torch.tensor([1, 1j])}), "found complex ones"),
        (lambda: mn.SteeringVector({1: [1, 1j]}), "found complex ones"),
        (lambda: mn.SteeringVector({1: vector}, source=[1]), "source must be a dict or None"),
        (lambda: mn.SteeringVector({1: vector}, source={"model": "x"}), r'source\["model"\] must'),
        (lambda: a.apply(tiny_model, phases=3), "phases must be among .* not 3"),
        (lambda: a.apply(tiny_model, phases=[["prompt"]]), "phases must be among"),
        (lambda: a.fold(tiny_model, phases=None), "phases must be among .* not None"),
        (lambda: mn.SteeringVector({1: [[1, 2], [3]]}), "expected a vector of numbers"),
        (lambda: mn.SteeringVector({}), "at least one"),
        (lambda: mn.SteeringVector({1: vector, 2: vector[:4]}), "one width"),
        (lambda: mn.SteeringVector(vector), "a mapping of blocks to directions"),
        (lambda: mn.SteeringVector({-1: vector}), "numbered from 0, found -1"),
        (lambda: mn.SteeringVector({"15": vector}), "numbered from 0, found '15'"),
        (lambda: mn.SteeringVector({1: vector}, "clamp"), "mode must be one of add, ablate"),
        (lambda: mn.SteeringVector({1: 0 * vector}, "ablate"), "nothing to ablate"),
        (lambda: ablation + a, "nest their contexts instead"),
        (lambda: a - ablation, "nest their contexts instead"),
        (lambda: 2 * ablation, "nest their contexts instead"),
        (lambda: a + mn.SteeringVector({1: vector[:4]}), "width 32 and 4"),
        (lambda: a * float("nan"), "finite numbers, not nan"),
        (lambda: a * "two", "finite numbers, not two"),
        (lambda: axis(basis, 0) + of_another, "different models: weights"),
        (lambda: axis(basis, 8), "axes 0 to 7"),
        (lambda: axis(basis, -1), "axes 0 to 7"),
        (lambda: axis(basis, 1.0), "axes 0 to 7"),
        (lambda: axis(basis, True), "axes 0 to 7"),
        (lambda: axis(basis, 0, dose=float("nan")), "dose must be a finite number"),
        (lambda: axis(basis, 0, dose="2"), "dose must be a finite number"),
        (lambda: axis(concat, 0), "use study.vector, or concat_vector"),
        (lambda: axis(unknown, 0), "give layer="),
        (lambda: axis(basis, 0, layer=float("nan")), "layer must be the number of a block"),
        (lambda: axis(basis, 0, layer="1"), "layer must be the number of a block"),
    ]
    for wrong, said in cases:
        with pytest.raises(mn.InputError, match=said) as caught:
            wrong()
        assert "\n" not in str(caught.value)
    with pytest.raises(TypeError):
        a + vector


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
