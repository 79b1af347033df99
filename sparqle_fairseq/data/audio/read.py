"""Reads one utterance, whole or block by block: a waveform at the model's sample rate."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np

from sparqle_fairseq.data.audio.account import Account
from sparqle_fairseq.data.audio.channels import Downmix
from sparqle_fairseq.data.audio.sound import Sound, open_sound
from sparqle_fairseq.data.audio.waveform import SAMPLE_RATE, BlockResampler, resample_waveform

logger = logging.getLogger(__name__)

BLOCK = 1 << 18  # samples at the file's own rate: 16 seconds at 16 kHz, 6 at 44.1 kHz
_ALL = 1 << 40  # samples; a file is read at once
_said: set[str] = set()  # what was logged in this process: the same file comes again in each epoch


def read_audio(audio: str, *, sample_rate: int = SAMPLE_RATE, strict: bool = True) -> np.ndarray:
    """The waveform at ``audio``: float32 (samples,), channels averaged, resampled to ``sample_rate`` Hz.

    Integers are scaled to [-1, 1). Where channels cancel, the louder one is taken. What is odd about the file is
    logged once.

    Args:
        strict: refuse a file of which a part is lost; else what is left is read, and the loss is logged.

    Raises:
        AudioError: missing, truncated or unreadable file, slice outside of it, no samples, NaN or infinite samples;
            `DamagedAudioError` for what `strict=False` would read.
    """
    with open_sound(audio, block=_ALL, strict=strict) as sound:
        mono = list(_mono(audio, sound))
        waveform = mono[0] if len(mono) == 1 else np.concatenate(mono)
        for sentence in sound.account.sentences():
            if sentence not in _said:
                _said.add(sentence)
                logger.warning(sentence)
    return resample_waveform(waveform, sound.rate, sample_rate)


def stream_audio(
    audio: str, block: int = BLOCK, *, strict: bool = True, account: Account | None = None
) -> Iterator[np.ndarray]:
    """Blocks (S,) of float32 samples at 16 kHz: one after the other they are what `read_audio` gives.

    Only one block and a tenth of a second on each of its sides is in memory.

    Args:
        block: samples read at a time, at the file's own rate.
        strict: as of `read_audio`; a loss is raised after the last block.
        account: is told at the end what is to be said of the recording.

    Raises:
        AudioError: as `read_audio` does; what only decoding shows, when its block is reached.
    """
    with open_sound(audio, block=block, strict=strict) as sound:
        resampler = BlockResampler(sound.rate)
        for mono in _mono(audio, sound):
            wave = resampler.feed(mono, last=False)
            if len(wave):
                yield wave
        rest = resampler.feed(np.zeros(0, np.float32), last=True)
        if len(rest):
            yield rest
        if account is not None:
            account.__dict__.update(sound.account.__dict__)


def recording_seconds(audio: str) -> float:
    """About how long a recording is, by its header, to show progress by; 0 where that does not say it.

    Raises:
        AudioError: for all that a look at the beginning shows.
    """
    with open_sound(audio, block=1, strict=False) as sound:
        return sound.seconds


def _mono(audio: str, sound: Sound) -> Iterator[np.ndarray]:
    """Blocks (S,) of one waveform at the file's own rate."""
    downmix = Downmix(audio, sound.rate, sound.start)
    width = 1
    for channels in sound.blocks:
        width = channels.shape[1]
        mono = downmix.feed(channels, last=sound.count == len(channels))
        if len(mono):
            yield mono
    rest = downmix.feed(np.zeros((0, width), np.float32), last=True)
    sound.account.cancelling_seconds = downmix.cancelling / sound.rate
    if len(rest):
        yield rest
