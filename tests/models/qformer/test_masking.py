"""Masks over training features depend on (seed, update, utterance) alone, and are there in training alone."""

from __future__ import annotations

import pytest
import torch
from tiny_models import batch, build_stage1, build_stage2

from sparqle_fairseq.generate.options import SearchOptions
from sparqle_fairseq.models.qformer.masking import LONGEST_SHARE, FeatureMasks

MASKS = FeatureMasks(time_masks=2, time_frames=6, channel_masks=1, channels=4, seed=1)
OPTIONS = ["--time-masks", "2", "--time-mask-frames", "6", "--channel-masks", "1", "--channel-mask-width", "4"]


def features(lengths):
    values = torch.randn(len(lengths), max(lengths), 12, generator=torch.Generator().manual_seed(0)) + 3
    mask = torch.arange(max(lengths))[None] >= torch.tensor(lengths)[:, None]
    return values.masked_fill(mask[..., None], 0), mask


def test_an_utterance_is_masked_alike_whatever_its_batch():
    values, mask = features([50, 30, 44])
    keys = torch.tensor([5, 2**60, -7])
    together = MASKS(values, mask, keys, 9)
    alone = MASKS(values[1:2, :30], mask[1:2, :30], keys[1:2], 9)
    torch.testing.assert_close(together[1:2, :30], alone)


def test_updates_utterances_and_seeds_are_masked_differently():
    values, mask = features([50, 50])
    values[1] = values[0]
    keys = torch.tensor([5, 6])
    first = MASKS(values, mask, keys, 1)
    assert not torch.equal(first[0], first[1])
    assert torch.equal(first, MASKS(values, mask, keys, 1))
    assert not torch.equal(first, MASKS(values, mask, keys, 2))
    assert not torch.equal(first, FeatureMasks(2, 6, 1, 4, seed=2)(values, mask, keys, 1))


def test_masks_keep_to_their_number_and_width_and_hold_the_mean():
    values, mask = features([50, 12])
    widest = 0
    for update in range(60):
        masked = MASKS(values, mask, torch.tensor([5, 6]), update)
        for i, length in enumerate((50, 12)):
            hidden = (masked[i] != values[i])[:length]
            frames = hidden.all(dim=1)
            channels = hidden.all(dim=0)
            assert hidden[~frames][:, ~channels].sum() == 0
            assert channels.sum() <= 4
            assert frames.sum() <= 2 * min(6, int(LONGEST_SHARE * length))
            mean = values[i, :length].mean(dim=0)
            torch.testing.assert_close(masked[i, :length][frames], mean.expand(int(frames.sum()), -1))
            widest = max(widest, int(frames.sum()))
    assert widest >= 9


def test_every_place_can_be_hidden():
    values, mask = features([20])
    one = FeatureMasks(time_masks=1, time_frames=3, channel_masks=1, channels=2)
    hidden = torch.stack([one(values, mask, torch.tensor([1]), update)[0] != values[0] for update in range(300)])
    assert hidden.all(dim=2).any(dim=0).all()
    assert hidden.all(dim=1).any(dim=0).all()


@pytest.mark.parametrize("stage", [1, 2])
def test_masks_are_in_training_and_nowhere_else(world, stage):
    build, split = (build_stage1, "train") if stage == 1 else (build_stage2, "train2")
    masked, plain = build(world, *OPTIONS, "--dropout", "0"), build(world, "--dropout", "0")
    sample = batch(masked, split, range(4))

    def loss(built, training, update=0):
        built.model.train(training)
        built.model.set_num_updates(update)
        return float(built.criterion(built.model, sample)[0].detach())

    assert loss(masked, False) == loss(plain, False)
    assert loss(masked, True) != loss(plain, True)
    if stage == 2:  # in stage 1 the update draws the negatives too
        assert loss(plain, True, 1) == loss(plain, True, 2)
    assert loss(masked, True, 1) != loss(masked, True, 2)
    assert loss(masked, True, 1) == loss(masked, True, 1)
    masked.model.eval()
    generator = masked.task.build_generator([masked.model], SearchOptions(beam=1, max_len_b=4))
    found = [generator.generate([built.model], sample) for built in (masked, plain)]
    assert [h[0]["tokens"].tolist() for h in found[0]] == [h[0]["tokens"].tolist() for h in found[1]]
