"""Recordings as phones, browsers, recorders and mishaps make them, all of the same few seconds of speech."""

from __future__ import annotations

import io
import struct
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile

SPEECH = Path(__file__).parent / "speech.flac"
SECONDS = 3.0
RATE = 16_000


@lru_cache
def speech(rate: int = RATE) -> np.ndarray:
    """(S,) three seconds, at one of a few rates."""
    wave, own = soundfile.read(SPEECH, dtype="float32")
    wave = wave[: int(SECONDS * own)]
    at = np.arange(int(SECONDS * rate)) * own / rate
    return np.interp(at, np.arange(len(wave)), wave).astype(np.float32)


@lru_cache
def encoded(codec: str, container: str, rate: int = RATE, channels: int = 1, **options: str) -> bytes:
    """The speech as FFmpeg encodes it."""
    stream = io.BytesIO()
    with av.open(stream, "w", format=container) as file:
        track = file.add_stream(codec, rate=rate)
        track.codec_context.layout = "mono" if channels == 1 else "stereo"
        track.codec_context.options = options
        if codec in ("wmav2", "libopencore_amrnb"):
            track.bit_rate = 12_200 if "amr" in codec else 64_000
        data = np.repeat(speech(rate)[None], channels, axis=0)
        frame = av.AudioFrame.from_ndarray(data, format="fltp", layout=track.codec_context.layout.name)
        frame.sample_rate, frame.pts = rate, 0
        for packet in (*track.encode(frame), *track.encode(None)):
            file.mux(packet)
    return stream.getvalue()


@lru_cache
def written(kind: str, subtype: str | None = None, rate: int = RATE, **options: Any) -> bytes:
    """The speech as libsndfile writes it."""
    stream = io.BytesIO()
    soundfile.write(stream, speech(rate), rate, format=kind, subtype=subtype, **options)
    return stream.getvalue()


def mp3(rate: int = RATE, mode: str = "CONSTANT") -> bytes:
    return written("MP3", rate=rate, bitrate_mode=mode)


def without_length(data: bytes) -> bytes:
    """An mp3 file as an encoder writes it to a pipe: its first frame is sound."""
    place = max(data.find(b"Xing"), data.find(b"Info"))
    start = data.rfind(b"\xff", 0, place)
    return data[data.find(data[start : start + 2], place) :]


def tag(size: int = 300_000) -> bytes:
    """An ID3v2 tag with a picture."""
    body = b"APIC" + struct.pack(">I", size) + b"\0\0" + np.random.default_rng(0).bytes(size)
    return b"ID3\x03\0\0" + bytes(len(body) >> shift & 0x7F for shift in (21, 14, 7, 0)) + body


def wav_of_size(size: int, data: bytes | None = None) -> bytes:
    """A wav file whose data chunk says another size than it has."""
    content = bytearray(written("WAV") if data is None else data)
    at = content.index(b"data") + 4
    content[at : at + 4] = struct.pack("<I", size)
    return bytes(content)


def flac_of_length(samples: int) -> bytes:
    """A flac file whose header says another length; 0: none, as where it was written to a pipe."""
    content = bytearray(encoded("flac", "flac"))
    at = content.index(b"fLaC")
    content[at + 21] = content[at + 21] & 0xF0
    content[at + 22 : at + 26] = struct.pack(">I", samples)
    return bytes(content)


def without_last_page(data: bytes) -> bytes:
    return data[: data.rfind(b"OggS")]


def spoiled(data: bytes, start: float = 0.4, stop: float = 0.5, random: bool = False) -> bytes:
    """The bytes with a stretch of zeros, or of noise, in them."""
    a, b = int(start * len(data)), int(stop * len(data))
    return data[:a] + (np.random.default_rng(1).bytes(b - a) if random else bytes(b - a)) + data[b:]
