"""What validation can find: the codes, how bad each is, and one finding of a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

# An error stops training at that row, or the row teaches something that is not so. A warning deserves a look.
ERROR, WARNING = "error", "warning"

# Code -> severity, meaning; in the order of the report. docs/validate.md explains each.
KINDS: dict[str, tuple[str, str]] = {
    "manifest": (ERROR, "the file is no manifest"),
    "not-utf8": (ERROR, "a line holds bytes that are not UTF-8"),
    "fields": (ERROR, "a line has too few or too many cells"),
    "cell-empty": (ERROR, "no id or no audio"),
    "duplicate-id": (ERROR, "an earlier row has the same id"),
    "task-unknown": (ERROR, "neither transcription nor translation"),
    "n-frames-invalid": (ERROR, "n_frames is no positive whole number"),
    "audio-missing": (ERROR, "there is no such file"),
    "audio-unreadable": (ERROR, "damaged, truncated or empty, or a slice outside of it"),
    "nan": (ERROR, "samples or features that are NaN or infinite"),
    "audio-damaged": (ERROR, "a part of the recording is lost: its end, or something inside"),
    "float-range": (ERROR, "integers that were written as floats: full scale is not 1"),
    "audio-odd": (WARNING, "read whole, but its header is wrong or several recordings are joined in it"),
    "channels-cancel": (WARNING, "one channel is the other turned over; the louder one is used"),
    "n-frames-wrong": (ERROR, "n_frames is not the length of the audio"),
    "too-short": (ERROR, "too short for one frame of the encoder"),
    "over-limit": (ERROR, "longer than the limit that was given"),
    "features-width": (ERROR, "features of another width than the first row's"),
    "features-mixed": (ERROR, "waveforms and features in one manifest"),
    "silent": (ERROR, "nothing can be heard"),
    "clipped": (WARNING, "samples cut off at full scale"),
    "over-full-scale": (WARNING, "floats beyond full scale, which integers cut off"),
    "rate-unusual": (WARNING, "a sample rate that loses speech, is odd, or is not the expected one"),
    "text-missing": (WARNING, "an empty text; an error where the stage needs it"),
    "control-characters": (ERROR, "characters that are no text"),
    "markup": (ERROR, "tags, entities or special tokens"),
    "text-damaged": (ERROR, "text that lost characters in a wrong decoding"),
    "text-not-nfc": (WARNING, "letters and accents apart, as Unicode's NFC does not write them"),
    "csv-quotes": (ERROR, "quotation marks of csv around and in a text"),
    "placeholder": (WARNING, "a mark of a table, or no word, in place of a text; an error where that is certain"),
    "language-code": (ERROR, "no language has this code"),
    "script": (ERROR, "the letters are not those of the language"),
    "duration-ratio": (WARNING, "far too much or too little text for its duration"),
    "audio-in-two-splits": (ERROR, "another split has the same speech"),
    "text-in-two-splits": (WARNING, "another split has the same text"),
}


class Finding(NamedTuple):
    """One thing that is wrong with one row."""

    line: int  # 1-based line of the manifest; 0: the whole file
    code: str
    id: str | None
    message: str  # one sentence without the place
    changes: Mapping[str, str] | None = None  # column -> cell that would mend it; None: nothing safe would
    severity: str = ""

    @property
    def level(self) -> str:
        return self.severity or KINDS[self.code][0]


def shown(value: str) -> str:
    """A found text, safe to print and shortened to stay readable in a sentence."""
    return repr(value if len(value) <= 60 else value[:57] + "...")
