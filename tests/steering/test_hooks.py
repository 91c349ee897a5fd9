"""Steered generation against a loop over plain transformers, without cache and without batches."""

import copy
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from nnsight.modeling.transformers import TransformersModel
from transformers import AutoConfig, AutoModelForCausalLM

import mnskills_viz as mn
from mnskills_viz import decoding
from mnskills_viz.models import block_modules
from tests.activations.test_architectures import ARCHITECTURES, HEADS, PLAIN

OTHERS = {
    "opt": HEADS | {"ffn_dim": 64, "max_position_embeddings": 1024, "word_embed_proj_dim": 32},
    "phi": PLAIN,
    "falcon": HEADS,
    "granite": PLAIN | {"residual_multiplier": 0.9},
    "mamba": {"hidden_size": 32, "num_hidden_layers": 3, "state_size": 4, "conv_kernel": 3},
}
OPTIONS: dict[str, Any] = {name: options for name, (_, options) in ARCHITECTURES.items()} | OTHERS
PROMPTS = ["2 + 2 is", "The largest of 3, 9, 4 is", "a", "One two three four five six", "x y"]
PROMPTS += ["What is 50% of 280? " * 3, "Sort these numbers: 9, 4, 7", "Even or odd: 2144?"]
BOTH = ("prompt", "generation")
CHOICES = [
    (("prompt",), None),
    (("generation",), None),
    (BOTH, None),
    (("generation",), (0, 1)),
    (("generation",), (2, 5)),
    (BOTH, (1, 3)),
    (("generation",), (3, None)),
]


def build(name: str, tokenizer: Any, **options: Any) -> TransformersModel:
    """A random model of an architecture, float32, in which every part matters."""
    ids = {f"{t}_token_id": getattr(tokenizer, f"{t}_token_id") for t in ("bos", "eos", "pad")}
    config = AutoConfig.for_model(
        name, vocab_size=len(tokenizer), **ids, **(OPTIONS[name] | options)
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
        for parameter in module.parameters():  # as made, a block is nearly the identity
            if parameter.ndim > 1:
                parameter.data *= 4
            else:
                parameter.data += 0.1 * torch.randn_like(parameter)
    return TransformersModel(module, tokenizer=tokenizer, task="text-generation")


@pytest.fixture(scope="module")
def model_of(tiny_model):
    return functools.cache(lambda name: build(name, tiny_model.tokenizer))


def push(seed: int = 1, size: float = 3.0) -> np.ndarray:
    return (size * np.random.default_rng(seed).standard_normal(32)).astype(np.float32)


def inputs(rows: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
    ids = torch.tensor(rows)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


IDS = [[5, 6, 7, 8, 9, 40], [50, 60, 70, 80, 90, 41]]


def logits(model: TransformersModel, ids: Sequence[Sequence[int]] = IDS) -> torch.Tensor:
    with torch.no_grad():
        return model._module(**inputs(ids)).logits


class Judge:
    """Plain transformers: the whole text is read anew for each token, one text at a time."""

    def __init__(self, model: TransformersModel) -> None:
        self.model, self.tokenizer = model, model.tokenizer
        self.ends = decoding._end_tokens(model._module)

    def tokens(self, prompt: str, steered, n_new: int) -> list[int]:
        """Greedy tokens; `steered`: (block, direction, phases, window) each."""
        ids = self.tokenizer(prompt)["input_ids"]
        n_prompt = len(ids)
        while len(ids) < n_prompt + n_new:
            hooks = [
                block_modules(self.model)[block].register_forward_hook(
                    self.adding(direction, n_prompt, phases, window)
                )
                for block, direction, phases, window in steered
            ]
            with torch.no_grad():
                found = self.model._module(**inputs([ids]), use_cache=False).logits
            for hook in hooks:
                hook.remove()
            ids = [*ids, int(found[0, -1].argmax())]
            if ids[-1] in self.ends:
                break
        return ids[n_prompt:]

    @staticmethod
    def adding(direction, n_prompt, phases, window):
        def hook(_module, _args, output):
            hidden = (output[0] if isinstance(output, tuple) else output).clone()
            for position in range(hidden.shape[1]):
                step = position - n_prompt
                start, stop = window or (0, None)
                inside = step >= start and (stop is None or step < stop)
                if ("prompt" in phases) if step < 0 else ("generation" in phases and inside):
                    hidden[:, position] += torch.tensor(direction)
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        return hook

    def text_of(self, tokens: list[int]) -> str:
        return self.tokenizer.decode(tokens, skip_special_tokens=True)


@pytest.fixture
def endings(tiny_model):
    """Rows end at different steps, though not at once."""
    config = tiny_model._module.generation_config
    before, config.eos_token_id = config.eos_token_id, list(range(1, 600, 5))
    yield
    config.eos_token_id = before


# ----------------------------------------------------------------------------------- generation


@pytest.mark.parametrize(("phases", "window"), CHOICES)
def test_rows_that_leave_and_join_are_steered_at_their_own_tokens(
    tiny_model, endings, monkeypatch, phases, window
):
    monkeypatch.setattr("mnskills_viz.generation.BATCH_ROWS", 3)
    direction, n_new = push(size=0.5), 9
    judge = Judge(tiny_model)
    expected = [judge.tokens(p, [(1, direction, phases, window)], n_new) for p in PROMPTS]
    steering = mn.SteeringVector({1: direction}).apply(tiny_model, phases, window)
    found = mn.generate(tiny_model, PROMPTS, steering, max_new_tokens=n_new)
    assert [text for (text,) in found] == [judge.text_of(tokens) for tokens in expected]
    assert expected != [judge.tokens(p, [], n_new) for p in PROMPTS]
    assert len({len(tokens) for tokens in expected}) > 2


@pytest.mark.parametrize("window", [None, (1, 3), (2, None)])
@pytest.mark.parametrize("name", ["gpt2", "phi3", "mamba"])
def test_passes_are_counted_where_transformers_generates(model_of, name, window):
    """Ours where the cache is a plain one, and models left to transformers' own loop."""
    model, direction = model_of(name), push(size=6)
    judge, vector = Judge(model), mn.SteeringVector({1: direction})
    assert decoding._keeps_plain_cache(model._module) == (name == "gpt2")
    expected = [judge.tokens(p, [(1, direction, BOTH, window)], 6) for p in PROMPTS[:3]]
    with vector.apply(model, BOTH, window):
        for prompt, tokens in zip(PROMPTS[:3], expected, strict=True):
            ids = inputs([model.tokenizer(prompt)["input_ids"]])
            out = model._module.generate(**ids, max_new_tokens=6, do_sample=False)
            assert out[0, ids["input_ids"].shape[1] :].tolist() == tokens
    found = mn.generate(model, PROMPTS[:3], vector.apply(model, BOTH, window), max_new_tokens=6)
    assert [text for (text,) in found] == [judge.text_of(tokens) for tokens in expected]


def test_a_turn_that_is_added_to_a_text_is_a_prompt(tiny_model):
    """One token on a filled cache is a generated one; more are a prompt, and counting begins."""
    vector, module = mn.SteeringVector({1: push()}), tiny_model._module
    later = [[[11]], [[12]], [[13, 14, 15]], [[16]], [[17]]]

    def states(phases: Sequence[str], window: Any = None) -> list[bool]:
        """Which passes were steered: their states in the cache differ from unsteered ones."""
        caches = []
        for steering in (None, vector.apply(tiny_model, phases, window)):
            with mn.generation.steered(tiny_model, steering), torch.no_grad():
                cache = module(**inputs([[5, 6, 7]]), use_cache=True).past_key_values
                for ids in later:
                    module(torch.tensor(ids), past_key_values=cache, use_cache=True)
            caches.append(cache.layers[2].keys[0])
        moved = (caches[0] - caches[1]).abs().amax(dim=(0, 2)) > 1e-3
        return [bool(moved[i]) for i in (0, 3, 4, 5, 8, 9)]

    # What comes after a steered token differs, too, through what block 2 reads: look at block 2's
    # keys, made from the output of block 1 at their own token alone.
    assert states(BOTH) == [True] * 6
    assert states(("prompt",)) == [True, False, False, True, False, False]
    assert states(("generation",)) == [False, True, True, False, True, True]
    assert states(("generation",), (1, 2)) == [False, False, True, False, False, True]
    assert states(BOTH, (0, 1)) == [True, True, False, True, True, False]


def test_vectors_of_different_phases_act_together(tiny_model, endings, monkeypatch):
    monkeypatch.setattr("mnskills_viz.generation.BATCH_ROWS", 3)
    a, b, judge = push(1, 6), push(2, 6), Judge(tiny_model)
    steered = [(1, a, ("prompt",), None), (1, b, ("generation",), (1, 4)), (2, a, BOTH, None)]
    expected = [judge.text_of(judge.tokens(prompt, steered, 8)) for prompt in PROMPTS]
    vectors = [
        mn.SteeringVector({block: v}).apply(tiny_model, *when) for block, v, *when in steered
    ]
    with vectors[0], vectors[1], vectors[2]:
        found = mn.generate(tiny_model, PROMPTS, max_new_tokens=8)
    assert [text for (text,) in found] == expected


def test_contexts_act_in_the_order_of_entry(tiny_model):
    """Added then ablated is not ablated then added."""
    v, q = push(1), push(2)
    unit = torch.tensor(q / np.linalg.norm(q))
    add, ablate = mn.SteeringVector({2: v}), mn.SteeringVector({2: q}, "ablate")

    def by_hand(change):
        def hook(_module, _args, output):
            hidden = output[0] if isinstance(output, tuple) else output
            return (change(hidden), *output[1:]) if isinstance(output, tuple) else change(hidden)

        handle = block_modules(tiny_model)[2].register_forward_hook(hook)
        try:
            return logits(tiny_model)
        finally:
            handle.remove()

    def without(h):
        return h - torch.einsum("btd,d->bt", h, unit)[..., None] * unit

    with add.apply(tiny_model), ablate.apply(tiny_model):
        first = logits(tiny_model)
    with ablate.apply(tiny_model), add.apply(tiny_model):
        second = logits(tiny_model)
    torch.testing.assert_close(first, by_hand(lambda h: without(h + torch.tensor(v))))
    torch.testing.assert_close(second, by_hand(lambda h: without(h) + torch.tensor(v)))
    assert not torch.allclose(first, second)


# --------------------------------------------------------------------------- one pass, all bits


def read_by_block_2(model: TransformersModel) -> torch.Tensor:
    """The residual stream after block 1, as the next block gets it."""
    seen: list[torch.Tensor] = []
    watch = block_modules(model)[2].register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    logits(model)
    watch.remove()
    return seen[0].float()


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2"])
def test_hidden_states_of_transformers_are_steered(model_of, name):
    """Also where it recorded some before: its recorders stay in the model."""
    model = model_of(name)

    def hidden_states():
        with torch.no_grad():
            return model._module(**inputs(IDS), output_hidden_states=True).hidden_states

    before = hidden_states()
    with mn.SteeringVector({1: push()}).apply(model):
        after = hidden_states()
    assert torch.equal(before[1], after[1])
    torch.testing.assert_close(after[2] - before[2], torch.tensor(push()).expand(2, 6, 32))


def test_contexts_may_end_in_any_order(tiny_model):
    a, b = (mn.SteeringVector({1: push(seed)}).apply(tiny_model) for seed in (1, 2))
    plain = logits(tiny_model)
    with mn.SteeringVector({1: push(2)}).apply(tiny_model):
        expected = logits(tiny_model)
    a.__enter__()
    b.__enter__()
    a.__exit__(None, None, None)
    assert torch.equal(logits(tiny_model), expected)
    b.__exit__(None, None, None)
    assert torch.equal(logits(tiny_model), plain)
    assert not block_modules(tiny_model)[1]._forward_hooks


def test_nothing_is_left_of_what_is_ablated(tiny_model):
    vector = mn.SteeringVector({1: 7 * push(3)}, "ablate")
    assert np.linalg.norm(vector.directions[1]) == pytest.approx(1, abs=1e-6)
    before, q = read_by_block_2(tiny_model), torch.tensor(push(3) / np.linalg.norm(push(3)))
    with vector.apply(tiny_model):
        after = read_by_block_2(tiny_model)
    assert (before @ q).abs().max() > 0.1
    assert (after @ q).abs().max() < 1e-5
    torch.testing.assert_close(
        after, before - torch.outer((before @ q).flatten(), q).view(2, 6, 32)
    )


def test_ablation_in_bfloat16_is_as_good_as_its_rounding(tiny_model):
    model = TransformersModel(
        copy.deepcopy(tiny_model._module).bfloat16(),
        tokenizer=tiny_model.tokenizer,
        task="text-generation",
    )
    q = torch.tensor(push(3) / np.linalg.norm(push(3)))
    with mn.SteeringVector({1: push(3)}, "ablate").apply(model):
        after = read_by_block_2(model)
    assert ((after @ q).abs() < 2**-8 * after.norm(dim=-1)).all()


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_a_direction_of_zeros_changes_nothing_bit_for_bit(tiny_model, zero):
    """Not even the sign of a zero that the block puts out."""
    vector = mn.SteeringVector({1: np.full(32, zero), 2: np.full(32, zero)})
    block = block_modules(tiny_model)[1]

    def with_zeros(_module, _args, output):
        hidden = (output[0] if isinstance(output, tuple) else output).clone()
        hidden[..., :4] = torch.tensor([0.0, -0.0, 0.0, -0.0])
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    def outputs(steering):
        seen = []
        zeros = block.register_forward_hook(with_zeros)
        with mn.generation.steered(tiny_model, steering):
            after = block.register_forward_hook(lambda _m, _a, output: seen.append(output))
            result = logits(tiny_model)
            after.remove()
        zeros.remove()
        hidden = seen[0][0] if isinstance(seen[0], tuple) else seen[0]
        return hidden.numpy().tobytes(), result.numpy().tobytes()

    plain = outputs(None)
    assert outputs(vector.apply(tiny_model)) == plain
    assert outputs(vector.fold(tiny_model)) == plain


def test_rows_outside_a_window_keep_their_bits(tiny_model):
    from mnskills_viz.steering.hooks import Change

    hidden = torch.randn(3, 1, 32)
    hidden[..., :2] = torch.tensor([0.0, -0.0])
    changed = Change(push(), "add")(hidden, torch.tensor([True, False, True]))
    assert changed[1].numpy().tobytes() == hidden[1].numpy().tobytes()
    torch.testing.assert_close(changed[[0, 2]], hidden[[0, 2]] + torch.tensor(push()))


# -------------------------------------------------------------------------------------- nnsight


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "qwen3", "gemma2", "opt", "bloom"])
def test_edits_of_a_trace_are_the_hooks(model_of, name):
    """Two blocks, a row on its own, and one padded on the left beside it."""
    model = model_of(name)
    vector = mn.SteeringVector({0: push(1), 2: push(2)})
    with vector.apply(model):
        expected = logits(model)
    with torch.no_grad(), model.trace(inputs(IDS), use_cache=False):
        vector.edit(model)
        found = model.output.logits.save()
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert (found - logits(model)).abs().max() > 0.1


def test_an_edit_is_seen_by_what_the_body_reads_after_it(tiny_model):
    direction = push()
    vector = mn.SteeringVector({1: direction})
    with torch.no_grad(), tiny_model.trace(inputs(IDS)):
        before = tiny_model.model.layers[1].output.clone().save()
        vector.edit(tiny_model)
        after = tiny_model.model.layers[1].output.save()
    torch.testing.assert_close(after - before, torch.tensor(direction).expand_as(after))


def test_an_edit_acts_on_its_own_invoke(tiny_model):
    vector = mn.SteeringVector({1: push()})
    with vector.apply(tiny_model):
        steered = logits(tiny_model, IDS[:1])
    with torch.no_grad(), tiny_model.trace() as tracer:
        with tracer.invoke(inputs(IDS[:1])):
            vector.edit(tiny_model)
            first = tiny_model.output.logits.save()
        with tracer.invoke(inputs(IDS[1:])):
            second = tiny_model.output.logits.save()
    torch.testing.assert_close(first, steered, atol=1e-4, rtol=0)
    torch.testing.assert_close(second, logits(tiny_model, IDS[1:]), atol=1e-4, rtol=0)


def edited(model, vector, ids, n_new, first, stop):
    """Scores of each generated token where passes `first` to `stop` are edited."""
    options = {"max_new_tokens": n_new, "min_new_tokens": n_new, "do_sample": False}
    options |= {"return_dict_in_generate": True, "output_logits": True}
    with torch.no_grad(), model.generate(**options) as tracer:
        with tracer.invoke(inputs(ids)):
            for _ in tracer.iter[first:stop]:
                vector.edit(model)
        with tracer.invoke():
            out = tracer.result.save()
    return out


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "mistral", "gemma2"])
@pytest.mark.parametrize(
    ("phases", "window", "first", "stop"),
    [
        (BOTH, None, 0, 5),
        (("prompt",), None, 0, 1),
        (("generation",), None, 1, 5),
        (("generation",), (1, 3), 2, 4),
    ],
)
def test_edits_of_a_generation_are_the_hooks(model_of, name, phases, window, first, stop):
    model, vector = model_of(name), mn.SteeringVector({1: push(size=5)})
    found = edited(model, vector, IDS[:1], 5, first, stop)
    options = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
    options |= {"return_dict_in_generate": True, "output_logits": True}
    with vector.apply(model, phases, window):
        expected = model._module.generate(**inputs(IDS[:1]), **options)
    assert found.sequences.tolist() == expected.sequences.tolist()
    for ours, theirs in zip(found.logits, expected.logits, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    plain = model._module.generate(**inputs(IDS[:1]), **options)
    moved = [(a - b).abs().max() > 1e-2 for a, b in zip(found.logits, plain.logits, strict=True)]
    assert moved == [step >= first for step in range(5)]


def test_a_loop_over_all_passes_ends_even_where_nothing_is_added(tiny_model):
    nothing = mn.SteeringVector({1: np.zeros(32)})
    options = {"max_new_tokens": 3, "min_new_tokens": 3}
    said = pytest.warns(UserWarning, match="was never reached")  # as nnsight ends an open loop
    with said, torch.no_grad(), tiny_model.generate(**options) as tracer:
        with tracer.invoke(inputs(IDS[:1])):
            for _ in tracer.all():
                nothing.edit(tiny_model)
        with tracer.invoke():
            out = tracer.result.save()
    assert out.shape == (1, 9)


# --------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("phases", "window", "said"),
    [
        (("later",), None, "phases must be among"),
        ((), None, "phases must be among"),
        ("prompt", None, "not 'prompt'"),
        (BOTH, (3, 3), "0 <= start < stop"),
        (BOTH, (-1, 3), "0 <= start < stop"),
        (BOTH, (0.5, 3), "0 <= start < stop"),
        (BOTH, (True, 3), "0 <= start < stop"),
        (BOTH, (None, 3), "0 <= start < stop"),
        (BOTH, 5, "0 <= start < stop"),
        (BOTH, (1, 2, 3), "0 <= start < stop"),
        (("prompt",), (0, 3), 'add "generation" to phases'),
    ],
)
def test_wrong_phases_and_windows_say_so(tiny_model, phases, window, said):
    for way in ("apply", "fold"):
        with pytest.raises(mn.InputError, match=said) as caught:
            getattr(mn.SteeringVector({1: push()}), way)(tiny_model, phases, window)
        assert "\n" not in str(caught.value)
