"""Where texts go: one file for each recording and language, or standard output.

A file is written under a temporary name beside its own and renamed when its recording is finished.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.files import PartFile
from sparqle_fairseq.tools.translate.cues import CueRule
from sparqle_fairseq.tools.translate.formats import FORMATS, About, Line, Table, open_format
from sparqle_fairseq.tools.translate.recordings import Recording
from sparqle_fairseq.tools.translate.translator import Target

Write = Callable[[str], None]


class Output(Protocol):
    """Takes the lines of one recording after the other."""

    def begin(self, recording: Recording) -> None: ...

    def add(self, lines: Sequence[Line]) -> None:
        """The lines of one segment, one for each target."""
        ...

    def end(self) -> None: ...

    def fail(self, reason: str) -> str | None:
        """The recording cannot be finished; returns where what there is of it lies, if anywhere."""
        ...


# ---- files


def output_paths(
    recordings: Sequence[Recording], targets: Sequence[Target], output: Path, folder: bool, ending: str, force: bool
) -> dict[tuple[str, str], Path]:
    """`{(stem, language): path}`: `output` itself for one text, else `STEM.LANGUAGE.ENDING` or `OUTPUT.LANGUAGE`.

    Args:
        folder: `output` is a folder, there or to be made.
        force: files that exist may be replaced; the recordings themselves may not.

    Raises:
        SparqleError: a file exists, or stands where a folder must be.
    """
    if folder and output.exists() and not output.is_dir():
        raise SparqleError(f"--output {output} is a file, but there are several recordings; name a folder")
    paths = {}
    for recording in recordings:
        for target in targets:
            if folder:
                path = output / f"{recording.stem}.{target.language}.{ending}"
            elif len(targets) > 1:
                path = output.with_name(f"{output.stem}.{target.language}{output.suffix or '.' + ending}")
            else:
                path = output
            paths[recording.stem, target.language] = path
    sources = {os.path.realpath(recording.path) for recording in recordings}
    for path in paths.values():
        if os.path.realpath(path) in sources:
            raise SparqleError(f"{path} is a recording to be translated; name another --output")
        if path.is_dir():
            raise SparqleError(f"{path} is a folder; name another --output")
        if path.exists() and not force:
            raise SparqleError(f"{path} exists; name another --output, or replace it with --force")
    return paths


def format_of(output: Path | None, named: str | None) -> str:
    """The format: the one that was named, else that of the output's ending, else plain text."""
    ending = output.suffix.removeprefix(".").lower() if output is not None else ""
    return named or (ending if ending in FORMATS else "txt")


class _File:
    """One document on its way to `path`."""

    def __init__(self, path: Path, form: str, about: About, rule: CueRule | None) -> None:
        self.form = open_format(form, rule)
        self.lines = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SparqleError(f"{path} cannot be written ({error.strerror}); name another --output") from error
        self.part = PartFile(path, "w", part=path.with_name(f".{path.name}.part"))
        with self.part.writing() as stream:
            stream.write(self.form.head(about))

    def add(self, line: Line) -> None:
        with self.part.writing() as stream:
            stream.write(self.form.line(line))
            stream.flush()  # who looks into a long one on its way sees all that is done
        self.lines += 1

    def finish(self) -> None:
        with self.part.writing() as stream:
            stream.write(self.form.tail())
        self.part.finish()

    def abandon(self) -> Path | None:
        """Leave what is done under the temporary name; nothing where there is nothing."""
        self.part.abandon(keep=bool(self.lines))
        return self.part.part if self.lines else None


class FileOutput:
    """A file for each recording and target."""

    def __init__(
        self,
        paths: Mapping[tuple[str, str], Path],
        targets: Sequence[Target],
        form: str,
        rule: CueRule | None = None,
    ) -> None:
        self.paths, self.targets, self.form, self.rule = paths, targets, form, rule
        self.files: list[_File] = []

    def begin(self, recording: Recording) -> None:
        for target in self.targets:
            about = About(recording.name, target.language, target.task)
            self.files.append(_File(self.paths[recording.stem, target.language], self.form, about, self.rule))

    def add(self, lines: Sequence[Line]) -> None:
        for file, line in zip(self.files, lines, strict=True):
            file.add(line)

    def end(self) -> None:
        for file in self.files:
            file.finish()
        self.files = []

    def fail(self, reason: str) -> str | None:
        parts = [str(part) for part in (file.abandon() for file in self.files) if part]
        self.files = []
        return ", ".join(parts) or None


# ---- standard output


class TextOutput:
    """Text as it comes: a line for each segment; with the language or under the recording's name where needed."""

    def __init__(self, write: Write, targets: Sequence[Target], name_recordings: bool) -> None:
        self.write, self.targets, self.name_recordings = write, targets, name_recordings

    def begin(self, recording: Recording) -> None:
        if self.name_recordings:
            self.write(f"# {recording.name}\n")

    def add(self, lines: Sequence[Line]) -> None:
        form = open_format("txt")
        for target, line in zip(self.targets, lines, strict=True):
            language = f"{target.language}: " if len(self.targets) > 1 else ""
            self.write("".join(f"{language}{text}\n" for text in form.line(line).splitlines()))

    def end(self) -> None:
        """Nothing is held back."""

    def fail(self, reason: str) -> None:
        """What is on the screen stays there."""


class StreamOutput(TextOutput):
    """SubRip, WebVTT or a table as it comes; several recordings and languages share a table."""

    def __init__(self, write: Write, targets: Sequence[Target], form: str, rule: CueRule | None = None) -> None:
        super().__init__(write, targets, name_recordings=False)
        self.form = form
        self.open = [open_format(form, rule) for _ in targets]
        self.begun = False

    def begin(self, recording: Recording) -> None:
        for i, target in enumerate(self.targets):
            if self.form == "tsv":
                self.open[i] = Table(header=not self.begun)
            self.begun = True
            self.write(self.open[i].head(About(recording.name, target.language, target.task)))

    def add(self, lines: Sequence[Line]) -> None:
        for form, line in zip(self.open, lines, strict=True):
            self.write(form.line(line))


class JsonOutput:
    """One array of documents; that of a recording which failed says why."""

    def __init__(self, write: Write, targets: Sequence[Target]) -> None:
        self.write, self.targets = write, targets
        self.separator = "["
        self.recording: Recording | None = None
        self.lines: list[Sequence[Line]] = []

    def begin(self, recording: Recording) -> None:
        self.recording, self.lines = recording, []

    def add(self, lines: Sequence[Line]) -> None:
        self.lines.append(lines)

    def end(self) -> None:
        assert self.recording is not None
        for i, target in enumerate(self.targets):
            form, text = open_format("json"), io.StringIO()
            text.write(form.head(About(self.recording.name, target.language, target.task)))
            for lines in self.lines:
                text.write(form.line(lines[i]))
            text.write(form.tail().rstrip("\n"))
            self._put(text.getvalue())
        self.recording = None

    def fail(self, reason: str) -> None:
        if self.recording is not None:
            self._put(json.dumps({"audio": self.recording.name, "error": reason}, ensure_ascii=False))
        self.recording = None

    def close(self) -> None:
        self.write("[]\n" if self.separator == "[" else "\n]\n")

    def _put(self, document: str) -> None:
        self.write(f"{self.separator}\n{document}")
        self.separator = ","
