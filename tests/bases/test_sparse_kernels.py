"""Products over active latents, against dense products and torch's own gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mnskills_viz.bases import sparse_kernels as kernels
from mnskills_viz.bases.sparse_state import Weights
from mnskills_viz.bases.sparse_training import AUX_ACTIVE, AUX_WEIGHT, Dictionary, _set_gradients


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def dense(codes: kernels.Codes, m: int) -> torch.Tensor:
    found = torch.zeros(len(codes.offsets) - 1, m)
    found[codes.rows, codes.latents] = codes.values
    return found


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 6), m=st.integers(1, 400), data=st.data())
def test_the_largest_by_groups_are_the_largest(n, m, data):
    k = data.draw(st.integers(1, m))
    scores = normal(n, m, seed=data.draw(st.integers(0, 99)))
    codes = kernels.top_of_each_row(scores, k)
    expected = scores.topk(k, dim=1)
    assert torch.equal(codes.values.view(n, k), expected.values)
    assert torch.equal(scores[codes.rows, codes.latents], codes.values)
    count = data.draw(st.integers(1, n * m))
    codes = kernels.top_of_all_rows(scores, count)
    assert torch.equal(codes.values.sort().values, scores.reshape(-1).sort().values[-count:])
    assert torch.equal(scores[codes.rows, codes.latents], codes.values)


def test_equal_scores_are_told_apart_somehow():
    codes = kernels.top_of_each_row(torch.ones(3, 100), 7)
    assert [len(set(row.tolist())) for row in codes.latents.view(3, 7)] == [7, 7, 7]


def test_scores_above_a_threshold():
    scores = normal(5, 30)
    codes = kernels.above(scores, torch.tensor(0.5))
    assert torch.equal(dense(codes, 30), torch.where(scores > 0.5, scores, 0.0))


def test_products_are_those_of_dense_matrices():
    scores, decoder, rows = normal(20, 50), normal(50, 8, seed=1), normal(20, 8, seed=2)
    codes = kernels.top_of_all_rows(scores, 60)  # some rows with many, some with none
    matrix = dense(codes, 50)
    torch.testing.assert_close(kernels.decode(codes, decoder), matrix @ decoder)
    torch.testing.assert_close(kernels.sum_by_latent(codes, rows, 50), matrix.T @ rows)
    expected = (rows @ decoder.T)[codes.rows, codes.latents]
    torch.testing.assert_close(kernels.products(codes, rows, decoder), expected)


def test_groups_take_the_latents_of_a_row_apart():
    codes = kernels.top_of_all_rows(normal(20, 50), 200)
    grouped = kernels.by_group(codes, torch.tensor([5, 20, 50]))
    first, second, third = dense(grouped, 50).view(3, 20, 50)
    assert torch.equal(first + second + third, dense(codes, 50))
    assert first[:, 5:].count_nonzero() == 0
    assert second[:, :5].count_nonzero() == second[:, 20:].count_nonzero() == 0
    assert third[:, :20].count_nonzero() == 0


@pytest.mark.parametrize("variant", ["topk", "batchtopk", "matryoshka"])
@pytest.mark.parametrize("n_dead", [0, 30])
def test_gradients_are_those_that_torch_finds(variant, n_dead, monkeypatch):
    """The loss written out densely, with the same latents active."""
    monkeypatch.setattr("mnskills_viz.bases.sparse_training.fast_dtype", lambda _: torch.float32)
    n, d, m, k = 16, 12, 64, 3
    batch, dictionary = normal(n, d), Dictionary(m, k, variant)
    weights = Weights(normal(m, d, seed=1), normal(m, seed=2) / 5, normal(m, d, seed=3) / 4)
    dead = torch.arange(5, 5 + n_dead)
    codes, residual = _set_gradients(batch, weights, dictionary, dead)

    encoder, bias, decoder = (part.clone().requires_grad_() for part in weights)
    scores = batch @ encoder.T + bias
    active = torch.zeros(n, m)
    active[codes.rows, codes.latents] = 1
    assert active.sum() == n * k
    values = scores.relu() * active
    ends = dictionary.ends
    parts = [batch - values[:, :end] @ decoder[:end] for end in ends]
    loss = sum(part.square().sum() for part in parts) / (n * len(ends))
    torch.testing.assert_close(residual, parts[-1].detach())
    if n_dead:
        left = parts[-1].detach()
        top = scores[:, dead].topk(min(AUX_ACTIVE * k, n_dead), dim=1)
        revived = torch.zeros(n, n_dead).scatter(1, top.indices, top.values.relu())
        error = (left - revived @ decoder[dead]).square().sum()
        loss = loss + AUX_WEIGHT * error / left.square().sum()
    expected = torch.autograd.grad(loss, (encoder, bias, decoder))
    for part, gradient in zip(weights, expected, strict=True):
        torch.testing.assert_close(part.grad, gradient, rtol=1e-4, atol=1e-6)
