"""Adapters in the Q-Former's place: what an output is made of, what they learn from, what is refused, both stages."""

from __future__ import annotations

import pytest
import torch
from small_qformers import speech
from tiny_models import PLAIN, batch, build_stage1, build_stage2, build_stage2_from, save_adapter

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.generate.attention import query_map
from sparqle_fairseq.models.config import PretrainModelConfig, adapter_config
from sparqle_fairseq.models.qformer.plain import (
    PlainAdapter,
    PlainConfig,
    ReadsSpeech,
    plain_kind,
    register_adapter,
    registry,
)

STRIDE = 4
KINDS = ("stack", "conv", "ctc")


def made(name, **more):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "layers": 2, "heads": 4, "ffn_size": 32, "speech_stride": STRIDE, **more}
    adapter = plain_kind(name)(PlainConfig(name, vocab_size=20, speech_width=12, **sizes)).eval()
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return adapter


@pytest.mark.parametrize("name", KINDS)
def test_neither_padding_nor_the_batch_changes_an_output(name):
    adapter = made(name)
    lengths = [23, 8, 1, 12]
    values, padding_mask = speech(lengths, longest=29)
    values[padding_mask] = 1e3  # whatever stands in the padding
    together = adapter(values, padding_mask)
    counts = adapter.config.query_count(torch.tensor(lengths))
    assert counts.tolist() == [6, 2, 1, 3]
    assert (~together.padding_mask).sum(dim=1).tolist() == counts.tolist()
    for i, length in enumerate(lengths):
        alone = adapter(values[i : i + 1, :length], padding_mask[i : i + 1, :length])
        assert not alone.padding_mask.any()
        torch.testing.assert_close(together.hidden[i, : counts[i]], alone.hidden[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", KINDS)
def test_an_utterance_without_a_frame_has_one_output_that_is_a_number(name):
    adapter = made(name)
    values, padding_mask = speech([0, 9])
    outputs = adapter(values, padding_mask)
    assert (~outputs.padding_mask).sum(dim=1).tolist() == [1, 3]
    assert adapter.config.query_count(torch.tensor([0, 9])).tolist() == [1, 3]
    assert outputs.hidden[0, 0].isfinite().all()


@pytest.mark.parametrize(("name", "before", "after"), [("stack", 0, STRIDE - 1), ("conv", 3, 3)])
def test_an_output_is_made_of_the_frames_around_it(name, before, after):
    adapter = made(name)
    values, padding_mask = speech([24])
    values.requires_grad_()
    adapter(values, padding_mask).hidden[0, 2].square().sum().backward()
    read = values.grad[0].abs().sum(dim=1).nonzero()[:, 0].tolist()
    assert read == list(range(2 * STRIDE - before, 2 * STRIDE + after + 1))


def test_every_output_of_the_encoder_sees_every_frame():
    adapter = made("ctc")
    values, padding_mask = speech([24])
    values.requires_grad_()
    adapter(values, padding_mask).hidden[0, 5].square().sum().backward()
    assert (values.grad[0].abs().sum(dim=1) > 0).all()


def test_stacked_frames_pass_two_layers():
    adapter = made("stack")
    values, padding_mask = speech([4])
    frames = torch.nn.functional.layer_norm(values, (12,), adapter.speech_norm.weight, adapter.speech_norm.bias)
    hidden = torch.nn.functional.gelu(adapter.expand.weight @ frames.flatten() + adapter.expand.bias)
    hidden = adapter.contract.weight @ hidden + adapter.contract.bias
    expected = torch.nn.functional.layer_norm(hidden, (16,), adapter.norm.weight, adapter.norm.bias)
    torch.testing.assert_close(adapter(values, padding_mask).hidden[0, 0], expected)


@pytest.mark.parametrize("name", KINDS)
def test_objectives_of_outputs_reach_all_of_an_adapter(name, world):
    built = build_stage1(world, "--objective", "ctc+llm-ctc+stg-outputs", "--llm", str(world.llm), *PLAIN[name])
    assert not any("qformer" in part for part in built.model.state_dict())
    loss, _, log = built.criterion(built.model.train(), batch(built, "train", range(4)))
    loss.backward()
    silent = [part for part, value in built.model.named_parameters() if value.requires_grad and value.grad is None]
    assert not silent
    assert all(log[f"{objective}_count"] > 0 for objective in ("ctc", "llm_ctc", "stg_outputs"))


@pytest.mark.parametrize("objective", ["sparqle", "llm-ctc+stc", "stg", "ctc+stm"])
def test_objectives_that_read_text_in_the_qformer_are_refused(objective, world):
    llm = ["--llm", str(world.llm)] if "llm" in objective else []
    with pytest.raises(SparqleError, match=r"passes text through the Q-Former, and --adapter stack has none"):
        build_stage1(world, "--objective", objective, *llm, *PLAIN["stack"])


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"query_start": "monotonic"}, "--query-start monotonic means nothing to --adapter stack"),
        ({"query_window_seconds": 1.0}, "--query-window-seconds 1.0 means nothing"),
        ({"speech_downsample": "conv"}, "--speech-downsample conv means nothing"),
        ({"queries": 12}, "--queries 12 means nothing"),
        ({"layers": 3}, "--layers 3 means nothing"),
        ({"adapter": "conv", "ffn_size": 100}, "--ffn-size 100 means nothing to --adapter conv"),
        ({"adapter": "conv", "speech_stride": 6}, "--speech-stride 6 must be 2, 4, 8"),
        ({"adapter": "conv", "speech_stride": 1}, "--speech-stride 1 must be 2, 4, 8"),
        ({"adapter": "ctc", "heads": 5}, "does not divide into --heads 5"),
        ({"speech_stride": 0}, "--speech-stride 0 must be 1 or more"),
        ({"adapter": "stuck"}, "--adapter 'stuck' is unknown; choose from qformer, stack, conv, ctc"),
    ],
)
def test_what_an_adapter_does_not_read_or_cannot_be_is_refused(given, complaint):
    options = PretrainModelConfig(**{"adapter": "stack", "speech_stride": 4, **given})
    with pytest.raises(SparqleError, match=complaint):
        ReadsSpeech(adapter_config(options, 12, 20), with_text=False)


def test_sizes_of_an_architecture_are_passed_over():
    options = PretrainModelConfig(adapter="conv", speech_stride=8, layers=2, heads=4, ffn_size=512, queries=24)
    assert adapter_config(options, 12, 20).speech_stride == 8


@pytest.mark.parametrize("name", KINDS)
def test_stage_2_goes_on_with_the_adapter_of_stage_1(name, world, tmp_path):
    first = build_stage1(world, "--objective", "llm-ctc", "--llm", str(world.llm), *PLAIN[name])
    second = build_stage2_from(world, save_adapter(first, tmp_path / "first.pt"))
    there, here = first.model.state_dict(), second.model.state_dict()
    parts = [part for part in here if part.startswith(("adapter.plain.", "adapter.projector."))]
    assert {part for part in there if part.startswith("adapter.plain.")} < set(parts)
    assert all(torch.equal(here[part], there[part]) for part in parts)
    assert second.cfg.model.compress_queries == (name == "ctc")
    model = second.model.eval()
    sample = batch(second, "dev2", range(3))
    with torch.no_grad():
        logits = model(**sample["net_input"])
    assert logits.isfinite().all()
    frames = torch.tensor([7, 30])
    given = {"source": torch.zeros(2, 30, 32), "padding_mask": torch.arange(30) >= frames[:, None]}
    given |= {"prompt_padding_mask": torch.zeros(2, 5, dtype=torch.bool)}
    room = model.max_answer_tokens(given)
    stride = model.adapter.reader.config.speech_stride
    assert room.tolist() == [model.llm.context - 5 - -(-n // stride) for n in frames.tolist()]


def test_a_frozen_adapter_does_not_learn_in_stage_2(world, tmp_path):
    first = build_stage1(world, "--objective", "llm-ctc", "--llm", str(world.llm), *PLAIN["stack"])
    second = build_stage2_from(world, save_adapter(first, tmp_path / "first.pt"), "--freeze-qformer")
    learning = {name for name, value in second.model.named_parameters() if value.requires_grad}
    assert learning == {"adapter.projector.weight", "adapter.projector.bias"}
    assert not second.model.train().adapter.plain.training


def test_what_cannot_begin_says_why(world, tmp_path):
    with pytest.raises(SparqleError, match="train stage 1 with --objective llm-ctc first"):
        build_stage2(world, *PLAIN["ctc"])
    for objective in ("ctc", "stg-outputs"):
        first = build_stage1(world, "--objective", objective, *PLAIN["ctc"])
        with pytest.raises(SparqleError, match="--adapter ctc needs an adapter of --objective llm-ctc"):
            build_stage2_from(world, save_adapter(first, tmp_path / "first.pt"))
    with pytest.raises(SparqleError, match=r"--adapter conv, but --pretrained-adapter .* holds a ctc; leave --adapter"):
        build_stage2_from(world, str(tmp_path / "first.pt"), "--adapter", "conv")
    with pytest.raises(SparqleError, match="--bert starts a Q-Former, and --adapter stack is none"):
        build_stage1(world, "--objective", "ctc", "--bert", str(world.tokenizer), *PLAIN["stack"])


def test_there_is_no_attention_to_show(world):
    built = build_stage2(world, *PLAIN["stack"])
    with pytest.raises(SparqleError, match=r"no queries that look at the speech \(--adapter stack\)"):
        query_map(built.model, batch(built, "dev2", range(2))["net_input"])


def test_an_adapter_of_your_own_is_one_class(monkeypatch):
    monkeypatch.setattr(registry, "_PLAIN", dict(registry._PLAIN))

    @register_adapter
    class Mean(PlainAdapter):
        name = "mean-of-frames"

    options = PretrainModelConfig(adapter="mean-of-frames", speech_stride=3)
    assert plain_kind(adapter_config(options, 12, 20).adapter) is Mean
    with pytest.raises(SparqleError, match="there is an adapter 'stack' already"):
        register_adapter(type("Other", (PlainAdapter,), {"name": "stack"}))
    with pytest.raises(SparqleError, match="cannot be called 'My Adapter'"):
        register_adapter(type("Other", (PlainAdapter,), {"name": "My Adapter"}))
