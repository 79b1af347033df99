"""Features of manifests, written once by a frozen encoder."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from sparqle_fairseq.data.audio import is_features
from sparqle_fairseq.data.dataset import load_waveform, pad_sources
from sparqle_fairseq.data.manifest import KNOWN_COLUMNS, Manifest, ManifestRow, read_manifest, write_manifest
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.features import write_identity
from sparqle_fairseq.models.speech_encoder import SpeechEncoder, load_speech_encoder, parse_layer


def extract_manifests(
    paths: list[Path],
    *,
    speech_encoder: str,
    encoder_layer: str,
    out: Path,
    audio_root: Path | None,
    dtype: str,
    batch_size: int,
    cpu: bool,
) -> None:
    """Write features of every recording of the manifests at `paths`, and manifests of them, to `out`."""
    device = "cuda" if torch.cuda.is_available() and not cpu else "cpu"
    encoder = load_speech_encoder(speech_encoder, layer=parse_layer(encoder_layer)).to(device)
    manifests = [read_manifest(path, audio_root=audio_root) for path in paths]
    out.mkdir(parents=True, exist_ok=True)
    write_identity(out, encoder.identity)
    lengths = extract(manifests, encoder, out, np.float16 if dtype == "fp16" else np.float32, batch_size)
    for path, manifest in zip(paths, manifests, strict=True):
        columns = [column for column in KNOWN_COLUMNS if column in manifest.columns]
        rows = []
        for i in range(len(manifest)):
            row = manifest.row(i)
            name = _name(row.audio)
            cells = {column: getattr(row, column) for column in columns}
            rows.append({**cells, "audio": name, "n_frames": lengths[name]})
        write_manifest(out / path.name, rows, columns)


def extract(
    manifests: list[Manifest], encoder: SpeechEncoder, out: Path, dtype: type, batch_size: int
) -> dict[str, int]:
    """Write the features of every recording that has none yet; returns their lengths by file name."""
    places: dict[str, tuple[ManifestRow, str]] = {}
    for manifest in manifests:
        for i in range(len(manifest)):
            row = manifest.row(i)
            if is_features(row.audio):
                raise SparqleError(f"{manifest.where(i)}: {row.audio} holds features already; give a manifest of audio")
            places.setdefault(_name(row.audio), (row, manifest.where(i)))
    names = sorted(places, key=lambda name: places[name][0].n_frames)
    todo = [name for name in names if not (out / name).exists()]
    seconds = sum(places[name][0].n_frames for name in todo) / encoder.sample_rate
    device = encoder.frozen.device
    with tqdm(total=round(seconds / 60, 1), unit="min", desc="features", disable=not todo) as progress:
        for start in range(0, len(todo), batch_size):
            batch = todo[start : start + batch_size]
            rows = [places[name] for name in batch]
            waveforms = [load_waveform(*row, encoder.sample_rate, encoder.normalize) for row in rows]
            source, padding_mask = pad_sources(waveforms)
            features = encoder(source.to(device), padding_mask.to(device))
            for name, values, padding in zip(batch, features.values, features.padding_mask, strict=True):
                _write(out / name, values[~padding].cpu().numpy().astype(dtype))
            progress.update(sum(map(len, waveforms)) / encoder.sample_rate / 60)
    return {name: len(np.load(out / name, mmap_mode="r")) for name in names}


def _name(audio: str) -> str:
    """A file name of one recording: its own, told apart from equal ones in other folders."""
    folder, name = os.path.split(audio)
    return f"{name.replace(':', '_')}.{hashlib.sha256(folder.encode()).hexdigest()[:8]}.npy"


def _write(path: Path, values: np.ndarray) -> None:
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as file:
        np.save(file, values)
    os.replace(temporary, path)
