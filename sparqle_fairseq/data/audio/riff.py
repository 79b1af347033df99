"""What the chunks of a wav file say of its samples, and whether they say it of all that is in the file.

A size of 32 bits is wrong in a file of more than 4 GiB, and one that was never filled in (the recorder crashed, or
wrote to a pipe) is 0 or the largest that there is. So a size is believed where the file ends with it, or where another
chunk follows. The layout is that of Microsoft's and IBM's "Multimedia Programming Interface and Data Specifications
1.0", and of EBU Tech 3306 for RF64.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, replace
from typing import BinaryIO, NamedTuple

from sparqle_fairseq.data.audio.place import Source

_WRAP = 1 << 32  # bytes; a size of 32 bits is what remains of the true one
_NEVER_FILLED_IN = 0x7FFFF000  # sox and ffmpeg write this or a larger one where they cannot go back
_HEAD = 4096  # bytes
_JUNK = 4096  # bytes behind the last chunk that are taken for padding
_PLAIN = {
    **{(1, 8): "PCM_U8", (1, 16): "PCM_16", (1, 24): "PCM_24", (1, 32): "PCM_32", (3, 32): "FLOAT", (3, 64): "DOUBLE"},
    **{(6, 8): "ALAW", (7, 8): "ULAW"},
}  # (format tag, bits): libsndfile's name
_BLOCKS = {0x02: "Microsoft ADPCM", 0x11: "IMA ADPCM", 0x31: "GSM 6.10"}  # libsndfile knows where their last one ends
_EXTENSIBLE = 0xFFFE


@dataclass(frozen=True)
class Wav:
    """One wav file; several of them can lie one behind the other in a file."""

    tag: int  # how samples are written; 0: no fmt chunk was found
    frame_bytes: int  # of one sample of all channels
    channels: int
    rate: int
    big_endian: bool
    data: int  # where the samples begin
    data_bytes: int  # that are there
    lacking: int  # bytes that the header promises and the file does not have
    stop: int  # where the next thing begins
    note: str = ""  # what is to be said of its header
    unstated: bool = False  # its header says no length, as where it was written to a pipe

    @property
    def plain(self) -> bool:
        return self.subtype is not None

    @property
    def subtype(self) -> str | None:
        """libsndfile's name of how samples are written, where they can be read without a header."""
        bits = 8 * self.frame_bytes // self.channels if self.channels else 0
        return _PLAIN.get((self.tag, bits))

    @property
    def in_blocks(self) -> bool:
        return self.tag in _BLOCKS and not self.lacking and not self.note

    @property
    def count(self) -> int:
        """Samples in each channel."""
        return self.data_bytes // self.frame_bytes

    def moved(self, start: int) -> Wav:
        """The same, in bytes that begin at `start`."""
        return replace(self, data=self.data - start, stop=self.stop - start)


def is_wav(head: bytes) -> bool:
    return head[:4] in (b"RIFF", b"RF64", b"BW64", b"RIFX") and head[8:12] == b"WAVE"


def wav_files(source: Source) -> list[Wav]:
    """The wav files in a file, in their order; empty where there is none with samples."""
    try:  # the first bytes say all, mostly, and are read at once
        return _wav_files(io.BytesIO(source.head(_HEAD)), source.size)
    except struct.error:
        with source.open() as file:
            return _wav_files(file, source.size)


def _wav_files(file: BinaryIO, size: int) -> list[Wav]:
    found: list[Wav] = []
    at = 0
    while size - at >= 12:
        file.seek(at)
        if not is_wav(file.read(12)):
            break
        wav = _one(file, at, size)
        if wav is None:
            break
        found.append(wav)
        at = wav.stop
    return found


class _Format(NamedTuple):
    """What a fmt chunk says."""

    tag: int = 0
    frame_bytes: int = 0
    channels: int = 0
    rate: int = 0


def _one(file: BinaryIO, begin: int, size: int) -> Wav | None:
    file.seek(begin)
    head = file.read(12)
    order = ">" if head[:4] == b"RIFX" else "<"
    (riff,) = struct.unpack(f"{order}I", head[4:8])
    kind = _Format()
    wide: int | None = None
    at = begin + 12
    while at + 8 <= size:
        file.seek(at)
        name, length = struct.unpack(f"{order}4sI", file.read(8))
        if name == b"data":
            stated = wide if length == _WRAP - 1 else length
            return _data(file, begin, at + 8, size, order, stated, riff, kind)
        if not _is_name(name):
            return None
        if name == b"fmt ":
            content = file.read(min(length, 40))
            if len(content) >= 16:
                tag, channels, rate, _, frame_bytes, _ = struct.unpack(f"{order}HHIIHH", content[:16])
                if tag == _EXTENSIBLE and len(content) >= 26:
                    (tag,) = struct.unpack(f"{order}H", content[24:26])
                kind = _Format(tag, frame_bytes, channels, rate)
        elif name == b"ds64" and length >= 16:
            (wide,) = struct.unpack("<8xQ", file.read(16))
        at += 8 + length + length % 2
    return None


def _data(
    file: BinaryIO, begin: int, data: int, size: int, order: str, stated: int | None, riff: int, kind: _Format
) -> Wav:
    """The wav file whose samples begin at `data`; `stated` are their bytes as its header says them, `riff` its own."""

    def made(data_bytes: int, lacking: int, stop: int, note: str = "") -> Wav:
        return Wav(*kind, order == ">", data, data_bytes, lacking, stop, note)

    room = size - data
    if stated == 0 and _chunk_follows(file, data, size, order):  # a recording that is really empty
        return made(0, 0, _end_of_chunks(file, data, size, order))
    if not stated or (_NEVER_FILLED_IN <= stated < _WRAP and stated > room):
        return replace(made(room, 0, size), unstated=True)
    wrapped = (room - stated) // _WRAP if size - begin > _WRAP and stated < _WRAP else 0
    agrees = (riff + 8 - (size - begin)) % _WRAP <= 1 or stated + wrapped * _WRAP == room
    if wrapped > 0 and agrees:
        note = f"its header says {stated} bytes, which is what 32 bits hold of {stated + wrapped * _WRAP}"
        stated += wrapped * _WRAP
        return made(stated, 0, _end_of_chunks(file, data + stated, size, order), note)
    if stated > room:
        return made(room, stated - room, size)
    end = _end_of_chunks(file, data + stated, size, order)
    file.seek(end)
    rest = size - end
    if rest <= max(_JUNK if riff + 8 == end - begin else 0, 1) or is_wav(file.read(12)):
        # One byte too many is the odd end of a data chunk.
        note = f"{rest} bytes behind its last chunk are no audio" if 1 < rest <= _JUNK else ""
        return made(stated, 0, end, note)
    if end > data + stated + stated % 2:  # chunks did follow: the size was right
        return made(stated, 0, size, f"{rest} bytes behind its last chunk are no audio")
    note = f"its header says {stated} bytes of samples, and {room} are there; all were read"
    return made(room, 0, size, note)


def _chunk_follows(file: BinaryIO, at: int, size: int, order: str) -> bool:
    """Whether a chunk begins here and fits."""
    if at + 8 > size:
        return False
    file.seek(at)
    name, length = struct.unpack(f"{order}4sI", file.read(8))
    return _is_name(name) and at + 8 + length <= size + 1


def _is_name(name: bytes) -> bool:
    return all(0x20 <= byte < 0x7F for byte in name) and name[:1].isalpha()


def _end_of_chunks(file: BinaryIO, at: int, size: int, order: str) -> int:
    """Where the chunks end that begin at `at`, or one byte behind it where a chunk of odd length was padded."""
    if at < size and (at % 2 or not _chunk_follows(file, at, size, order)):
        file.seek(at)
        if file.read(1) == b"\0" and (at + 1 == size or _chunk_follows(file, at + 1, size, order)):
            at += 1
    while _chunk_follows(file, at, size, order):
        file.seek(at)
        name, length = struct.unpack(f"{order}4sI", file.read(8))
        if name in (b"RIFF", b"RF64", b"BW64", b"RIFX"):
            break
        at = min(size, at + 8 + length + length % 2)
    return at
