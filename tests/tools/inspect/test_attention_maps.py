"""Attention maps: they are what the model computes with, and each utterance's own."""

from __future__ import annotations

import pytest
import torch
from tiny_models import batch, build_stage1, build_stage2

from sparqle_fairseq.data.dataset import pad_ids
from sparqle_fairseq.generate.attention import (
    llm_rollout,
    query_map,
    reading_rate,
    token_centres,
    token_excess,
    token_map,
)
from sparqle_fairseq.generate.inspection import Heard, look_at

CLOSE = {"atol": 1e-5, "rtol": 1e-4}
STAGES = ["stage1", "stage2"]
ROWS = [0, 7, 3, 11]


def texts_of(built, sample):
    """Some answers of different lengths, closed by their end."""
    end = built.task.target_dictionary.eos()
    return [[*range(10, 12 + i), end] for i in range(len(sample["id"]))]


@pytest.mark.parametrize("stage", STAGES)
def test_a_query_spreads_1_over_the_real_frames_and_nothing_over_padding(stage, request):
    built = request.getfixturevalue(stage)
    found = query_map(built.model, batch(built, "test", ROWS)["net_input"])
    assert found.padding_mask.any(), "the batch must hold padding for this test to mean anything"
    torch.testing.assert_close(found.layers.sum(dim=-1), torch.ones(found.layers.shape[:-1]))
    assert found.layers.masked_select(found.padding_mask[None, :, None, :]).abs().max() == 0
    assert found.layers.std(dim=-1).min() > 1e-4, "queries that look everywhere alike would pass unseen"


@pytest.mark.parametrize("stage", STAGES)
def test_maps_do_not_depend_on_batch_mates(stage, request):
    built = request.getfixturevalue(stage)
    sample = batch(built, "test", ROWS)
    texts = texts_of(built, sample)
    seen = query_map(built.model, sample["net_input"])
    read = token_map(built.model, sample["net_input"], texts, range(len(ROWS)))
    for i, row in enumerate(ROWS):
        net_input = batch(built, "test", [row])["net_input"]
        alone = query_map(built.model, net_input).layers[:, 0]
        torch.testing.assert_close(seen.layers[:, i, :, : alone.size(-1)], alone, **CLOSE)
        own = token_map(built.model, net_input, [texts[i]], [0]).frames[0]  # (L, T)
        torch.testing.assert_close(read.frames[i, : own.size(0), : own.size(1)], own, **CLOSE)


@pytest.mark.parametrize("stage", STAGES)
def test_to_look_into_a_batch_is_to_hear_it_once(stage, request, monkeypatch):
    built = request.getfixturevalue(stage)
    sample = batch(built, "test", ROWS)
    texts = texts_of(built, sample)
    features = built.model.encode_speech(sample["net_input"]["source"], sample["net_input"]["padding_mask"])
    seen = query_map(built.model, sample["net_input"])
    heard, hear = [], built.model.speech_encoder.forward
    monkeypatch.setattr(built.model.speech_encoder, "forward", lambda *given: heard.append(1) or hear(*given))
    found = [[{"tokens": torch.tensor(text), "ended": "end"}] for text in texts]
    utterances = [Heard(str(row), None) for row in ROWS]
    looks = look_at(built.task.target_dictionary, built.model, sample, utterances, found)
    assert heard == [1]
    for i, look in enumerate(looks):
        torch.testing.assert_close(torch.tensor(look.features), features.values[i][~features.padding_mask[i]])
        torch.testing.assert_close(torch.tensor(look.layers), seen.layers[:, i][..., ~seen.padding_mask[i]])


@pytest.mark.parametrize("stage", STAGES)
def test_the_map_is_what_the_model_mixes_the_speech_by(stage, request):
    """Map @ values, through the layer's output projection and norm, is the layer's output."""
    built = request.getfixturevalue(stage)
    reader = next(layer.cross_attention for layer in built.model.adapter.qformer.each_layer() if layer.cross_attention)
    calls = []
    hook = reader.register_forward_hook(lambda _, inputs, output: calls.append((inputs, output)))
    seen = query_map(built.model, batch(built, "test", ROWS)["net_input"])
    hook.remove()
    (x, (key, value), keep), output = calls[0]
    weights = reader.weights(x, (key, value), keep)  # (B, heads, Q, T)
    torch.testing.assert_close(weights.mean(dim=1), seen.layers[0], **CLOSE)
    mixed = (weights @ value).transpose(1, 2).flatten(2)
    torch.testing.assert_close(reader.norm(x + reader.output(mixed)), output, **CLOSE)


@pytest.mark.parametrize("stage", STAGES)
def test_a_token_spreads_1_over_the_real_frames(stage, request):
    built = request.getfixturevalue(stage)
    sample = batch(built, "test", ROWS)
    texts = texts_of(built, sample)
    rows = [0, 1, 1, 3]  # two hypotheses of one utterance
    frames, padding_mask = token_map(built.model, sample["net_input"], texts, rows)
    for n, text in enumerate(texts):
        torch.testing.assert_close(frames[n, : len(text)].sum(dim=-1), torch.ones(len(text)))
        assert frames[n].masked_select(padding_mask[n][None]).abs().sum() == 0
    assert torch.equal(padding_mask, query_map(built.model, sample["net_input"]).padding_mask[rows])


def test_the_llms_rollout_is_the_product_of_its_layers_attention(stage2):
    """Against transformers' own `output_attentions`."""
    llm = stage2.model.llm
    tokens, padding = pad_ids([[5, 6, 7, 8, 9, 10], [11, 12, 13]], 0, left=True)
    found = llm_rollout(llm, llm.embed(tokens), ~padding)
    usual = llm.model.config._attn_implementation
    llm.model.set_attn_implementation("eager")
    positions = ((~padding).long().cumsum(dim=1) - 1).clamp(min=0)
    given = {"inputs_embeds": llm.embed(tokens), "attention_mask": (~padding).long(), "position_ids": positions}
    shown = llm.model(**given, output_attentions=True).attentions
    llm.model.set_attn_implementation(usual)
    expected = torch.eye(tokens.size(1)).expand_as(found)
    for weights in shown:
        expected = (expected + weights.mean(dim=1) @ expected) / 2
    real = ~padding
    torch.testing.assert_close(found[real], expected[real], **CLOSE)
    torch.testing.assert_close(found[real].sum(dim=-1), torch.ones(int(real.sum())))
    assert found[1][3:, :3].abs().max() == 0, "padding is looked at"
    assert found.triu(1)[real].abs().max() == 0, "the future is looked at"


def test_looking_leaves_the_llm_as_it_was(stage2):
    sample = batch(stage2, "train2", range(3))
    before = stage2.model.llm.model.config._attn_implementation
    modules = [*stage2.model.modules(), *stage2.model.llm.model.modules()]
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules]
    expected = stage2.model(**sample["net_input"])
    token_map(stage2.model, sample["net_input"], texts_of(stage2, sample), range(3))
    assert stage2.model.llm.model.config._attn_implementation == before
    assert torch.equal(stage2.model(**sample["net_input"]), expected)
    assert hooks == [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules]


@pytest.mark.parametrize("stage", STAGES)
def test_a_token_is_read_where_its_queries_look(stage, request):
    """Queries that see nothing but one frame leave every token at that frame, whatever it gives to the queries."""
    built = request.getfixturevalue(stage)
    sample = batch(built, "test", [7])
    real = int((~query_map(built.model, sample["net_input"]).padding_mask).sum())
    readers = [layer.cross_attention for layer in built.model.adapter.qformer.each_layer() if layer.cross_attention]

    def only(frame):
        def narrow(_, inputs):
            x, key_value, keep = inputs
            return x, key_value, torch.zeros_like(keep).index_fill(-1, torch.tensor([frame]), True)

        return narrow

    for frame in (1, real - 2):
        # Before the map's own hook, which comes later and therefore sees what this one changed.
        hooks = [reader.register_forward_pre_hook(only(frame)) for reader in readers]
        frames = token_map(built.model, sample["net_input"], texts_of(built, sample), [0]).frames[0]
        for hook in hooks:
            hook.remove()
        assert token_centres(frames).long().tolist() == [frame] * len(frames)


def test_a_tokens_place_is_the_centre_of_what_sets_it_apart():
    common = torch.full((3, 10), 0.02)
    frames = common.clone()
    for token, frame in enumerate((2, 5, 9)):
        frames[token, frame] += 0.8
    assert token_centres(frames).tolist() == pytest.approx([2.5, 5.5, 9.5])
    assert (token_excess(frames) > 0).sum() == 3
    # A text of one token has nothing to be told apart from.
    assert token_centres(frames[:1])[0] == pytest.approx(
        float((frames[0] * (torch.arange(10) + 0.5)).sum() / frames[0].sum())
    )
    assert token_centres(frames[:0]).tolist() == []


@pytest.mark.parametrize("build", [build_stage1, build_stage2])
@pytest.mark.parametrize(
    "options",
    [
        "--query-window-seconds 0.1 --queries-per-window 3",
        "--speech-downsample stack --speech-stride 2",
        "--query-window-seconds 0.1 --queries-per-window 2 --speech-downsample conv --speech-stride 2",
    ],
)
def test_windows_and_strides_keep_their_place_in_time(world, build, options):
    built = build(world, *options.split())
    sample = batch(built, "test", ROWS)
    seen = query_map(built.model, sample["net_input"])
    config = built.model.adapter.qformer.config
    assert reading_rate(built.model) == 50 / config.speech_stride
    frames = built.model.encode_speech(sample["net_input"]["source"], sample["net_input"]["padding_mask"])
    real = -((~frames.padding_mask).sum(dim=1) // -config.speech_stride)
    assert (~seen.padding_mask).sum(dim=1).tolist() == real.tolist()
    counts = config.query_count((~frames.padding_mask).sum(dim=1))
    for i, count in enumerate(counts.tolist()):
        total = seen.layers[:, i].sum(dim=-1)  # (layers, Q)
        torch.testing.assert_close(total[:, :count], torch.ones_like(total[:, :count]))
        assert total[:, count:].abs().sum() == 0
        if config.window_frames:
            for query in range(count):
                start = query // config.queries * config.window_frames
                own = seen.layers[:, i, query, start : start + config.window_frames]
                torch.testing.assert_close(own.sum(dim=-1), torch.ones(len(own)))
    texts = texts_of(built, sample)
    read = token_map(built.model, sample["net_input"], texts, range(len(ROWS)))
    for i, row in enumerate(ROWS):
        torch.testing.assert_close(read.frames[i, : len(texts[i])].sum(dim=-1), torch.ones(len(texts[i])))
        own = token_map(built.model, batch(built, "test", [row])["net_input"], [texts[i]], [0]).frames[0]
        torch.testing.assert_close(read.frames[i, : own.size(0), : own.size(1)], own, **CLOSE)
