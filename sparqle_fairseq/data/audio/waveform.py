"""What is done to samples (resampling, normalisation), and how far a length may be from the manifest's."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import numpy as np

from sparqle_fairseq.data.audio.errors import AudioError, NotFiniteError

SAMPLE_RATE = 16_000  # Hz
# Feature frames by which a manifest may be off: how an encoder rounds at the end of an utterance.
FEATURE_SLACK = 2
# Input on either side of a block while it is resampled; longer than half of any filter of `resample_waveform`.
CONTEXT_SECONDS = 0.1


def check_length(found: int, expected: int, where: str, *, slack: int = 400) -> None:
    """Refuses speech whose length is not the manifest's ``n_frames``.

    Args:
        found: samples at 16 kHz, or feature frames, that were read.
        expected: the manifest's ``n_frames``.
        where: names the utterance, as ``Manifest.where`` does.
        slack: difference that is no error, besides 2 % of ``expected``; for feature frames pass a smaller one.

    Raises:
        AudioError: the two differ by more.
    """
    if abs(found - expected) > max(0.02 * expected, slack):
        raise AudioError(
            f"{where}: found {found} samples or frames where n_frames says {expected}; "
            f"correct n_frames (it counts samples at 16 kHz, or feature frames) or copy the audio again"
        )


def normalize_waveform(waveform: np.ndarray) -> np.ndarray:
    """Layer norm over one utterance, float32 (samples,): what fairseq does where a checkpoint has ``task.normalize``.

    Same numbers as ``F.layer_norm(w, w.shape)`` with its eps of 1e-5, so that silence gives zeros and never NaN.
    """
    if not waveform.size:
        return waveform.astype(np.float32)
    wide = waveform.astype(np.float64)
    wide -= wide.mean()
    return (wide / np.sqrt(np.mean(wide**2) + 1e-5)).astype(np.float32)


def finite(audio: str, values: np.ndarray, what: str = "samples") -> np.ndarray:
    if not np.isfinite(values).all():
        count = values.size - np.count_nonzero(np.isfinite(values))
        raise NotFiniteError(
            f"{audio}: found {count} {what} that are NaN or infinite; make the file again or remove the row"
        )
    return values


def rate_ratio(rate: int, target: int) -> Fraction:
    """Output samples per input sample.

    Exact for every usual rate. An odd one such as 44,099 Hz, whose exact filter bank would take gigabytes, is
    taken for a neighbour within 0.05 %.
    """
    return Fraction(target, rate).limit_denominator(1000)


def resample_waveform(waveform: np.ndarray, rate: int, target: int) -> np.ndarray:
    """(S,) at ``rate`` Hz -> (ceil(S * target / rate),) at ``target`` Hz."""
    ratio = rate_ratio(rate, target)
    if ratio == 1:
        return np.ascontiguousarray(waveform)
    from sparqle_fairseq.data.torchaudio_import import ensure_torchaudio

    ensure_torchaudio()
    import torch
    from torchaudio.functional import resample

    return resample(torch.from_numpy(waveform), ratio.denominator, ratio.numerator).numpy()


class BlockResampler:
    """Resamples block by block what `resample_waveform` would give of all blocks together."""

    def __init__(self, rate: int, target: int = SAMPLE_RATE) -> None:
        self.rate, self.target = rate, target
        ratio = rate_ratio(rate, target)
        self.up, self.down = ratio.numerator, ratio.denominator
        # All cuts are at multiples of `down` input samples, where an output sample falls on an input sample.
        self.context = self.down * ceil(CONTEXT_SECONDS * rate / self.down)
        self.held = np.zeros(0, np.float32)
        self.done = 0  # samples of `held` whose output was given out already

    def feed(self, block: np.ndarray, last: bool) -> np.ndarray:
        """(S,) at the one rate -> what can be said by now at the other; with `last`, all the rest."""
        if self.up == self.down:
            return np.ascontiguousarray(block)
        self.held = np.concatenate([self.held, block])
        ready = len(self.held) if last else (len(self.held) - self.context) // self.down * self.down
        if ready <= self.done:
            return np.zeros(0, np.float32)
        wave = resample_waveform(self.held[: ready + self.context], self.rate, self.target)
        wave = wave[self.done * self.up // self.down : ceil(ready * self.up / self.down)]
        drop = max(0, ready - self.context)
        self.held, self.done = self.held[drop:], ready - drop
        return wave
