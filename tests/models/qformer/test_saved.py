"""What is made again for the backward pass saves memory and changes no gradient; so does computing layers twice."""

from __future__ import annotations

import weakref
from contextlib import nullcontext

import pytest
import torch
from small_qformers import CONFIG, speech
from tiny_models import build_stage1, build_stage2

from sparqle_fairseq.models.qformer import qformer as module
from sparqle_fairseq.models.qformer.qformer import QFormer, QFormerConfig
from sparqle_fairseq.models.qformer.saved import can_be_made_again, thrifty
from sparqle_fairseq.tools.plan.tracing import default_dtype, peak_of, without_bytes


def gradients(qformer, values, mask, backward=1):
    """Of a loss over every pass that a step of stage 1 takes, with dropout."""
    tokens = torch.tensor([[1, 5, 6, 7, 2], [1, 8, 2, 0, 0]])
    torch.manual_seed(5)
    memory = qformer.read_speech(values, mask)
    queries = qformer.query(memory)
    pairs = memory.select(torch.tensor([0, 1, 1])).select(torch.tensor([2, 0, 0]))
    passes = (
        queries.hidden,
        qformer.encode_text(tokens, tokens == 0, wanted=1),
        qformer.decode_text(tokens, tokens == 0, queries.cache, skip_padding=True).hidden[0],
        qformer.match(tokens[[0, 1, 0]], tokens[[0, 1, 0]] == 0, pairs),
    )
    loss = sum(each.float().cos().sum() for each in passes)
    for _ in range(backward - 1):
        loss.backward(retain_graph=True)
        qformer.zero_grad()
    loss.backward()
    return {name: p.grad for name, p in qformer.named_parameters() if p.grad is not None}


def built(dtype=torch.float32, **more):
    torch.manual_seed(0)
    qformer = QFormer(QFormerConfig(**{**vars(CONFIG), **more})).train()
    with torch.no_grad():
        for parameter in qformer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return qformer.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("more", [{}, {"dropout": 0.0, "window_frames": 3}])
def test_gradients_are_those_of_keeping_everything(more, dtype, monkeypatch):
    values, mask = speech([7, 4])
    values = values.to(dtype)
    found = gradients(built(dtype, **more), values, mask)
    again = gradients(built(dtype, **more), values, mask, backward=2)
    twice = built(dtype, **more)
    twice.gradient_checkpointing = True
    twice = gradients(twice, values, mask)
    monkeypatch.setattr(module, "thrifty", nullcontext)
    expected = gradients(built(dtype, **more), values, mask)
    assert any(gradient.abs().sum() > 0 for gradient in expected.values())
    for name, gradient in expected.items():
        for other in (found, again, twice):
            torch.testing.assert_close(other[name], gradient, atol=0, rtol=0, msg=name)


def peak(monkeypatch, dtype, keeping=False, checkpointing=False):
    """Bytes of a step over the queries."""
    with without_bytes(), monkeypatch.context() as patched:
        if keeping:
            patched.setattr(module, "thrifty", nullcontext)
        with default_dtype(dtype):
            qformer = QFormer(QFormerConfig(vocab_size=1, speech_width=64, layers=4, queries=200), with_text=False)
        qformer.gradient_checkpointing = checkpointing
        values, mask = torch.zeros(4, 20, 64, dtype=dtype), torch.zeros(4, 20, dtype=torch.bool)

        def step():
            hidden = qformer.query(qformer.read_speech(values, mask)).hidden
            torch.autograd.grad(hidden.sum(), qformer.query_tokens)

        return peak_of(step).total


def test_a_step_keeps_less(monkeypatch):
    everything = peak(monkeypatch, torch.float32, keeping=True)
    assert peak(monkeypatch, torch.float32) < 0.76 * everything
    assert peak(monkeypatch, torch.float32, checkpointing=True) < 0.45 * everything
    assert peak(monkeypatch, torch.bfloat16) < 0.9 * peak(monkeypatch, torch.bfloat16, keeping=True)


def test_memory_that_holds_another_tensor_by_now_is_left_alone():
    weight = torch.randn(8, 8, requires_grad=True)
    with thrifty():
        gone = torch.ones(8, 8)
        can_be_made_again(gone, lambda: torch.full((8, 8), torch.nan))
        place = gone.untyped_storage()
        del gone
        taken = torch.empty(0)
        taken.set_(place, 0, (8, 8))  # the same place, another tensor
        found = (taken @ weight).sum()
    found.backward()
    assert weight.grad.isfinite().all()


def test_a_text_costs_nothing_where_padding_is_not_read():
    qformer, widths = built(), []
    for layer in qformer.each_layer():
        layer.text_ffn.expand.register_forward_hook(lambda _, given, __: widths.append(given[0].numel() // 16))
    tokens = torch.tensor([[1, 5, 6, 7, 2], [1, 8, 2, 0, 0]])
    qformer.encode_text(tokens, tokens == 0)
    qformer.encode_text(tokens, tokens == 0, wanted=1)
    assert widths == [10, 10, 10, 10, 8, 8, 8, 2]
    queries = qformer.query(qformer.read_speech(*speech([7, 4])))
    whole = qformer.decode_text(tokens, tokens == 0, queries.cache).hidden
    del widths[:]
    thrifty_ones = qformer.decode_text(tokens, tokens == 0, queries.cache, skip_padding=True).hidden
    assert widths == [8, 8, 8, 8]
    assert thrifty_ones.shape == whole.shape


def test_the_first_positions_alone_are_the_first_of_all():
    qformer = built().eval()
    tokens = torch.tensor([[1, 5, 6, 7, 2], [1, 8, 2, 0, 0]])
    whole = qformer.encode_text(tokens, tokens == 0)
    torch.testing.assert_close(qformer.encode_text(tokens, tokens == 0, wanted=1), whole[:, :1], atol=1e-6, rtol=1e-6)


def test_the_option_reaches_the_q_former_of_both_stages(world):
    asked = "--qformer-gradient-checkpointing"
    for build in (build_stage1, build_stage2):
        assert build(world, asked).model.adapter.qformer.gradient_checkpointing
        assert not build(world).model.adapter.qformer.gradient_checkpointing


def test_what_no_backward_pass_reaches_is_freed_with_its_last_name():
    """A softmax keeps its own output, which would keep the softmax."""
    with thrifty():
        output = torch.randn(3, 4, requires_grad=True).softmax(dim=-1)
    left = weakref.ref(output)
    del output
    assert left() is None
