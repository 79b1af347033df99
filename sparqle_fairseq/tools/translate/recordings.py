"""What the command line names: files, folders, standard input; each recording with the name that its output gets."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from sparqle_fairseq.data.audio import AUDIO_SUFFIXES, AudioError, is_audio

STANDARD_INPUT = "-"
NAMED_IN_NOTE = 5


@dataclass(frozen=True)
class Recording:
    """A recording to be translated."""

    path: str  # where its samples are
    name: str  # what messages and output call it
    stem: str  # its output files' name without language and ending; may hold folders


def find_recordings(arguments: Sequence[str], scratch: Path) -> tuple[list[Recording], list[str]]:
    """The recordings of the command line, in its order, and what is to be said of what was left out.

    Args:
        arguments: files, folders (read with all folders in them) and `-`, which is read to its end.
        scratch: folder that standard input is kept in.

    Raises:
        AudioError: a folder without audio, nothing on standard input, or two recordings whose output files would have
            the same name.
    """
    if arguments.count(STANDARD_INPUT) > 1:
        raise AudioError("standard input can be read once; give '-' once")
    found: list[Recording] = []
    notes: list[str] = []
    for argument in arguments:
        if argument == STANDARD_INPUT:
            found.append(_standard_input(sys.stdin.buffer, scratch))
        elif os.path.isdir(argument):
            recordings, note = _of_folder(Path(argument))
            found += recordings
            notes += note
        else:
            found.append(Recording(argument, argument, Path(argument).stem))
    return _with_own_names(found), notes


def _of_folder(folder: Path) -> tuple[list[Recording], list[str]]:
    found, others = [], []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            path = Path(parent, name)
            inside = path.relative_to(folder)
            if is_audio(path):
                found.append(Recording(str(path), str(path), str(inside.with_suffix(""))))
            else:
                others.append(str(inside))
    if not found:
        raise AudioError(
            f"{folder}: found no audio in the folder; known endings are {' '.join(sorted(AUDIO_SUFFIXES))}"
        )
    if not others:
        return found, []
    first = ", ".join(others[:NAMED_IN_NOTE]) + (", …" if len(others) > NAMED_IN_NOTE else "")
    return found, [f"{folder}: left out {len(others)} files that do not end like audio: {first}"]


def _standard_input(stream: BinaryIO, scratch: Path) -> Recording:
    """Standard input as a file: libsndfile must be able to move about in what it reads."""
    if stream.isatty():
        raise AudioError("'-' reads audio from standard input, but that is the keyboard; pipe a sound file into it")
    path = scratch / "standard-input"
    with path.open("wb") as file:
        shutil.copyfileobj(stream, file)
    if not path.stat().st_size:
        raise AudioError("standard input: found no bytes; pipe a sound file into it")
    return Recording(str(path), "standard input", "standard-input")


def _with_own_names(recordings: Sequence[Recording]) -> list[Recording]:
    """Recordings whose output names differ: `a.wav` and `a.flac` keep their endings."""
    shared = _repeated(recording.stem for recording in recordings)
    named = [
        replace(recording, stem=recording.stem + Path(recording.path).suffix) if recording.stem in shared else recording
        for recording in recordings
    ]
    again = _repeated(recording.stem for recording in named)
    if again:
        stem = min(again)
        names = " and ".join(recording.name for recording in named if recording.stem == stem)
        raise AudioError(f"{names} would have output files of the same name; translate them one after the other")
    return named


def _repeated(stems: Iterable[str]) -> set[str]:
    return {stem for stem, count in Counter(stems).items() if count > 1}
