"""Where an utterance lies: what an ``audio`` cell names, and the bytes behind it.

* ``clip.flac``                a file of sound
* ``talk.wav:START:LENGTH``    a slice of one, in samples of the file's own rate
* ``fbank.npy``                features, (frames, width)
* ``features-00000.bin:OFFSET:FRAMES``    an entry of a feature store (feature_store.py)
* ``x.zip:OFFSET:LENGTH``      bytes of a zip member that was stored uncompressed: a sound file or an .npy file
"""

from __future__ import annotations

import io
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO, cast

from sparqle_fairseq.data.audio.errors import AudioError, MissingAudioError
from sparqle_fairseq.errors import reason

# Endings of files that hold speech, for whoever looks through a folder; a file that is named itself may have any.
AUDIO_SUFFIXES = frozenset(
    (
        *(".wav", ".wave", ".bwf", ".rf64", ".w64", ".flac", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".voc"),
        *(".sph", ".nist", ".mp3", ".mp2", ".mpga", ".ogg", ".oga", ".opus", ".spx", ".m4a", ".m4b", ".aac", ".ac3"),
        *(".amr", ".3gp", ".3gpp", ".3g2", ".wma", ".asf", ".ape", ".wv", ".tta", ".avr", ".paf", ".pvf", ".ircam"),
        *(".webm", ".weba", ".mka", ".mkv", ".mp4", ".m4v", ".mov", ".avi", ".mpg", ".mpeg", ".ogv"),  # with video, too
    )
)

_RANGE = re.compile(r"(.+):(\d{1,18}):(\d{1,18})", re.DOTALL)
_FIRST = 4096  # bytes
_IN_MEMORY = 1 << 26  # bytes; smaller parts of a file are read at once


def is_audio(path: str | os.PathLike[str]) -> bool:
    """Whether a file's name ends like that of a recording; whether it is one is not looked at."""
    return os.path.splitext(path)[1].lower() in AUDIO_SUFFIXES


@dataclass(frozen=True)
class Place:
    """Which part of which file an ``audio`` cell names."""

    path: str
    start: int | None = None  # samples, or bytes of an archive; None: the whole file
    length: int = 0

    @property
    def in_zip(self) -> bool:
        return self.start is not None and self.path.lower().endswith(".zip")


@dataclass(frozen=True)
class Source:
    """The bytes of a file, of a zip member, or of one of several recordings that were joined into a file."""

    path: str
    start: int
    size: int
    written: int  # when the file was last changed, in ns: with the others it makes a key for what is known of it
    whole: bool  # all of the file

    def part(self, start: int, stop: int) -> Source:
        whole = self.whole and not start and stop == self.size
        return Source(self.path, self.start + start, stop - start, self.written, whole)

    def open(self) -> BinaryIO:
        """The bytes as a file of their own."""
        if self.whole:
            return open(self.path, "rb")
        if self.size > _IN_MEMORY:
            return cast(BinaryIO, _Window(self.path, self.start, self.size))
        with open(self.path, "rb") as file:
            file.seek(self.start)
            return io.BytesIO(file.read(self.size))

    def head(self, count: int) -> bytes:
        return _first(self)[:count] if count <= _FIRST else self._head(count)

    def _head(self, count: int) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(self.start)
            return file.read(min(count, self.size))

    def tail(self, count: int) -> bytes:
        return self.part(max(0, self.size - count), self.size).head(count)


@lru_cache(maxsize=64)
def _first(source: Source) -> bytes:
    """The first bytes, which several look at."""
    return source._head(_FIRST)


class _Window(io.RawIOBase):
    """A part of a file as a file."""

    def __init__(self, path: str, start: int, size: int) -> None:
        self.file = open(path, "rb")  # noqa: SIM115
        self.start, self.size, self.at = start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.at = max(0, offset + (0, self.at, self.size)[whence])
        return self.at

    def tell(self) -> int:
        return self.at

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        self.file.seek(self.start + self.at)
        count = self.file.readinto(view[: max(0, min(len(view), self.size - self.at))])
        self.at += count
        return count

    def close(self) -> None:
        self.file.close()
        super().close()


def audio_place(audio: str) -> Place:
    """The file and the part of it that ``audio`` names; whether they exist is not looked at.

    A file of exactly that name comes first, because names may hold colons themselves.
    """
    if not os.path.isfile(audio):
        match = _RANGE.fullmatch(audio)
        if match:
            return Place(match[1], int(match[2]), int(match[3]))
    return Place(audio)


def require_file(audio: str, path: str) -> int:
    """The size of a file in bytes, which is positive. Raises `AudioError`."""
    if not os.path.isfile(path):
        raise MissingAudioError(f"{audio}: there is no such file; check the path and the audio root")
    size = os.path.getsize(path)
    if not size:
        raise AudioError(f"{audio}: the file is empty (0 bytes); copy it again")
    return size


def source_of(audio: str, place: Place) -> Source:
    """The file of a place, or the zip member. Raises `AudioError` where they are not there."""
    size = require_file(audio, place.path)
    start, whole = 0, not place.in_zip
    if place.in_zip:
        start = place.start or 0
        if not place.length or start + place.length > size:
            raise AudioError(
                f"{audio}: the bytes {start} to {start + place.length} do not lie in a file of {size} bytes; "
                f"write the manifest of this zip file again"
            )
        size = place.length
    return Source(place.path, start, size, os.stat(place.path).st_mtime_ns, whole)


def member_bytes(audio: str, place: Place) -> bytes:
    """The bytes of a zip member. Raises `AudioError`."""
    source = source_of(audio, place)
    try:
        return source.head(source.size)
    except OSError as error:
        raise AudioError(f"{audio}: cannot be read ({reason(error)}); check the file and its rights") from error
