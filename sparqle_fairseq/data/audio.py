"""Reads one utterance: a waveform at the model's sample rate, or features that were computed before.

Where an utterance lies is one string, the manifest's ``audio`` cell:

* ``clip.flac``                a file that libsndfile reads (wav, flac, ogg, mp3, ...), any rate, any channels
* ``talk.wav:START:LENGTH``    a slice of one, in samples of the file's own rate
* ``fbank.npy``                features, (frames, width)
* ``features-00000.bin:OFFSET:FRAMES``    an entry of a feature store (feature_store.py)
* ``x.zip:OFFSET:LENGTH``      bytes of a zip member that was stored uncompressed: a sound file or an .npy file
"""

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

import numpy as np
import soundfile as sf

from sparqle_fairseq.data.feature_store import StoreError, parse_entry, read_entry
from sparqle_fairseq.data.mp3 import states_no_length, with_stated_length
from sparqle_fairseq.errors import SparqleError

SAMPLE_RATE = 16_000  # Hz
# Feature frames by which a manifest may be off: how an encoder rounds at the end of an utterance.
FEATURE_SLACK = 2

_RANGE = re.compile(r"(.+):(\d{1,18}):(\d{1,18})", re.DOTALL)
_NPY_MAGIC = b"\x93NUMPY"
_UNKNOWN_FRAMES = 1 << 40  # libsndfile gives a larger count where the header states none
_UNKNOWN_BYTES = 0x7FFFF000  # sox and ffmpeg write a larger size when they stream a wav file
_DATA_SIZE = re.compile(r"^\s*(?:data|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
_OGG_PAGE = 65_307  # bytes, the longest page
_MP3_HEAD = 1 << 18  # bytes, more than tags with a picture of common size
_RATES = range(1_000, 1_000_000)  # Hz; outside of it a header is damaged


# Endings of files that hold speech, for whoever looks through a folder; a file that is named itself may have any.
AUDIO_SUFFIXES = frozenset(
    (
        *(".wav", ".wave", ".bwf", ".rf64", ".w64", ".flac", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".voc"),
        *(".sph", ".nist", ".mp3", ".mp2", ".mpga", ".ogg", ".oga", ".opus", ".spx", ".m4a", ".m4b", ".aac", ".ac3"),
        *(".amr", ".3gp", ".3gpp", ".3g2", ".wma", ".asf", ".ape", ".wv", ".tta", ".avr", ".paf", ".pvf", ".ircam"),
        *(".webm", ".weba", ".mka", ".mkv", ".mp4", ".m4v", ".mov", ".avi", ".mpg", ".mpeg", ".ogv"),  # with video, too
    )
)


class AudioError(SparqleError):
    """Speech that cannot be used; one sentence with the file, what was found and the remedy."""


class MissingAudioError(AudioError):
    """There is no such file."""


class NotFiniteError(AudioError):
    """Samples or feature values that are NaN or infinite."""


@dataclass(frozen=True)
class Sound:
    """A sound file, slice or zip member that is open, in its own rate and channels."""

    rate: int  # Hz
    count: int  # samples in each channel
    n_frames: int  # its length after resampling to 16 kHz
    blocks: Iterator[np.ndarray]  # float32 (S, C), one after the other


@dataclass(frozen=True)
class Place:
    """Which part of which file an ``audio`` cell names."""

    path: str
    start: int | None  # samples, or bytes of an archive; None: the whole file
    length: int


@dataclass(frozen=True)
class _Place:
    path: str
    start: int | None = None  # samples, or bytes of a zip file; None: the whole file
    length: int = 0

    @property
    def in_zip(self) -> bool:
        return self.start is not None and self.path.lower().endswith(".zip")


def read_audio(audio: str, *, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """The waveform at ``audio``: float32 (samples,), channels averaged, resampled to ``sample_rate`` Hz.

    Values are as libsndfile gives them, integers scaled to [-1, 1).

    Raises:
        AudioError: missing, truncated or unreadable file, slice outside of it, no samples, NaN or infinite samples.
    """
    with _sound(audio) as (file, start, count):
        if start:
            file.seek(start)
        channels = file.read(count, dtype="float32", always_2d=True)  # (S, C)
        rate = file.samplerate
        if len(channels) < count:
            raise AudioError(f"{audio}: found {len(channels)} of {count} samples, the file is truncated; copy it again")
    waveform = finite(audio, channels.mean(axis=1) if channels.shape[1] > 1 else channels[:, 0])
    return finite(audio, resample_waveform(waveform, rate, sample_rate))


def read_features(audio: str) -> np.ndarray:
    """The features at ``audio`` (``x.npy``, a zip member of that form, a store's entry): float32 (frames, width).

    Raises:
        AudioError: missing or unreadable file, other than two dimensions of numbers, no frames, NaN or infinite values;
            a store's entry whose checksum is another.
    """
    values = np.array(_features(audio), dtype=np.float32)
    # What is in a store was looked at when it was written, and has kept its checksum.
    return values if parse_entry(audio) else finite(audio, values, "values")


def is_audio(path: str | os.PathLike[str]) -> bool:
    """Whether a file's name ends like that of a recording; whether it is one is not looked at."""
    return os.path.splitext(path)[1].lower() in AUDIO_SUFFIXES


def is_features(audio: str) -> bool:
    """True for ``x.npy``, a zip member that holds one and a store's entry; False for what ``read_audio`` is for."""
    if parse_entry(audio):
        return True
    place = _parse(audio)
    return _zip_member(audio, place).startswith(_NPY_MAGIC) if place.in_zip else place.path.lower().endswith(".npy")


def audio_length(audio: str, *, sample_rate: int = SAMPLE_RATE) -> int:
    """The ``n_frames`` of ``audio``: what ``read_audio`` or ``read_features`` would give, from the header alone.

    Raises:
        AudioError: as those do, but for what only decoding shows.
    """
    if is_features(audio):
        return len(_features(audio))
    with _sound(audio) as (file, _, count):
        return ceil(count * rate_ratio(file.samplerate, sample_rate))


@contextmanager
def open_sound(audio: str, *, block: int = 1 << 20) -> Iterator[Sound]:
    """Opens what ``read_audio`` reads, for a look at it as it is: not resampled, at most ``block`` samples at a time.

    Raises:
        AudioError: as ``read_audio`` does; NaN and infinite samples are handed over.
    """
    with _sound(audio) as (file, start, count):
        if start:
            file.seek(start)
        n_frames = ceil(count * rate_ratio(file.samplerate, SAMPLE_RATE))
        yield Sound(file.samplerate, count, n_frames, _blocks(audio, file, count, block))


def _blocks(audio: str, file: sf.SoundFile, count: int, block: int) -> Iterator[np.ndarray]:
    found = 0
    while found < count:
        channels = file.read(min(block, count - found), dtype="float32", always_2d=True)
        found += len(channels)
        if not len(channels):
            raise AudioError(f"{audio}: found {found} of {count} samples, the file is truncated; copy it again")
        yield channels


def audio_place(audio: str) -> Place:
    """The file and the part of it that ``audio`` names; whether they exist is not looked at."""
    place = _parse(audio)
    return Place(place.path, place.start, place.length)


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


def _parse(audio: str) -> _Place:
    """A file of exactly that name comes first, because names may hold colons themselves."""
    if not os.path.isfile(audio):
        match = _RANGE.fullmatch(audio)
        if match:
            return _Place(match[1], int(match[2]), int(match[3]))
    return _Place(audio)


def _require_file(audio: str, path: str) -> int:
    """The size of a file in bytes, which is positive."""
    if not os.path.isfile(path):
        raise MissingAudioError(f"{audio}: there is no such file; check the path and the audio root")
    size = os.path.getsize(path)
    if not size:
        raise AudioError(f"{audio}: the file is empty (0 bytes); copy it again")
    return size


def _zip_member(audio: str, place: _Place) -> bytes:
    size = _require_file(audio, place.path)
    start = place.start or 0
    if not place.length or start + place.length > size:
        raise AudioError(
            f"{audio}: the bytes {start} to {start + place.length} do not lie in a file of {size} bytes; "
            f"write the manifest of this zip file again"
        )
    try:
        with open(place.path, "rb") as file:
            file.seek(start)
            return file.read(place.length)
    except OSError as error:
        raise AudioError(f"{audio}: cannot be read ({error}); check the file and its rights") from error


class _SoundFile(sf.SoundFile):
    """Reads on from where it is. soundfile seeks there after every read, which damages the next frames of an mp3."""

    def seekable(self) -> bool:
        return False


def _stating_its_length(source: str | io.BytesIO) -> str | io.BytesIO:
    """The source, or for an mp3 file that does not say how long it is, one that does."""
    if isinstance(source, str) and not source.lower().endswith(".mp3"):
        return source
    try:
        with open(source, "rb") if isinstance(source, str) else io.BytesIO(source.getvalue()) as file:
            head = file.read(_MP3_HEAD)
            return io.BytesIO(with_stated_length(head + file.read())) if states_no_length(head) else source
    except OSError:
        return source  # libsndfile says what is wrong with it


@contextmanager
def _sound(audio: str) -> Iterator[tuple[sf.SoundFile, int, int]]:
    """Opens a sound file: the file, the first sample and the number of samples wanted, at the file's own rate."""
    if parse_entry(audio):
        raise AudioError(f"{audio}: found features where a waveform is needed; give a manifest of audio")
    place = _parse(audio)
    source: str | io.BytesIO
    if place.in_zip:
        member = _zip_member(audio, place)
        if member.startswith(_NPY_MAGIC):
            raise AudioError(f"{audio}: found features where a waveform is needed; use an encoder that takes features")
        source = io.BytesIO(member)
    else:
        _require_file(audio, place.path)
        source = place.path
    source = _stating_its_length(source)
    try:
        with _SoundFile(source) as file:
            yield file, *_wanted(audio, place, file, source)
    except AudioError:
        raise
    except Exception as error:  # a damaged file makes libsndfile and its binding fail in many ways
        remedy = "store zip members uncompressed" if place.in_zip else "copy it again or convert it to wav or flac"
        raise AudioError(f"{audio}: cannot be read as audio ({str(error).rstrip('.')}); {remedy}") from error


def _wanted(audio: str, place: _Place, file: sf.SoundFile, source: str | io.BytesIO) -> tuple[int, int]:
    """First sample and number of samples to read, after a look at what the header claims."""
    if file.samplerate not in _RATES:
        raise AudioError(f"{audio}: the header says {file.samplerate} samples a second; convert the file again")
    if _cut_short(file, source):
        raise AudioError(f"{audio}: the file is truncated, it ends before the length in its header; copy it again")
    if file.frames > _UNKNOWN_FRAMES:
        raise AudioError(f"{audio}: the header does not say how long the file is; convert it to wav or flac again")
    if not file.frames:
        raise AudioError(f"{audio}: found no samples in the file; remove the row")
    if place.start is None or place.in_zip:
        return 0, file.frames
    if not place.length:
        raise AudioError(f"{audio}: the slice has no samples; correct LENGTH in START:LENGTH")
    if place.start + place.length > file.frames:
        raise AudioError(
            f"{audio}: the slice ends at sample {place.start + place.length} of a file with {file.frames}; "
            f"correct START:LENGTH, which count samples at the file's own rate of {file.samplerate} Hz"
        )
    return place.start, place.length


def _cut_short(file: sf.SoundFile, source: str | io.BytesIO) -> bool:
    """Whether the end is missing, for the formats whose missing end libsndfile passes over in silence."""
    if file.format != "OGG":
        sizes = _DATA_SIZE.search(file.extra_info)
        return sizes is not None and int(sizes[2]) < int(sizes[1]) < _UNKNOWN_BYTES
    if isinstance(source, io.BytesIO):
        tail = source.getvalue()[-_OGG_PAGE:]
    else:
        with open(source, "rb") as raw:
            raw.seek(max(0, os.path.getsize(source) - _OGG_PAGE))
            tail = raw.read()
    # The last page carries the end-of-stream flag and all of its segments (RFC 3533, section 6).
    page = tail[max(0, tail.rfind(b"OggS")) :]
    if len(page) < 27:
        return True
    return not page[5] & 4 or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])


def _features(audio: str) -> np.ndarray:
    """Features as they lie in the file, mapped rather than read unless they are in a zip file."""
    entry = parse_entry(audio)
    if entry:
        try:
            return read_entry(entry)
        except StoreError as error:
            raise AudioError(str(error)) from error
    place = _parse(audio)
    if not place.in_zip:
        if place.start is not None:
            raise AudioError(f"{audio}: features cannot be sliced; give the .npy file without START:LENGTH")
        _require_file(audio, place.path)
    try:
        if place.in_zip:
            array = np.load(io.BytesIO(_zip_member(audio, place)), allow_pickle=False)
        else:
            array = np.load(place.path, allow_pickle=False, mmap_mode="r")
    except AudioError:
        raise
    except Exception as error:  # a damaged header makes numpy's parser fail in many ways
        raise AudioError(f"{audio}: cannot be read as features ({error}); write the .npy file again") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "fiu" or not array.size:
        found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "several arrays"
        raise AudioError(f"{audio}: found {found} where features are numbers (frames, width); write the file again")
    return array


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
