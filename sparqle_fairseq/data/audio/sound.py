"""Opens what an ``audio`` cell names and gives its samples block by block, whoever decodes them.

soundfile reads flac, wav and Ogg files whose headers say the truth; FFmpeg reads everything else, and what soundfile
stumbles over. A file into which several recordings were joined is read as one, at the rate of the first.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import numpy as np
import soundfile as sf

from sparqle_fairseq.data.audio import ffmpeg, libsndfile
from sparqle_fairseq.data.audio.account import Account
from sparqle_fairseq.data.audio.errors import AudioError, DamagedAudioError
from sparqle_fairseq.data.audio.features import NPY_MAGIC, is_features, mapped_features
from sparqle_fairseq.data.audio.parts import recordings_in
from sparqle_fairseq.data.audio.place import Place, Source, audio_place, source_of
from sparqle_fairseq.data.audio.riff import Wav, is_wav, wav_files
from sparqle_fairseq.data.audio.waveform import SAMPLE_RATE, BlockResampler, rate_ratio
from sparqle_fairseq.data.feature_store import parse_entry
from sparqle_fairseq.errors import reason

RATES = range(1_000, 1_000_000)  # Hz; outside of it a header is damaged


@dataclass(frozen=True)
class Sound:
    """A sound file, slice or zip member that is open, in its own rate and channels."""

    rate: int  # Hz
    count: int | None  # samples in each channel; None: only decoding tells
    start: int  # where in the file the first of them lies
    seconds: float  # by the header, where only decoding tells; 0: not even that says it
    blocks: Iterator[np.ndarray]  # float32 (S, C), one after the other; C may change where recordings were joined
    account: Account  # what is lost and what is odd; whole when the last block was read


@dataclass(frozen=True)
class Measured:
    """How long a recording, or a slice of it, is; decoded to its end, or certain."""

    rate: int  # Hz
    count: int  # samples in each channel
    account: Account

    def n_frames(self, sample_rate: int = SAMPLE_RATE) -> int:
        """Its length after resampling."""
        return ceil(self.count * rate_ratio(self.rate, sample_rate))


@dataclass(frozen=True)
class _Part:
    """What is known, before anything is decoded, of one of the recordings that are in a file."""

    source: Source
    wav: Wav | None = None
    rate: int = 0  # 0: only decoding tells
    count: int | None = None  # samples; certain. None: only decoding tells
    trusted: bool = False  # soundfile reads it whole


@dataclass(frozen=True)
class _Layout:
    """The recordings of a file, and what is certain of them together."""

    parts: tuple[_Part, ...]

    @property
    def rate(self) -> int:
        return self.parts[0].rate

    @property
    def count(self) -> int | None:
        counts = [part.count for part in self.parts if part.rate == self.rate]
        return None if None in counts or len(counts) < len(self.parts) else sum(filter(None, counts))

    @property
    def certain(self) -> bool:
        """Whether the count is sure without decoding: samples of one size, all of which are there."""
        return all(part.wav is not None and part.wav.plain and not part.wav.lacking for part in self.parts)


@contextmanager
def open_sound(audio: str, *, block: int = 1 << 20, strict: bool = True) -> Iterator[Sound]:
    """Opens a recording for a look at it as it is: not resampled, at most about ``block`` samples at a time.

    Args:
        audio: a sound file, ``file:START:LENGTH`` or a zip member.
        strict: raise `DamagedAudioError` after the last block where a part of the recording is lost.

    Raises:
        AudioError: missing or unreadable file, slice outside of it, no samples; NaN and infinite samples are handed
            over. What only decoding shows is raised when its block is reached.
    """
    place, source = _located(audio)
    layout = _layout_for(place, source)
    account = Account(audio, recordings=len(layout.parts))
    if account.recordings > 1:
        account.note(f"{account.recordings} recordings are joined in it; all were read")
    for part in layout.parts:
        account.note("" if part.wav is None else part.wav.note)
    start, length = (0, None) if place.start is None or place.in_zip else (place.start, place.length)
    if length == 0:
        raise AudioError(f"{audio}: the slice has no samples; correct LENGTH in START:LENGTH")
    count = _wanted(audio, layout.rate, layout.count, start, length) if layout.count is not None else length
    blocks = _blocks(audio, place, layout, account, start, count if layout.count is not None else length, block, strict)
    rate = layout.rate
    if not rate:  # the first block says it
        first, rate = next(blocks)
        blocks = _again(first, rate, blocks)
    seconds = (count or 0) / rate or _stated(audio, layout)
    yield Sound(rate, count if layout.count is not None else None, start, seconds, (b for b, _ in blocks), account)


def measure(audio: str, *, strict: bool = True) -> Measured:
    """The length of a recording or slice, by a header that is certain or by decoding all of it.

    Args:
        strict: raise `DamagedAudioError` where a part of it is lost; else that part is not counted.

    Raises:
        AudioError: as `open_sound` does.
    """
    place, source = _located(audio)
    if place.start is not None and not place.in_zip:
        whole = measure(place.path, strict=False)
        count = _wanted(audio, whole.rate, whole.count, place.start, place.length)
        if not whole.account.faults:
            return Measured(whole.rate, count, whole.account)
        found = _decoded_length(audio, source.written)  # only decoding it tells whether the slice itself is whole
    else:
        layout = _layout(source)
        if layout.count is not None and layout.certain:
            with open_sound(audio) as sound:
                return Measured(sound.rate, sound.count or 0, sound.account)
        found = _decoded_length(audio, source.written)
    if strict:
        found.account.refuse_damage()
    return found


def audio_length(audio: str, *, sample_rate: int = SAMPLE_RATE, strict: bool = True) -> int:
    """The ``n_frames`` of ``audio``: the length of what ``read_audio`` or ``read_features`` gives.

    Raises:
        AudioError: as those do.
    """
    if is_features(audio):
        return len(mapped_features(audio))
    return measure(audio, strict=strict).n_frames(sample_rate)


@lru_cache(maxsize=1 << 16)
def _decoded_length(audio: str, written: int) -> Measured:  # noqa: ARG001 (a key: the file may be written anew)
    with open_sound(audio, strict=False) as sound:
        return Measured(sound.rate, sum(map(len, sound.blocks)), sound.account)


def _located(audio: str) -> tuple[Place, Source]:
    if parse_entry(audio):
        raise AudioError(f"{audio}: found features where a waveform is needed; give a manifest of audio")
    place = audio_place(audio)
    source = source_of(audio, place)
    try:
        if place.in_zip and source.head(len(NPY_MAGIC)) == NPY_MAGIC:
            raise AudioError(f"{audio}: found features where a waveform is needed; use an encoder that takes features")
    except OSError as error:
        raise AudioError(f"{audio}: cannot be read ({reason(error)}); check the file and its rights") from error
    return place, source


def _layout_for(place: Place, source: Source) -> _Layout:
    """What is known of the file of a slice, or of a whole file, all of which is looked at for joined recordings."""
    if place.start is not None and not place.in_zip:
        layout = _layout(source, scan=False)
        if layout.count is not None and place.start + place.length <= layout.count:
            return layout
    return _layout(source)


@lru_cache(maxsize=4096)
def _layout(source: Source, scan: bool = True) -> _Layout:
    if is_wav(source.head(12)):
        wavs = wav_files(source)
        if not wavs:  # a header and nothing behind it that could be found
            return _Layout((_Part(source),))
        starts = [0, *(wav.stop for wav in wavs[:-1])]
        stops = [*starts[1:], source.size]
        return _Layout(
            tuple(
                _wav_part(source.part(start, stop), wav.moved(start))
                for wav, start, stop in zip(wavs, starts, stops, strict=True)
            )
        )
    whole = _part(source)
    if whole.trusted and not scan:
        return _Layout((whole,))
    parts = recordings_in(source)
    return _Layout((whole,) if parts == [source] else tuple(map(_part, parts)))


def _wav_part(source: Source, wav: Wav) -> _Part:
    known = libsndfile.rarities(source) if wav.in_blocks else None
    if known is not None:
        return _Part(source, wav, *known, trusted=True)
    if not wav.plain:
        return _Part(source, wav)
    return _Part(source, wav, wav.rate, wav.count, trusted=libsndfile.reads_wav(wav))


def _part(source: Source) -> _Part:
    known = libsndfile.length_of(source)
    return _Part(source) if known is None else _Part(source, None, *known, trusted=True)


def _stated(audio: str, layout: _Layout) -> float:
    try:
        return sum(ffmpeg.stated_seconds(audio, part.source) or 0.0 for part in layout.parts)
    except AudioError:
        return 0.0


def _wanted(audio: str, rate: int, count: int, start: int, length: int | None) -> int:
    """How many samples are wanted of a file with `count`. Raises `AudioError` for a slice outside of it."""
    if rate not in RATES:
        raise AudioError(f"{audio}: the header says {rate} samples a second; convert the file again")
    if not count:
        raise AudioError(f"{audio}: found no samples in the file; remove the row")
    if length is None:
        return count
    if not length:
        raise AudioError(f"{audio}: the slice has no samples; correct LENGTH in START:LENGTH")
    if start + length > count:
        raise AudioError(
            f"{audio}: the slice ends at sample {start + length} of a file with {count}; "
            f"correct START:LENGTH, which count samples at the file's own rate of {rate} Hz"
        )
    return length


def _again(first: np.ndarray, rate: int, rest: Iterator[tuple[np.ndarray, int]]) -> Iterator[tuple[np.ndarray, int]]:
    yield first, rate
    yield from rest


def _blocks(
    audio: str,
    place: Place,
    layout: _Layout,
    account: Account,
    start: int,
    length: int | None,
    block: int,
    strict: bool,
) -> Iterator[tuple[np.ndarray, int]]:
    """Blocks (S, C) with the rate, and at the end a look at whether they are all that was to be read."""
    found = 0
    try:
        # Closed before the account is looked at: what was lost in a slice is told when its decoder is.
        with closing(_regrouped(_joined(audio, layout, account, start, length, block), block)) as pieces:
            for channels, rate in pieces:
                if rate not in RATES:
                    _wanted(audio, rate, 1, 0, None)
                kept = channels if length is None else channels[: length - found]
                found += len(kept)
                if len(kept):
                    yield kept, rate
                if found == length:
                    break
    except ffmpeg.NoSoundError as error:
        yield from _rarity(audio, place, layout, error, start, length, block)
        return
    if strict:
        account.refuse_damage()
    if place.start is not None and not place.in_zip and found != length:
        raise AudioError(
            f"{audio}: the slice ends at sample {start + (length or 0)} of a file with "
            f"{start + found if found else 'less'}; correct START:LENGTH, which count samples at the file's own rate"
        )
    if not found:
        account.refuse_damage()
        raise AudioError(f"{audio}: found no samples in the file; remove the row")


def _joined(
    audio: str, layout: _Layout, account: Account, start: int, length: int | None, block: int
) -> Iterator[tuple[np.ndarray, int]]:
    """Samples (S, C) of all recordings in a file from `start` on, all at the rate of the first, with that rate."""
    rate = layout.rate
    drop = start
    converter: _Converter | None = None

    def dropped(channels: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
        nonlocal drop
        kept = channels[drop:]
        drop -= len(channels) - len(kept)
        if len(kept):
            yield kept, rate

    for number, part in enumerate(layout.parts, start=1):
        if part.count is not None and part.rate == rate and part.count <= drop:
            drop -= part.count
            continue
        # What is left out where it is decoded: of a part that is longer, or of the only one.
        ahead = drop if len(layout.parts) == 1 or (part.rate == rate and part.count is not None) else 0
        drop -= ahead
        try:
            wanted = length if part.rate in (0, rate) else None  # which counts samples at the first rate
            for piece in _decoded(audio, part, account, ahead, wanted, block):
                rate = rate or piece.rate
                if converter is not None and not converter.takes(piece):
                    yield from dropped(converter.rest())
                    converter = None
                if piece.rate == rate:
                    yield from dropped(piece.samples)
                    continue
                account.note(f"its sample rate changes from {rate} to {piece.rate} Hz on the way; all was converted")
                converter = converter or _Converter(piece, rate)
                yield from dropped(converter.feed(piece.samples))
            if converter is not None:
                yield from dropped(converter.rest())
                converter = None
        except ffmpeg.NoSoundError as error:
            if len(layout.parts) == 1 or not rate:
                raise
            account.lose(0.0, f"recording {number} in it cannot be read ({reason(error)})")


def _decoded(
    audio: str, part: _Part, account: Account, start: int, length: int | None, block: int
) -> Iterator[ffmpeg.Piece]:
    """The samples of one recording from `start` on, at most `length` of them where soundfile reads it."""
    found = 0
    if part.trusted:
        assert part.count is not None
        count = part.count - start if length is None else min(length, part.count - start)
        try:
            for channels in libsndfile.read(part.source, start, count, block):
                found += len(channels)
                yield ffmpeg.Piece(part.rate, channels)
        except (sf.SoundFileError, OSError, RuntimeError, TypeError, ValueError):
            pass  # FFmpeg goes on from here, and says what is lost
        if found >= count:
            return
    elif part.wav is not None and part.wav.plain:
        count = part.wav.count - start if length is None else min(length, part.wav.count - start)
        for channels in libsndfile.read_plain(part.source, part.wav, start, count, block):
            yield ffmpeg.Piece(part.rate, channels)
        _tell_lack(account, part.wav, ended=start + count == part.wav.count)
        return
    yield from ffmpeg.decode(audio, part.source, account, start + found)


def _tell_lack(account: Account, wav: Wav, ended: bool) -> None:
    if ended and wav.lacking:
        seconds = wav.lacking / wav.frame_bytes / wav.rate
        account.lose(seconds, f"the file is truncated, it ends {wav.lacking} bytes before its header says")


class _Converter:
    """Samples of all channels to another rate."""

    def __init__(self, piece: ffmpeg.Piece, target: int) -> None:
        self.rate, self.channels = piece.rate, piece.samples.shape[1]
        self.each = [BlockResampler(piece.rate, target) for _ in range(self.channels)]

    def takes(self, piece: ffmpeg.Piece) -> bool:
        return piece.rate == self.rate and piece.samples.shape[1] == self.channels

    def feed(self, samples: np.ndarray, last: bool = False) -> np.ndarray:
        return np.stack([one.feed(samples[:, c], last) for c, one in enumerate(self.each)], axis=1)

    def rest(self) -> np.ndarray:
        return self.feed(np.zeros((0, self.channels), np.float32), last=True)


def _regrouped(pieces: Iterator[tuple[np.ndarray, int]], block: int) -> Generator[tuple[np.ndarray, int], None, None]:
    """Blocks of `block` samples or a little more, of pieces with the same number of channels."""
    held: list[np.ndarray] = []
    size = rate = 0
    for samples, rate in pieces:
        if held and (size >= block or held[0].shape[1] != samples.shape[1]):
            yield _one(held), rate
            held, size = [], 0
        held.append(samples)
        size += len(samples)
    if held:
        yield _one(held), rate


def _one(pieces: list[np.ndarray]) -> np.ndarray:
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def _rarity(
    audio: str, place: Place, layout: _Layout, error: AudioError, start: int, length: int | None, block: int
) -> Iterator[tuple[np.ndarray, int]]:
    """What FFmpeg does not know, and libsndfile may."""
    known = libsndfile.rarities(layout.parts[0].source)
    if known is None or isinstance(error, DamagedAudioError):
        remedy = "store zip members uncompressed" if place.in_zip else "copy it again or convert it to wav or flac"
        raise AudioError(f"{error}; {remedy}") from error
    rate, count = known
    wanted = _wanted(audio, rate, count, start, length)
    found = 0
    for channels in libsndfile.read(layout.parts[0].source, start, wanted, block):
        found += len(channels)
        yield channels, rate
    if found < wanted:
        raise AudioError(f"{audio}: found {found} of {wanted} samples, the file is truncated; copy it again")
