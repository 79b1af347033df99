"""What the command line's names stand for."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from sparqle_fairseq.data.audio import AudioError
from sparqle_fairseq.tools.translate import recordings
from sparqle_fairseq.tools.translate.recordings import find_recordings


@pytest.fixture
def folder(tmp_path):
    inside = tmp_path / "talks"
    for name in (
        "b.wav",
        "a.FLAC",
        "c.m4a",
        "d.SPH",
        "e.webm",
        "day2/a.wav",
        "day2/notes.txt",
        "README.md",
        ".hidden.wav",
        ".git/x.wav",
    ):
        (inside / name).parent.mkdir(parents=True, exist_ok=True)
        (inside / name).write_bytes(b"")
    return inside


def test_a_folder_gives_the_audio_in_all_its_folders_and_says_what_it_left_out(folder, tmp_path):
    found, notes = find_recordings([str(folder)], tmp_path)
    assert [recording.stem for recording in found] == ["a", "b", "c", "d", "e", "day2/a"]
    assert notes == [f"{folder}: left out 2 files that do not end like audio: README.md, day2/notes.txt"]


def test_a_folder_without_audio_is_an_error(folder, tmp_path):
    for path in folder.rglob("*.*"):
        if path.suffix != ".txt" and path.is_file():
            path.unlink()
    with pytest.raises(AudioError, match="found no audio in the folder"):
        find_recordings([str(folder)], tmp_path)


def test_recordings_of_one_stem_keep_their_endings(folder, tmp_path):
    (folder / "b.ogg").write_bytes(b"")
    found, _ = find_recordings([str(folder)], tmp_path)
    assert [recording.stem for recording in found] == ["a", "b.ogg", "b.wav", "c", "d", "e", "day2/a"]
    with pytest.raises(AudioError, match=r"a\.FLAC and .*a\.FLAC would have output files of the same name"):
        find_recordings([str(folder / "a.FLAC"), str(folder / "a.FLAC")], tmp_path)


def pipe(monkeypatch, content: bytes, terminal: bool = False) -> None:
    stream = io.BytesIO(content)
    stream.isatty = lambda: terminal
    monkeypatch.setattr(recordings.sys, "stdin", SimpleNamespace(buffer=stream))


def test_standard_input_is_kept_as_a_file(monkeypatch, tmp_path):
    sound = io.BytesIO()
    soundfile.write(sound, np.zeros(1600), 16000, format="FLAC")
    pipe(monkeypatch, sound.getvalue())
    (found,), _ = find_recordings(["-"], tmp_path)
    assert soundfile.info(found.path).frames == 1600
    assert (found.name, found.stem) == ("standard input", "standard-input")


@pytest.mark.parametrize(("content", "terminal", "says"), [(b"", False, "no bytes"), (b"x", True, "the keyboard")])
def test_standard_input_without_a_recording_is_an_error(monkeypatch, tmp_path, content, terminal, says):
    pipe(monkeypatch, content, terminal)
    with pytest.raises(AudioError, match=says):
        find_recordings(["-"], tmp_path)
    with pytest.raises(AudioError, match="give '-' once"):
        find_recordings(["-", "-"], tmp_path)
