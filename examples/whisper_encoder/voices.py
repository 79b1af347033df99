"""Speaks English sentences, offline, with several voices: hibari-tts's one and the four of flite (16 kHz)."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from scipy.signal import resample_poly
from tqdm import tqdm

from sparqle_fairseq.errors import SparqleError

SAMPLE_RATE = 16000
HIBARI = "heart"
FLITE = ("slt", "rms", "awb", "kal16")  # CMU: US female, US male, Scottish male, US male (diphones)
VOICES = (HIBARI, *FLITE)
SPEEDS = (0.9, 1.35)  # slowest and fastest, as a factor
LOUDNESS = (0.5, 1.3)
SILENCE, MARGIN = 0.01, 800  # the ends are cut below this amplitude, down to so many samples


@dataclass(frozen=True)
class Line:
    """What one recording says, in which voice; `name` is that of its file."""

    name: str
    text: str
    voice: str


@dataclass(frozen=True)
class Flite:
    """The program, and where its libraries are (None: where the system has them)."""

    program: Path
    libraries: Path | None

    @classmethod
    def find(cls, unpacked: Path) -> Flite:
        """The one that `fetch.py` unpacked, else the one that is installed. Raises `SparqleError`."""
        if program := next(unpacked.glob("usr/bin/flite"), None):
            library = next(unpacked.glob("usr/lib/*/libflite.so.1"), None)
            return cls(program.resolve(), library.parent.resolve() if library else None)
        if installed := shutil.which("flite"):
            return cls(Path(installed), None)
        raise SparqleError(f"{unpacked} holds no flite, and none is installed; run fetch.py, or --voices {HIBARI}")

    def __call__(self, text: str, voice: str, speed: float) -> np.ndarray:
        environment = dict(os.environ)
        if self.libraries:
            environment["LD_LIBRARY_PATH"] = str(self.libraries)
        with tempfile.TemporaryDirectory() as folder:
            wave = Path(folder) / "x.wav"
            words = ["-voice", voice, "--setf", f"duration_stretch={1 / speed:.3f}", "-t", text, "-o", str(wave)]
            run = subprocess.run([str(self.program), *words], capture_output=True, text=True, env=environment)
            if run.returncode or not wave.exists():
                raise SparqleError(f"flite cannot speak {text!r} with the voice {voice}: {run.stderr.strip()[:200]}")
            samples, rate = soundfile.read(wave, dtype="float32")
        if rate != SAMPLE_RATE:
            raise SparqleError(f"flite's voice {voice} speaks at {rate} Hz, not {SAMPLE_RATE}; leave it out")
        return samples


_hibari: Any = None  # of this process
_flite: Flite | None = None


def _start(flite: Flite | None) -> None:
    global _flite
    _flite = flite


def _speak(job: tuple[Line, Path, int]) -> int:
    global _hibari
    line, folder, seed = job
    rng = random.Random(f"{line.name} {seed}")
    speed, loudness = rng.uniform(*SPEEDS), rng.uniform(*LOUDNESS)
    if line.voice == HIBARI:
        if _hibari is None:
            from hibari import Hibari

            _hibari = Hibari(threads=1)
        wave = _hibari(line.text, speed=speed, seed=rng.getrandbits(32))
        wave = resample_poly(wave, SAMPLE_RATE, _hibari.sample_rate)
    else:
        assert _flite is not None
        wave = _flite(line.text, line.voice, speed)
    loud = np.flatnonzero(np.abs(wave) > SILENCE)
    if not len(loud):
        raise SparqleError(f"the voice {line.voice} is silent on {line.text!r}; leave the text out")
    wave = wave[max(0, loud[0] - MARGIN) : loud[-1] + 1 + MARGIN] * loudness
    soundfile.write(folder / f"{line.name}.wav", np.clip(wave, -1, 1), SAMPLE_RATE, subtype="PCM_16")
    return len(wave)


def speak(lines: Sequence[Line], folder: Path, flite: Flite | None, seed: int, workers: int) -> list[int]:
    """Write `folder/NAME.wav` for each line (16 kHz, mono); returns the lengths in samples."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(line, folder, seed) for line in lines]
    with multiprocessing.get_context("spawn").Pool(workers, _start, (flite,)) as pool:
        return list(tqdm(pool.imap(_speak, jobs, chunksize=16), total=len(jobs), desc="speech"))
