"""Checks on one recording or feature file: what its samples say, and what of that is wrong."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import numpy as np

from sparqle_fairseq.data.audio import (
    FEATURE_SLACK,
    SAMPLE_RATE,
    AudioError,
    Downmix,
    FloatRangeError,
    MissingAudioError,
    NotFiniteError,
    audio_place,
    check_length,
    is_features,
    open_sound,
    rate_ratio,
    read_features,
)
from sparqle_fairseq.data.manifest import ManifestRow
from sparqle_fairseq.tools.validate.findings import Finding
from sparqle_fairseq.tools.validate.settings import FEATURES_A_SECOND, SAMPLES_OF_A_FRAME, Settings

# Rates that recorders, telephones and corpora use, in Hz. Another one hints at a damaged header.
USUAL_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000, 176400, 192000)
FULL_SCALE = 0.999
QUIET = 0.1  # of full scale; below it equal samples at the peak are rounding
_SAME = 1e-4  # relative difference of samples that were cut off at one level


@dataclass(frozen=True)
class Measured:
    """What one look at the samples or the features tells."""

    n_frames: int = 0  # samples at 16 kHz, or feature frames
    rate: int | None = None  # Hz; None: features
    count: int = 0  # samples at the file's own rate
    width: int = 0  # of features
    peak: float = 1.0  # half the distance between the lowest and the highest sample
    clipped: float = 0.0  # percent of the samples
    digest: int = 0  # equal for equal samples; 0: not known
    over: float = 0.0  # percent of the samples beyond full scale
    loudest: float = 0.0
    damage: str = ""  # what is lost, as a sentence
    odd: tuple[str, ...] = ()  # what is to be said of its header
    cancelling: float = 0.0  # seconds in which the channels cancel
    fault: tuple[str, str] | None = None  # code and sentence of what cannot be read

    @property
    def seconds(self) -> float:
        return self.n_frames / (FEATURES_A_SECOND if self.rate is None else SAMPLE_RATE)


@lru_cache(maxsize=256)  # rows of one recording, one in each language, often follow each other
def look_at(audio: str) -> Measured:
    """Read all of a recording, piece by piece."""
    try:
        return _features(audio) if is_features(audio) else _waveform(audio)
    except MissingAudioError as error:
        return Measured(fault=("audio-missing", str(error)))
    except NotFiniteError as error:
        return Measured(fault=("nan", str(error)))
    except FloatRangeError as error:
        return Measured(fault=("float-range", str(error)))
    except AudioError as error:
        there = os.path.exists(audio_place(audio).path)  # a feature store names what it misses in its own way
        return Measured(fault=("audio-unreadable" if there else "audio-missing", str(error)))


def _features(audio: str) -> Measured:
    values = read_features(audio)  # (T, W)
    if not np.isfinite(values).all():  # reading trusts the checksum of a feature store
        raise NotFiniteError(f"{audio}: found values that are NaN or infinite; extract the features again")
    digest = _number(hashlib.blake2b(values.tobytes(), digest_size=8))
    constant = len(values) > 1 and bool((values == values[0]).all())
    return Measured(len(values), None, width=values.shape[1], peak=0.0 if constant else 1.0, digest=digest)


def _waveform(audio: str) -> Measured:
    low, high, wrong, count = np.inf, -np.inf, 0, 0
    loudness = _Loudness()
    with open_sound(audio, strict=False) as sound:
        content = hashlib.blake2b(str(sound.rate).encode(), digest_size=8)
        downmix = Downmix(audio, sound.rate, sound.start)
        for channels in sound.blocks:
            count += len(channels)
            bad = channels.size - int(np.count_nonzero(np.isfinite(channels)))
            wrong += bad
            if bad:
                continue
            loudness.hear(channels)
            # Before they are mixed: the file as it is, also where its channels cancel.
            mono = channels.mean(axis=1) if channels.shape[1] > 1 else channels[:, 0]
            heard = downmix.feed(channels)
            if len(heard):
                low, high = min(low, float(heard.min())), max(high, float(heard.max()))
            # As 16-bit numbers: the same recording as wav and as flac has one digest.
            content.update(np.rint(mono * 32768).clip(-32768, 32767).astype("<i2").tobytes())
        rest = downmix.feed(np.zeros((0, 1), np.float32), last=True)
        if len(rest):
            low, high = min(low, float(rest.min())), max(high, float(rest.max()))
    if wrong:
        message = f"{audio}: found {wrong} samples that are NaN or infinite; make the file again or remove the row"
        return Measured(fault=("nan", message))
    return Measured(
        ceil(count * rate_ratio(sound.rate, SAMPLE_RATE)),
        sound.rate,
        count,
        0,
        (high - low) / 2,
        100 * loudness.clipped / count,
        _number(content),
        100 * loudness.over / count,
        loudness.peak,
        sound.account.damage or "",
        tuple(sound.account.notes),
        downmix.cancelling / sound.rate,
    )


class _Loudness:
    """Samples that are cut off, and samples beyond full scale that are not.

    Cut off are those at full scale in the middle of three (a peak that merely touches it is none), and, in a recording
    that was made quieter afterwards, equal ones at its peak.
    """

    def __init__(self) -> None:
        self.peak = 0.0
        self.over = self.full = self.flat = 0

    @property
    def clipped(self) -> int:
        return self.full or (self.flat if self.peak > QUIET else 0)

    def hear(self, channels: np.ndarray) -> None:
        """(S, C), finite."""
        level = np.abs(channels)
        loudest = float(level.max(initial=0.0))
        if loudest < self.peak * (1 - _SAME) or not loudest:
            return
        if loudest > self.peak * (1 + _SAME):
            self.peak, self.flat = loudest, 0
        flat = _in_threes((level >= self.peak * (1 - _SAME)).any(axis=1))
        self.flat += flat
        if loudest > 1 + _SAME:
            self.over += int(np.count_nonzero((level > 1 + _SAME).any(axis=1)))
        if loudest >= FULL_SCALE:
            self.full += _in_threes(((level >= FULL_SCALE) & (level <= 1 + _SAME)).any(axis=1))


def _in_threes(loud: np.ndarray) -> int:
    return int(np.count_nonzero(loud[1:-1] & loud[:-2] & loud[2:]))


def _number(digest: hashlib.blake2b) -> int:
    return int.from_bytes(digest.digest(), "little") or 1


def check_recording(row: ManifestRow, found: Measured, settings: Settings) -> list[Finding]:
    """Everything that is wrong with the audio of a row; its n_frames of 0 stands for one that cannot be read."""
    if found.fault:
        return [Finding(row.line, found.fault[0], row.id, found.fault[1])]
    findings = []

    def add(code: str, message: str, changes: dict[str, str] | None = None) -> None:
        findings.append(Finding(row.line, code, row.id, f"{row.audio}: {message}", changes))

    if found.damage:
        sentence = found.damage.removeprefix(f"{row.audio}: ")
        add("audio-damaged", f"{sentence}; copy it again, or remove the row")
    for text in found.odd:
        add("audio-odd", text)
    if found.cancelling:
        add(
            "channels-cancel",
            f"its channels cancel when they are averaged, for {found.cancelling:.1f} seconds; the louder one is used",
        )
    if row.n_frames and not found.damage:  # which is why the length is another
        wrong = _wrong_length(row, found)
        if wrong:
            add("n-frames-wrong", wrong, {"n_frames": str(found.n_frames)})
    if found.rate is not None and found.n_frames < SAMPLES_OF_A_FRAME:
        add("too-short", f"found {found.n_frames} samples at 16 kHz, an encoder needs {SAMPLES_OF_A_FRAME}; remove it")
    if found.rate is None and not found.peak:
        add("silent", "all feature frames are equal; extract them again or remove the row")
    elif found.peak < 10 ** (settings.silence_db / 20):
        level = (
            f"no sample is louder than {20 * np.log10(found.peak):.0f} dB" if found.peak else "all samples are equal"
        )
        add("silent", f"{level}; record it again or remove the row")
    audible = found.rate is not None and found.peak >= 10 ** (settings.silence_db / 20)
    if audible and found.clipped > settings.clipped_percent:
        add("clipped", f"{found.clipped:.1f} % of the samples are cut off at full scale; take a less loud copy")
    if found.over > settings.clipped_percent:
        add(
            "over-full-scale",
            f"{found.over:.1f} % of the samples are beyond full scale, up to {found.loudest:.2f}; nothing is cut off "
            "yet: make it quieter before it is written as integers",
        )
    if found.rate is not None:
        unusual = _unusual_rate(found.rate, settings.sample_rate)
        if unusual:
            add("rate-unusual", unusual)
    return findings


def check_limit(row: ManifestRow, n_frames: int, features: bool, settings: Settings) -> list[Finding]:
    """Whether a limit of training would reject the row."""
    seconds = n_frames / (FEATURES_A_SECOND if features else SAMPLE_RATE)
    limits = (
        (n_frames, settings.max_source_positions, f"is {n_frames} samples or frames long, the limit is"),
        (seconds, settings.limit_seconds, f"is {seconds:.1f} seconds long, the limit is"),
    )
    return [
        Finding(row.line, "over-limit", row.id, f"the utterance {text} {limit:g}; cut it or leave it out")
        for length, limit, text in limits
        if limit is not None and length > limit
    ][:1]


def _wrong_length(row: ManifestRow, found: Measured) -> str | None:
    try:
        if found.rate is None:
            check_length(found.n_frames, row.n_frames, "", slack=FEATURE_SLACK)
        else:
            check_length(found.n_frames, row.n_frames, "")
    except AudioError as error:
        if found.rate not in (None, SAMPLE_RATE) and row.n_frames == found.count:
            return f"n_frames counts samples at {found.rate} Hz, the file's rate; at 16 kHz they are {found.n_frames}"
        return str(error).removeprefix(": ")
    return None


def _unusual_rate(rate: int, expected: int | None) -> str | None:
    if expected is not None:
        return None if rate == expected else f"found {rate} Hz where {expected} Hz was expected"
    if rate not in USUAL_RATES:
        return f"found {rate} Hz, a rate that no recorder has; check the header"
    if rate < SAMPLE_RATE:
        return f"found {rate} Hz; what speech has above {rate // 2} Hz, and the encoder knows, is missing"
    return None
