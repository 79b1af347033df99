"""The way from a microphone to a recording, with a sounddevice that plays a known sound. A real one was not run."""

from __future__ import annotations

import sys
import time

import pytest
import soundfile

from sparqle_fairseq.data.audio import AudioError
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.tools.translate.microphone import record


@pytest.mark.usefixtures("sounddevice")
def test_every_sample_that_was_heard_is_recorded(tmp_path):
    said: list[str] = []
    found = record(tmp_path, None, said.append, wait_for_stop=lambda: time.sleep(0.2))
    samples, rate = soundfile.read(found.path, dtype="int16")
    assert rate == 16000
    assert samples.tolist() == list(range(3000))
    assert said == ["recording; press Enter to stop"]


@pytest.mark.usefixtures("sounddevice")
def test_the_time_ends_the_recording(tmp_path):
    started = time.monotonic()
    record(tmp_path, 0.3, lambda _: None, wait_for_stop=lambda: pytest.fail("nobody is asked"))
    assert 0.3 <= time.monotonic() - started < 5


def test_nothing_heard_is_an_error(sounddevice, tmp_path, monkeypatch):
    monkeypatch.setattr(sounddevice.InputStream, "blocks", 0)
    with pytest.raises(AudioError, match="heard nothing"):
        record(tmp_path, 0.1, lambda _: None)


def test_a_microphone_that_does_not_open_is_one_sentence(sounddevice, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise sounddevice.PortAudioError("Error querying device -1")

    monkeypatch.setattr(sounddevice, "InputStream", refuse)
    with pytest.raises(SparqleError, match=r"cannot be opened .*device -1"):
        record(tmp_path, 1, lambda _: None)


def test_a_missing_package_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(SparqleError, match=r"pip install 'sparqle-fairseq\[microphone\]'"):
        record(tmp_path, 1, lambda _: None)
