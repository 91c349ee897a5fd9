"""A bias in the weights does what the hook does, and leaves the model as it was."""

import copy
import functools

import numpy as np
import pytest
import torch
from nnsight.modeling.transformers import TransformersModel

import mnskills_viz as mn
from mnskills_viz.evaluation.run import graded
from mnskills_viz.models import block_modules, identity
from tests.steering.test_hooks import IDS, Judge, build, logits, push

FOLDABLE = ["llama", "qwen2", "qwen3", "mistral", "phi3", "gpt2", "gpt_neox", "bloom"]
FOLDABLE += ["opt", "phi", "falcon", "mamba"]
REFUSED = ["gemma2", "gemma3_text", "olmo2", "mixtral", "qwen2_moe", "qwen3_moe", "granite"]
VECTOR = mn.SteeringVector({0: push(1), 2: push(2)})


@pytest.fixture(scope="module")
def model_of(tiny_model):
    return functools.cache(lambda name: build(name, tiny_model.tokenizer))


def parameters(model) -> dict[str, tuple[int, bytes]]:
    """Which object each parameter is, and its bits."""
    return {
        name: (id(parameter), parameter.detach().numpy().tobytes())
        for name, parameter in model._module.named_parameters(remove_duplicate=False)
    }


@pytest.mark.parametrize("name", FOLDABLE)
def test_a_fold_gives_the_logits_of_the_hook_at_all_positions(model_of, name):
    model = model_of(name)
    before, plain = parameters(model), logits(model)
    with VECTOR.apply(model):
        expected = logits(model)
    with VECTOR.fold(model):
        found = logits(model)
        again = logits(model)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert torch.equal(found, again)
    assert (found - plain).abs().max() > (0.01 if name == "mamba" else 0.1)
    assert parameters(model) == before
    assert torch.equal(logits(model), plain)


@pytest.mark.parametrize("name", REFUSED)
def test_a_block_that_does_not_add_its_last_map_is_refused_in_one_line(model_of, name):
    """A norm after it, experts, or a factor of 0.9; nothing is left of the trying."""
    model = model_of(name)
    before, plain = parameters(model), logits(model)
    with pytest.raises(mn.InputError, match=r"hold a vector in a bias.*use apply") as caught:
        VECTOR.fold(model).__enter__()
    assert "\n" not in str(caught.value)
    assert parameters(model) == before
    assert torch.equal(logits(model), plain)
    assert not any(
        block._forward_hooks or block._forward_pre_hooks for block in block_modules(model)
    )


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "granite", "gemma2"])
def test_bfloat16_finds_the_same_place(model_of, name):
    module = copy.deepcopy(model_of(name)._module).bfloat16()
    tokenizer = model_of(name).tokenizer
    model = TransformersModel(module, tokenizer=tokenizer, task="text-generation")
    if name in ("granite", "gemma2"):
        with pytest.raises(mn.InputError, match="use apply"):
            VECTOR.fold(model).__enter__()
        return
    plain = logits(model)
    with VECTOR.apply(model):
        expected = logits(model).float()
    with VECTOR.fold(model):
        found = logits(model).float()
    moved = (expected - plain).norm()
    assert (found - expected).norm() < 0.03 * moved
    assert torch.equal(logits(model), plain)


def test_a_refusal_that_another_block_causes_leaves_the_first_alone(model_of):
    """Llama whose last block scales what it returns: block 0 is not folded on its own."""
    model = TransformersModel(
        copy.deepcopy(model_of("llama")._module),
        tokenizer=model_of("llama").tokenizer,
        task="text-generation",
    )
    mlp = block_modules(model)[2].mlp
    body = mlp.forward
    mlp.forward = lambda hidden: 0.5 * body(hidden)
    before = parameters(model)
    with pytest.raises(mn.InputError, match="block 2 of LlamaForCausalLM"):
        VECTOR.fold(model).__enter__()
    assert parameters(model) == before
    with mn.SteeringVector({0: push()}).fold(model):
        assert parameters(model) != before
    assert parameters(model) == before


def test_a_map_that_two_blocks_share_is_not_folded(model_of):
    """A bias on it would act in both."""
    model = TransformersModel(
        copy.deepcopy(model_of("llama")._module),
        tokenizer=model_of("llama").tokenizer,
        task="text-generation",
    )
    first, second, _ = block_modules(model)
    second.mlp = first.mlp
    with pytest.raises(mn.InputError, match=r"block 1 .* no plain linear map of its own"):
        mn.SteeringVector({1: push()}).fold(model).__enter__()
    with mn.SteeringVector({2: push()}).fold(model):  # its own is its own still
        pass


def test_a_map_that_was_replaced_is_looked_for_anew(model_of):
    model = TransformersModel(
        copy.deepcopy(model_of("llama")._module),
        tokenizer=model_of("llama").tokenizer,
        task="text-generation",
    )
    vector = mn.SteeringVector({1: push()})
    with vector.fold(model):
        pass
    mlp = block_modules(model)[1].mlp
    mlp.down_proj = copy.deepcopy(mlp.down_proj)
    with vector.apply(model):
        expected = logits(model)
    with vector.fold(model):
        torch.testing.assert_close(logits(model), expected, atol=1e-4, rtol=0)


def test_generation_is_that_of_the_hook_and_a_raise_leaves_nothing(tiny_model):
    vector, before = mn.SteeringVector({1: push(size=8)}), parameters(tiny_model)
    prompts = ["2 + 2 is", "The largest of 3, 9, 4 is"]
    judge = Judge(tiny_model)
    steered = [(1, push(size=8), ("prompt", "generation"), None)]
    expected = [judge.text_of(judge.tokens(prompt, steered, 8)) for prompt in prompts]
    found = mn.generate(tiny_model, prompts, vector.fold(tiny_model), max_new_tokens=8)
    assert [text for (text,) in found] == expected

    def stop(*_):
        assert parameters(tiny_model) != before
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mn.generate(tiny_model, prompts, vector.fold(tiny_model), max_new_tokens=8, on_text=stop)
    assert parameters(tiny_model) == before


def test_folds_and_hooks_stand_within_each_other(model_of):
    """GPT-2's maps have biases already: what they are is kept."""
    model, before = model_of("gpt2"), parameters(model_of("gpt2"))
    a, b = mn.SteeringVector({1: push(1)}), mn.SteeringVector({1: push(2), 2: push(3)})
    with (a + b).apply(model):
        expected = logits(model)
    for first, second in (("fold", "fold"), ("fold", "apply"), ("apply", "fold")):
        with getattr(a, first)(model), getattr(b, second)(model):
            torch.testing.assert_close(logits(model), expected, atol=1e-4, rtol=0)
        assert parameters(model) == before


def test_a_fold_beneath_an_ablation_is_found_and_ablated(tiny_model):
    """The bias acts within the block, the ablation on what the block puts out."""
    add, ablate = mn.SteeringVector({1: push(1)}), mn.SteeringVector({1: push(2)}, "ablate")
    with add.apply(tiny_model), ablate.apply(tiny_model):
        expected = logits(tiny_model)
    with ablate.apply(tiny_model), add.fold(tiny_model):
        torch.testing.assert_close(logits(tiny_model), expected, atol=1e-4, rtol=0)


def test_gradients_flow_through_a_folded_model(tiny_model):
    """The bias is an ordinary parameter, also where it was made without gradients."""
    with torch.inference_mode():
        context = mn.SteeringVector({1: push()}).fold(tiny_model)
        context.__enter__()
    try:
        embedded = tiny_model._module.get_input_embeddings()(torch.tensor(IDS))
        embedded = embedded.detach().requires_grad_()
        tiny_model._module(inputs_embeds=embedded).logits.sum().backward()
    finally:
        context.__exit__(None, None, None)
    assert embedded.grad.abs().max() > 0


def test_what_no_bias_can_do_is_refused_in_one_line(tiny_model):
    cases = [
        (mn.SteeringVector({1: push()}), (("prompt",),)),
        (mn.SteeringVector({1: push()}), (("prompt", "generation"), (0, 3))),
        (mn.SteeringVector({1: push()}, "ablate"), ()),
    ]
    for vector, arguments in cases:
        with pytest.raises(mn.InputError, match="use apply") as caught:
            vector.fold(tiny_model, *arguments)
        assert "\n" not in str(caught.value)


def test_a_vector_of_the_model_fits_it_also_while_another_is_folded(tiny_study, tiny_model):
    basis = tiny_study.basis("pca-1")
    a, b = (mn.SteeringVector.from_axis(basis, axis) for axis in (0, 1))
    with (a + b).apply(tiny_model):
        expected = logits(tiny_model)
    with a.fold(tiny_model), b.fold(tiny_model):
        torch.testing.assert_close(logits(tiny_model), expected, atol=1e-4, rtol=0)


def test_a_folded_model_is_another_to_the_stores_of_evaluations(tiny_model, demo_rows, tmp_path):
    """Answers of a folded model and of a plain one do not mix; a fold that is made again does."""
    options = {"n": 1, "max_new_tokens": 4, "progress": False, "logprobs": False}
    corpus, vector = demo_rows[:3], mn.SteeringVector({1: push(size=8)})
    plain = identity(tiny_model)
    with vector.fold(tiny_model):
        folded = identity(tiny_model)
        graded(tiny_model, corpus, store=tmp_path / "folded", **options)
    assert folded != plain
    assert identity(tiny_model) == plain
    with pytest.raises(mn.InputError, match=r"model\.weights"):
        graded(tiny_model, corpus, store=tmp_path / "folded", **options)
    with vector.fold(tiny_model):
        graded(tiny_model, corpus, store=tmp_path / "folded", **options)
    with (2 * vector).fold(tiny_model), pytest.raises(mn.InputError, match=r"model\.weights"):
        graded(tiny_model, corpus, store=tmp_path / "folded", **options)
    with mn.SteeringVector({1: np.zeros(32)}).fold(tiny_model):
        assert identity(tiny_model) == plain
