"""Several files, or a zip of them, into a zip of texts; with a manifest of references, scores too.

What comes from outside names no place on the server: a zip's members are written under names of our own, and a
manifest's `audio` column is only compared with the names of what was uploaded.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from sparqle_fairseq.data.audio import is_audio
from sparqle_fairseq.errors import SparqleError, reason
from sparqle_fairseq.files import read_lines
from sparqle_fairseq.scoring.scores import Score, score
from sparqle_fairseq.tools.page.limits import MEGABYTE, Limits, counted
from sparqle_fairseq.tools.page.service import Over, Request, Said, Service, Stop, joined
from sparqle_fairseq.tools.page.texts import DOWNLOADS, Texts, write_zip
from sparqle_fairseq.tools.translate.languages import parse_languages
from sparqle_fairseq.tools.translate.recordings import Recording
from sparqle_fairseq.tools.translate.translator import Settings, Target

SCORED = ("bleu", "chrf", "wer")


@dataclass(frozen=True)
class Scored:
    language: str
    scores: Mapping[str, Score]


@dataclass
class Report:
    """What has become of each file."""

    rows: list[tuple[str, str]] = field(default_factory=list)  # name, what became of it
    scores: list[Scored] = field(default_factory=list)
    file: Path | None = None

    def as_object(self) -> dict[str, Any]:
        """What an endpoint answers."""
        return {
            "files": [{"name": name, "outcome": outcome} for name, outcome in self.rows],
            "scores": [
                {
                    "language": scored.language,
                    "metric": name,
                    "score": found.value,
                    "interval": [found.low, found.high],
                    "recordings": found.n,
                    "signature": found.signature,
                }
                for scored in self.scores
                for name, found in scored.scores.items()
            ],
        }


# One text of a manifest: the file's name, the language.
References = dict[tuple[str, str], str]


@dataclass
class Batch:
    """What was sent."""

    recordings: list[Recording] = field(default_factory=list)
    references: References = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)  # names of files that are neither sound nor manifest


def uploads(paths: Sequence[str] | None) -> list[tuple[str, str]]:
    """(path, name) of what was uploaded. Raises `SparqleError` where nothing was."""
    if not paths:
        raise SparqleError("no file came; upload recordings, or a zip of them")
    return [(path, Path(path).name) for path in paths]


def unpack(files: Sequence[tuple[str, str]], limits: Limits, folder: Path) -> Batch:
    """The batch of uploads `(path, name)`: zips are opened into `folder`, manifests are read.

    Raises:
        SparqleError: nothing that is audio, more than the limits, a zip that is none or unpacks to too much.
    """
    batch = Batch()
    for path, name in files:
        if name.lower().endswith(".zip"):
            for inside, member in _members(path, name, limits, folder, batch.left_out):
                _sort(inside, member, batch)
        else:
            _sort(Path(path), name, batch)
    found = len(batch.recordings)
    if not found:
        raise SparqleError("no recording is among the files; upload sound files, or a zip of them")
    if found > limits.files:
        raise SparqleError(f"{found} recordings are more than the {limits.files} that this page takes at once")
    names = [recording.name for recording in batch.recordings]
    twice = next((name for name in names if names.count(name) > 1), None)
    if batch.references and twice:
        raise SparqleError(f"two recordings are called {twice}, and the manifest cannot tell them apart; rename one")
    return batch


def run_batch(
    service: Service,
    batch: Batch,
    targets: tuple[Target, ...],
    settings: Settings,
    stop: Stop,
    folder: Path,
) -> Iterator[Report]:
    """The report after each file; the last one has the zip and the scores.

    A file that cannot be used is in the report with its sentence, and the others go on.
    """
    total = 0.0
    report = Report()
    members: list[tuple[str, str]] = []
    outcomes: dict[tuple[str, str], str] = {}
    for recording in batch.recordings:
        said: list[Said] = []
        try:
            total += service.limits.seconds_of(recording)
            if total > 60 * service.limits.minutes:
                raise SparqleError(
                    f"the recordings before it fill the {service.limits.minutes:g} minutes of a batch; send it again"
                )
            for event in service.stream(Request(recording, targets, settings), stop):
                if isinstance(event, Said):
                    said.append(event)
                elif isinstance(event, Over) and event.stopped:
                    report.rows.append((recording.name, "stopped"))
                    yield _finished(report, members, folder)
                    return
        except SparqleError as error:
            report.rows.append((recording.name, str(error)))
            yield report
            continue
        texts = Texts(recording.name, recording.stem, targets, said)
        for form in DOWNLOADS:
            members += [(name, texts.document(i, form)) for i, name in enumerate(texts.names(form))]
        for i, target in enumerate(targets):
            outcomes[recording.name, target.language] = joined(said, i)
        report.rows.append((recording.name, counted(len(said), "segment") if said else "no speech was found"))
        yield report
    report.rows += [(name, "left out: neither a recording nor a manifest (.tsv)") for name in batch.left_out]
    report.scores = _scores(outcomes, batch.references)
    unused = len(set(batch.references) - set(outcomes))
    if unused:
        report.rows.append(
            ("manifest", f"{unused} of its {len(batch.references)} references are of another recording or language")
        )
    yield _finished(report, members, folder)


def read_references(manifest: Path, name: str) -> References:
    """`{(file name, language): text}` of a manifest's rows: its columns audio, tgt_lang and tgt_text."""
    lines = read_lines(manifest, "manifest")
    head = lines[0].split("\t") if lines else []
    missing = [name for name in ("audio", "tgt_text", "tgt_lang") if name not in head]
    if missing:
        raise SparqleError(f"{name} has no column {missing[0]}; references need audio, tgt_lang and tgt_text")
    found: References = {}
    for number, line in enumerate(lines[1:], 2):
        cells = line.split("\t")
        if len(cells) != len(head):
            raise SparqleError(f"{name}:{number} has {len(cells)} cells, its header {len(head)}; correct it")
        row = dict(zip(head, cells, strict=True))
        try:
            (language,) = parse_languages(row["tgt_lang"])
        except (SparqleError, ValueError) as error:
            raise SparqleError(f"{name}:{number}: {error}") from error
        key = PurePosixPath(row["audio"].replace("\\", "/")).name, language
        if found.get(key, row["tgt_text"]) != row["tgt_text"]:
            raise SparqleError(f"{name}:{number} has another reference of {key[0]} in {language} than a line before it")
        found[key] = row["tgt_text"]
    return found


def _finished(report: Report, members: list[tuple[str, str]], folder: Path) -> Report:
    lines = ["file\toutcome", *("\t".join(row) for row in report.rows)]
    extra = [("report.tsv", "\n".join(lines) + "\n")]
    if report.scores:
        rows = [
            f"{scored.language}\t{name}\t{found.value:.2f}\t{found.low:.2f}\t{found.high:.2f}\t{found.n}\t"
            f"{found.signature}"
            for scored in report.scores
            for name, found in scored.scores.items()
        ]
        extra.append(("scores.tsv", "\n".join(["language\tmetric\tscore\tlow\thigh\tn\tsignature", *rows]) + "\n"))
    report.file = folder / "texts.zip"
    write_zip(report.file, [*extra, *members])
    return report


def _scores(outcomes: Mapping[tuple[str, str], str], references: References) -> list[Scored]:
    found = []
    for language in dict.fromkeys(language for _, language in outcomes):
        pairs = [
            (references[name, code], text)
            for (name, code), text in outcomes.items()
            if code == language and references.get((name, code), "").strip()
        ]
        if pairs:
            reference, text = zip(*pairs, strict=True)
            found.append(Scored(language, score(reference, text, SCORED, languages=language)))
    return found


def _sort(path: Path, name: str, batch: Batch) -> None:
    if name.lower().endswith(".tsv"):
        batch.references |= read_references(path, name)
    elif not is_audio(Path(name)):
        batch.left_out.append(name)
    else:
        taken = {recording.stem for recording in batch.recordings}
        stem = PurePosixPath(name).stem
        if stem in taken:
            stem = next(f"{stem}-{i}" for i in range(2, len(taken) + 3) if f"{stem}-{i}" not in taken)
        batch.recordings.append(Recording(str(path), name, stem))


def _members(path: str, name: str, limits: Limits, folder: Path, left_out: list[str]) -> Iterator[tuple[Path, str]]:
    """(where it lies now, what it was called) of the members of a zip that may be of use; the others are left out."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise SparqleError(f"{name} cannot be read as a zip ({reason(error)}); make it again") from error
    with archive:
        members = []
        for member in archive.infolist():
            if member.is_dir() or _hidden(member.filename):
                continue
            if is_audio(Path(member.filename)) or member.filename.lower().endswith(".tsv"):
                members.append(member)
            else:
                left_out.append(PurePosixPath(member.filename).name)
        if len(members) > limits.files + 1:
            raise SparqleError(f"{name} holds {len(members)} files, and this page takes {limits.files} at once")
        room = int(limits.megabytes * MEGABYTE)
        for i, member in enumerate(members):
            where = folder / f"{i:04d}{PurePosixPath(member.filename).suffix.lower()}"
            try:
                with archive.open(member) as source, where.open("wb") as target:
                    room -= _copy(source, target, room, name, limits)
            except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, EOFError) as error:
                raise SparqleError(f"{name}: {member.filename} cannot be unpacked ({reason(error)})") from error
            yield where, PurePosixPath(member.filename).name


def _copy(source: IO[bytes], target: IO[bytes], room: int, name: str, limits: Limits) -> int:
    """Copy at most `room` bytes: what a zip says of its sizes may be wrong."""
    before = target.tell()
    block = 1 << 20
    while data := source.read(block):
        target.write(data)
        if target.tell() - before > room:
            raise SparqleError(f"{name} unpacks to more than {limits.megabytes:g} MB; send fewer files at a time")
    return target.tell() - before


def _hidden(name: str) -> bool:
    return any(part not in (".", "..") and part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)
