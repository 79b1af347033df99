"""Batches by --max-tokens hold little padding and differ between epochs, be it of audio, features or units."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from sparqle_fairseq.tasks.dataset import FairseqSpeechDataset
from sparqle_fairseq.tasks.pretrain import PretrainTask

ROWS = 100_000  # LibriSpeech has 281,000
# Frames a second of what is read, and --max-tokens of 125 seconds.
KINDS = {"audio": 16000, "features": 50, "units": 25}


def seconds_like_librispeech(count: int, seed: int = 0) -> np.ndarray:
    """1.5 to 35 s, three of five at 12 to 16.8 s, as the training sets of LibriSpeech are."""
    rng = np.random.default_rng(seed)
    peak, long = int(0.6 * count), int(0.06 * count)
    parts = (rng.normal(14.4, 1.2, peak), rng.uniform(15, 35, long), rng.uniform(1.5, 14, count - peak - long))
    return np.clip(np.concatenate(parts), 1.5, 35)


def dataset(kind: str) -> FairseqSpeechDataset:
    sizes = np.round(seconds_like_librispeech(ROWS) * KINDS[kind]).astype(np.int64)
    manifest = type("Lengths", (), {"__len__": lambda _: ROWS, "n_frames": sizes})()
    units = [SimpleNamespace(lengths=sizes)] if kind == "units" else None
    text = SimpleNamespace(prefix="", collate=None)
    return FairseqSpeechDataset([manifest], text, normalize=False, shuffle=True, units=units)


def batches(data: FairseqSpeechDataset, kind: str, epoch: int, multiple: int) -> list[np.ndarray]:
    """Those of the task's own iterator, shuffled as training shuffles them."""
    task = PretrainTask(SimpleNamespace(max_source_positions=None, bleu_tokenizer=None))
    iterator = task.get_batch_iterator(
        data, max_tokens=125 * KINDS[kind], seed=1, epoch=epoch, required_batch_size_multiple=multiple
    )
    return iterator.ordered_batches(epoch, False, True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("multiple", [1, 8])
def test_batches_hold_at_least_95_percent_real_frames(kind: str, multiple: int) -> None:
    data = dataset(kind)
    found = batches(data, kind, 1, multiple)
    assert sorted(row for rows in found for row in rows) == list(range(ROWS))
    padded = sum(len(rows) * int(data.sizes[rows].max()) for rows in found)
    assert max(len(rows) * int(data.sizes[rows].max()) for rows in found) <= 125 * KINDS[kind]
    assert data.sizes.sum() / padded >= 0.95


def test_who_is_batched_with_whom_differs_between_epochs() -> None:
    data = dataset("audio")
    first, second = ([set(map(int, rows)) for rows in batches(data, "audio", epoch, 1)] for epoch in (1, 2))
    assert [set(map(int, rows)) for rows in batches(data, "audio", 1, 1)] == first
    company = {row: rows for rows in first for row in rows}
    again = [len(company[row] & rows) - 1 for rows in second for row in rows]
    of = [len(rows) - 1 for rows in second for _ in rows]
    assert sum(again) < 0.02 * sum(of)  # of the neighbours in epoch 2, those that were neighbours in epoch 1


def test_batches_of_successive_lengths_do_not_follow_each_other() -> None:
    data = dataset("audio")
    means = np.array([data.sizes[rows].mean() for rows in batches(data, "audio", 1, 1)])
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.1
