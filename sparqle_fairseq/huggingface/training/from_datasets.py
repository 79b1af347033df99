"""A data set of the package `datasets` as a manifest, for this trainer and for fairseq-train.

Recordings that lie in files stay there; those that lie in the data set are written beside the manifest, as they are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sparqle_fairseq.data.audio import audio_length
from sparqle_fairseq.data.manifest import write_manifest
from sparqle_fairseq.errors import MissingPackage, SparqleError, reason
from sparqle_fairseq.files import written_whole

COLUMNS = ("id", "audio", "n_frames", "src_text", "tgt_text", "src_lang", "tgt_lang", "task")


def open_dataset(name: str, config: str | None, split: str, audio: str) -> Any:
    """The split of a folder of `save_to_disk`, or of what `load_dataset` knows by this name; audio is not decoded.

    Raises:
        SparqleError: the package is missing, or the data set or its column cannot be read. Code that comes with a data
            set is never run.
    """
    try:
        import datasets
    except ImportError as error:
        raise MissingPackage(
            f"reading {name} needs the package datasets, which is not installed; run: pip install "
            "'sparqle-fairseq[datasets]'"
        ) from error
    try:
        if os.path.isfile(os.path.join(name, "dataset_dict.json")):
            found = datasets.load_from_disk(name)[split]
        elif os.path.isfile(os.path.join(name, "state.json")):
            found = datasets.load_from_disk(name)
        else:
            found = datasets.load_dataset(name, config, split=split)
    except Exception as error:  # of files, networks and the package's own many kinds
        raise SparqleError(
            f"{name} ({split}) cannot be read as a data set ({reason(error)}); check name and split"
        ) from error
    if audio not in found.column_names:
        raise SparqleError(f"{name} has no column {audio!r}; its columns are {', '.join(found.column_names)}")
    if isinstance(found.features[audio], datasets.Audio):
        found = found.cast_column(audio, datasets.Audio(decode=False))
    return found


def write_from_dataset(
    rows: Sequence[Mapping[str, Any]],
    folder: Path,
    split: str,
    *,
    audio: str = "audio",
    src_text: str | None = None,
    tgt_text: str | None = None,
    src_lang: str | None = None,
    tgt_lang: str | None = None,
    name: str | None = None,
) -> int:
    """Write `folder/split.tsv`, and recordings that have no file of their own into `folder/split/`.

    Args:
        rows: mappings; `datasets.Dataset` is a sequence of such.
        audio: column of the recordings: a path, `{"path", "bytes"}`, or `{"array", "sampling_rate"}`.
        src_text, tgt_text: columns of transcript and translation; without `tgt_text` the rows are transcriptions.
        src_lang, tgt_lang: BCP-47 codes of all rows.
        name: column of the rows' names; by default they are numbered.

    Returns:
        How many rows were written.

    Raises:
        SparqleError: a column is missing, a recording cannot be read, or the disk refuses.
    """
    if src_text is None and tgt_text is None:
        raise SparqleError("neither transcripts nor translations were named; give src_text, tgt_text or both")
    for column in (audio, src_text, tgt_text, name):
        if column is not None and len(rows) and column not in rows[0]:
            raise SparqleError(f"the data set has no column {column!r}; its columns are {', '.join(rows[0])}")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{split}.tsv"
    if path.exists():
        raise SparqleError(f"{path} exists already; give another folder, or move it away")

    def made() -> Iterator[dict[str, Any]]:
        for number in range(len(rows)):
            row = rows[number]
            label = f"{split}-{number}" if name is None else str(row[name])
            place = _file_of(row[audio], folder / split, f"{number:08d}")
            transcript = None if src_text is None else _one_line(row[src_text])
            translation = None if tgt_text is None else _one_line(row[tgt_text])
            yield {
                "id": label,
                "audio": os.path.relpath(place, folder) if place.is_relative_to(folder) else str(place.absolute()),
                "n_frames": audio_length(str(place)),
                "src_text": transcript,
                "tgt_text": transcript if tgt_text is None else translation,
                "src_lang": src_lang,
                "tgt_lang": src_lang if tgt_text is None else tgt_lang,
                "task": "transcription" if tgt_text is None else "translation",
            }

    return write_manifest(path, made(), COLUMNS)


def _file_of(recording: Any, folder: Path, stem: str) -> Path:
    """Where the recording lies, after it was written there if it had no file."""
    if isinstance(recording, str | Path):
        return Path(recording)
    data, path = recording.get("bytes"), recording.get("path")
    if data is None and recording.get("array") is None:
        if not path:
            raise SparqleError(f"recording {stem} has neither bytes, samples nor a path; leave its row out")
        return Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    if data is not None:
        place = folder / f"{stem}{Path(path or '').suffix or '.audio'}"
        with written_whole(place) as file:
            file.write(data)
        return place
    import soundfile

    place = folder / f"{stem}.flac"
    with written_whole(place) as file:
        samples = np.asarray(recording["array"], dtype=np.float32)
        soundfile.write(file, samples, int(recording["sampling_rate"]), format="FLAC", subtype="PCM_16")
    return place


def _one_line(text: Any) -> str:
    return " ".join(str(text or "").split())
