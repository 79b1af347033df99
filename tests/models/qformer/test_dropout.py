"""Dropout on a CPU is dropout: the right share, anywhere, the mean kept; attention with it is the formula."""

from __future__ import annotations

import math

import pytest
import torch

from sparqle_fairseq.models.qformer import dropout
from sparqle_fairseq.models.qformer.dropout import Dropout, attend


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_each_element_is_left_out_with_the_probability_and_the_others_grow(share):
    torch.manual_seed(0)
    count = 800_003  # no multiple of what one draw serves
    found = Dropout(share)(torch.full((count,), 3.0))
    left_out = found == 0
    assert torch.unique(found[~left_out]).numel() == 1
    assert float(found.max()) == pytest.approx(3 / (1 - share), rel=1e-4)
    sigma = math.sqrt(share * (1 - share))
    assert abs(float(left_out.double().mean()) - share) < 4 * sigma / math.sqrt(count)
    # None of the places that one draw decides is preferred, and none knows of another.
    eights = left_out[: count // 8 * 8].view(-1, 8).double()
    assert float((eights.mean(dim=0) - share).abs().max()) < 5 * sigma / math.sqrt(len(eights))
    together = torch.corrcoef(eights.T).fill_diagonal_(0)
    assert float(together.abs().max()) < 5 / math.sqrt(len(eights))


def test_the_gradient_meets_the_same_elements():
    torch.manual_seed(0)
    x = torch.randn(5, 13, dtype=torch.double, requires_grad=True)
    found = Dropout(0.3)(x)
    (gradient,) = torch.autograd.grad(found.sum(), x)
    torch.testing.assert_close(found, x * gradient)
    assert 0 < int((gradient == 0).sum()) < gradient.numel()


@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 8)])
def test_dropout_that_joins_a_residual_is_dropout_and_a_sum(shape):
    x, residual = (torch.randn(shape, dtype=torch.double, requires_grad=True) for _ in "xr")
    upper, layer = torch.randn(shape, dtype=torch.double), Dropout(0.4)
    torch.manual_seed(4)
    found = layer.added(x, residual)
    torch.manual_seed(4)
    expected = residual + layer(x)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    for mine, theirs in zip(
        torch.autograd.grad(found, (x, residual), upper),
        torch.autograd.grad(expected, (x, residual), upper),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=0)
    assert torch.equal(layer.eval().added(x, residual), x + residual)


def test_the_random_state_decides_and_use_is_without():
    layer, x = Dropout(0.5), torch.ones(1000)
    torch.manual_seed(3)
    first, second = layer(x), layer(x)
    torch.manual_seed(3)
    assert torch.equal(layer(x), first)
    assert not torch.equal(first, second)
    assert torch.equal(layer.eval()(x), x)


def same_with_gradients(found, expected, inputs):
    """Outputs, and the gradients of `inputs` for one and the same upper gradient."""
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    upper = torch.randn_like(found)
    gradients = (torch.autograd.grad(each, inputs, upper) for each in (found, expected))
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("rows", "heads", "places"), [(3, 2, 5), (2, 3, 40)])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_with_dropout_is_the_formula(rows, heads, places, masked, monkeypatch):
    monkeypatch.setattr(dropout, "_CHUNK", 2 * heads * places * places)  # some rows at a time, and a last part of one
    torch.manual_seed(1)
    query, key, value = (
        torch.randn(rows, places, heads, places, dtype=torch.double).transpose(1, 2).requires_grad_() for _ in "qkv"
    )
    keep = None
    if masked:
        keep = torch.rand(rows, 1, 1, places) > 0.4
        keep[..., 0] = True
    torch.manual_seed(2)
    found = attend(query, key, value, keep, 0.3)
    # With the identity for values, the output is the probabilities themselves: what was left out is seen.
    same = torch.eye(places, dtype=torch.double).expand(rows, heads, -1, -1)
    draws = []
    for seed in range(2, 22):
        torch.manual_seed(seed)
        draws.append(attend(query, key, same, keep, 0.3).detach() == 0)
    left_out = draws[0]
    scores = query @ key.transpose(-1, -2) / math.sqrt(places)
    shares = (scores if keep is None else scores.masked_fill(~keep, -torch.inf)).softmax(dim=-1)
    expected = shares.masked_fill(left_out, 0) / (1 - round(0.3 * 65536) / 65536) @ value
    allowed = torch.ones_like(left_out) if keep is None else keep.expand_as(left_out)
    assert 0.25 < float(torch.stack([draw[allowed] for draw in draws]).double().mean()) < 0.35
    same_with_gradients(found, expected, (query, key, value))


def test_without_dropout_attention_is_that_of_torch():
    query, key, value = (torch.randn(2, 3, 4, 8) for _ in "qkv")
    keep = torch.rand(2, 1, 1, 4) > 0.2
    keep[..., 0] = True
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=keep)
    torch.testing.assert_close(attend(query, key, value, keep, 0.0), expected)


@pytest.mark.parametrize("chunk", [1, 1000])
def test_attention_to_picked_rows_is_attention_to_their_copies(chunk, monkeypatch):
    """Rows that are met several times or never, with places behind their end, and a gap."""
    monkeypatch.setattr(dropout, "_CHUNK", chunk)
    torch.manual_seed(1)
    query = torch.randn(5, 3, 2, 6, dtype=torch.double).transpose(1, 2).requires_grad_()
    key, value = (torch.randn(4, 6, 2, 6, dtype=torch.double).transpose(1, 2).requires_grad_() for _ in "kv")
    rows = torch.tensor([2, 0, 2, 2, 3])
    for keep in (torch.arange(6) < torch.tensor([4, 6, 3, 1])[:, None], torch.rand(4, 6) > 0.3):
        keep[:, 0] = True
        keep = keep[rows][:, None, None]
        seed = torch.random.get_rng_state()
        found = attend(query, key, value, keep, 0.3, rows)
        torch.random.set_rng_state(seed)
        expected = attend(query, key[rows], value[rows], keep, 0.3)
        same_with_gradients(found, expected, (query, key, value))
        for dropped in (0.3, 0.0):
            shares = attend(query, key, torch.eye(6, dtype=torch.double).expand(4, 2, 6, 6), keep, dropped, rows)
            assert torch.equal(shares.detach()[~keep.expand_as(shares)].unique(), torch.zeros(1).double())
