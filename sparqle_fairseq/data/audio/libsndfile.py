"""Which files soundfile reads whole and fast (flac, wav), and how it reads them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import soundfile as sf

from sparqle_fairseq.data.audio import ffmpeg
from sparqle_fairseq.data.audio.place import Source
from sparqle_fairseq.data.audio.riff import Wav

_RATES = range(1_000, 1_000_000)  # Hz; outside of it a header is damaged


class _SoundFile(sf.SoundFile):
    """Reads on from where it is. soundfile seeks there after every read, which costs a frame of flac."""

    def seekable(self) -> bool:
        return False


@lru_cache(maxsize=4096)
def length_of(source: Source) -> tuple[int, int] | None:
    """Rate and samples of a flac, Ogg Vorbis or Ogg Opus file that soundfile reads whole; None: it may not.

    Either header and end must agree, or (Ogg) all of the file must follow without a gap.
    """
    head = source.head(128)
    if head[:8] == b"fLaC\x00\x00\x00\x22":
        stated = int.from_bytes(head[21:26], "big") & (1 << 36) - 1  # of STREAMINFO; before it 20 bits of the rate
        rate = int.from_bytes(head[18:21], "big") >> 4
        return (rate, stated) if stated and _ends_there(source, head, stated) else None
    if head[:4] == b"OggS" and (b"OpusHead" in head or b"\x01vorbis" in head):
        return rarities(source) if ffmpeg.is_unbroken_ogg(source) else None
    return None


def _ends_there(source: Source, head: bytes, stated: int) -> bool:
    """Whether the last frame of a flac file is the one that it is by the stated length (RFC 9639, section 9.1)."""
    shortest, longest = (int.from_bytes(head[at : at + 2], "big") for at in (8, 10))  # blocks, in samples
    largest = int.from_bytes(head[15:18], "big")  # frame, in bytes
    if shortest == longest > 0 and largest:
        number = chr((stated - 1) // longest) if stated <= longest * 0xD800 else ""
        tail = source.tail(largest)
        # A frame begins with 14 ones, says how it is coded, and has its number as UTF-8 would write it.
        at = max(tail.rfind(b"\xff\xf8"), 0)
        while number and at > 0 and tail[at + 4 : at + 4 + len(number.encode())] != number.encode():
            at = tail.rfind(b"\xff\xf8", 0, at)
        if number and tail[at : at + 2] == b"\xff\xf8" and tail[at + 4 :].startswith(number.encode()):
            return True
    return ffmpeg.last_sample(source, stated) == stated


def reads_wav(wav: Wav) -> bool:
    """Whether soundfile reads all that is in a wav file."""
    odd = wav.lacking or wav.note or wav.unstated or not wav.plain
    return not odd and wav.rate in _RATES and not wav.data_bytes % wav.frame_bytes


def read(source: Source, start: int, count: int, block: int) -> Iterator[np.ndarray]:
    """The samples from `start` on, float32 (S, C), `block` at a time; fewer than `count` where some are missing.

    Raises:
        soundfile.SoundFileError: they do not decode.
    """
    with _SoundFile(source.path if source.whole else source.open()) as file:
        yield from _blocks(file, start, count, block)


def _blocks(file: sf.SoundFile, start: int, count: int, block: int) -> Iterator[np.ndarray]:
    if start:
        file.seek(start)
    while count > 0:
        channels = file.read(min(block, count), dtype="float32", always_2d=True)
        if not len(channels):
            return
        count -= len(channels)
        yield channels


def read_plain(source: Source, wav: Wav, start: int, count: int, block: int) -> Iterator[np.ndarray]:
    """As `read`, of a wav file whose header libsndfile would believe, or refuse: from where its samples are."""
    with source.part(wav.data, wav.data + wav.data_bytes).open() as samples, _SoundFile(
        samples, "r", wav.rate, wav.channels, wav.subtype, "BIG" if wav.big_endian else "LITTLE", "RAW"
    ) as file:  # fmt: skip
        yield from _blocks(file, start, count, block)


def rarities(source: Source) -> tuple[int, int] | None:
    """Rate and samples as libsndfile finds them, such as of sds and mat5 files; None where it does not know one."""
    try:
        with _SoundFile(source.path if source.whole else source.open()) as file:
            return (file.samplerate, file.frames) if file.samplerate in _RATES and 0 < file.frames < 1 << 40 else None
    except (sf.SoundFileError, OSError, TypeError, ValueError, RuntimeError):
        return None
