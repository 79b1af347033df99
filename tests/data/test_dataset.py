"""Dataset: every row comes once, batches are no wider than they must be, epochs differ, sources are what they claim."""

from __future__ import annotations

import re

import numpy as np
import pytest
import soundfile
import tiny
import torch
from tiny_models import batch, build_stage1

from sparqle_fairseq.data.audio import AudioError
from sparqle_fairseq.data.dataset import SpeechDataset, load_waveform, pad_ids, pad_sources
from sparqle_fairseq.data.manifest import read_manifest, write_manifest


@pytest.fixture
def dataset(stage1):
    stage1.task.load_dataset("train")
    return stage1.task.dataset("train")


@pytest.mark.parametrize("multiple", [1, 8])
@pytest.mark.parametrize(
    "limit", [{"max_sentences": 5}, {"max_tokens": 20000}, {"max_tokens": 9000, "max_sentences": 3}]
)
def test_every_row_is_in_one_batch(dataset, multiple, limit):
    batches = dataset.batch_by_size(dataset.ordered_indices(), required_batch_size_multiple=multiple, **limit)
    assert sorted(index for rows in batches for index in rows) == list(range(32))


def test_text_is_padded_to_the_batch_and_no_further(stage1, dataset):
    for rows in ([0], [0, 1, 2, 3]):
        sample = batch(stage1, "train", rows)
        longest = max(len(dataset[i]["text"]) for i in rows)
        assert sample["net_input"]["text"].shape == (len(rows), longest)
        assert sample["net_input"]["source"].shape[1] == max(dataset.sizes[rows])


def test_the_docstring_draws_what_is_in_a_batch(world, stage1, stage2):
    drawn = SpeechDataset.__doc__.partition("Args:")[0]
    asked = build_stage1(world, "--objective", "stc+llm-ctc", "--llm", str(world.llm))
    for sample in (batch(stage1, "train", [0, 1]), batch(stage2, "train2", [0, 1]), batch(asked, "train", [0, 1])):
        for name in (*sample, *sample["net_input"]):
            assert re.search(rf"\b{name}\b", drawn), name
        for name, value in sample["net_input"].items():
            assert value.shape[0] == 2
            assert value.dim() == (1 if name in ("utterance", "identity") else 2), name


def test_training_orders_differ_by_seed_and_keep_lengths_together(dataset):
    orders = []
    for seed in (1, 1, 2):
        np.random.seed(seed)
        orders.append(dataset.ordered_indices().tolist())
    assert orders[0] == orders[1] != orders[2]
    lengths = dataset.sizes[orders[2]]
    assert np.corrcoef(lengths, np.arange(32))[0, 1] > 0.9


def test_evaluation_keeps_one_order(stage1):
    stage1.task.load_dataset("test")
    test = stage1.task.dataset("test")
    assert test.ordered_indices().tolist() == test.ordered_indices().tolist()
    assert test.can_reuse_epoch_itr_across_epochs


def test_two_splits_are_one_after_the_other(stage1):
    stage1.task.load_dataset("test,valid")
    both = stage1.task.dataset("test,valid")
    assert len(both) == 24
    assert both.row(16).id == "valid_0-en"
    assert both.where(16).startswith(str(both.manifests[1].path))


def test_epochs_take_turns_over_data_folders(world, tmp_path):
    tiny.write_split(tmp_path, "train", 5, seed=8)
    built = build_stage1(world)
    built.task.cfg.data = f"{world.data}:{tmp_path}"
    sizes = []
    for epoch in (1, 2, 3):
        built.task.load_dataset("train", epoch=epoch)
        sizes.append(len(built.task.dataset("train")))
    assert sizes == [32, 5, 32]


def test_a_mask_is_true_at_padding():
    source, mask = pad_sources([torch.ones(3), torch.ones(5)])
    assert mask.tolist() == [[False] * 3 + [True] * 2, [False] * 5]
    assert source[0].tolist() == [1, 1, 1, 0, 0]
    tokens, mask = pad_ids([[1], [2, 3]], pad=9, left=True)
    assert tokens.tolist() == [[9, 1], [2, 3]]
    assert mask.tolist() == [[True, False], [False, False]]


def test_waveforms_and_features_are_not_mixed():
    with pytest.raises(AudioError, match="mixes"):
        pad_sources([torch.ones(3), torch.ones(3, 2)])


def test_the_encoders_normalisation_is_the_datasets(world, tmp_path):
    """The same scaling in training and in use, from the checkpoint and nowhere else."""
    from factories import save_tiny_hubert

    raw = batch(build_stage1(world), "train", [0])["net_input"]["source"]
    save_tiny_hubert(tmp_path / "normalizing.pt", extractor_mode="layer_norm", normalize=True)
    built = build_stage1(world, "--speech-encoder", str(tmp_path / "normalizing.pt"))
    for split in ("train", "test"):
        source = batch(built, split, [0])["net_input"]["source"]
        assert float(source.mean()) == pytest.approx(0, abs=1e-4)
        assert float(source.std()) == pytest.approx(1, abs=1e-2)
    assert not torch.allclose(raw, batch(built, "train", [0])["net_input"]["source"])


def test_features_must_have_the_encoders_width(stage1, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((10, 7), dtype=np.float32))
    row = {**tiny.row("x", tmp_path / "x.npy", np.zeros(10), "red"), "n_frames": 10}
    write_manifest(tmp_path / "t.tsv", [row], tiny.COLUMNS)
    text = stage1.task.text_side(training=False, saved=None)
    dataset = SpeechDataset([read_manifest(tmp_path / "t.tsv")], text, normalize=False, feature_width=32)
    with pytest.raises(AudioError, match="width 7, the encoder gives 32"):
        dataset[0]


def test_a_skipped_utterance_leaves_the_rest_of_its_batch(stage1, tmp_path):
    rows = []
    for i, sentence in enumerate(["red dog", "blue fox"]):
        wave = tiny.tones(sentence)
        soundfile.write(tmp_path / f"{i}.wav", wave, tiny.RATE)
        rows.append(tiny.row(str(i), tmp_path / f"{i}.wav", wave, sentence))
    write_manifest(tmp_path / "t.tsv", rows, tiny.COLUMNS)
    (tmp_path / "0.wav").unlink()
    text = stage1.task.text_side(training=False, saved=None)
    dataset = SpeechDataset([read_manifest(tmp_path / "t.tsv")], text, normalize=False, skip_bad_audio=True)
    sample = dataset.collater([dataset[0], dataset[1]])
    assert sample["id"].tolist() == [1]
    assert dataset.collater([dataset[0]]) == {}


@pytest.mark.parametrize("stated", [31_700, 32_000, 32_390])
def test_a_stated_length_cuts_nothing(tmp_path, stated):
    soundfile.write(tmp_path / "a.wav", np.full(32_000, 0.25), 16_000)
    rows = [{"id": "a", "audio": "a.wav", "n_frames": stated}]
    write_manifest(tmp_path / "m.tsv", rows, ("id", "audio", "n_frames"))
    manifest = read_manifest(tmp_path / "m.tsv")
    assert len(load_waveform(manifest.row(0), manifest.where(0), 16_000, normalize=False)) == 32_000


@pytest.mark.parametrize("stated", [16_000, 31_300, 40_000])
def test_a_stated_length_of_other_audio_is_refused_with_both_lengths(tmp_path, stated):
    soundfile.write(tmp_path / "a.wav", np.full(32_000, 0.25), 16_000)
    rows = [{"id": "a", "audio": "a.wav", "n_frames": stated}]
    write_manifest(tmp_path / "m.tsv", rows, ("id", "audio", "n_frames"))
    manifest = read_manifest(tmp_path / "m.tsv")
    with pytest.raises(AudioError, match=rf"m\.tsv:2 \(utterance a\): found 32000 .* where n_frames says {stated}"):
        load_waveform(manifest.row(0), manifest.where(0), 16_000, normalize=False)
