"""Hears manifests with a SpeechTokenizer and writes what `--source units` reads: `<split>.km` beside `<split>.tsv`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from sparqle_fairseq.data.audio import SAMPLE_RATE
from sparqle_fairseq.data.dataset import load_waveform
from sparqle_fairseq.data.manifest import Manifest, read_manifest, write_manifest
from sparqle_fairseq.data.torchaudio_import import ensure_torchaudio
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.files import written_whole
from sparqle_fairseq.tools.extract.plan import recordings_of, source_of
from sparqle_fairseq.tools.extract.speech_tokenizer import SpeechTokenizer

_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.3f}/{total:.3f} h of audio [{elapsed}<{remaining}]"


@dataclass(frozen=True)
class Options:
    """How to extract; see `sparqle extract-units --help`."""

    speechtokenizer: Path
    out: Path
    audio_root: Path | None = None
    strict_audio: bool = True
    max_seconds: float = 120.0
    cpu: bool = False


@dataclass(frozen=True)
class Summary:
    """What an extraction wrote."""

    folder: str
    manifests: list[str]
    utterances: int
    recordings: int  # several utterances may be of one, with targets in several languages
    units: int  # of all utterances
    vocabulary: int  # --unit-vocabulary
    unit_rate: float  # --unit-rate
    audio_seconds: float  # of the recordings
    wall_seconds: float


def extract_units(paths: Sequence[Path], options: Options) -> Summary:
    """Write the units of every utterance, in the manifest's order, and the manifest beside them.

    The manifest keeps its audio, with absolute paths, and its n_frames, which `--source units` does not look at. Each
    split is under temporary names until it is whole.

    Raises:
        SparqleError: no such manifest or SpeechTokenizer, no package; audio that cannot be used; what would be
            overwritten. Splits that were finished before are kept.
    """
    manifests = [read_manifest(path, audio_root=options.audio_root) for path in paths]
    targets = [options.out / path.with_suffix(".tsv").name for path in paths]
    _check_targets(targets, manifests)
    recordings = recordings_of(manifests)
    for recording in recordings[:1]:  # the longest comes first
        if recording.seconds > options.max_seconds:
            raise SparqleError(
                f"{manifests[recording.manifest].where(recording.row)}: found {recording.seconds:.0f} seconds of "
                f"audio, above {options.max_seconds:g}, and memory grows with them; cut it into segments, or raise "
                "--max-seconds"
            )
    ensure_torchaudio()
    device = "cuda" if torch.cuda.is_available() and not options.cpu else "cpu"
    tokenizer = SpeechTokenizer.read(options.speechtokenizer, device)
    options.out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with tqdm(total=sum(r.seconds for r in recordings) / 3600, desc="units", bar_format=_BAR) as progress:
        listener = _Listener(manifests, tokenizer, progress, options.strict_audio)
        units = sum(_write(listener, m, path) for m, path in zip(manifests, targets, strict=True))
    return Summary(
        folder=str(options.out),
        manifests=list(map(str, targets)),
        utterances=sum(map(len, manifests)),
        recordings=len(recordings),
        units=units,
        vocabulary=tokenizer.vocabulary,
        unit_rate=tokenizer.unit_rate,
        audio_seconds=sum(recording.seconds for recording in recordings),
        wall_seconds=time.perf_counter() - started,
    )


class _Listener:
    """Units of a manifest's rows; a recording that several rows name is heard once."""

    def __init__(self, manifests: Sequence[Manifest], tokenizer: SpeechTokenizer, progress: tqdm, strict: bool) -> None:
        self._tokenizer = tokenizer
        self._strict = strict
        self._progress = progress
        self._left = Counter(source_of(manifest.audio(i)) for manifest in manifests for i in range(len(manifest)))
        self._heard: dict[str, np.ndarray] = {}  # what a later row names again

    def rows(self, manifest: Manifest) -> Iterator[np.ndarray]:
        """Units (T,) of each row."""
        for i in range(len(manifest)):
            source = source_of(manifest.audio(i))
            units = self._heard.pop(source, None)
            if units is None:
                units = self._hear(manifest, i)
            self._left[source] -= 1
            if self._left[source]:
                self._heard[source] = units
            yield units

    def _hear(self, manifest: Manifest, i: int) -> np.ndarray:
        where = manifest.where(i)
        row = manifest.row(i)
        waveform = load_waveform(row, where, self._tokenizer.sample_rate, normalize=False, strict=self._strict)
        try:
            units = self._tokenizer.units(waveform).astype(np.int32)
        except torch.OutOfMemoryError as error:
            seconds = len(waveform) / self._tokenizer.sample_rate
            raise SparqleError(
                f"{where}: the memory of the GPU is too small for {seconds:.0f} seconds of audio; cut it into "
                "segments, or give --cpu"
            ) from error
        hours = row.n_frames / SAMPLE_RATE / 3600
        self._progress.update(min(hours, self._progress.total - self._progress.n))  # sums in another order round
        return units


def _write(listener: _Listener, manifest: Manifest, target: Path) -> int:
    """`<split>.km` and `<split>.tsv`; returns how many units there are. What is not whole does not stay."""
    count = 0
    with written_whole(target.with_suffix(".km"), "w") as file:
        for units in listener.rows(manifest):
            file.write(" ".join(map(str, units.tolist())) + "\n")
            count += len(units)
        if not _same(target, manifest):
            write_manifest(target, _rows(manifest), manifest.columns)
    return count


def _rows(manifest: Manifest) -> Iterator[dict[str, object]]:
    for i in range(len(manifest)):
        yield {column: manifest.text(column, i) for column in manifest.columns} | {"n_frames": manifest.n_frames[i]}


def _same(target: Path, manifest: Manifest) -> bool:
    """Whether the manifest lies where the units go, and can stay as it is."""
    return target.exists() and target.samefile(manifest.path)


def _check_targets(targets: Sequence[Path], manifests: Sequence[Manifest]) -> None:
    """Refuse to overwrite: units are the work of hours, and nobody can see who made them."""
    for k, (target, manifest) in enumerate(zip(targets, manifests, strict=True)):
        if target in targets[:k]:
            raise SparqleError(f"two of the manifests are called {target.name}; rename one, or give another --out")
        for path in (target.with_suffix(".km"), target):
            if path.exists() and not (path == target and _same(target, manifest)):
                raise SparqleError(
                    f"{path}: exists already; remove it, leave {manifest.path} out, or give another folder with --out"
                )
