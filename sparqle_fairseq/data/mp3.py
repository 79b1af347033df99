"""The length of an mp3 file that states none.

An encoder that writes to a pipe cannot go back to put the number of frames in front, and libsndfile then guesses it
from the first frame's bit rate: a file of varying bit rate loses its end without a word, and one of constant bit rate
looks truncated. So the frames are counted here, and libsndfile is given the same bytes behind an information frame
("Xing") that states their number. The layout of headers is that of ISO 11172-3 and 13818-3.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

_MPEG1, _MPEG2, _MPEG25 = 3, 2, 0  # the version bits
_KBITS = {
    _MPEG1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    _MPEG2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_KBITS[_MPEG25] = _KBITS[_MPEG2]
_RATES = {_MPEG1: (44100, 48000, 32000), _MPEG2: (22050, 24000, 16000), _MPEG25: (11025, 12000, 8000)}
_LAYER_3 = 1
_INFORMATION = (b"Xing", b"Info", b"VBRI")
_INFORMATION_KBITS = 64  # an information frame of this rate has room for what it says, at every sample rate


class _Frame(NamedTuple):
    size: int  # bytes, header included
    samples: int
    side_information: int  # bytes between the header and the data


def _frame(header: bytes) -> _Frame | None:
    """The frame of layer III that begins with these four bytes; None where they begin none."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    kbits, rate = header[2] >> 4, header[2] >> 2 & 3
    if version not in _KBITS or layer != _LAYER_3 or kbits in (0, 15) or rate == 3:
        return None
    samples = 1152 if version == _MPEG1 else 576
    size = samples // 8 * _KBITS[version][kbits] * 1000 // _RATES[version][rate] + (header[2] >> 1 & 1)
    mono = header[3] >> 6 == 3
    side = (17 if mono else 32) if version == _MPEG1 else (9 if mono else 17)
    return _Frame(size, samples, side)


def _first_frame(data: bytes) -> int | None:
    """Where the first frame begins, behind tags; None where two frames in a row are not found."""
    at = 0
    while data[at : at + 3] == b"ID3" and len(data) >= at + 10:
        size = 0
        for byte in data[at + 6 : at + 10]:  # seven bits a byte
            size = size << 7 | byte & 0x7F
        at += 10 + size
    limit = min(len(data), at + (1 << 16))
    while at < limit:
        at = data.find(b"\xff", at, limit)
        if at < 0:
            return None
        found = _frame(data[at : at + 4])
        if found and (_frame(data[at + found.size : at + found.size + 4]) or at + found.size == len(data)):
            return at
        at += 1
    return None


def _count_frames(data: bytes, at: int) -> int:
    """Whole frames from `at` on; what lies between two of them is skipped, as decoders do."""
    count = 0
    while found := _frame(data[at : at + 4]):
        if at + found.size > len(data):
            break
        count += 1
        at += found.size
        if at < len(data) and _frame(data[at : at + 4]) is None and data[at : at + 3] != b"TAG":
            again = _first_frame(data[at:])
            if again is None:
                break
            at += again
    return count


def states_no_length(head: bytes) -> bool:
    """Whether the file that begins with `head` is an mp3 file of layer III whose first frame is sound already."""
    start = _first_frame(head)
    return start is not None and not any(kind in head[start : start + 4 + 32 + 4 + 4] for kind in _INFORMATION)


def with_stated_length(data: bytes) -> bytes:
    """The bytes of an mp3 file that states no length, behind a frame that states it."""
    start = _first_frame(data)
    first = None if start is None else _frame(data[start : start + 4])
    if start is None or first is None:
        return data
    header = bytearray(data[start : start + 4])
    header[1] |= 1  # no checksum
    header[2] = _KBITS[header[1] >> 3 & 3].index(_INFORMATION_KBITS) << 4 | header[2] & 0x0C
    size = (_frame(bytes(header)) or first).size
    stated = b"Xing" + struct.pack(">III", 3, _count_frames(data, start), len(data) - start + size)
    return (bytes(header) + bytes(first.side_information) + stated).ljust(size, b"\0") + data[start:]
