"""Half-precision passes with a float32 stream are compared with the same weights in float32."""

import contextlib
import copy

import numpy as np
import pytest
import torch

import mnskills_viz as mn
from mnskills_viz.activations import forwards
from mnskills_viz.activations.forwards import wide_stream, with_forward
from mnskills_viz.activations.pairs import logprobs, random_rows
from mnskills_viz.models import torch_module
from tests.activations.test_pairs import tiny
from tests.tiny_model import save_tiny_model


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """Deep, so that the stream is rounded often."""
    return save_tiny_model(tmp_path_factory.mktemp("deep") / "model", layers=16)


@pytest.fixture(scope="module")
def half(deep):
    return mn.load_model(str(deep), dtype="bfloat16")


@pytest.fixture(scope="module")
def same_weights_in_float32(half, deep):
    model = mn.load_model(str(deep), dtype="float32")
    torch_module(model).load_state_dict(copy.deepcopy(torch_module(half).state_dict()))
    return model


def changes(model, way) -> np.ndarray:
    """What small pushes change."""
    rng = np.random.default_rng(0)
    pushes = [
        mn.SteeringVector({1: rng.standard_normal(32).astype(np.float32) / 10}) for _ in range(20)
    ]
    with torch.inference_mode(), way(model):
        before = logprobs(model, random_rows(model))
        after = []
        for push in pushes:
            with push.apply(model):
                after.append(logprobs(model, random_rows(model)))
    return (torch.stack(after) - before).numpy()


def test_what_small_pushes_change_is_nearer_to_float32(half, same_weights_in_float32):
    expected = changes(same_weights_in_float32, contextlib.nullcontext)
    plain, wide = (
        np.abs(changes(half, way) - expected).mean()
        for way in (contextlib.nullcontext, wide_stream)
    )
    assert wide < 0.7 * plain


def test_in_float32_nothing_is_changed(tiny_model):
    module = torch_module(tiny_model)
    with wide_stream(tiny_model):
        assert not any(m._forward_pre_hooks for m in module.modules())


def test_an_architecture_that_does_not_take_it_is_left_alone(tiny_model):
    model = tiny("gpt2", tiny_model.tokenizer)
    torch_module(model).to(torch.bfloat16)  # its norms refuse float32 beside their weights
    with torch.inference_mode():
        plain = logprobs(model, random_rows(model))
        with wide_stream(model):
            assert torch.equal(logprobs(model, random_rows(model)), plain)


def test_the_model_is_itself_again_also_after_an_error(half):
    module = torch_module(half)
    with torch.inference_mode():
        before = logprobs(half, random_rows(half))
        kept = [dict(m.__dict__) for m in module.modules()]
        with pytest.raises(RuntimeError, match="stop"), wide_stream(half):
            raise RuntimeError("stop")
        assert [dict(m.__dict__) for m in module.modules()] == kept
        assert torch.equal(logprobs(half, random_rows(half)), before)


def test_logits_by_parts_of_the_vocabulary_are_those_of_the_whole_head(monkeypatch):
    monkeypatch.setattr(forwards, "HEAD_ROWS", 7)
    head = torch.nn.Linear(16, 50, dtype=torch.bfloat16)
    hidden = torch.randn(2, 3, 16)
    expected = torch.nn.functional.linear(hidden, head.weight.float(), head.bias.float())
    torch.testing.assert_close(forwards._logits(head, hidden), expected)


def test_a_replaced_forward_is_put_back_in_the_order_of_nesting():
    linear = torch.nn.Linear(2, 2)
    with with_forward({linear: lambda x: x + 1}):
        with with_forward({linear: lambda x: x + 2}):
            assert linear(torch.zeros(2)).tolist() == [2.0, 2.0]
        assert linear(torch.zeros(2)).tolist() == [1.0, 1.0]
    assert "forward" not in linear.__dict__
