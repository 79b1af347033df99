"""From a corpus's own tables to manifests: measure the recordings, cut slices, leave out what cannot be used, write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import starmap
from math import ceil
from pathlib import Path

from sparqle_fairseq import files
from sparqle_fairseq.data.audio import AUDIO_SUFFIXES, SAMPLE_RATE, AudioError, measure
from sparqle_fairseq.data.manifest import write_manifest
from sparqle_fairseq.data.not_text import like_placeholder, placeholder
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.tools.prepare.ledger import NAMED, Ledger

COLUMNS = ("id", "audio", "n_frames", "src_text", "tgt_text", "src_lang", "tgt_lang", "task", "speaker")
# Seconds by which a length that a corpus states may be off, or a segment may end after its recording: Kaldi's limit for
# segments. What is off by more is another recording, or another text.
SLACK = 0.5
NOTICED = 0.0101  # seconds; what differs by less was rounded
ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip")

Placed = tuple["Utterance", str, int]  # with its `audio` and `n_frames`
Manifests = dict[str, list["Utterance"]]  # by name
Progress = Callable[[Iterable[str], int], Iterable[str]]


class CorpusError(SparqleError):
    """A corpus that is not as its owners ship it, or not all there; one sentence with the file and the remedy."""


class LengthError(CorpusError):
    """A length that the corpus states is not that of the recording."""


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
    stated: float | None = None  # seconds that the corpus says it lasts
    where: str = ""  # `file:line` of the row, for messages

    @property
    def is_translation(self) -> bool:
        return self.src_lang != self.tgt_lang


def transcription(utterance: Utterance) -> Utterance:
    """The same speech with its transcript as the target."""
    return replace(utterance, tgt_text=utterance.src_text, tgt_lang=utterance.src_lang)


@dataclass
class Written:
    """What became of one manifest."""

    name: str
    path: str
    rows: int = 0
    hours: float = 0.0
    corrected: int = 0  # rows whose stated length was a little off
    ledger: Ledger = field(default_factory=Ledger)

    def as_dict(self) -> dict[str, object]:
        return {
            "name": self.name,
            "path": self.path,
            "rows": self.rows,
            "hours": round(self.hours, 4),
            "corrected": self.corrected,
            "left_out": dict(self.ledger.reasons()),
            "named": self.ledger.named(),
            "notes": self.ledger.notes,
        }


@dataclass(frozen=True)
class AudioLength:
    """Length at 16 kHz, and at the file's own rate."""

    n_frames: int
    samples: int
    rate: int
    said: tuple[str, ...] = ()  # what is to be said of it


def write_manifests(
    manifests: Mapping[str, Sequence[Utterance]],
    out: Path,
    *,
    skip_bad_audio: bool = False,
    strict_audio: bool = True,
    workers: int = 8,
    progress: Progress = lambda items, total: items,  # noqa: ARG005
) -> list[Written]:
    """Writes `out/<name>.tsv` of every list of utterances; all recordings are measured before anything is written.

    Args:
        manifests: utterances by manifest name.
        out: folder of the manifests, made where it is missing.
        skip_bad_audio: leave out utterances whose recording cannot be used, in place of stopping.
        strict_audio: a recording of which a part is lost cannot be used; else what is left of it is measured.
        workers: threads that read recordings; more than cores pay where the disk is slow.
        progress: wraps the recordings while they are measured, given their number.

    Raises:
        CorpusError: an utterance whose recording cannot be used, an id twice, or a manifest that would be empty.
    """
    recordings = list(dict.fromkeys(utterance.recording for rows in manifests.values() for utterance in rows))
    places = {utterance.recording: utterance.where for rows in manifests.values() for utterance in reversed(rows)}
    measured = _measure(recordings, places, workers, skip_bad_audio, strict_audio, progress)
    tables = [_table(name, rows, measured, skip_bad_audio) for name, rows in manifests.items()]
    out.mkdir(parents=True, exist_ok=True)
    for placed, report in tables:
        path = out / f"{report.name}.tsv"
        report.path = str(path)
        report.rows = write_manifest(path, starmap(_row, placed), COLUMNS)
    return [report for _, report in tables]


def _table(
    name: str, utterances: Sequence[Utterance], measured: Mapping[str, AudioLength | str], skip_bad_audio: bool
) -> tuple[list[Placed], Written]:
    """The utterances that can be used, each with its `audio` and `n_frames`, and the report of the others."""
    report = Written(name, "")
    placed: list[Placed] = []
    seen: set[str] = set()
    marks: dict[str, int] = {}
    said: dict[str, None] = {}  # of recordings, in order
    for utterance in utterances:
        reason = _unusable(utterance)
        if reason is None:
            try:
                audio, n_frames, corrected = _place(utterance, measured[utterance.recording])
            except CorpusError as error:
                if not skip_bad_audio:
                    where = f"{utterance.where or name}, utterance {utterance.id}"
                    raise CorpusError(f"{where}: {error}; --skip-bad-audio leaves such utterances out") from None
                reason = "another length than stated" if isinstance(error, LengthError) else "bad audio"
        if reason is not None:
            report.ledger.leave(utterance.id, reason)
            continue
        if utterance.id in seen:
            raise CorpusError(f"{name}: the corpus has the utterance {utterance.id} twice; repair its table")
        seen.add(utterance.id)
        recording = measured[utterance.recording]
        said |= dict.fromkeys(() if isinstance(recording, str) else recording.said)
        placed.append((utterance, audio, n_frames))
        report.hours += n_frames / SAMPLE_RATE / 3600
        report.corrected += corrected
        mark = like_placeholder(utterance.tgt_text)
        if mark is not None:
            marks[mark] = marks.get(mark, 0) + 1
    for sentence in list(said)[:NAMED]:
        report.ledger.note(sentence)
    if len(said) > NAMED:
        report.ledger.note(f"the same of {len(said) - NAMED} more recordings; `sparqle validate` names them")
    if marks:
        found = ", ".join(f"{mark!r} {count} times" for mark, count in list(marks.items())[:3])
        report.ledger.note(
            f"kept {sum(marks.values())} texts that may be marks of a table ({found}); `sparqle validate` names them"
        )
    if not placed:
        why = ", ".join(f"{count} with {reason}" for reason, count in report.ledger.reasons().items())
        why = why or "the corpus has none"
        raise CorpusError(f"{name}: no utterance is left ({why}); check that the corpus is complete")
    return placed, report


def _unusable(utterance: Utterance) -> str | None:
    kind = "translation" if utterance.is_translation else "transcript"
    if not utterance.tgt_text.strip():
        return f"empty {kind}"
    if placeholder(utterance.tgt_text):
        return f"a mark for a {kind} ({utterance.tgt_text.strip()})"
    if placeholder(utterance.src_text):
        return f"a mark for a transcript ({utterance.src_text.strip()})"
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


def _place(utterance: Utterance, recording: AudioLength | str) -> tuple[str, int, bool]:
    """The manifest's `audio` and `n_frames`, and whether a length that the corpus states was corrected."""
    if isinstance(recording, str):
        raise CorpusError(recording)
    if utterance.start is None:
        return utterance.recording, recording.n_frames, _corrected(utterance, recording.n_frames / SAMPLE_RATE)
    seconds = recording.samples / recording.rate
    duration = seconds - utterance.start if utterance.duration is None else utterance.duration
    begin = round(utterance.start * recording.rate)
    end = round((utterance.start + duration) * recording.rate)
    over = utterance.start + duration - seconds
    if end > recording.samples and over <= SLACK:
        end = recording.samples
    if not 0 <= begin < end <= recording.samples:
        raise LengthError(
            f"{utterance.recording}: seconds {utterance.start:g} to {utterance.start + duration:g} are no part of a "
            f"recording of {seconds:.2f} seconds"
        )
    length = end - begin
    corrected = over > NOTICED or _corrected(utterance, length / recording.rate)
    return f"{utterance.recording}:{begin}:{length}", ceil(length * SAMPLE_RATE / recording.rate), corrected


def _corrected(utterance: Utterance, seconds: float) -> bool:
    """Whether a stated length is a little off; a manifest holds the true one."""
    if utterance.stated is None:
        return False
    off = abs(utterance.stated - seconds)
    if off > SLACK:
        raise LengthError(
            f"found a length of {utterance.stated:.2f} seconds, and {utterance.recording} has {seconds:.2f}; correct "
            f"the length or the name, or give the start and the end of the part that is said"
        )
    return off > NOTICED


def _measure(
    recordings: Sequence[str],
    places: Mapping[str, str],
    workers: int,
    keep_going: bool,
    strict: bool,
    progress: Progress,
) -> dict[str, AudioLength | str]:
    """Each recording's length, decoded or certain; in place of it what is wrong, where it cannot be used.

    `places` says which row names a recording first, for messages.
    """

    def length(recording: str) -> AudioLength | str:
        try:
            found = measure(recording, strict=strict)
        except AudioError as error:
            if not keep_going:
                where = places.get(recording)
                raise CorpusError(f"{where}: {error}" if where else str(error)) from None
            return str(error)
        return AudioLength(found.n_frames(), found.count, found.rate, tuple(found.account.sentences()))

    with ThreadPoolExecutor(max(1, workers)) as pool:
        try:
            return dict(zip(progress(recordings, len(recordings)), pool.map(length, recordings), strict=True))
        except CorpusError as error:
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
    """The lines of a text file; only a line feed ends one, because texts may hold what Python takes for line ends."""
    return files.read_lines(file_of(path, what), what)


def other_ending(recording: Path) -> Path:
    """The recording, or the only file of the same name with another ending of audio where it is not there.

    Corpora change the format of their audio and not the names in their tables.
    """
    if recording.is_file():
        return recording
    there = [recording.with_suffix(suffix) for suffix in sorted(AUDIO_SUFFIXES)]
    there = [path for path in there if path.is_file()]
    return there[0] if len(there) == 1 else recording


def shown(text: str) -> str:
    """A found value, shortened to stay readable in a sentence."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def one_line(text: str) -> str:
    """A text with its tabs and line breaks, which a manifest's cell cannot hold, as single spaces."""
    return " ".join(part for part in text.replace("\t", "\n").replace("\r", "\n").split("\n") if part).strip()
