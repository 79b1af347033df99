"""Padding is not computed: positions stand one after the other, and in rows where they look at each other alone."""

from __future__ import annotations

import torch
from small_qformers import CLOSE, CONFIG, speech

from sparqle_fairseq.models.qformer import qformer as module
from sparqle_fairseq.models.qformer.layout import PADDED, Packed, Rows, layout_of
from sparqle_fairseq.models.qformer.qformer import QFormer

TOKENS = torch.tensor([[1, 5, 6, 7, 2], [1, 8, 2, 0, 0]])


def built():
    torch.manual_seed(0)
    qformer = QFormer(CONFIG)
    with torch.no_grad():
        for parameter in qformer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return qformer


def test_what_is_packed_comes_back_to_its_place_and_padding_is_zero():
    layout = layout_of(2, TOKENS == 0)
    assert isinstance(layout, Packed)
    rows = torch.randn(2, 2 + 5, 3)
    packed = layout.gathered(rows)
    assert packed.shape == (2 * 2 + 8, 3)
    spread = layout.spread(packed)
    padding = torch.cat([torch.zeros(2, 2, dtype=torch.bool), TOKENS == 0], dim=1)
    assert torch.equal(spread, rows.masked_fill(padding[..., None], 0))
    query, text = layout.apart(packed)
    assert torch.equal(query, rows[:, :2])
    assert torch.equal(text, rows[:, 2:][TOKENS != 0])
    assert torch.equal(layout.joined(query, text), packed)
    for wanted in (1, 2, 4):
        assert torch.equal(layout.first(packed, wanted)[0], spread[:, :wanted])


def test_spreading_keeps_nothing_of_what_is_spread_and_gives_its_gradient():
    layout = layout_of(2, TOKENS == 0)
    kept = []
    packed = torch.randn(2 * 2 + 8, 3, dtype=torch.float64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        layout.spread(packed)
    assert not [x for x in kept if x.is_floating_point()]
    assert torch.autograd.gradcheck(layout.spread, packed)


def test_without_padding_nothing_is_packed():
    assert layout_of(3, torch.zeros(2, 4, dtype=torch.bool)) == Rows(3)


def test_linear_layers_see_no_padding_of_texts_or_speech():
    qformer, seen = built(), {}
    for name, part in qformer.named_modules():
        if isinstance(part, torch.nn.Linear):
            count = seen.setdefault(name, [])
            part.register_forward_hook(lambda _, given, __, count=count: count.append(given[0][..., 0].numel()))
    with torch.no_grad():
        memory = qformer.read_speech(*speech([7, 4]))
        qformer.match(TOKENS, TOKENS == 0, memory)
    assert seen["layers.0.cross_attention.key"] == [7 + 4]
    assert seen["layers.0.self_attention.query"] == [2 * 5 + 8]
    assert seen["layers.1.text_ffn.expand"] == [8]
    assert seen["layers.1.query_ffn.expand"] == [2 * 5]


def losses(qformer):
    """Of every pass, and their gradients."""
    values, mask = speech([7, 4, 6])
    memory = qformer.read_speech(values, mask)
    queries = qformer.query(memory)
    pairs = memory.select(torch.tensor([2, 0]))
    passes = (
        queries.hidden,
        qformer.encode_text(TOKENS, TOKENS == 0, wanted=1),
        qformer.decode_text(
            TOKENS, TOKENS == 0, [(key[:2], value[:2]) for key, value in queries.cache], skip_padding=True
        ).hidden[TOKENS != 0],
        qformer.match(TOKENS, TOKENS == 0, pairs),
    )
    sum(each.cos().sum() for each in passes).backward()
    return passes, {name: p.grad for name, p in qformer.named_parameters() if p.grad is not None}


def test_outputs_and_gradients_are_those_of_rows_with_padding(monkeypatch):
    packed, gradients = losses(built().eval())
    monkeypatch.setattr(module, "layout_of", lambda queries, _: Rows(queries))
    padded, expected = losses(built().eval())
    for found, own in zip(packed, padded, strict=True):
        torch.testing.assert_close(found, own, **CLOSE)
    assert gradients.keys() == expected.keys()
    for name, own in expected.items():
        torch.testing.assert_close(gradients[name], own, atol=1e-4, rtol=1e-4, msg=name)


def test_the_gradient_of_the_speechs_norm_needs_no_product_over_the_frames(monkeypatch):
    _, gradients = losses(built().eval())
    monkeypatch.setattr(QFormer, "_norm_that_joins_keys", lambda *_: None)
    _, expected = losses(built().eval())
    for name in ("speech_norm.weight", "speech_norm.bias", "layers.0.cross_attention.key.weight"):
        assert expected[name].abs().max() > 1e-2
        torch.testing.assert_close(gradients[name], expected[name], atol=1e-4, rtol=1e-4)


def test_rows_of_one_kind_are_left_as_they_are():
    x = torch.randn(2, 3, 4)
    assert PADDED.spread(x) is x
    assert PADDED.gathered(x) is x
