"""Several files, or a zip of them, into a zip of texts; with a manifest of references, scores too.

What comes from outside names no place on the server: a zip's members are written under names of our own, and a
manifest's `audio` column is only compared with the names of what was uploaded.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from sparqle_fairseq.data.audio import is_audio
from sparqle_fairseq.errors import SparqleError, reason
from sparqle_fairseq.files import read_lines
from sparqle_fairseq.scoring.scores import Score, score
from sparqle_fairseq.tools.page.limits import MEGABYTE, Limits
from sparqle_fairseq.tools.page.service import Over, Request, Said, Service, Stop, joined
from sparqle_fairseq.tools.page.texts import DOWNLOADS, Texts, write_zip
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


# One text of a manifest: the file's name, the language.
References = dict[tuple[str, str], str]


def unpack(files: Sequence[tuple[str, str]], limits: Limits, folder: Path) -> tuple[list[Recording], References]:
    """The recordings of uploads `(path, name)`, zips opened, and the references of manifests among them.

    Raises:
        SparqleError: nothing that is audio, more than the limits, a zip that is none or unpacks to too much.
    """
    found: list[Recording] = []
    manifests: list[Path] = []
    for path, name in files:
        if name.lower().endswith(".zip"):
            for inside, member in _members(path, name, limits, folder):
                _sort(inside, member, found, manifests)
        else:
            _sort(Path(path), name, found, manifests)
    if not found:
        raise SparqleError("no recording is among the files; upload sound files, or a zip of them")
    if len(found) > limits.files:
        raise SparqleError(f"{len(found)} recordings are more than the {limits.files} that this page takes at once")
    references: References = {}
    for manifest in manifests:
        references |= read_references(manifest)
    return found, references


def run_batch(
    service: Service,
    recordings: Sequence[Recording],
    references: References,
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
    for recording in recordings:
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
        report.rows.append((recording.name, f"{len(said)} segments" if said else "no speech was found"))
        yield report
    report.scores = _scores(outcomes, references)
    yield _finished(report, members, folder)


def read_references(manifest: Path) -> References:
    """`{(file name, language): text}` of a manifest's rows: its columns audio, tgt_lang and tgt_text."""
    lines = read_lines(manifest, "manifest")
    head = lines[0].split("\t") if lines else []
    missing = [name for name in ("audio", "tgt_text", "tgt_lang") if name not in head]
    if missing:
        raise SparqleError(f"{manifest.name} has no column {missing[0]}; references need audio, tgt_lang and tgt_text")
    found: References = {}
    for number, line in enumerate(lines[1:], 2):
        cells = line.split("\t")
        if len(cells) != len(head):
            raise SparqleError(f"{manifest.name}:{number} has {len(cells)} cells, its header {len(head)}; correct it")
        row = dict(zip(head, cells, strict=True))
        found[PurePosixPath(row["audio"].replace("\\", "/")).name, row["tgt_lang"]] = row["tgt_text"]
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
            (references[PurePosixPath(name).name, code], text)
            for (name, code), text in outcomes.items()
            if code == language and references.get((PurePosixPath(name).name, code), "").strip()
        ]
        if pairs:
            reference, text = zip(*pairs, strict=True)
            found.append(Scored(language, score(reference, text, SCORED, languages=language)))
    return found


def _sort(path: Path, name: str, found: list[Recording], manifests: list[Path]) -> None:
    if name.lower().endswith(".tsv"):
        manifests.append(path)
    elif is_audio(Path(name)):
        taken = {recording.stem for recording in found}
        stem = PurePosixPath(name).stem
        if stem in taken:
            stem = next(f"{stem}-{i}" for i in range(2, len(taken) + 3) if f"{stem}-{i}" not in taken)
        found.append(Recording(str(path), name, stem))


def _members(path: str, name: str, limits: Limits, folder: Path) -> Iterator[tuple[Path, str]]:
    """(where it lies now, what it was called) of the members of a zip that may be of use."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise SparqleError(f"{name} cannot be read as a zip ({reason(error)}); make it again") from error
    with archive:
        members = [member for member in archive.infolist() if not member.is_dir() and not _hidden(member.filename)]
        members = [member for member in members if is_audio(Path(member.filename)) or member.filename.endswith(".tsv")]
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
