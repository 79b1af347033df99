"""Every fault of a recording is found under its own code, in the line where it is."""

import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from bad_rows import RATE, codes, findings, good_rows, save, speech, wav_bytes, write, zipped

from sparqle_fairseq.data.audio import open_sound
from sparqle_fairseq.data.feature_store import ShardIndex, write_index
from sparqle_fairseq.tools.validate import recordings


def clip(wave: np.ndarray) -> np.ndarray:
    return (20 * wave).clip(-1, 1)


def cut(path: Path, share: float = 0.6) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])


def garbage(path: Path) -> None:
    path.write_bytes(b"this is no sound file " * 200)


AUDIO = {
    "audio-missing": lambda path: path.unlink(),
    "audio-unreadable": garbage,
    "silent": lambda path: save(path, np.zeros(3 * RATE)),
    "clipped": lambda path: save(path, clip(speech())),
    "nan": lambda path: save(path, np.where(np.arange(3 * RATE) == 777, np.nan, speech()), subtype="FLOAT"),
    "n-frames-wrong": lambda path: save(path, speech(2.5)),
    "rate-unusual": lambda path: save(path, speech(rate=8000), 8000),
}


@pytest.mark.parametrize("code", AUDIO)
def test_a_bad_recording_is_found_in_its_line(tmp_path: Path, code: str) -> None:
    rows = good_rows(tmp_path)
    assert codes(write(tmp_path, rows)) == []
    AUDIO[code](tmp_path / rows[2]["audio"])
    assert codes(tmp_path / "train.tsv") == [(code, 4)]


@pytest.mark.parametrize(
    "spoil",
    [lambda path: path.write_bytes(b""), lambda path: save(path, np.zeros(0))],
    ids=["no bytes", "no samples"],
)
def test_a_damaged_file_is_unreadable(tmp_path: Path, spoil) -> None:
    rows = good_rows(tmp_path)
    spoil(tmp_path / rows[0]["audio"])
    assert codes(write(tmp_path, rows)) == [("audio-unreadable", 2)]


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3", "wav"])
def test_a_file_cut_at_its_end_is_found(tmp_path: Path, suffix: str) -> None:
    rows = good_rows(tmp_path)
    path = save(tmp_path / "audio" / f"x.{suffix}")
    rows[1]["audio"] = f"audio/x.{suffix}"
    assert codes(write(tmp_path, rows)) == []
    cut(path)
    found = codes(tmp_path / "train.tsv")
    assert found == [("audio-damaged", 3)]


@pytest.mark.parametrize("at", [5, -5])
def test_one_infinite_sample_in_a_long_recording_is_found(tmp_path: Path, at: int) -> None:
    wave = speech(70)  # more than one block
    wave[at] = np.inf
    rows = good_rows(tmp_path)
    rows[0] |= {"audio": "long.wav", "n_frames": len(wave), "src_text": "", "tgt_text": ""}
    save(tmp_path / "long.wav", wave, subtype="FLOAT")
    assert ("nan", 2) in codes(write(tmp_path, rows))


def test_a_quiet_recording_is_silent_only_below_the_threshold(tmp_path: Path) -> None:
    rows = good_rows(tmp_path)
    save(tmp_path / rows[0]["audio"], 0.003 * np.sign(speech()))
    path = write(tmp_path, rows)
    assert codes(path) == []
    assert codes(path, silence_db=-40) == [("silent", 2)]


def test_a_constant_offset_is_silence(tmp_path: Path) -> None:
    rows = good_rows(tmp_path)
    save(tmp_path / rows[0]["audio"], np.full(3 * RATE, 0.2))
    assert codes(write(tmp_path, rows)) == [("silent", 2)]


def test_a_loud_recording_that_touches_full_scale_is_not_clipped(tmp_path: Path) -> None:
    rows = good_rows(tmp_path)
    wave = speech()
    wave[200:40_000:200] = 1.0  # 0.4 % of the samples, none beside another
    save(tmp_path / rows[0]["audio"], wave)
    path = write(tmp_path, rows)
    assert codes(path) == []
    wave[1000:1100] = 1.0  # 100 of 48,000 samples
    save(tmp_path / rows[0]["audio"], wave)
    assert codes(path) == [("clipped", 2)]
    assert codes(path, clipped_percent=0.5) == []


def test_n_frames_at_the_rate_of_the_file_is_told_as_that(tmp_path: Path) -> None:
    rows = good_rows(tmp_path)
    save(tmp_path / rows[3]["audio"], speech(rate=44_100), 44_100)
    path = write(tmp_path, rows)
    assert codes(path) == []  # 44.1 kHz is no fault, and the length at 16 kHz is right
    rows[3]["n_frames"] = 3 * 44_100
    (found,) = findings(write(tmp_path, rows))
    assert (found.code, found.line, found.changes) == ("n-frames-wrong", 5, {"n_frames": "48000"})
    assert "counts samples at 44100 Hz" in found.message


def test_n_frames_that_training_accepts_is_no_finding(tmp_path: Path) -> None:
    rows = good_rows(tmp_path)
    rows[0]["n_frames"] += 900  # less than 2 %
    assert codes(write(tmp_path, rows)) == []
    rows[0]["n_frames"] += 200
    assert codes(write(tmp_path, rows)) == [("n-frames-wrong", 2)]


def test_an_expected_rate_reports_every_other(tmp_path: Path) -> None:
    rows = good_rows(tmp_path)
    save(tmp_path / rows[1]["audio"], speech(rate=48_000), 48_000)
    path = write(tmp_path, rows)
    assert codes(path) == []
    assert codes(path, sample_rate=RATE) == [("rate-unusual", 3)]
    save(tmp_path / rows[1]["audio"], speech(rate=44_099), 44_099)
    assert codes(path) == [("rate-unusual", 3)]


def test_a_recording_too_short_for_an_encoder_is_found(tmp_path: Path) -> None:
    rows = good_rows(tmp_path)
    rows[0] |= {"n_frames": 399, "src_text": "a", "tgt_text": "a"}
    save(tmp_path / rows[0]["audio"], speech()[:399])
    assert codes(write(tmp_path, rows)) == [("too-short", 2)]
    rows[0]["n_frames"] = 400
    save(tmp_path / rows[0]["audio"], speech()[:400])
    assert codes(write(tmp_path, rows)) == []


def test_rows_that_a_limit_rejects_are_found(tmp_path: Path) -> None:
    rows = good_rows(tmp_path)
    save(tmp_path / rows[2]["audio"], speech(4))
    rows[2]["n_frames"] = 4 * RATE
    path = write(tmp_path, rows)
    assert codes(path) == codes(path, limit_seconds=4) == codes(path, max_source_positions=4 * RATE) == []
    assert codes(path, limit_seconds=3.9) == [("over-limit", 4)]
    assert codes(path, max_source_positions=4 * RATE - 1) == [("over-limit", 4)]
    assert codes(path, max_source_positions=4 * RATE - 1, limit_seconds=3.5, audio=False) == [("over-limit", 4)]


def test_without_audio_no_recording_is_opened(tmp_path: Path) -> None:
    rows = good_rows(tmp_path)
    for row in rows:
        (tmp_path / row["audio"]).unlink()
    assert codes(write(tmp_path, rows), audio=False) == []


def test_slices_are_checked_within_their_file(tmp_path: Path) -> None:
    talk = np.concatenate([speech(4), np.zeros(3 * RATE), clip(speech(3))])
    save(tmp_path / "talk.flac", talk)
    rows = good_rows(tmp_path)
    for row, start in zip(rows, (0, RATE, 4 * RATE, 7 * RATE, 8 * RATE), strict=True):
        row["audio"] = f"talk.flac:{start}:{3 * RATE}"
    assert codes(write(tmp_path, rows)) == [("silent", 4), ("clipped", 5), ("audio-unreadable", 6)]


def test_zip_members_are_checked(tmp_path: Path) -> None:
    members = {"a.wav": wav_bytes(speech()), "b.wav": wav_bytes(np.zeros(3 * RATE)), "c.wav": wav_bytes(speech(1))}
    cells = list(zipped(tmp_path / "talks.zip", members).values())
    packed = list(zipped(tmp_path / "packed.zip", {"d.wav": wav_bytes(speech())}, zipfile.ZIP_DEFLATED).values())
    rows = good_rows(tmp_path)
    for row, cell in zip(rows, [*cells, "talks.zip:0:999999999", *packed], strict=True):
        row["audio"] = cell
    expected = [("silent", 3), ("n-frames-wrong", 4), ("audio-unreadable", 5), ("audio-unreadable", 6)]
    assert codes(write(tmp_path, rows)) == expected


def test_features_are_checked(tmp_path: Path) -> None:
    rows = good_rows(tmp_path, count=7)
    values = np.random.default_rng(0).standard_normal((150, 8)).astype(np.float32)
    nan, flat = values.copy(), np.ones_like(values)
    nan[3, 3] = np.nan
    for row, array in zip(rows, [values, values[:148], values[:140], nan, flat, values[:, :4], None], strict=True):
        row["audio"] = f"{row['id']}.npy"
        row["n_frames"] = 150
        if array is not None:
            np.save(tmp_path / row["audio"], array)
    rows[6]["audio"] = "audio/u6.wav"
    rows[6]["n_frames"] = 3 * RATE
    expected = [
        ("n-frames-wrong", 4),
        ("nan", 5),
        ("silent", 6),
        ("features-width", 7),
        ("features-mixed", 8),
    ]
    path = write(tmp_path, rows)
    assert codes(path) == expected
    assert ("over-limit", 2) in codes(path, limit_seconds=2.9)  # 150 frames are 3 seconds
    rows[0]["audio"] = "no.npy"
    assert ("audio-missing", 2) in codes(write(tmp_path, rows))


def test_entries_of_a_feature_store_are_checked(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((600, 8)).astype("<f4")
    values[170, 2] = np.nan
    values[450:] = 1.0
    shard = tmp_path / "features-00000.bin"
    shard.write_bytes(values.tobytes())
    parts = [values[start : start + 150] for start in range(0, 600, 150)]
    offsets = [4800 * k for k in range(4)]
    checksums = [zlib.crc32(part.tobytes()) for part in parts]
    write_index(shard, ShardIndex("fp32", 8, ["a", "b", "c", "d"], offsets, [150] * 4, checksums))
    rows = good_rows(tmp_path, count=6)
    cells = [*(f"{shard.name}:{offset}:150" for offset in offsets), f"{shard.name}:32:150", "features-00001.bin:0:150"]
    for row, cell in zip(rows, cells, strict=True):
        row |= {"audio": cell, "n_frames": 150}
    rows[2]["n_frames"] = 48_000
    expected = [
        ("nan", 3),
        ("n-frames-wrong", 4),
        ("silent", 5),
        ("audio-unreadable", 6),
        ("audio-missing", 7),
    ]
    path = write(tmp_path, rows)
    assert codes(path) == expected
    shard.write_bytes(values.tobytes()[:-1] + b"\0")
    assert ("audio-unreadable", 5) in codes(path)
    test = good_rows(tmp_path, "v", 1)
    test[0] |= {"audio": cells[0], "n_frames": 150}
    found = codes(path, write(tmp_path, test, "test.tsv"), audio=False)
    assert [place for place in found if place[0] == "audio-in-two-splits"] == [("audio-in-two-splits", 2)]


def test_one_recording_in_several_rows_is_read_once(tmp_path: Path, monkeypatch) -> None:
    rows = good_rows(tmp_path, count=1)
    rows += [{**rows[0], "id": f"more{k}"} for k in range(5)]
    opened = []
    monkeypatch.setattr(recordings, "open_sound", lambda audio, **how: opened.append(audio) or open_sound(audio, **how))
    assert codes(write(tmp_path, rows)) == []
    assert len(opened) == 1


def _clipped_then_quieter(path: Path) -> Path:
    return save(path, 0.5 * clip(speech()), subtype="FLOAT")


def _wrong_size(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:40] + (9000).to_bytes(4, "little") + data[44:])


ODD = {
    "audio-odd": _wrong_size,
    "channels-cancel": lambda path: save(path, np.stack([speech(), -speech()], axis=1)),
    "float-range": lambda path: save(path, 32768 * speech(), subtype="FLOAT"),
    "over-full-scale": lambda path: save(path, 20 * speech(), subtype="FLOAT"),
    "clipped": _clipped_then_quieter,
    "audio-damaged": lambda path: path.write_bytes(path.read_bytes()[:-5000]),
}


@pytest.mark.parametrize("code", ODD)
def test_what_is_odd_about_a_recording_is_found(tmp_path: Path, code: str) -> None:
    rows = good_rows(tmp_path)
    ODD[code](tmp_path / rows[1]["audio"])
    assert codes(write(tmp_path, rows)) == [(code, 3)]


def test_several_recordings_in_one_file_are_found(tmp_path: Path) -> None:
    rows = good_rows(tmp_path)
    path = tmp_path / rows[1]["audio"]
    path.write_bytes(path.read_bytes() * 2)
    found = findings(write(tmp_path, rows))
    assert [(one.code, one.line) for one in found] == [("audio-odd", 3), ("n-frames-wrong", 3)]
    assert "2 recordings are joined in it" in found[0].message
    assert found[1].changes == {"n_frames": str(6 * RATE)}
