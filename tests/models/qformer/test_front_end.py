"""Frame stacking and strided convolution: fewer steps, each of its own utterance's frames alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_qformers import CLOSE, CONFIG, speech

from sparqle_fairseq.models.qformer.front_end import FrontEnd
from sparqle_fairseq.models.qformer.qformer import QFormer

KINDS = [("stack", 2), ("stack", 3), ("conv", 2), ("conv", 4)]


@pytest.mark.parametrize(("kind", "stride"), KINDS)
def test_padding_changes_no_step(kind, stride):
    front_end = FrontEnd(kind, stride, 12)
    lengths = [9, 5, 1, 8]
    values, mask = speech(lengths)
    steps, padded = front_end(values.masked_fill(mask[..., None], 1e3), mask)
    assert steps.shape[:2] == padded.shape == (4, -(-9 // stride))
    for i, length in enumerate(lengths):
        alone, real = front_end(values[i : i + 1, :length], mask[i : i + 1, :length])
        count = -(-length // stride)
        assert alone.size(1) == count
        assert not real.any()
        assert padded[i].tolist() == [False] * count + [True] * (padded.size(1) - count)
        torch.testing.assert_close(steps[i, :count], alone[0], **CLOSE)


def test_stacking_puts_frames_side_by_side():
    values = torch.arange(10.0).view(1, 5, 2)
    steps, padded = FrontEnd("stack", 2, 2)(values, torch.zeros(1, 5, dtype=torch.bool))
    assert steps[0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 0]]
    assert padded.tolist() == [[False] * 3]


@pytest.mark.parametrize(("kind", "stride"), KINDS)
def test_every_frame_reaches_the_queries(kind, stride):
    torch.manual_seed(0)
    qformer = QFormer(replace(CONFIG, speech_downsample=kind, speech_stride=stride)).eval()
    values, mask = speech([7])
    values.requires_grad_()
    qformer.query(qformer.read_speech(values, mask)).hidden.square().sum().backward()
    assert (values.grad.abs().sum(dim=2) > 0).all()


def test_without_a_front_end_there_is_nothing_to_learn():
    assert not [name for name in QFormer(CONFIG).state_dict() if "front_end" in name or "window" in name]
