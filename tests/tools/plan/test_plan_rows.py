"""`sparqle plan --manifest`: the rows and hours are the manifests', and the memory is what a training holds of them."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sparqle_fairseq.data.manifest import read_manifest, write_manifest
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.tasks.dataset import FairseqSpeechDataset
from sparqle_fairseq.tasks.pretrain import PretrainTask
from sparqle_fairseq.tools.plan.rows import rows_of

ROWS = 50_000
SECONDS = 10
COLUMNS = ("id", "audio", "n_frames", "src_text", "tgt_text", "src_lang", "tgt_lang")


def save(path: Path, count: int, frames: int = SECONDS * 16000, suffix: str = "wav") -> str:
    text = "the train leaves at noon"
    rows = (
        {"id": f"utterance-{i}", "audio": f"{i}.{suffix}", "n_frames": frames, "src_text": text} for i in range(count)
    )
    write_manifest(path, rows, COLUMNS)
    return str(path)


def train_on(path: str, batch: int) -> Any:
    """What a training keeps while it runs through an epoch."""
    data = FairseqSpeechDataset(
        [read_manifest(path, require=("src_text",))],
        SimpleNamespace(prefix="", collate=None),
        normalize=False,
        shuffle=True,
    )
    task = PretrainTask(SimpleNamespace(max_source_positions=None, bleu_tokenizer=None))
    iterator = task.get_batch_iterator(data, max_sentences=batch, seed=1, epoch=1)
    return data, iterator, iterator.next_epoch_itr(shuffle=True)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return save(tmp_path_factory.mktemp("large") / "m.tsv", ROWS)


@pytest.mark.parametrize("batch", [2, 32])
def test_planned_memory_of_a_manifest_is_within_15_percent_of_what_training_holds(tmp_path, large, batch):
    train_on(save(tmp_path / "small.tsv", 10), 1)  # what is loaded at the first time
    tracemalloc.start()
    try:
        kept = train_on(large, batch)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(kept[1].frozen_batches) == -(-ROWS // batch)
    assert 0.85 < rows_of([large]).memory(batch) / held < 1.15


def test_rows_and_hours_of_several_manifests_add_up(tmp_path):
    one, other = save(tmp_path / "one.tsv", 30), save(tmp_path / "other.tsv", 10, frames=3 * SECONDS * 16000)
    rows = rows_of([one, other])
    assert (rows.count, rows.mean_seconds, rows.features) == (40, 15, False)
    assert rows.hours == 40 * 15 / 3600
    assert rows.memory(8) == pytest.approx(rows_of([one]).memory(8) + rows_of([other]).memory(8))


def test_lengths_of_features_are_frames(tmp_path):
    rows = rows_of([save(tmp_path / "features.tsv", 6, frames=SECONDS * 50, suffix="npy")])
    assert rows.features
    assert rows.mean_seconds == SECONDS


def test_features_beside_audio_are_refused(tmp_path):
    paths = [save(tmp_path / "audio.tsv", 1), save(tmp_path / "features.tsv", 1, suffix="npy")]
    with pytest.raises(SparqleError, match=r"features\.tsv names features and .*audio\.tsv audio; plan each by itself"):
        rows_of(paths)
