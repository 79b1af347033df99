"""Reads a recording of any length block by block: 16 kHz mono, the same samples that `read_audio` gives of the whole.

Only one block and a tenth of a second on each of its sides is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

import numpy as np

from sparqle_fairseq.data.audio import SAMPLE_RATE, finite, open_sound, rate_ratio, resample_waveform

BLOCK = 1 << 18  # samples at the file's own rate: 16 seconds at 16 kHz, 6 at 44.1 kHz
# Input on either side of a block while it is resampled; longer than half of any filter of `resample_waveform`.
CONTEXT_SECONDS = 0.1


def recording_seconds(audio: str) -> float:
    """Length of a recording by its header. Raises `AudioError` for all that a look at the header shows."""
    with open_sound(audio) as sound:
        return sound.count / sound.rate


def stream_audio(audio: str, block: int = BLOCK) -> Iterator[np.ndarray]:
    """Blocks (S,) of float32 samples at 16 kHz, channels averaged; one after the other they are the recording.

    Args:
        block: samples read at a time, at the file's own rate.

    Raises:
        AudioError: as `read_audio` does; what only decoding shows, when its block is reached.
    """
    with open_sound(audio, block=block) as sound:
        resampler = _BlockResampler(sound.rate)
        found = 0
        for channels in sound.blocks:  # (S, C)
            found += len(channels)
            mono = finite(audio, channels.mean(axis=1) if channels.shape[1] > 1 else channels[:, 0])
            yield finite(audio, resampler.feed(mono, last=found == sound.count))


class _BlockResampler:
    """Resamples block by block what `resample_waveform` would give of all blocks together."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        ratio = rate_ratio(rate, SAMPLE_RATE)
        self.up, self.down = ratio.numerator, ratio.denominator
        # All cuts are at multiples of `down` input samples, where an output sample falls on an input sample.
        self.context = self.down * ceil(CONTEXT_SECONDS * rate / self.down)
        self.held = np.zeros(0, np.float32)
        self.done = 0  # samples of `held` whose output was given out already

    def feed(self, block: np.ndarray, last: bool) -> np.ndarray:
        if self.up == self.down:
            return np.ascontiguousarray(block)
        self.held = np.concatenate([self.held, block])
        ready = len(self.held) if last else (len(self.held) - self.context) // self.down * self.down
        if ready <= self.done:
            return np.zeros(0, np.float32)
        wave = resample_waveform(self.held[: ready + self.context], self.rate, SAMPLE_RATE)
        wave = wave[self.done * self.up // self.down : ceil(ready * self.up / self.down)]
        drop = max(0, ready - self.context)
        self.held, self.done = self.held[drop:], ready - drop
        return wave
