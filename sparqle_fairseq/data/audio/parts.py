"""Where in a file the recordings begin that were joined into it (by `cat`, or by a radio station's stream).

Decoders read the first and stop, or stumble over the second where its rate is another. So each is read as the file that
it was. What a format's files begin with is looked for; none of these marks is found inside of compressed sound by
chance (six bytes and more).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager

from sparqle_fairseq.data.audio.place import Source

_OGG, _FLAC, _MP4 = b"OggS", b"fLaC", b"ftyp"
Bytes = bytes | mmap.mmap
_SMALL = 1 << 22  # bytes
_NEAR = 4096  # bytes, more than padding and a frame have: what lies so close together belongs together
_FLAC_BEGIN = b"fLaC\x00\x00\x00\x22"  # with its STREAMINFO, which has 34 bytes


def recordings_in(source: Source) -> list[Source]:
    """The recordings of a file that is no wav file (those say where they end), at least one."""
    head = source.head(16)
    if head[:4] == b"FORM" and head[8:11] == b"AIF":
        starts = _forms(source)
    elif head[:4] in (_OGG, _FLAC) or head[:3] == b"ID3" or head[:1] == b"\xff" or head[4:8] == _MP4:
        starts = _begins(source, head)
    else:
        return [source]
    if len(starts) == 1 and not starts[0]:
        return [source]
    return [source.part(start, stop) for start, stop in zip(starts, [*starts[1:], source.size], strict=True)]


def _forms(source: Source) -> list[int]:
    """Where AIFF files begin, each of which says how long it is."""
    starts, at = [], 0
    while at + 12 <= source.size:
        head = source.part(at, source.size).head(12)
        if head[:4] != b"FORM" or head[8:11] != b"AIF":
            break
        starts.append(at)
        size = int.from_bytes(head[4:8], "big")
        at += 8 + size + size % 2
    return starts


def _begins(source: Source, head: bytes) -> list[int]:
    with _bytes(source) as data:
        begin, end = source.start, source.start + source.size
        first = begin
        while (size := _tag_bytes(data, first)) and first + size < end:
            first += size
        if data[first : first + 4] == _FLAC:  # tags before a flac file are no part of it, and libsndfile trips on them
            return [first - begin, *(at - begin for at in _all(data, _FLAC_BEGIN, first + 4, end))]
        if head[:4] == _OGG:
            return [0, *(at - begin for at in _ogg_begins(data, begin, end))]
        if head[4:8] == _MP4:
            found = (at - 4 for at in _all(data, _MP4, begin + 8, end))
            return [0, *(at - begin for at in found if data[at : at + 3] == b"\0\0\0" and 8 < data[at + 3] < 128)]
        marks = sorted({*_tags(data, first, end), *_silent_frames(data, first, end)})
        return [0, *(at - begin for at in _apart(data, marks, first))]


@contextmanager
def _bytes(source: Source) -> Iterator[Bytes]:
    """All of the file; what is small is read, which takes less time than to map it."""
    with open(source.path, "rb") as file:
        if source.whole and source.size < _SMALL:
            yield file.read()
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data


def _all(data: Bytes, mark: bytes, begin: int, end: int) -> Iterator[int]:
    at = data.find(mark, begin, end)
    while at >= 0:
        yield at
        at = data.find(mark, at + len(mark), end)


def _ogg_begins(data: Bytes, begin: int, end: int) -> Iterator[int]:
    """Where a stream begins (RFC 3533: flag 2) and none begins right before it: streams of one file begin together."""
    before = begin
    for at in _all(data, b"OggS\x00\x02", begin + 4, end):
        if data.find(_OGG, before + 4, end) != at:
            yield at
        before = at


def _silent_frames(data: Bytes, begin: int, end: int) -> Iterator[int]:
    """Frames of mp3 files that say how long the file is, and are its first."""
    for mark in (b"Xing\x00\x00\x00", b"Info\x00\x00\x00"):
        for at in _all(data, mark, begin, end):
            # Behind the header of 4 bytes and what a frame says of its two channels or the one.
            for frame in (at - 36, at - 21, at - 13):
                if frame > begin and data[frame] == 0xFF and data[frame + 1] & 0xE0 == 0xE0:
                    yield frame
                    break


def _apart(data: Bytes, marks: list[int], begin: int) -> Iterator[int]:
    """The marks of which each begins a file: a silent frame right behind a tag, or behind another, does not."""
    sound = begin
    for at in marks:
        size = _tag_bytes(data, at)
        if at > sound + _NEAR:
            yield at
        sound = max(sound, at + size)
        while size := _tag_bytes(data, sound):
            sound += size


def _tag_bytes(data: Bytes, at: int) -> int:
    """The length of the ID3v2 tag that begins here; 0: none does."""
    head = data[at : at + 10]
    if len(head) < 10 or head[:3] != b"ID3" or not 2 <= head[3] <= 4 or head[4] != 0 or max(head[6:10]) > 0x7F:
        return 0
    return 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9])


def _tags(data: Bytes, begin: int, end: int) -> Iterator[int]:
    """ID3v2 tags behind sound; one right behind another is of the same file, and pictures in them are passed over."""
    at = data.find(b"ID3", begin, end)
    while at >= 0:
        size = _tag_bytes(data, at)
        if size:
            yield at
        while size:
            at += size
            size = _tag_bytes(data, at)
        at = data.find(b"ID3", at + 1, end)
