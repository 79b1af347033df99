"""What people bring is read whole, whatever wrote it: the length is that of the speech in it, and slices are parts."""

from __future__ import annotations

import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import sounds
from sounds import RATE, SECONDS, encoded, flac_of_length, mp3, speech, tag, wav_of_size, without_length, written

from sparqle_fairseq.data.audio import AudioError, audio_length, measure, open_sound, read_audio, stream_audio

DELAY = 0.13  # seconds that encoders add where no header says how many

# name -> (its bytes, how often the speech is in it, how many seconds more there may be)
WHOLE = {
    "m4a.m4a": (lambda: encoded("aac", "mp4"), 1, 0.01),
    "alac.m4a": (lambda: encoded("alac", "mp4"), 1, 0.0),
    "adts.aac": (lambda: encoded("aac", "adts"), 1, DELAY),
    "browser.webm": (lambda: encoded("libopus", "webm", 48000), 1, 0.0),
    "vorbis.webm": (lambda: encoded("vorbis", "webm", channels=2, strict="-2"), 1, DELAY),
    "voice.opus": (lambda: encoded("libopus", "ogg", 48000), 1, 0.0),
    "flac.oga": (lambda: encoded("flac", "ogg"), 1, 0.0),
    "layer2.mp2": (lambda: encoded("mp2", "mp2"), 1, 0.08),
    "phone.amr": (lambda: encoded("libopencore_amrnb", "amr", 8000), 1, 0.02),
    "phone.3gp": (lambda: encoded("libopencore_amrnb", "3gp", 8000), 1, 0.02),
    "film.mov": (lambda: encoded("aac", "mov"), 1, 0.01),
    "music.wma": (lambda: encoded("wmav2", "asf", 44100, 2), 1, DELAY),
    "dolby.ac3": (lambda: encoded("ac3", "ac3", 48000), 1, 0.04),
    "pack.wv": (lambda: encoded("wavpack", "wv"), 1, 0.0),
    "a.aiff": (lambda: written("AIFF"), 1, 0.0),
    "a.au": (lambda: written("AU"), 1, 0.0),
    "a.caf": (lambda: written("CAF"), 1, 0.0),
    "a.sph": (lambda: written("NIST"), 1, 0.0),
    "a.w64": (lambda: written("W64"), 1, 0.0),
    "a.rf64": (lambda: written("RF64"), 1, 0.0),
    "a.voc": (lambda: written("VOC"), 1, 0.0),
    "a.mat": (lambda: written("MAT5"), 1, 0.0),
    **{f"{kind}.wav": (lambda kind=kind: written("WAV", kind), 1, 0.0)
       for kind in ("PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAW", "ULAW")},
    "adpcm.wav": (lambda: written("WAV", "IMA_ADPCM"), 1, 0.07),
    "mp3.wav": (lambda: encoded("libmp3lame", "wav"), 1, DELAY),
    # Tags, and headers that say no length or a wrong one.
    "cover.mp3": (lambda: tag() + without_length(mp3()), 1, DELAY),
    "variable.mp3": (lambda: without_length(mp3(mode="VARIABLE")), 1, DELAY),
    "gapless.mp3": (mp3, 1, 0.0),
    "ape.mp3": (lambda: mp3() + b"APETAGEX" + struct.pack("<IIII", 2000, 32, 0, 0xA0000000) + bytes(8), 1, 0.0),
    "id3v1.mp3": (lambda: mp3() + b"TAG" + bytes(125), 1, 0.0),
    "pipe.flac": (lambda: flac_of_length(0), 1, 0.0),
    "less.flac": (lambda: flac_of_length(20_000), 1, 0.0),
    "tagged.flac": (lambda: tag(3000) + encoded("flac", "flac"), 1, 0.0),
    "garbage.flac": (lambda: encoded("flac", "flac") + np.random.default_rng(0).bytes(3000), 1, 0.0),
    "crashed.wav": (lambda: wav_of_size(0), 1, 0.0),
    "streamed.wav": (lambda: wav_of_size(0xFFFFFFFF), 1, 0.0),
    "sox.wav": (lambda: wav_of_size(0x7FFFF000), 1, 0.0),
    "stale.wav": (lambda: wav_of_size(20_000), 1, 0.0),
    "list.wav": (lambda: written("WAV") + b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + struct.pack("<I", 14)
                 + b"Lavf58.29.100\0", 1, 0.0),
    "junk.wav": (lambda: written("WAV") + b"\0" * 300, 1, 0.0),
    "odd.wav": (lambda: written("WAV") + b"x", 1, 0.0),
    "phone.ogg": (lambda: sounds.without_last_page(written("OGG", "VORBIS") * 2), 1, SECONDS),
    "junk.ogg": (lambda: written("OGG", "VORBIS") + b"junk" * 1000, 1, 0.0),
    # The wrong ending.
    "really-m4a.wav": (lambda: encoded("aac", "mp4"), 1, 0.01),
    "really-wav.mp3": (lambda: written("WAV"), 1, 0.0),
    # Several recordings in one file.
    "cat.mp3": (lambda: mp3() * 3, 3, 0.0),
    "cat-covers.mp3": (lambda: (tag() + mp3()) * 2, 2, 0.0),
    "cat-rates.mp3": (lambda: mp3() + mp3(44100), 2, 0.0),
    "cat-without-length.mp3": (lambda: without_length(mp3()) * 2, 2, 2 * DELAY),
    "cat.aac": (lambda: encoded("aac", "adts") * 2, 2, 2 * DELAY),
    "cat.m4a": (lambda: encoded("aac", "mp4") * 2, 2, 0.02),
    "cat.flac": (lambda: encoded("flac", "flac") * 2, 2, 0.0),
    "cat.wav": (lambda: written("WAV") * 2, 2, 0.0),
    "cat-rates.wav": (lambda: written("WAV") + written("WAV", rate=44100), 2, 0.0),
    "cat.aiff": (lambda: written("AIFF") * 2, 2, 0.0),
    "cat.webm": (lambda: encoded("libopus", "webm", 48000) * 2, 2, 0.02),
    "chain.opus": (lambda: encoded("libopus", "ogg", 48000) * 3, 3, 0.0),
    "chain.ogg": (lambda: written("OGG", "VORBIS") * 2, 2, 0.0),
    "chain-rates.ogg": (lambda: written("OGG", "VORBIS") + written("OGG", "VORBIS", 44100), 2, 0.0),
    "chain-codecs.ogg": (lambda: written("OGG", "VORBIS") + written("OGG", "OPUS"), 2, 0.0),
    "chain-stereo.oga": (lambda: encoded("flac", "ogg") + encoded("flac", "ogg", channels=2), 2, 0.0),
}  # fmt: skip


def made(folder: Path, name: str) -> str:
    path = folder / name
    path.write_bytes(WHOLE[name][0]())
    return str(path)


def likeness(found: np.ndarray, expected: np.ndarray, reach: int = 4000) -> float:
    """The correlation of two waveforms where it is highest, within the delay of encoders."""
    size = min(len(found), len(expected)) - reach
    spectrum = np.fft.rfft(found[: size + reach], 1 << 18) * np.conj(np.fft.rfft(expected[:size], 1 << 18))
    lags = np.fft.irfft(spectrum)
    most = max(lags[:reach].max(), lags[-reach:].max())
    return float(most / np.linalg.norm(expected[:size]) / np.linalg.norm(found[:size]))


@pytest.mark.parametrize("name", WHOLE)
def test_it_is_read_whole_and_its_length_is_what_is_read(tmp_path: Path, name: str) -> None:
    _, times, more = WHOLE[name]
    path = made(tmp_path, name)
    found = read_audio(path)
    assert len(found) == audio_length(path)
    less = 0.03 if name == "music.wma" else 0.001  # its encoder keeps the last frame
    assert times * SECONDS - less <= len(found) / RATE <= times * SECONDS + more + 0.001
    least = 0.5 if "phone.a" in name or "phone.3" in name else 0.9  # of a telephone's band
    assert likeness(found, speech()) > least
    last = found[-round((SECONDS + more / times) * RATE) :]  # the last recording in it
    assert likeness(last[: 2 * RATE + 4000], speech()[: 2 * RATE], 8000) > least or name in ("phone.ogg", "music.wma")


@pytest.mark.parametrize("name", [name for name in WHOLE if "rates" not in name])
def test_a_slice_is_that_part_of_the_whole(tmp_path: Path, name: str) -> None:
    path = made(tmp_path, name)
    with open_sound(path) as sound:
        whole = np.concatenate([block.mean(axis=1) for block in sound.blocks])
    for start, length in ((0, 1000), (len(whole) * 2 // 3, 2000), (len(whole) - 500, 500)):
        with open_sound(f"{path}:{start}:{length}") as sound:
            part = np.concatenate([block.mean(axis=1) for block in sound.blocks])
        assert len(part) == length
        np.testing.assert_allclose(part, whole[start : start + length], atol=5e-5)
    with pytest.raises(AudioError, match=rf"ends at sample {len(whole) + 1} of a file with"):
        read_audio(f"{path}:{len(whole) - 9}:10")


@pytest.mark.parametrize("name", ["m4a.m4a", "cat.mp3", "chain-rates.ogg", "crashed.wav", "cat-rates.wav", "pipe.flac"])
def test_blocks_and_zip_members_are_the_same_samples(tmp_path: Path, name: str) -> None:
    path = made(tmp_path, name)
    whole = read_audio(path)
    streamed = np.concatenate(list(stream_audio(path, 5000)))
    assert len(streamed) == len(whole)
    np.testing.assert_allclose(streamed, whole, atol=2e-6)
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        file.write(path, "x")
    np.testing.assert_array_equal(read_audio(f"{archive}:31:{os.path.getsize(path)}"), whole)


@pytest.mark.parametrize("kind", ["RIFF", "RF64"])
def test_a_wav_of_more_than_4_gib_has_its_length_and_is_sought_in(tmp_path: Path, kind: str) -> None:
    """7.8 hours of which the header, in 32 bits, says 3.1; RF64 where the wide size was never filled in."""
    size = 7.8 * 3600 * 2 * 44100
    size = round(size) * 2
    path = tmp_path / "long.wav"
    with path.open("wb") as file:
        head = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 2, 44100, 4 * 44100, 4, 16)
        if kind == "RF64":
            head = b"WAVEds64" + struct.pack("<IQQQI", 28, 0, 0, 0, 0) + head[4:]
            file.write(b"RF64\xff\xff\xff\xff" + head + b"data\xff\xff\xff\xff")
        else:
            file.write(
                b"RIFF" + struct.pack("<I", (size + 36) % 2**32) + head + b"data" + struct.pack("<I", size % 2**32)
            )
        begin = file.tell()
        wave = (speech(44100) * 32767).astype("<i2").repeat(2).tobytes()
        file.seek(begin + size - len(wave))
        file.write(wave)
    found = measure(str(path))
    assert found.count / found.rate == pytest.approx(7.8 * 3600, abs=1e-3)
    last = read_audio(f"{path}:{found.count - 88200}:88200")
    assert likeness(last, speech()[RATE:]) > 0.95


def test_the_first_of_several_streams_is_read_and_that_is_said(tmp_path: Path) -> None:
    import av

    path = tmp_path / "two.mka"
    with av.open(str(path), "w") as file:
        tracks = [file.add_stream("flac", rate=RATE) for _ in range(2)]
        for track in tracks:
            track.codec_context.layout = "mono"
        packets = []
        for track, level in zip(tracks, (1.0, 0.1), strict=True):
            frame = av.AudioFrame.from_ndarray((speech()[None] * level * 32767).astype(np.int16), "s16p", "mono")
            frame.sample_rate, frame.pts = RATE, 0
            packets += [*track.encode(frame), *track.encode(None)]
        for packet in packets:
            file.mux(packet)
    np.testing.assert_allclose(read_audio(str(path)), speech(), atol=1e-4)
    assert "holds 2 streams of sound; the first was read" in measure(str(path)).account.sentences()[0]


def test_sound_is_found_in_a_film(tmp_path: Path) -> None:
    import av

    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as file:
        video = file.add_stream("mpeg4", rate=5)
        video.width = video.height = 32
        track = file.add_stream("aac", rate=RATE)
        track.codec_context.layout = "mono"
        pictures = []
        for k in range(15):
            picture = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 10 * k, np.uint8), "rgb24")
            picture.pts = k
            pictures += video.encode(picture)
        frame = av.AudioFrame.from_ndarray(speech()[None], "fltp", "mono")
        frame.sample_rate, frame.pts = RATE, 0
        for packet in (*pictures, *video.encode(None), *track.encode(frame), *track.encode(None)):
            file.mux(packet)
    assert len(read_audio(str(path))) == pytest.approx(SECONDS * RATE, abs=200)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.wav", b"", "the file is empty"),
        ("text.wav", b"this is a letter\n" * 50, "cannot be read as audio"),
        ("noise.mp3", np.random.default_rng(0).bytes(20_000), "cannot be read as audio"),
        ("playlist.wav", b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n/etc/passwd\n#EXT-X-ENDLIST\n", "cannot be"),
        ("nothing.wav", written("WAV")[:44], "truncated|no samples"),
    ],
)
def test_what_is_no_recording_is_refused(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AudioError, match=f"{name}: .*{says}"):
        read_audio(str(tmp_path / name))


def test_an_unfinished_m4a_says_what_is_missing(tmp_path: Path) -> None:
    data = encoded("aac", "mp4")
    (tmp_path / "a.m4a").write_bytes(data[: len(data) // 2])
    with pytest.raises(AudioError, match=r"a\.m4a: .*its index is missing: the recording or the copy of it was not"):
        read_audio(str(tmp_path / "a.m4a"))


def test_a_film_without_sound_says_so(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        video = file.add_stream("mpeg4", rate=5)
        video.width = video.height = 32
        picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
        for packet in (*video.encode(picture), *video.encode(None)):
            file.mux(packet)
    with pytest.raises(AudioError, match=r"a\.mp4: holds no sound \(found video\)"):
        read_audio(str(tmp_path / "a.mp4"))
