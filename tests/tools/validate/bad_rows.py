"""A good corpus on disk, and what tests do to its rows."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from sparqle_fairseq.data.manifest import write_manifest
from sparqle_fairseq.tools.validate.findings import Finding
from sparqle_fairseq.tools.validate.run import splits_of, validate
from sparqle_fairseq.tools.validate.settings import Settings
from sparqle_fairseq.tools.validate.store import FindingStore

COLUMNS = ("id", "audio", "n_frames", "src_text", "tgt_text", "src_lang", "tgt_lang", "task")
ENGLISH = "The ferry number {} is late because of the fog."
FRENCH = "Le ferry numéro {} est en retard à cause du brouillard."
RATE = 16_000


def speech(seconds: float = 3.0, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """(S,) noise that is neither silent nor clipped."""
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))).clip(-0.9, 0.9).astype("float32")


def save(path: Path, wave: np.ndarray | None = None, rate: int = RATE, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, speech() if wave is None else wave, rate, **options)
    return path


def good_rows(folder: Path, name: str = "u", count: int = 5) -> list[dict[str, Any]]:
    """Rows without a fault, and their recordings in `folder`."""
    seed = sum(map(ord, name))
    rows = []
    for k in range(count):
        save(folder / "audio" / f"{name}{k}.wav", speech(seed=1000 * seed + k))
        rows.append(
            {
                "id": f"{name}{k}",
                "audio": f"audio/{name}{k}.wav",
                "n_frames": 3 * RATE,
                "src_text": ENGLISH.format(f"{name}{k}"),
                "tgt_text": FRENCH.format(f"{name}{k}"),
                "src_lang": "en",
                "tgt_lang": "fr",
                "task": "translation",
            }
        )
    return rows


def write(folder: Path, rows: list[dict[str, Any]], name: str = "train.tsv") -> Path:
    path = folder / name
    write_manifest(path, rows, tuple(rows[0]))
    return path


def write_raw(folder: Path, rows: list[dict[str, Any]], name: str = "train.tsv") -> Path:
    """As `write`, without a look at what the cells hold."""
    path = folder / name
    lines = ["\t".join(rows[0]), *("\t".join(map(str, row.values())) for row in rows)]
    path.write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))
    return path


def zipped(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> dict[str, str]:
    """Write a zip file; returns the audio cell of each member."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    cells = {}
    with zipfile.ZipFile(path) as archive, open(path, "rb") as raw:
        for info in archive.infolist():
            raw.seek(info.header_offset + 26)
            lengths = np.frombuffer(raw.read(4), "<u2")
            offset = info.header_offset + 30 + int(lengths.sum())
            cells[info.filename] = f"{path.name}:{offset}:{info.compress_size}"
    return cells


def wav_bytes(wave: np.ndarray, rate: int = RATE) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate, format="WAV")
    return buffer.getvalue()


def findings(
    *names: Path | str, workers: int = 1, defaults: dict[str, Any] | None = None, **settings: Any
) -> list[Finding]:
    """What validation finds, manifest after manifest and line after line."""
    with FindingStore() as store:
        sources = splits_of([str(name) for name in names])
        validate(sources, Settings(**settings), store, workers=workers, progress=False, **(defaults or {}))
        return [kept.finding for kept in store.all()]


def codes(*names: Path | str, **more: Any) -> list[tuple[str, int]]:
    return [(finding.code, finding.line) for finding in findings(*names, **more)]


def spoil_lines(path: Path, changes: dict[int, bytes]) -> Path:
    """Replace lines (1-based) by bytes."""
    lines = path.read_bytes().split(b"\n")
    for line, new in changes.items():
        lines[line - 1] = new
    path.write_bytes(b"\n".join(lines))
    return path


def rooted(folder: Path, count: int = 5, labels: str = ".wrd") -> Path:
    """A manifest of the wav2vec form, with a label file."""
    rows = good_rows(folder, count=count)
    path = folder / "train.tsv"
    path.write_text("\n".join([str(folder), *(f"{row['audio']}\t{row['n_frames']}" for row in rows)]) + "\n")
    texts = [row["src_text"] for row in rows]
    if labels == ".ltr":
        texts = [" ".join(text.replace(" ", "|")) + " |" for text in texts]
    path.with_suffix(labels).write_text("\n".join(texts) + "\n")
    return path
