"""From channels to one waveform, and what channels can do to each other."""

from __future__ import annotations

import numpy as np

from sparqle_fairseq.data.audio.errors import FloatRangeError
from sparqle_fairseq.data.audio.waveform import finite

# Of C channels that have nothing in common, the mean has 1/C of a channel's power; of channels that are alike, all.
# Below a fifth of that 1/C they are turned over against each other, and what they say cancels.
CANCELLED = 0.2
SILENCE = 1e-8  # mean square; -80 dB: nothing that could cancel
# No recording of which full scale is 1 has samples beyond this (36 dB); 16-bit integers as floats soon have.
LARGEST = 64.0


class Downmix:
    """Averages channels, or takes the louder one in each second in which they cancel.

    Seconds are counted from the file's beginning, so that a slice and a block are treated as the whole is.
    """

    def __init__(self, audio: str, rate: int, at: int = 0) -> None:
        self.audio, self.rate, self.at = audio, rate, at
        self.cancelling = 0  # samples
        self.held: np.ndarray | None = None  # (S, C) of a second that has not ended

    def feed(self, channels: np.ndarray, last: bool = False) -> np.ndarray:
        """(S, C) -> (S',): what can be said by now; with `last`, all the rest. Raises `AudioError`."""
        check_range(self.audio, channels)
        if self.held is not None and self.held.shape[1] != channels.shape[1]:
            return np.concatenate([self._whole(self.held), self._feed(channels, last)])
        if self.held is not None:
            channels = np.concatenate([self.held, channels])
        return self._feed(channels, last)

    def _feed(self, channels: np.ndarray, last: bool) -> np.ndarray:
        self.held = None
        if channels.shape[1] == 1:
            self.at += len(channels)
            return channels[:, 0]
        ready = len(channels) if last else max(0, len(channels) - (self.at + len(channels)) % self.rate)
        if not last and ready < len(channels):
            self.held = channels[ready:]
        return self._whole(channels[:ready])

    def _whole(self, channels: np.ndarray) -> np.ndarray:
        mono = channels.mean(axis=1)
        begin = 0
        while begin < len(channels):
            stop = min(len(channels), begin + self.rate - self.at % self.rate)
            second = channels[begin:stop]
            self.at += stop - begin
            # A product of one vector with itself is many times as fast as squares of (S, C), whose sum is the same.
            flat = second.reshape(-1)
            power = float(flat @ flat) / flat.size
            left = mono[begin:stop]
            if power > SILENCE and float(left @ left) / len(left) * channels.shape[1] < CANCELLED * power:
                mono[begin:stop] = second[:, np.argmax((second**2).sum(axis=0))]
                self.cancelling += stop - begin
            begin = stop
        return mono


def check_range(audio: str, channels: np.ndarray) -> None:
    """Raises `FloatRangeError` where samples count like integers, `NotFiniteError` where some are no numbers."""
    peak = max(float(channels.max()), -float(channels.min())) if channels.size else 0.0
    if not np.isfinite(peak):
        finite(audio, channels)
    if peak > LARGEST:
        raise FloatRangeError(
            f"{audio}: found samples up to {peak:.0f} where full scale is 1: integers that were written as floats; "
            f"divide them by {_scale(peak)} and write the file again"
        )


def _scale(peak: float) -> int:
    return next((full for full in (1 << 15, 1 << 23, 1 << 31) if peak <= full), 1 << 31)
