"""Audio: every format, rate and channel count gives one 16 kHz waveform, and every fault one sentence."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparqle_fairseq.data.audio import (
    AudioError,
    audio_length,
    check_length,
    is_features,
    normalize_waveform,
    read_audio,
    read_features,
)

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SECONDS = 0.5
FORMATS = {  # suffix: (subtype, how far a decoded sample may be from what was written)
    "wav": ("PCM_16", 1e-4),
    "flac": ("PCM_16", 1e-4),
    "ogg": ("VORBIS", 0.05),
    "mp3": ("MPEG_LAYER_III", 0.05),
}


def tone(rate: int, seconds: float = SECONDS, hertz: float = 440.0) -> np.ndarray:
    """A tone with soft ends, float32 (samples,)."""
    t = np.arange(round(rate * seconds)) / rate
    return (0.3 * np.sin(2 * np.pi * hertz * t) * np.sin(np.pi * t / seconds) ** 2).astype(np.float32)


def save(path: Path, waveform: np.ndarray, rate: int = 16_000, subtype: str | None = None) -> str:
    sf.write(path, waveform, rate, subtype=subtype)
    return str(path)


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


# -- what is read --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_and_rate_gives_the_same_tone_at_16_khz(
    tmp_path: Path, suffix: str, rate: int, channels: int
) -> None:
    subtype, tolerance = FORMATS[suffix]
    waveform = tone(rate)
    stereo = np.stack([1.5 * waveform, 0.5 * waveform], axis=1)  # the mean is the tone; neither channel is
    path = save(tmp_path / f"a.{suffix}", stereo if channels == 2 else waveform, rate, subtype)
    found = read_audio(path)
    expected = tone(16_000)
    assert found.dtype == np.float32
    assert found.ndim == 1
    assert abs(len(found) - len(expected)) <= 1
    assert len(found) == audio_length(path)
    assert np.abs(found[:7999] - expected[:7999]).max() < tolerance + 2e-3


@pytest.mark.parametrize(
    ("subtype", "tolerance"), [("PCM_U8", 8e-3), ("PCM_16", 4e-5), ("PCM_24", 2e-7), ("PCM_32", 1e-7), ("FLOAT", 0)]
)
def test_every_sample_width_is_scaled_to_one(tmp_path: Path, subtype: str, tolerance: float) -> None:
    waveform = tone(16_000)
    assert np.abs(read_audio(save(tmp_path / "a.wav", waveform, subtype=subtype)) - waveform).max() <= tolerance


def test_an_odd_rate_needs_no_giant_filter_bank(tmp_path: Path) -> None:
    path = save(tmp_path / "a.wav", tone(44_099), 44_099)
    found = read_audio(path)
    assert len(found) == audio_length(path)
    assert np.abs(found[:7999] - tone(16_000)[:7999]).max() < 5e-3


def test_another_sample_rate_can_be_asked_for(tmp_path: Path) -> None:
    path = save(tmp_path / "a.wav", tone(16_000))
    assert len(read_audio(path, sample_rate=8_000)) == audio_length(path, sample_rate=8_000) == 4_000


def test_resampling_lets_no_high_tone_through(tmp_path: Path) -> None:
    path = save(tmp_path / "a.wav", tone(48_000, hertz=11_000), 48_000)
    assert np.abs(read_audio(path)).max() < 5e-3


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_slice_is_that_part_of_the_whole(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}", noise(16_000), 16_000, FORMATS[suffix][0])
    whole = read_audio(path)
    for start, length in [(0, 1), (0, 16_000), (7_777, 5_000), (15_999, 1)]:
        part = read_audio(f"{path}:{start}:{length}")
        assert np.abs(part - whole[start : start + length]).max() < 1e-5
        assert audio_length(f"{path}:{start}:{length}") == length


def test_a_slice_counts_samples_of_the_files_own_rate(tmp_path: Path) -> None:
    path = save(tmp_path / "a.wav", tone(48_000), 48_000)
    spec = f"{path}:12000:6000"
    assert audio_length(spec) == len(read_audio(spec)) == 2_000
    assert np.abs(read_audio(spec)[50:-50] - tone(16_000)[4_050:5_950]).max() < 2e-3


def test_a_slice_is_sought_not_read_up_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.wav", noise(160_000))
    read: list[int] = []
    original = sf.SoundFile.read

    def counting(self: sf.SoundFile, frames: int = -1, **options: object) -> np.ndarray:
        read.append(frames)
        return original(self, frames, **options)

    monkeypatch.setattr(sf.SoundFile, "read", counting)
    read_audio(f"{path}:150000:100")
    assert read == [100]


def test_file_names_may_hold_colons(tmp_path: Path) -> None:
    first = save(tmp_path / "at 12:30:45.wav", noise(300, 1))
    assert np.array_equal(read_audio(first), read_audio(f"{first}:0:300"))
    save(tmp_path / "b.wav", noise(300, 2))
    os.rename(save(tmp_path / "c.wav", noise(300, 3)), tmp_path / "b.wav:10:20")
    assert len(read_audio(str(tmp_path / "b.wav:10:20"))) == 300
    assert len(read_audio(str(tmp_path / "b.wav:10:30"))) == 30


def stored_zip(folder: Path) -> dict[str, str]:
    """A zip file of stored members as fairseq makes it: {member: audio string}."""
    rng = np.random.default_rng(0)
    for suffix in ("flac", "wav", "ogg"):
        save(folder / f"m.{suffix}", noise(8_000))
    np.save(folder / "m.npy", rng.standard_normal((7, 5)).astype(np.float32))
    path = folder / "all.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for member in sorted(folder.glob("m.*")):
            archive.write(member, member.name)
    with zipfile.ZipFile(path) as archive:
        return {
            i.filename: f"{path}:{i.header_offset + 30 + len(i.filename)}:{i.file_size}" for i in archive.infolist()
        }


def test_zip_members_are_read_as_the_files_they_were(tmp_path: Path) -> None:
    places = stored_zip(tmp_path)
    for name in ("m.flac", "m.wav", "m.ogg"):
        assert np.array_equal(read_audio(places[name]), read_audio(str(tmp_path / name)))
        assert audio_length(places[name]) == 8_000
        assert not is_features(places[name])
    assert is_features(places["m.npy"])
    assert audio_length(places["m.npy"]) == 7
    assert np.array_equal(read_features(places["m.npy"]), np.load(tmp_path / "m.npy"))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int16"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_features_are_float32_rows_of_frames(tmp_path: Path, dtype: str, order: str) -> None:
    values = np.asarray(np.arange(12).reshape(4, 3), dtype=dtype, order=order)  # type: ignore[call-overload]
    np.save(tmp_path / "f.npy", values)
    path = str(tmp_path / "f.npy")
    found = read_features(path)
    assert is_features(path)
    assert not is_features("f.wav")
    assert found.dtype == np.float32
    assert found.flags.writeable
    assert np.array_equal(found, values.astype(np.float32))
    assert audio_length(path) == 4


# -- normalisation and length --------------------------------------------------------------------------------


def test_normalising_is_layer_norm_over_the_utterance() -> None:
    waveform = 0.02 * noise(16_000) + 0.1
    tensor = torch.from_numpy(waveform)
    expected = torch.nn.functional.layer_norm(tensor, tensor.shape).numpy()
    assert normalize_waveform(waveform).dtype == np.float32
    assert np.abs(normalize_waveform(waveform) - expected).max() < 1e-4
    before = waveform.copy()
    normalize_waveform(waveform)
    assert np.array_equal(waveform, before)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("level", [0.0, 1e-20, 0.25, -1.0])
@pytest.mark.parametrize("samples", [0, 1, 160, 16_001])
def test_silence_normalises_to_zeros(level: float, samples: int) -> None:
    found = normalize_waveform(np.full(samples, level, np.float32))
    assert found.shape == (samples,)
    assert np.abs(found).max(initial=0.0) < 1e-9


@pytest.mark.parametrize(
    ("found", "expected", "slack", "good"),
    [
        (16_000, 16_000, 400, True),
        (16_400, 16_000, 400, True),
        (16_401, 16_000, 400, False),
        (15_599, 16_000, 400, False),
        (98_000, 100_000, 400, True),
        (97_999, 100_000, 400, False),
        (102_001, 100_000, 400, False),
        (103, 100, 2, False),
        (102, 100, 2, True),
    ],
)
def test_a_length_may_differ_by_two_percent_or_the_slack(found: int, expected: int, slack: int, good: bool) -> None:
    if good:
        check_length(found, expected, "m.tsv:2 (utterance u)", slack=slack)
        return
    with pytest.raises(AudioError, match=rf"m\.tsv:2 \(utterance u\): found {found} .* n_frames says {expected}"):
        check_length(found, expected, "m.tsv:2 (utterance u)", slack=slack)


# -- faults --------------------------------------------------------------------------------------------------


def refused(audio: str, sentence: str, reader: object = read_audio) -> None:
    with pytest.raises(AudioError, match=sentence) as caught:
        reader(audio)  # type: ignore[operator]
    message = str(caught.value)
    assert message.startswith(audio)
    assert "\n" not in message
    assert "; " in message  # found; remedy


@pytest.mark.parametrize("name", ["none.wav", "none.wav:0:10", "none.zip:0:10", "", "nul\0.wav"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    refused(str(tmp_path / name), "there is no such file")
    refused(str(tmp_path / name), "there is no such file", audio_length)
    if not name.endswith("zip:0:10"):
        refused(str(tmp_path / "none.npy"), "there is no such file", read_features)


def test_files_without_sound_are_refused(tmp_path: Path) -> None:
    (tmp_path / "e.wav").write_bytes(b"")
    refused(str(tmp_path / "e.wav"), "empty")
    refused(save(tmp_path / "z.wav", np.zeros(0, np.float32)), "no samples")
    (tmp_path / "t.mp3").write_text("this is not sound " * 100)
    refused(str(tmp_path / "t.mp3"), "cannot be read as audio")
    (tmp_path / "t.raw").write_bytes(bytes(100))
    refused(str(tmp_path / "t.raw"), "cannot be read as audio")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate", [16_000, 8_000])
def test_samples_that_are_no_numbers_are_refused(tmp_path: Path, value: float, rate: int) -> None:
    waveform = tone(rate)
    waveform[100] = value
    refused(save(tmp_path / "a.wav", waveform, rate, "FLOAT"), "found 1 samples that are NaN or infinite")


def test_slices_outside_of_the_file_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.wav", tone(16_000))
    refused(f"{path}:7000:1001", "ends at sample 8001 of a file with 8000")
    refused(f"{path}:9000:1", "ends at sample 9001")
    refused(f"{path}:100:0", "slice has no samples")
    refused(f"{path}:999999999999999999:999999999999999999", "ends at sample")
    refused(f"{path}:7000:1001", "ends at sample", audio_length)


def test_zip_members_that_are_not_there_are_refused(tmp_path: Path) -> None:
    places = stored_zip(tmp_path)
    path = str(tmp_path / "all.zip")
    size = os.path.getsize(path)
    refused(f"{path}:{size - 10}:11", f"do not lie in a file of {size} bytes")
    refused(f"{path}:0:0", "do not lie in")
    refused(f"{path}:3:500", "store zip members uncompressed")
    refused(path, "cannot be read as audio")
    refused(places["m.npy"], "found features where a waveform is needed")
    refused(places["m.wav"], "cannot be read as features", read_features)


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros(5), r"float64 \(5,\)"),
        (np.zeros((2, 3, 4)), r"float64 \(2, 3, 4\)"),
        (np.zeros((0, 4)), r"float64 \(0, 4\)"),
        (np.zeros((3, 4), complex), "complex128"),
        (np.full((3, 4), "a"), "<U1"),
        (np.array([[None]]), "cannot be read as features"),
        (np.array([[1.0, np.nan]]), "found 1 values that are NaN"),
    ],
)
def test_features_that_are_no_frames_are_refused(tmp_path: Path, array: np.ndarray, found: str) -> None:
    np.save(tmp_path / "f.npy", array, allow_pickle=True)
    refused(str(tmp_path / "f.npy"), found, read_features)


def test_a_pickle_named_npy_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "f.npy").write_bytes(b"cos\nmkdir\n(V" + str(tmp_path / "ran").encode() + b"\ntR.")
    refused(str(tmp_path / "f.npy"), "cannot be read as features", read_features)
    assert not (tmp_path / "ran").exists()


def test_features_are_not_sliced(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", np.zeros((3, 4)))
    refused(f"{tmp_path / 'f.npy'}:0:2", "features cannot be sliced", read_features)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("kept", [0.999, 0.9, 0.5, 0.1, 0.01])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"a.{suffix}"
    save(path, noise(32_000), 16_000, FORMATS[suffix][0])
    whole, content = read_audio(str(path)), path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    if (suffix, kept) == ("mp3", 0.999):  # what is missing is padding
        assert len(read_audio(str(path))) == len(whole)
        return
    refused(str(path), "truncated|cannot be read|no samples|damaged")
    member = tmp_path / "all.zip"
    with zipfile.ZipFile(member, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a", path.read_bytes())
    refused(f"{member}:31:{path.stat().st_size}", "truncated|cannot be read|no samples|damaged")


def test_an_ogg_without_an_end_of_stream_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.ogg"
    save(path, noise(64_000))
    whole = read_audio(str(path))
    content = path.read_bytes()
    path.write_bytes(content[: content.rfind(b"OggS")])
    found = read_audio(str(path))
    assert 32_000 < len(found) < 64_000
    assert len(found) == audio_length(str(path))
    assert np.array_equal(found, whole[: len(found)])


@pytest.mark.parametrize("rate", [1, 5_000_000])
def test_a_header_with_an_absurd_rate_is_refused(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "a.wav"
    save(path, tone(16_000))
    content = bytearray(path.read_bytes())
    content[24:28] = rate.to_bytes(4, "little")
    path.write_bytes(content)
    refused(str(path), f"the header says {rate} samples a second")


def test_a_streamed_wav_without_a_length_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    save(path, tone(16_000), subtype="PCM_16")
    content = bytearray(path.read_bytes())
    assert content[36:40] == b"data"
    for size in (0xFFFFFFFF, 0x7FFFFFDC):
        content[40:44] = size.to_bytes(4, "little")
        path.write_bytes(content)
        assert len(read_audio(str(path))) == 8_000


def test_a_flac_without_a_length_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    save(path, tone(16_000))
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # total samples: the low 4 bits here and the next 4 bytes
    content[22:26] = bytes(4)
    path.write_bytes(content)
    assert np.abs(read_audio(str(path)) - tone(16_000)).max() < 1e-4


@pytest.fixture(scope="module")
def contents() -> dict[str, bytes]:
    """One short file of each kind, as bytes."""
    import io

    found: dict[str, bytes] = {}
    for suffix, (subtype, _) in FORMATS.items():
        buffer = io.BytesIO()
        sf.write(buffer, noise(6_000), 22_050, format=suffix.upper(), subtype=subtype)
        found[suffix] = buffer.getvalue()
    buffer = io.BytesIO()
    np.save(buffer, np.ones((9, 4), np.float32))
    found["npy"] = buffer.getvalue()
    return found


@quick
@given(suffix=st.sampled_from([*FORMATS, "npy"]), part=st.floats(0, 1), data=st.data())
def test_a_file_cut_anywhere_is_audio_or_an_audio_error(
    tmp_path: Path, contents: dict[str, bytes], suffix: str, part: float, data: st.DataObject
) -> None:
    content = contents[suffix]
    broken = bytearray(content[: round(part * len(content))])
    for _ in range(data.draw(st.integers(0, 3))):
        if broken:
            broken[data.draw(st.integers(0, min(len(broken), 120) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / f"broken.{suffix}"
    path.write_bytes(broken)
    try:
        found = read_features(str(path)) if suffix == "npy" else read_audio(str(path))
    except AudioError:
        assert bytes(broken) != content
        return
    assert found.size
    assert np.isfinite(found).all()
    assert len(found) == audio_length(str(path))


@quick
@given(text=st.text(st.sampled_from("ab:/.019\0é zipnywv"), max_size=16))
def test_any_audio_string_is_a_place_or_an_audio_error(tmp_path: Path, text: str) -> None:
    save(tmp_path / "a.wav", tone(16_000))
    for reader in (read_audio, read_features, audio_length):
        with pytest.raises(AudioError):
            reader(str(tmp_path / "b" / text))
