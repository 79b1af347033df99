"""From a corpus's own tables to manifests: measure the recordings, cut slices, leave out what cannot be used, write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import starmap
from math import ceil
from pathlib import Path

import soundfile

from sparqle_fairseq.data.audio import SAMPLE_RATE, AudioError, audio_length
from sparqle_fairseq.data.manifest import write_manifest
from sparqle_fairseq.errors import SparqleError

COLUMNS = ("id", "audio", "n_frames", "src_text", "tgt_text", "src_lang", "tgt_lang", "task", "speaker")
NAMED = 5  # utterances that were left out are counted; this many of them are named
ROUNDING = 0.05  # seconds by which a segment may end after its recording: times in corpora are rounded
ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip")

Placed = tuple["Utterance", str, int]  # with its `audio` and `n_frames`
Progress = Callable[[Iterable[str], int], Iterable[str]]


class CorpusError(SparqleError):
    """A corpus that is not as its owners ship it, or not all there; one sentence with the file and the remedy."""


@dataclass(slots=True)
class Utterance:
    """One row to be: a recording, or `duration` seconds of it from second `start` on."""

    id: str
    recording: str
    src_text: str
    tgt_text: str
    src_lang: str
    tgt_lang: str
    speaker: str = ""
    start: float | None = None
    duration: float | None = None

    @property
    def is_translation(self) -> bool:
        return self.src_lang != self.tgt_lang


def transcription(utterance: Utterance) -> Utterance:
    """The same speech with its transcript as the target."""
    return Utterance(
        utterance.id,
        utterance.recording,
        utterance.src_text,
        utterance.src_text,
        utterance.src_lang,
        utterance.src_lang,
        utterance.speaker,
        utterance.start,
        utterance.duration,
    )


@dataclass
class Written:
    """What became of one manifest."""

    name: str
    path: str
    rows: int = 0
    hours: float = 0.0
    left_out: Counter[str] = field(default_factory=Counter)  # reason -> utterances
    named: list[str] = field(default_factory=list)  # the first of them, each with its reason

    def as_dict(self) -> dict[str, object]:
        return {**asdict(self), "hours": round(self.hours, 4), "left_out": dict(self.left_out)}


@dataclass(frozen=True)
class Recording:
    """Length at 16 kHz, and at the file's own rate."""

    n_frames: int
    samples: int = 0  # known of recordings that are cut
    rate: int = SAMPLE_RATE


def write_manifests(
    manifests: Mapping[str, Sequence[Utterance]],
    out: Path,
    *,
    skip_bad_audio: bool = False,
    workers: int = 8,
    progress: Progress = lambda items, total: items,  # noqa: ARG005
) -> list[Written]:
    """Writes `out/<name>.tsv` of every list of utterances; all recordings are measured before anything is written.

    Args:
        manifests: utterances by manifest name.
        out: folder of the manifests, made where it is missing.
        skip_bad_audio: leave out utterances whose recording cannot be used, in place of stopping.
        workers: threads that read headers; more than cores pay where the disk is slow.
        progress: wraps the recordings while they are measured, given their number.

    Raises:
        CorpusError: an utterance whose recording cannot be used, an id twice, or a manifest that would be empty.
    """
    recordings = list(dict.fromkeys(utterance.recording for rows in manifests.values() for utterance in rows))
    cut = {utterance.recording for rows in manifests.values() for utterance in rows if utterance.start is not None}
    measured = _measure(recordings, cut, workers, skip_bad_audio, progress)
    tables = [_table(name, rows, measured, skip_bad_audio) for name, rows in manifests.items()]
    out.mkdir(parents=True, exist_ok=True)
    for placed, report in tables:
        path = out / f"{report.name}.tsv"
        report.path = str(path)
        report.rows = write_manifest(path, starmap(_row, placed), COLUMNS)
    return [report for _, report in tables]


def _table(
    name: str, utterances: Sequence[Utterance], measured: Mapping[str, Recording | str], skip_bad_audio: bool
) -> tuple[list[Placed], Written]:
    """The utterances that can be used, each with its `audio` and `n_frames`, and the report of the others."""
    report = Written(name, "")
    placed: list[Placed] = []
    seen: set[str] = set()
    for utterance in utterances:
        reason = _unusable(utterance)
        if reason is None:
            try:
                audio, n_frames = _place(utterance, measured[utterance.recording])
            except CorpusError as error:
                if not skip_bad_audio:
                    raise CorpusError(
                        f"{name}, utterance {utterance.id}: {error}; --skip-bad-audio leaves such utterances out"
                    ) from None
                reason = "bad audio"
        if reason is not None:
            report.left_out[reason] += 1
            if len(report.named) < NAMED:
                report.named.append(f"{utterance.id} ({reason})")
            continue
        if utterance.id in seen:
            raise CorpusError(f"{name}: the corpus has the utterance {utterance.id} twice; repair its table")
        seen.add(utterance.id)
        placed.append((utterance, audio, n_frames))
        report.hours += n_frames / SAMPLE_RATE / 3600
    if not placed:
        why = ", ".join(f"{count} with {reason}" for reason, count in report.left_out.items()) or "the corpus has none"
        raise CorpusError(f"{name}: no utterance is left ({why}); check that the corpus is complete")
    return placed, report


def _unusable(utterance: Utterance) -> str | None:
    if not utterance.tgt_text.strip():
        return "empty translation" if utterance.is_translation else "empty transcript"
    return None


def _row(utterance: Utterance, audio: str, n_frames: int) -> dict[str, object]:
    return {
        "id": utterance.id,
        "audio": audio,
        "n_frames": n_frames,
        "src_text": utterance.src_text,
        "tgt_text": utterance.tgt_text,
        "src_lang": utterance.src_lang,
        "tgt_lang": utterance.tgt_lang,
        "task": "translation" if utterance.is_translation else "transcription",
        "speaker": utterance.speaker,
    }


def _place(utterance: Utterance, recording: Recording | str) -> tuple[str, int]:
    """The manifest's `audio` and `n_frames`; a slice that rounding moved past the end is cut there."""
    if isinstance(recording, str):
        raise CorpusError(recording)
    if utterance.start is None:
        return utterance.recording, recording.n_frames
    seconds = recording.samples / recording.rate
    duration = seconds - utterance.start if utterance.duration is None else utterance.duration
    begin = round(utterance.start * recording.rate)
    end = round((utterance.start + duration) * recording.rate)
    if end > recording.samples and utterance.start + duration <= seconds + ROUNDING:
        end = recording.samples
    if not 0 <= begin < end <= recording.samples:
        raise CorpusError(
            f"{utterance.recording}: seconds {utterance.start:g} to {utterance.start + duration:g} are no part of a "
            f"recording of {seconds:.2f} seconds"
        )
    length = end - begin
    return f"{utterance.recording}:{begin}:{length}", ceil(length * SAMPLE_RATE / recording.rate)


def _measure(
    recordings: Sequence[str], cut: Set[str], workers: int, keep_going: bool, progress: Progress
) -> dict[str, Recording | str]:
    """Each recording's length, read from its header; in place of it what is wrong, where it cannot be used."""

    def length(recording: str) -> Recording | str:
        try:
            n_frames = audio_length(recording)
            info = soundfile.info(recording) if recording in cut else None
        except AudioError as error:
            if not keep_going:
                raise
            return str(error)
        return Recording(n_frames, info.frames, info.samplerate) if info else Recording(n_frames)

    with ThreadPoolExecutor(max(1, workers)) as pool:
        try:
            return dict(zip(progress(recordings, len(recordings)), pool.map(length, recordings), strict=True))
        except AudioError as error:
            pool.shutdown(cancel_futures=True)
            raise CorpusError(f"{error}; --skip-bad-audio leaves such utterances out") from None


def folder_of(corpus: str, root: Path, *parts: str, archive: str = "") -> Path:
    """`root/parts`, which must be a folder; says how to unpack it where only its archive is there.

    Args:
        corpus: its name, for the message.
        archive: part of the name of the archive that holds the folder; by default the folder's own name.
    """
    folder = root.joinpath(*parts)
    if folder.is_dir():
        return folder
    packed = root if root.is_file() else _archive(archive or folder.name, root, folder.parent)
    if packed is not None:
        unpack = f"unzip -q {packed} -d" if packed.suffix == ".zip" else f"tar xf {packed} -C"
        raise CorpusError(
            f"{packed}: recordings in this archive cannot be read in place; unpack it once: {unpack} {packed.parent}"
        )
    there = ", ".join(sorted(path.name for path in root.iterdir())[:8]) if root.is_dir() else "which does not exist"
    raise CorpusError(f"{folder}: there is no such folder of {corpus}; check {root} ({there or 'which is empty'})")


def _archive(name: str, *folders: Path) -> Path | None:
    files = (path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir()))
    return next((path for path in files if name in path.name and path.name.endswith(ARCHIVES)), None)


def file_of(path: Path, what: str) -> Path:
    """The path, where a file must be."""
    if not path.is_file():
        raise CorpusError(f"{path}: {what} is missing; check the path and that the corpus is complete")
    return path


def lines_of(path: Path, what: str) -> list[str]:
    """The lines of a UTF-8 file; only a line feed ends one, because texts may hold what Python takes for line ends."""
    try:
        text = file_of(path, what).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: found the byte 0x{error.object[error.start]:02x}, which is not UTF-8") from None
    lines = text.split("\n")
    return [line.rstrip("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]


def one_line(text: str) -> str:
    """A text with its tabs and line breaks, which a manifest's cell cannot hold, as single spaces."""
    return " ".join(part for part in text.replace("\t", "\n").replace("\r", "\n").split("\n") if part).strip()
