"""Rows of an epoch: each once, in fairseq's order, shared by the processes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from sparqle_fairseq.data.dataset import SpeechDataset
from sparqle_fairseq.huggingface.training.batches import ORDERS, EpochBatches, WithStandIns, cut


@pytest.fixture(scope="module")
def dataset(world):
    from sparqle_fairseq.data.manifest import read_manifest

    manifests = [read_manifest(world.data / f"{name}.tsv") for name in ("train", "test")]
    return SpeechDataset(manifests, SimpleNamespace(prefix=""), normalize=False, shuffle=True)


def test_batches_are_cut_as_fairseq_cuts_them():
    from sparqle_fairseq.fairseq_fixes.batches import batch_by_size_keeping_all

    for count in (1, 7, 8, 13, 45, 64):
        for size in (1, 5, 8, 12, 16):
            for multiple in (1, 8):
                rows, ones = np.arange(count), np.ones(count)
                theirs = batch_by_size_keeping_all(rows, ones, None, size, multiple)
                assert cut(count, size, multiple) == [len(batch) for batch in theirs], (count, size, multiple)


@pytest.mark.parametrize("order", ORDERS)
def test_every_epoch_has_every_row_once_whatever_the_processes(order, dataset):
    def batches(rank, world, epoch):
        sampler = EpochBatches(dataset, 5, order=order, seed=7, rank=rank, world=world)
        sampler.set_epoch(epoch)
        found = list(sampler)
        assert len(found) == len(sampler)
        return found

    alone = batches(0, 1, 0)
    assert sorted(row for batch in alone for row in batch) == list(range(48))
    assert batches(0, 1, 0) == alone
    assert (batches(0, 1, 1) == alone) is (order == "sequential")
    shares = [batches(rank, 3, 0) for rank in range(3)]
    assert {len(share) for share in shares} == {4}
    real = [batch for step in zip(*shares, strict=True) for batch in step if batch[0] >= 0]
    assert real == alone
    stand_ins = [batch for share in shares for batch in share if batch[0] < 0]
    assert stand_ins == [[~row for row in alone[0]]] * 2


def test_groups_are_of_like_length_in_another_order_each_epoch(dataset):
    sampler = EpochBatches(dataset, 6, order="group_by_length", seed=1)
    spread = [dataset.sizes[batch].max() - dataset.sizes[batch].min() for batch in sampler]
    usual = EpochBatches(dataset, 6, order="random", seed=1)
    assert np.mean(spread) < 0.5 * np.mean([np.ptp(dataset.sizes[batch]) for batch in usual])


def test_a_stand_in_is_a_row_that_says_so(dataset):
    dataset.text.item = lambda row, *_: {"name": row.id}
    rows = WithStandIns(dataset)
    assert rows[~3]["name"] == rows[3]["name"]
    assert rows[~3]["stand_in"]
    assert "stand_in" not in rows[3]
