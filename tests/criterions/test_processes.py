"""One process and several take the same step: losses and gradients of real gloo processes, ragged and idle ones too."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from processes import in_processes
from small_qformers import STILL

from sparqle_fairseq.criterions.pretrain import PretrainCriterion
from sparqle_fairseq.models.stage1.adapter import Stage1Adapter
from sparqle_fairseq.models.stage1.batch import Stage1Text

# Windows of three steps of two frames, over features that learn (embeddings of units, a sum of layers).
WINDOWED = replace(STILL, window_frames=3, queries=2, speech_downsample="conv", speech_stride=2)
OBJECTIVES = ("stc", "stm", "stg", "stg-outputs", "ctc", "llm-ctc")
ROWS = 7
PLACES = (
    "qformer.query_tokens",
    "temperature",
    "speech_projection.weight",
    "text_projection.weight",
    "matching_head.weight",
    "qformer.layers.0.cross_attention.key.weight",
    "qformer.text.words.weight",
    "output_decoder.words.weight",
    "ctc_head.tokens.weight",
    "llm_space.blank",
    "projector.weight",
)


class Model(torch.nn.Module):
    """The adapter as the criterion calls a model."""

    def __init__(self, config) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.objective = dict.fromkeys(OBJECTIVES, 1.0)
        self.adapter = Stage1Adapter(
            config,
            decode_token=19,
            pad_token=0,
            objectives=OBJECTIVES,
            options=SimpleNamespace(contrastive_width=8),
            llm_embeddings=torch.randn(20, 12),
        )
        if config is not STILL:
            self.adapter.features = torch.nn.Linear(6, 6)
        with torch.no_grad():
            for name, parameter in self.adapter.named_parameters():
                if name != "temperature":
                    parameter.add_(0.2 * torch.randn_like(parameter))

    def forward(self, source, padding_mask, text, text_padding_mask, identity, utterance, active=True):
        if hasattr(self.adapter, "features"):
            source = self.adapter.features(source)
        inner = torch.nn.functional.pad(~text_padding_mask[:, 2:], (0, 1))
        llm_tokens = text[:, 1:].masked_fill(~inner, -1)
        batch = Stage1Text(text, text_padding_mask, identity, utterance, llm_tokens)
        return self.adapter(source, padding_mask, batch, update=5, active=active)


def sample(rows, active=True):
    """Some of seven utterances, padded no further than their own batch needs."""
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(ROWS, 9, 6, generator=generator)
    words = torch.randint(3, 18, (ROWS, 6), generator=generator)
    frames = torch.tensor([9, 5, 7, 4, 8, 6, 3])[rows]
    lengths = torch.tensor([6, 4, 5, 3, 6, 5, 4])[rows]
    mask = torch.arange(int(frames.max()))[None] >= frames[:, None]
    padded = torch.arange(int(lengths.max()))[None] >= lengths[:, None]
    net_input = {
        "source": values[rows, : frames.max()],
        "padding_mask": mask,
        "text": words[rows, : lengths.max()].masked_fill(padded, 0),
        "text_padding_mask": padded,
        "identity": torch.tensor([1, 2, 3, 1, 4, 5, 6])[rows],
        "utterance": torch.arange(ROWS)[rows] + 2**53,
        "active": active,
    }
    return {"net_input": net_input, "nsentences": len(rows), "ntokens": int(lengths.sum())}


def step(config, rows, active=True):
    """Loss, sample size and gradients of one process, as fairseq's division would leave them summed over ranks."""
    model = Model(config)
    criterion = PretrainCriterion(SimpleNamespace(), SimpleNamespace(model=model))
    loss, size, _ = criterion(model, sample(rows, active))
    (loss if active else loss * 0).backward()
    return loss.detach(), size, [model.adapter.get_parameter(name).grad for name in places(config)]


def places(config):
    learned = ("qformer.window_place", "qformer.front_end.conv.weight", "features.weight")
    return PLACES if config is STILL else PLACES + learned


def work(rank, _, windowed, shares):
    rows, active = shares[rank]
    loss, size, gradients = step(WINDOWED if windowed else STILL, rows, active)
    total = torch.tensor(float(size))
    dist.all_reduce(total)
    for gradient in gradients:
        dist.all_reduce(gradient)
    return loss.item(), total.item(), [(g / total).numpy() for g in gradients]


@pytest.mark.parametrize("windowed", [False, True], ids=["fixed queries", "windows, conv, learned features"])
@pytest.mark.parametrize(
    "shares",
    [
        [([0, 1, 2, 3], True), ([4, 5, 6], True)],
        [([0, 1, 2, 3, 4], True), ([5], True), ([6], True)],
        [([0, 1, 2, 3, 4, 5, 6], True), ([0, 1, 2], False)],
    ],
    ids=["two", "three, two of them with a single utterance", "one idle with a dummy batch"],
)
def test_several_processes_take_the_step_of_one(shares, windowed):
    config = WINDOWED if windowed else STILL
    _, size, gradients = step(config, list(range(ROWS)))
    _, total, found = in_processes(work, len(shares), windowed, shares)
    assert total == size == ROWS
    for name, expected, gradient in zip(places(config), gradients, found, strict=True):
        error = (torch.from_numpy(gradient) - expected / size).abs().max() / (expected / size).abs().max()
        assert error < 1e-5, f"{name}: relative error {error:.1e}"
