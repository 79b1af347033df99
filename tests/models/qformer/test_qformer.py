"""Q-Former: padding, caching and batch-mates change nothing; stage 2 carries no text branch."""

from __future__ import annotations

import pytest
import torch
from small_qformers import CLOSE, CONFIG, speech

from sparqle_fairseq.models.qformer.qformer import QFormer, QFormerConfig


@pytest.fixture(params=["learned", "monotonic"])
def qformer(request):
    torch.manual_seed(0)
    model = QFormer(QFormerConfig(**{**vars(CONFIG), "query_start": request.param})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def test_padded_frames_do_not_reach_the_queries(qformer):
    values, mask = speech([7, 4])
    changed = values.masked_fill(mask[..., None], 1e3)
    outputs = [qformer.query(qformer.read_speech(v, mask)).hidden for v in (values, changed)]
    torch.testing.assert_close(*outputs, **CLOSE)
    alone = qformer.query(qformer.read_speech(values[1:, :4], mask[1:, :4])).hidden
    torch.testing.assert_close(outputs[0][1:], alone, **CLOSE)
    seen = qformer.query(qformer.read_speech(values, torch.zeros_like(mask))).hidden
    assert (seen[1] - outputs[0][1]).abs().max() > 1e-2, "the mask must matter for this test to mean anything"


def test_padded_text_does_not_reach_the_other_tokens(qformer):
    tokens = torch.tensor([[1, 5, 6, 7, 2], [1, 8, 2, 0, 0]])
    mask = tokens == 0
    other = tokens.masked_fill(mask, 33)
    values, frames = speech([6, 6])
    memory = qformer.read_speech(values, frames)
    cache = qformer.query(memory).cache
    for run in (
        lambda t: qformer.encode_text(t, mask)[1, :3],
        lambda t: qformer.match(t, mask, memory)[1],
        lambda t: qformer.decode_text(t, mask, cache).hidden[1, :3],
    ):
        torch.testing.assert_close(run(tokens), run(other), **CLOSE)


def test_an_utterance_of_padding_alone_gives_numbers(qformer):
    values, mask = speech([5, 0])
    assert qformer.query(qformer.read_speech(values * 0, mask)).hidden.isfinite().all()


def test_text_sees_no_later_text(qformer):
    values, frames = speech([6])
    cache = qformer.query(qformer.read_speech(values, frames)).cache
    tokens = torch.tensor([[1, 5, 6, 7]])
    changed = torch.tensor([[1, 5, 9, 9]])
    first, second = (qformer.decode_text(t, None, cache).hidden for t in (tokens, changed))
    torch.testing.assert_close(first[:, :2], second[:, :2], **CLOSE)
    assert (first[:, 2] - second[:, 2]).abs().max() > 1e-2


def test_step_by_step_decoding_equals_one_pass(qformer):
    values, frames = speech([6, 3])
    cache = qformer.query(qformer.read_speech(values, frames)).cache
    tokens = torch.tensor([[1, 5, 6, 7], [1, 9, 9, 4]])
    whole = qformer.decode_text(tokens, None, cache).hidden
    steps = []
    for i in range(4):
        output = qformer.decode_text(tokens[:, i : i + 1], None, cache, past_tokens=i)
        cache = output.cache
        steps.append(output.hidden)
    torch.testing.assert_close(torch.cat(steps, dim=1), whole, **CLOSE)


def test_selected_memory_equals_the_memory_of_the_selected_speech(qformer):
    values, mask = speech([7, 4, 5])
    rows = torch.tensor([2, 0, 0])
    selected = qformer.query(qformer.read_speech(values, mask).select(rows)).hidden
    torch.testing.assert_close(selected, qformer.query(qformer.read_speech(values[rows], mask[rows])).hidden, **CLOSE)


def test_only_every_nth_layer_reads_speech(qformer):
    assert [layer.cross_attention is not None for layer in qformer.layers] == [True, False, True, False]


def test_a_text_longer_than_the_positions_is_refused(qformer):
    with pytest.raises(ValueError, match=r"21 tokens does not fit .* 20 text positions"):
        qformer.encode_text(torch.ones(1, 21, dtype=torch.long), torch.zeros(1, 21, dtype=torch.bool))


def test_query_feed_forward_starts_as_the_texts():
    model = QFormer(CONFIG)
    for layer in model.layers:
        assert torch.equal(layer.query_ffn.expand.weight, layer.text_ffn.expand.weight)


def test_without_text_there_are_no_text_parameters():
    names = dict(QFormer(CONFIG, with_text=False).named_parameters())
    assert not [name for name in names if "text" in name]


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="does not divide"):
        QFormerConfig(vocab_size=5, speech_width=4, hidden_size=10, heads=4)
