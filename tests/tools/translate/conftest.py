"""Checkpoints of both stages, as fairseq-train writes them, and recordings to translate."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import tiny
from commands import finetune_arguments, pretrain_arguments, train_here

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="session")
def checkpoints(world, tmp_path_factory):
    """`stage1` and `stage2`: checkpoints after two updates of each."""
    folder = tmp_path_factory.mktemp("checkpoints")
    train_here(pretrain_arguments(world, folder / "stage1", "--num-workers", 0, updates=2))
    stage1 = folder / "stage1" / "checkpoint_last.pt"
    train_here(finetune_arguments(world, folder / "stage2", "--pretrained-adapter", stage1, updates=2))
    return SimpleNamespace(stage1=stage1, stage2=folder / "stage2" / "checkpoint_last.pt")


@pytest.fixture(scope="session")
def speech():
    """Two sentences with 1.5 seconds between them; `tests/data/README.txt` says how it was made."""
    return DATA / "speech.flac"


@pytest.fixture
def talk(tmp_path):
    """Six seconds of tones at 22,050 Hz."""
    wave = np.concatenate([tiny.tones(sentence, seed) for seed, sentence in enumerate(tiny.sentences(25, longest=2))])
    path = tmp_path / "talk.wav"
    soundfile.write(path, np.resize(wave, 6 * 22050), 22050)
    return path
