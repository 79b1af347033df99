"""Speed perturbation: drawn by (seed, epoch, utterance), in training alone; a resumed run ends as an unbroken one."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from commands import pretrain_arguments, train_here
from tiny_models import batch, build_stage1

from sparqle_fairseq.data.augment import SpeedPerturbation, change_speed
from sparqle_fairseq.data.dataset import SpeechDataset
from sparqle_fairseq.data.manifest import read_manifest, write_manifest
from sparqle_fairseq.errors import SparqleError

SPEEDS = ["--speed-perturb", "0.8,1.0,1.25"]


@pytest.fixture(scope="module")
def perturbed(world):
    built = build_stage1(world, *SPEEDS)
    for split in ("train", "valid", "test"):
        built.task.load_dataset(split)
    return built


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.1, 1.25])
def test_speed_changes_length_and_pitch(factor):
    time = np.arange(8000) / 16000
    faster = change_speed(np.sin(2 * np.pi * 500 * time).astype(np.float32), factor)
    assert len(faster) == pytest.approx(8000 / factor, abs=1)
    spectrum = np.abs(np.fft.rfft(faster * np.hanning(len(faster)), 32000))
    assert spectrum.argmax() / 2 == pytest.approx(500 * factor, abs=2)


def test_draws_depend_on_seed_epoch_and_utterance():
    speeds = SpeedPerturbation.parse("0.9,1.0,1.1", seed=1)
    names = [f"utterance-{i}" for i in range(300)]
    first = [speeds.draw(name, 1) for name in names]
    assert first == [speeds.draw(name, 1) for name in names]
    assert first != [speeds.draw(name, 2) for name in names]
    assert first != [SpeedPerturbation.parse("0.9,1.0,1.1", seed=2).draw(name, 1) for name in names]
    for factor in speeds.factors:
        assert 60 < first.count(factor) < 140


@pytest.mark.parametrize("text", ["", "fast", "0.9,,1", "0", "-1", "0.9,4", "nan"])
def test_what_is_no_list_of_speeds_is_refused(text):
    with pytest.raises(SparqleError, match="write for example"):
        SpeedPerturbation.parse(text, seed=1)


def test_training_is_perturbed_and_validation_and_generation_are_not(stage1, perturbed):
    ratios = set()
    for split in ("train", "valid", "test"):
        stage1.task.load_dataset(split)
        for i in range(8):
            plain, changed = (built.task.dataset(split)[i]["source"] for built in (stage1, perturbed))
            ratios.add((split, round(len(plain) / len(changed), 2)))
            if split != "train":
                assert torch.equal(plain, changed)
    assert ratios == {("train", 0.8), ("train", 1.0), ("train", 1.25), ("valid", 1.0), ("test", 1.0)}
    perturbed.task.load_dataset("train", task_cfg=perturbed.cfg.task)  # what fairseq-generate does
    assert len(perturbed.task.dataset("train")[0]["source"]) == len(stage1.task.dataset("train")[0]["source"])
    perturbed.task.load_dataset("train")


def test_epochs_draw_anew(perturbed):
    dataset = perturbed.task.dataset("train")
    lengths = []
    for epoch in (1, 2, 1):
        dataset.set_epoch(epoch)
        lengths.append([len(dataset[i]["source"]) for i in range(16)])
    assert lengths[0] == lengths[2] != lengths[1]


def test_batches_have_room_for_the_slowest_speed(perturbed):
    dataset = perturbed.task.dataset("train")
    for rows in dataset.batch_by_size(dataset.ordered_indices(), max_tokens=30000):
        assert batch(perturbed, "train", list(rows))["net_input"]["source"].numel() <= 30000


def test_features_cannot_be_perturbed(stage1, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((10, 32), dtype=np.float32))
    row = {**tiny.row("x", tmp_path / "x.npy", np.zeros(10), "red"), "n_frames": 10}
    write_manifest(tmp_path / "t.tsv", [row], tiny.COLUMNS)
    dataset = SpeechDataset(
        [read_manifest(tmp_path / "t.tsv")], stage1.task.text_side(training=False, saved=None), normalize=False,
        feature_width=32, skip_bad_audio=True, speeds=SpeedPerturbation.parse("0.9,1.1", seed=1),
    )  # fmt: skip
    with pytest.raises(SparqleError, match=r"t\.tsv:2 .*--speed-perturb changes audio, and .*x\.npy holds features"):
        dataset[0]


def test_a_resumed_run_with_every_augmentation_ends_where_an_uninterrupted_one_does(world, tmp_path):
    more = [
        *SPEEDS, "--time-masks", 2, "--time-mask-frames", 6, "--channel-masks", 1, "--channel-mask-width", 4,
        "--speech-downsample", "conv", "--speech-stride", 2, "--query-window-seconds", 0.16, "--queries-per-window", 2,
    ]  # fmt: skip
    for name, updates in (("whole", 6), ("parts", 3), ("parts", 6)):
        train_here(pretrain_arguments(world, tmp_path / name, *more, updates=updates))
    whole, parts = (
        torch.load(tmp_path / name / "checkpoint_last.pt", weights_only=True)["model"] for name in ("whole", "parts")
    )
    assert whole.keys() == parts.keys()
    for name in whole:
        assert torch.equal(whole[name], parts[name]), name
