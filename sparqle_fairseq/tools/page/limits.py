"""What the page takes: said on it before it bites, and met with one sentence."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sparqle_fairseq.data.audio import SAMPLE_RATE, AudioError, recording_seconds
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.tools.translate.recordings import Recording
from sparqle_fairseq.tools.translate.run import named

MEGABYTE = 1_000_000
MOST_LETTERS = 2000  # of a text that somebody types


@dataclass(frozen=True)
class Limits:
    """Most of each for one request, but `waiting`, which is of the page."""

    minutes: float = 10.0  # of a recording, and of all recordings of a batch together
    megabytes: float = 100.0  # of a file
    languages: int = 5
    files: int = 50  # of a batch
    waiting: int = 8  # requests that wait for their turn
    keep_minutes: float = 60.0  # until uploads and results are deleted

    def __str__(self) -> str:
        return (
            f"Up to {counted(self.minutes, 'minute')} and {self.megabytes:g} MB a recording, "
            f"{counted(self.languages, 'language')} at once. One request is worked on at a time, "
            f"{self.waiting} can wait. Uploads are deleted after {counted(self.keep_minutes, 'minute')}."
        )

    def check_size(self, recording: Recording) -> None:
        """Raises `AudioError` for a file that is too large, or not there any more."""
        try:
            size = os.path.getsize(recording.path)
        except OSError as error:
            raise AudioError(f"{recording.name} is not here any more; upload it again") from error
        if size > self.megabytes * MEGABYTE:
            raise AudioError(
                f"{recording.name} has {size / MEGABYTE:.0f} MB, and this page takes {self.megabytes:g} MB; compress "
                "or cut it"
            )

    def seconds_of(self, recording: Recording) -> float:
        """How long a recording is. Raises `AudioError`: too large, too long, or nothing that can be read as audio."""
        self.check_size(recording)
        try:
            seconds = recording_seconds(recording.path)
        except AudioError as error:
            raise AudioError(named(str(error), recording)) from error
        if seconds > 60 * self.minutes:
            raise AudioError(
                f"{recording.name} is {_clock(seconds)} long, and this page takes {counted(self.minutes, 'minute')}; "
                "cut it, or use the command sparqle translate, which takes any length"
            )
        return seconds

    def within(self, blocks: Iterable[np.ndarray], recording: Recording) -> Iterator[np.ndarray]:
        """The blocks of a recording. Raises `AudioError` where there are more than its header said there could be."""
        heard = 0
        for block in blocks:
            heard += len(block)
            if heard > 60 * self.minutes * SAMPLE_RATE * 1.01:
                raise AudioError(f"{recording.name} is longer than {counted(self.minutes, 'minute')}; cut it")
            yield block

    def check_languages(self, codes: Sequence[str]) -> None:
        if not codes:
            raise SparqleError("no target language was chosen; choose at least one")
        if len(codes) > self.languages:
            raise SparqleError(
                f"{len(codes)} languages were chosen, and this page translates into {self.languages} at once; leave "
                "some out"
            )


def check_text(text: str | None, what: str) -> str:
    """A text that somebody typed, without spaces around it; None, of a field that is hidden, is empty.

    Raises:
        SparqleError: it is too long.
    """
    text = (text or "").strip()
    if len(text) > MOST_LETTERS:
        raise SparqleError(f"{what} has {len(text)} letters, and this page takes {MOST_LETTERS}; shorten it")
    return text


def counted(count: float, what: str) -> str:
    return f"{count:g} {what}{'' if count == 1 else 's'}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.0f} seconds"
