"""An mp3 file that states no length is read to its end, at constant and at varying bit rate."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from sparqle_fairseq.data.audio import audio_length, read_audio
from sparqle_fairseq.data.mp3 import states_no_length, with_stated_length

SECONDS = 5.5
DELAY = 0.12  # seconds that encoder and decoder add to a file whose header does not say so


def encoded(rate: int, mode: str, channels: int = 1) -> bytes:
    """Half silence and half tone, so that a varying bit rate varies."""
    time = np.arange(int(SECONDS * rate)) / rate
    wave = 0.3 * np.sin(2 * np.pi * 300 * time) * (time > SECONDS / 2)
    stream = io.BytesIO()
    soundfile.write(stream, np.stack([wave] * channels, axis=1), rate, format="MP3", bitrate_mode=mode)
    return stream.getvalue()


def without_information(data: bytes) -> bytes:
    """The file as an encoder writes it to a pipe: its first frame is sound."""
    place = max(data.find(b"Xing"), data.find(b"Info"))
    if place < 0:
        return data
    start = data.rfind(b"\xff", 0, place)
    return data[data.find(data[start : start + 2], place) :]


@pytest.mark.parametrize("tag", [b"", b"ID3\x04\x00\x00\x00\x00\x01\x00" + bytes(128)], ids=["plain", "tagged"])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE", "AVERAGE"])
@pytest.mark.parametrize(("rate", "channels"), [(48000, 1), (44100, 2), (32000, 1), (16000, 1), (8000, 2)])
def test_a_file_without_a_length_is_read_to_its_end(tmp_path, rate, channels, mode, tag):
    data = tag + without_information(encoded(rate, mode, channels))
    assert states_no_length(data)
    path = tmp_path / "clip.mp3"
    path.write_bytes(data)
    wave = read_audio(str(path))
    assert len(wave) == audio_length(str(path))
    assert SECONDS <= len(wave) / 16000 < SECONDS + DELAY + 1152 / rate
    middle = len(wave) // 2
    assert np.abs(wave[: middle - 3200]).max() < 0.02
    assert np.abs(wave[-8000:]).max() > 0.2


def test_a_file_that_states_its_length_is_left_as_it_is():
    assert not states_no_length(encoded(48000, "VARIABLE"))
    assert not states_no_length(b"RIFF" + bytes(100))
    assert not states_no_length(b"")


def test_bytes_between_frames_are_skipped():
    data = without_information(encoded(16000, "CONSTANT"))
    middle = data.index(data[:2], len(data) // 2)
    whole, gap = with_stated_length(data), with_stated_length(data[:middle] + bytes(40) + data[middle:])
    at = whole.index(b"Xing") + 8
    assert whole[at : at + 4] == gap[at : at + 4]
