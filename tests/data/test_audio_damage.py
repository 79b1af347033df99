"""What is lost is said, with how many seconds, and refused or read as asked; channels and floats are what they mean."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sounds import RATE, SECONDS, encoded, flac_of_length, mp3, speech, spoiled, without_length, written

from sparqle_fairseq.data.audio import (
    Account,
    AudioError,
    DamagedAudioError,
    FloatRangeError,
    audio_length,
    measure,
    read_audio,
    stream_audio,
)
from sparqle_fairseq.data.dataset import load_waveform
from sparqle_fairseq.data.manifest import read_manifest, write_manifest


def cut(data: bytes, share: float = 0.6) -> bytes:
    return data[: int(share * len(data))]


def flipped(data: bytes, at: int) -> bytes:
    """One bit is another."""
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


# name -> (its bytes, seconds lost: at least and at most, what is said)
DAMAGED = {
    "cut.wav": (lambda: cut(written("WAV")), 1.1, 1.3, "truncated"),
    "short.wav": (lambda: written("WAV")[:-5], 0.0, 0.001, "truncated, it ends 5 bytes before"),
    "cut.flac": (lambda: cut(encoded("flac", "flac")), 0.5, 2.5, "truncated|damaged"),
    "more.flac": (lambda: flac_of_length(80_000), 1.9, 2.1, "truncated, found 3.00 of 5.00 seconds"),
    "cut.mp3": (lambda: cut(mp3()), 0.9, 1.5, "truncated"),
    "cut.aiff": (lambda: cut(written("AIFF")), 1.1, 1.3, "truncated"),
    "cut.ogg": (lambda: written("OGG", "VORBIS")[:-50], 0.0, 1.5, "50 bytes of its last page are missing"),
    "cut.webm": (lambda: cut(encoded("libopus", "webm", 48000)), 0.8, 1.6, "truncated"),
    "holes.flac": (lambda: spoiled(encoded("flac", "flac")), 0.1, 1.0, "damaged at"),
    "flipped.flac": (lambda: flipped(encoded("flac", "flac"), 16_600), 0.07, 0.08, "damaged at"),
    "flipped-later.flac": (lambda: flipped(encoded("flac", "flac"), 35_000), 0.07, 0.08, "damaged at"),
    "holes.mp3": (lambda: spoiled(mp3()), 0.1, 1.2, "damaged at"),
    "holes-without-length.mp3": (lambda: spoiled(without_length(mp3())), 0.1, 1.2, "damaged at"),
    "holes.aac": (lambda: spoiled(encoded("aac", "adts"), random=True), 0.05, 1.5, "damaged at"),
    "holes.m4a": (lambda: spoiled(encoded("aac", "mp4"), random=True), 0.05, 1.5, "damaged at"),
    "holes.opus": (lambda: spoiled(encoded("libopus", "ogg", 48000)), 0.5, 2.5, "damaged at"),
    "holes.oga": (lambda: spoiled(encoded("flac", "ogg")), 0.1, 2.5, "damaged at|truncated"),
}


def made(folder: Path, name: str) -> str:
    path = folder / name
    path.write_bytes(DAMAGED[name][0]())
    return str(path)


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_refused_or_read_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    _, least, most, says = DAMAGED[name]
    path = made(tmp_path, name)
    with pytest.raises(DamagedAudioError, match=rf"{name}: about .* are lost: .*({says}).*--no-strict-audio"):
        read_audio(path)
    with pytest.raises(DamagedAudioError):
        measure(path)
    with caplog.at_level(logging.WARNING):
        found = read_audio(path, strict=False)
    assert any(f"{name}: about" in message and "what is left was read" in message for message in caplog.messages)
    assert len(found) == audio_length(path, strict=False)
    account = measure(path, strict=False).account
    assert least <= account.lost_seconds <= most
    assert 0.3 * SECONDS < len(found) / RATE <= SECONDS + 0.1
    streamed = Account(path)
    assert sum(map(len, stream_audio(path, 4000, strict=False, account=streamed))) == len(found)
    assert streamed.lost_seconds == pytest.approx(account.lost_seconds)
    with pytest.raises(DamagedAudioError):
        list(stream_audio(path))


@pytest.mark.parametrize("name", ["holes.flac", "holes.opus"])
def test_what_comes_after_a_hole_keeps_its_time(tmp_path: Path, name: str) -> None:
    found = read_audio(made(tmp_path, name), strict=False)
    assert len(found) == pytest.approx(SECONDS * RATE, abs=2)
    last = slice(round(2.1 * RATE), round(2.2 * RATE))
    assert np.corrcoef(found[last], speech()[last])[0, 1] > 0.9


def test_a_slice_before_the_damage_is_whole_and_one_across_it_is_not(tmp_path: Path) -> None:
    path = made(tmp_path, "holes.flac")
    np.testing.assert_allclose(read_audio(f"{path}:0:8000"), speech()[:8000], atol=1e-4)
    with pytest.raises(DamagedAudioError):
        read_audio(f"{path}:8000:36000")


def test_a_slice_behind_a_hole_is_that_part_of_the_whole(tmp_path: Path) -> None:
    """Of a stream with times, whose packets before the slice are not decoded."""
    data = encoded("aac", "mpegts")
    path = tmp_path / "a.ts"
    packets = len(data) // 188
    path.write_bytes(data[: 188 * (packets * 35 // 100)] + data[188 * (packets * 45 // 100) :])
    whole = read_audio(str(path), strict=False)
    assert 0.2 < measure(str(path), strict=False).account.lost_seconds < 0.8
    np.testing.assert_allclose(read_audio(f"{path}:40000:2000", strict=False), whole[40000:42000], atol=1e-6)


def test_training_refuses_damage_by_itself_and_reads_it_when_told(tmp_path: Path) -> None:
    made(tmp_path, "holes.flac")
    row = {"id": "a", "audio": "holes.flac", "n_frames": int(SECONDS * RATE), "src_text": "x", "src_lang": "en"}
    write_manifest(tmp_path / "train.tsv", [row], tuple(row))
    one = read_manifest(tmp_path / "train.tsv").row(0)
    with pytest.raises(DamagedAudioError, match="--no-strict-audio"):
        load_waveform(one, "train.tsv:2", RATE, normalize=False)
    assert len(load_waveform(one, "train.tsv:2", RATE, normalize=False, strict=False)) == SECONDS * RATE


# -- channels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["WAV", "OGG", "FLAC"])
def test_channels_that_cancel_are_not_averaged(tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    wave = speech()
    path = tmp_path / f"a.{kind.lower()}"
    soundfile.write(path, np.stack([0.9 * wave, -wave], axis=1), RATE, format=kind)
    with caplog.at_level(logging.WARNING):
        found = read_audio(str(path))
    assert abs(np.corrcoef(found, wave)[0, 1]) > 0.95
    assert np.abs(found).max() > 0.9 * np.abs(wave).max()
    assert "its channels cancel when they are averaged" in caplog.text
    streamed = np.concatenate(list(stream_audio(str(path), 5000)))
    np.testing.assert_allclose(streamed, found, atol=2e-6)
    np.testing.assert_allclose(read_audio(f"{path}:{RATE}:{RATE}"), found[RATE : 2 * RATE], atol=2e-6)


@pytest.mark.parametrize("second", [1.0, 0.3, 0.0, None], ids=["same", "quieter", "silent", "another voice"])
def test_channels_that_do_not_cancel_are_averaged(tmp_path: Path, second: float | None) -> None:
    wave = speech()
    other = np.roll(wave, RATE // 3) if second is None else second * wave
    soundfile.write(tmp_path / "a.wav", np.stack([wave, other], axis=1), RATE, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(str(tmp_path / "a.wav")), (wave + other) / 2, atol=1e-6)


def test_silence_stays_silence(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros((RATE, 2)), RATE)
    assert not read_audio(str(tmp_path / "a.wav")).any()


# -- floats --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [32768, 8388608])
def test_integers_written_as_floats_get_the_right_remedy(tmp_path: Path, scale: int) -> None:
    loud = speech() / np.abs(speech()).max()
    soundfile.write(tmp_path / "a.wav", loud * scale, RATE, subtype="FLOAT")
    with pytest.raises(FloatRangeError, match=rf"a\.wav: found samples up to {scale} .*; divide them by {scale} and"):
        read_audio(str(tmp_path / "a.wav"))


def test_floats_somewhat_beyond_full_scale_are_kept(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", 20 * speech(), RATE, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(str(tmp_path / "a.wav")), 20 * speech(), rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_numbers_are_refused_after_a_good_beginning_too(tmp_path: Path, value: float) -> None:
    wave = speech().copy()
    wave[-3] = value
    soundfile.write(tmp_path / "a.caf", wave, RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match="found 1 samples that are NaN or infinite"):
        read_audio(str(tmp_path / "a.caf"))
