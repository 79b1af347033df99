"""Reads with FFmpeg, through PyAV, what soundfile does not read whole; and accounts for what does not decode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.error import FFmpegError

from sparqle_fairseq.data.audio.account import Account
from sparqle_fairseq.data.audio.errors import AudioError
from sparqle_fairseq.data.audio.place import Source
from sparqle_fairseq.errors import reason

# Containers of sound. A playlist would make FFmpeg open other files, and addresses on the net.
_FORMATS = (
    "wav,w64,aiff,au,caf,voc,nistsphere,ircam,avr,pvf,sox,iff,flac,mp3,aac,loas,ac3,eac3,ogg,matroska,webm,mov,mp4,m4a,"
    "3gp,3g2,mj2,asf,xwma,amr,amrnb,amrwb,wv,ape,tta,tak,mpc,mpc8,mpeg,mpegts,avi,flv,rm,gsm,dsf,act,shn,adx,truehd,dts"
)
_STREAMS = ("mp3", "aac", "ac3", "eac3", "amr", "amrnb", "amrwb", "loas")  # frames one after the other, no times
_EXACT = ("flac", "aiff", "au", "caf", "w64", "wv", "tta", "ape", "nistsphere")  # headers that count samples
_TIMED = ("mov,mp4,m4a,3gp,3g2,mj2", "asf", "ogg")  # headers that say how long the stream is, nearly
# Each packet decodes into the samples that it says, so that packets before a slice need not be decoded.
_STEADY = ("mp3", "mp3float", "mp2", "mp2float", "aac", "alac")
_WARM_UP = 12  # packets that are decoded first, to see how much the decoder leaves out at the beginning
_PREROLL = 0.5  # seconds of sound that are decoded before a slice: what a decoder remembers is older nowhere
_GAP, _EXACT_GAP = 0.1, 0.001  # seconds that times may be off, and where packets count samples
_SHORT = 0.1  # seconds by which a `_TIMED` stream may end before it says
_LONG, _LARGE = 4, 2048  # times as long as the packets before, and bytes: more than a frame
_LOOSE = 4096  # bytes in an aac file that may be tags
_FILLED = 600.0  # seconds; a longer gap is an error of the times, and is not filled with silence
_LENGTH_TAGS = (b"Xing", b"Info", b"VBRI")  # in the silent frame before the first of an mp3 file that says its length
_SCALES = {"u8": 128.0, "s16": 32768.0, "s32": 2147483648.0, "s64": 9223372036854775808.0}


class NoSoundError(AudioError):
    """FFmpeg finds no sound in a file, or does not know what it is."""


@dataclass
class Piece:
    """Some samples as they were decoded."""

    rate: int  # Hz
    samples: np.ndarray  # float32 (S, C)


@dataclass
class _Tally:
    """What of a stream's bytes and time became samples."""

    raw: bool  # frames without times
    counting: bool = False  # what lies before a slice is not its loss
    least_gap: float = _GAP  # seconds between two packets, from which on some sound is lost
    good_bytes: int = 0
    good_seconds: float = 0.0
    good_packets: int = 0
    passed_bytes: int = 0  # that were not decoded, because a slice begins behind them
    bad_bytes: int = 0
    bad_seconds: float = 0.0
    bad_packets: int = 0
    gaps: list[float] = field(default_factory=list)  # seconds
    first: float | None = None  # second of the first loss
    filled: float = 0.0  # seconds of silence in place of what is lost
    ends_badly: int = 0  # packets at the end that did not decode
    next_time: Fraction | None = None
    next_byte: int | None = None

    def see(self, packet: Any) -> float:
        """Look for time, or bytes, between the packet before and this one; returns the seconds that lie between."""
        gap = 0.0
        if self.raw:
            if packet.pos is not None and self.next_byte is not None and packet.pos > self.next_byte:
                self._bad(packet.pos - self.next_byte, 0.0)
            self.next_byte = None if packet.pos is None else packet.pos + packet.size
            return gap
        if packet.pos is not None:
            self.next_byte = packet.pos + packet.size
        if packet.pts is None or packet.time_base is None:
            return gap
        time = packet.pts * packet.time_base
        if self.next_time is not None and time - self.next_time > self.least_gap:
            gap = float(time - self.next_time)
            if self.counting:
                self.gaps.append(gap)
                self._here()
        self.next_time = time + (packet.duration or 0) * packet.time_base
        return gap if gap < _FILLED else 0.0

    def bad(self, packet: Any) -> None:
        self._bad(packet.size, float((packet.duration or 0) * (packet.time_base or 0)))

    def _bad(self, size: int, seconds: float) -> None:
        if not self.counting:
            return
        self.bad_bytes, self.bad_seconds, self.bad_packets = (
            self.bad_bytes + size, self.bad_seconds + seconds, self.bad_packets + 1
        )  # fmt: skip
        self.ends_badly += 1
        self._here()

    def good(self, packet: Any) -> None:
        size = packet.size
        usual = self.good_bytes / self.good_packets if self.good_packets else size
        if self.raw and size > _LONG * usual and size > _LARGE:  # what its reader took for the end of a frame
            self._bad(round(size - usual), 0.0)
            size = round(usual)
        self.good_bytes += size
        self.good_packets += 1
        self.ends_badly = 0

    def _here(self) -> None:
        if self.first is None:
            self.first = self.good_seconds

    def seconds_of(self, size: int) -> float:
        """About how long so many bytes sound."""
        return size * self.good_seconds / self.good_bytes if self.good_bytes else 0.0

    @property
    def lost(self) -> float:
        inside = max(self.bad_seconds, self.seconds_of(self.bad_bytes)) if self.raw else self.bad_seconds
        return inside + sum(self.gaps)


@contextmanager
def _opened(audio: str, source: Source) -> Iterator[tuple[Any, Any]]:
    """Container and first stream of sound. Raises `NoSoundError`."""
    options = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
    target: Any = f"file:{source.path}" if source.whole else source.open()
    try:
        container = av.open(target, options=options, metadata_errors="ignore")
    except (FFmpegError, ValueError, OSError) as error:
        if hasattr(target, "close"):
            target.close()
        said = reason(_short(error))
        if source.head(8)[4:] == b"ftyp":
            said = "its index is missing: the recording or the copy of it was not finished"
        raise NoSoundError(f"{audio}: cannot be read as audio ({said})") from error
    with container:
        if not container.streams.audio:
            kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
            raise NoSoundError(f"{audio}: holds no sound (found {kinds})")
        stream = container.streams.audio[0]
        if stream.codec_context is None:
            raise NoSoundError(f"{audio}: FFmpeg has no decoder for its sound")
        if stream.codec_context.name == "flac":  # every frame has a checksum
            stream.codec_context.options = {"err_detect": "crccheck+explode"}
        yield container, stream
    if hasattr(target, "close"):
        target.close()


def _short(error: BaseException) -> BaseException:
    """FFmpeg's words without the number and the name of the file, which PyAV puts around them."""
    return RuntimeError(getattr(error, "strerror", None) or str(error))


def stated_seconds(audio: str, source: Source) -> float | None:
    """How long a file says it is, or would be by its bit rate: to show progress by, not to write down."""
    with _opened(audio, source) as (container, stream):
        if stream.duration and stream.time_base:
            return float(stream.duration * stream.time_base)
        return container.duration / av.time_base if container.duration else None


def last_sample(source: Source, stated: int) -> int | None:
    """Where the last frame of a flac file ends, in samples, if one is found near the `stated` end."""
    try:
        with _opened("", source) as (container, stream):
            container.seek(stated - 1, stream=stream)
            last = None
            for packet in container.demux(stream):
                if packet.size:
                    last = packet
    except (NoSoundError, FFmpegError, ValueError, OSError):
        return None
    return None if last is None or last.pts is None else last.pts + (last.duration or 0)


def is_unbroken_ogg(source: Source) -> bool:
    """Whether the pages of an Ogg file, which have checksums, follow each other to the end of the file."""
    tally = _Tally(raw=False, counting=True)
    try:
        with _opened("", source) as (container, stream):
            if len(container.streams.audio) > 1:
                return False
            for packet in container.demux(stream):
                if packet.size:
                    tally.see(packet)
            says = stream.duration * stream.time_base if stream.duration else None
            ends = tally.next_time - (stream.start_time or 0) * stream.time_base if tally.next_time else None
    except (NoSoundError, FFmpegError, ValueError, OSError):
        return False
    if _last_page(source)[0] or (says is not None and ends is not None and says - ends > _GAP):
        return False
    return not tally.gaps


def decode(audio: str, source: Source, account: Account, start: int = 0) -> Iterator[Piece]:
    """The samples of one recording, from sample `start` on.

    Args:
        source: its bytes.
        account: is told what is lost and what is odd.

    Raises:
        NoSoundError: FFmpeg finds none.
    """
    with _opened(audio, source) as (container, stream):
        if len(container.streams.audio) > 1:
            account.note(f"holds {len(container.streams.audio)} streams of sound; the first was read")
        name = container.format.name
        tally = _Tally(name in _STREAMS, not start, _EXACT_GAP if name in _EXACT else _GAP)
        says = _says(source, container, stream)
        found = Fraction(0)  # seconds from the beginning to where decoding has come
        ended = False
        try:
            rate = 0
            for position, piece in _pieces(container, stream, tally, start):
                rate = rate or piece.rate
                found = Fraction(position, rate) + Fraction(len(piece.samples), piece.rate)
                samples = piece.samples[max(0, start - position) :]
                if len(samples):
                    yield Piece(piece.rate, samples)
            ended = True
        finally:  # whoever wants a slice stops before the end, and is told what was lost until then
            rest = source.size - (tally.next_byte or source.size)
            if ended and name in _EXACT and rest > max(_LOOSE, source.size // 100):
                account.note(f"{rest} bytes behind its sound were not read")
            _settle(account, tally, found, says, ended, name, source)


def _says(source: Source, container: Any, stream: Any) -> Fraction | None:
    """Seconds that the header promises; None where it promises none, or FFmpeg has estimated them."""
    name = container.format.name
    if name in (*_EXACT, *_TIMED) and stream.duration:
        return Fraction(stream.duration * stream.time_base)
    if name == "mp3" and stream.duration:
        head = source.head(1 << 16)
        while head[:3] == b"ID3":  # FFmpeg has read the tag; what follows it says whether there is a length
            size = 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9])
            head = source.part(size, source.size).head(4096) if size < source.size else b""
            source = source.part(min(size, source.size), source.size)
        if any(tag in head[:4096] for tag in _LENGTH_TAGS):
            return Fraction(stream.duration * stream.time_base)
    if name == "matroska,webm" and container.duration and len(container.streams) == 1:
        return Fraction(container.duration, av.time_base)
    return None


def _settle(
    account: Account, tally: _Tally, found: Fraction, says: Fraction | None, ended: bool, name: str, source: Source
) -> None:
    """Compare what was decoded with where the file ends and with what its header says."""
    if name == "aac" and ended:  # what its reader passes over in search of the next frame is in no packet
        lost = source.size - tally.good_bytes - tally.bad_bytes - tally.passed_bytes
        if lost > max(_LOOSE, tally.good_bytes // 100):
            tally.bad_bytes += lost
            tally.bad_packets += 1
    whole = says is not None and float(found - says) >= tally.filled - 0.001
    if tally.bad_bytes and whole and not tally.gaps:
        account.note(f"{tally.bad_bytes} bytes in it are no sound; nothing is lost by what its header says")
    elif tally.bad_packets > tally.ends_badly or tally.gaps:
        places = tally.bad_packets + len(tally.gaps)
        more = f" and {places - 1} more times" if places > 1 else ""
        missing = float(says - found) if says is not None and ended else 0.0
        account.lose(max(tally.lost, missing + tally.filled), f"it is damaged at {tally.first or 0:.1f} seconds{more}")
        return
    if not ended:
        return
    if name == "ogg":
        behind, length = _last_page(source)
        if behind < 0:
            why = f"the file is truncated, {-behind} bytes of its last page are missing"
            account.lose(tally.seconds_of(length), why)
            return
        if behind:
            account.note(f"{behind} bytes at its end are no sound")
    if says is not None:
        missing = float(says - found) + tally.filled
        if missing > (0 if name in _EXACT else _SHORT):
            has = float(found) - tally.filled
            account.lose(missing, f"the file is truncated, found {has:.2f} of {float(says):.2f} seconds")
        elif found - says > _SHORT:
            account.note(f"its header says {float(says):.2f} seconds, and {float(found):.2f} are there; all were read")
    elif tally.bad_packets:
        account.lose(tally.lost, f"it is damaged at its end, at {tally.first or 0:.1f} seconds")


def _last_page(source: Source) -> tuple[int, int]:
    """Bytes behind the last Ogg page, or lacking at its end (negative), and its length (RFC 3533, section 6).

    FFmpeg and libsndfile pass over both in silence.
    """
    content = source.tail(1 << 17)
    page = content[max(0, content.rfind(b"OggS")) :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return -1, 0
    length = 27 + page[26] + sum(page[27 : 27 + page[26]])
    return len(page) - length, length


def _pieces(container: Any, stream: Any, tally: _Tally, start: int) -> Iterator[tuple[int, Piece]]:
    """Decoded pieces, each with its position in samples; what lies well before `start` is passed over where it can."""
    context = stream.codec_context
    rate = context.sample_rate
    position = width = 0
    gap = 0.0
    if start and context.name.startswith("pcm_") and stream.time_base == Fraction(1, rate):
        container.seek(start, stream=stream)  # every sample has its place in the file
        position = -1
    skip = _Skip(stream, start, rate)
    for packet in _packets(container, stream, tally):
        if packet.size:
            tally.counting = max(position, skip.position) >= start
            gap = tally.see(packet)
            if skip.passes(packet, position, gap):
                tally.passed_bytes += packet.size
                continue
            if skip.resumes():
                position, gap = skip.position, 0.0
        failed = False
        try:
            frames = packet.decode()
        except EOFError:
            frames = []
        except FFmpegError:
            failed, frames = bool(packet.size), []
        if packet.size and packet.pts is None and tally.next_time is not None:
            tally.next_time += Fraction(sum(frame.samples for frame in frames), rate or 1)
        if failed:
            tally.bad(packet)
            gap += float((packet.duration or 0) * packet.time_base)
        elif packet.size:
            tally.good(packet)
        if gap and width and position >= 0:  # what is lost is silent, so that the rest keeps its time
            silence = np.zeros((round(gap * rate), width), np.float32)
            tally.filled += gap if tally.counting else 0.0
            yield position, Piece(rate, silence)
            position += len(silence)
        gap = 0.0
        for frame in frames:
            if not frame.samples:
                continue
            if position < 0:
                position = round(frame.pts * frame.time_base * frame.sample_rate)
            piece = Piece(frame.sample_rate, _samples(frame))
            rate = rate if width else frame.sample_rate
            width = piece.samples.shape[1]
            tally.good_seconds += frame.samples / frame.sample_rate
            yield position, piece
            # Where the rate changes on the way, positions go on in the first one.
            position += frame.samples if frame.sample_rate == rate else round(frame.samples * rate / frame.sample_rate)


def _packets(container: Any, stream: Any, tally: _Tally) -> Iterator[Any]:
    """FFmpeg's packets; where it gives up, what follows is counted as lost by its bytes."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, EOFError):
            return
        except (FFmpegError, OSError):
            tally._bad(max(0, container.size - (tally.next_byte or 0)) if tally.raw else 0, 0.0)
            return
        yield packet


class _Skip:
    """Which packets before a slice need not be decoded, because it is known how many samples they are."""

    def __init__(self, stream: Any, start: int, rate: int) -> None:
        self.until = start - round(_PREROLL * rate)
        self.rate = rate
        steady = stream.codec_context.name in _STEADY and stream.time_base * rate <= 1
        self.active = start > 0 and steady
        self.seen = 0
        self.given = Fraction(0)  # samples of all packets so far
        self.delay: Fraction | None = None  # samples that the decoder keeps back
        self.skipped = False
        self.position = 0  # where the next packet's samples begin, as far as it is known

    def passes(self, packet: Any, position: int, gap: float) -> bool:
        """Whether a packet is passed over; `position` is how many samples were decoded before it."""
        if not self.active:
            return False
        length = Fraction(packet.duration or 0) * packet.time_base * self.rate
        self.given += round(gap * self.rate)
        self.seen += 1
        if self.seen > _WARM_UP:
            if self.delay is None:
                self.delay = self.given - position
            if length and self.given - self.delay + length <= self.until:
                self.given += length
                self.skipped = True
                return True
            self.active = False
        self.given += length
        self.position = int(self.given - length - (self.delay or 0))
        return False

    def resumes(self) -> bool:
        """True once, at the first packet behind those that were passed over."""
        if self.skipped and not self.active:
            self.skipped = False
            return True
        return False


def _samples(frame: Any) -> np.ndarray:
    """(S, C) float32, full scale 1."""
    array = frame.to_ndarray()
    kind = frame.format.name.removesuffix("p")
    channels = frame.layout.nb_channels
    array = array.T if frame.format.is_planar else array.reshape(-1, channels)
    if kind in _SCALES:
        wide = array.astype(np.float32 if kind in ("u8", "s16") else np.float64)
        if kind == "u8":
            wide -= 128
        return (wide / _SCALES[kind]).astype(np.float32)
    return np.ascontiguousarray(array, dtype=np.float32)
