"""Checkpoints of both stages, as fairseq-train writes them, and recordings to translate."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace

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


class PortAudioError(Exception):
    pass


class InputStream:
    """Hands a ramp to the callback in blocks of 100 samples, from another thread, as PortAudio does."""

    blocks = 30

    def __init__(self, samplerate, channels, dtype, callback):
        assert (samplerate, channels, dtype) == (16000, 1, "float32")
        self.callback = callback

    def __enter__(self):
        self.closed = threading.Event()
        self.thread = threading.Thread(target=self.play)
        self.thread.start()

    def play(self):
        buffer = np.empty((100, 1), np.float32)  # used again for every block
        for i in range(self.blocks):
            buffer[:, 0] = np.arange(100 * i, 100 * (i + 1)) / 32768
            self.callback(buffer, 100, None, None)
        self.closed.set()

    def __exit__(self, *_):
        self.thread.join()


@pytest.fixture
def sounddevice(monkeypatch):
    """A microphone of software in the place of sounddevice's."""
    module = ModuleType("sounddevice")
    module.InputStream, module.PortAudioError = InputStream, PortAudioError
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return module
