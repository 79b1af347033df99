"""What a request has given so far, as files to take away."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparqle_fairseq.files import write_text, written_whole
from sparqle_fairseq.tools.page.service import Said
from sparqle_fairseq.tools.translate.cues import CueRule
from sparqle_fairseq.tools.translate.formats import About, open_format
from sparqle_fairseq.tools.translate.translator import Target

DOWNLOADS = {"txt": "Text", "srt": "Subtitles", "vtt": "Subtitles", "json": "Data"}


@dataclass
class Texts:
    """The texts of one recording: for each target, a line of each segment."""

    audio: str
    stem: str
    targets: tuple[Target, ...]
    said: list[Said] = field(default_factory=list)

    def document(self, place: int, form: str) -> str:
        """The text of the target at `place` in a format of `tools.translate.formats`."""
        target, writer = self.targets[place], open_format(form, CueRule())
        lines = (writer.line(said.lines[place]) for said in self.said)
        return writer.head(About(self.audio, target.language, target.task)) + "".join(lines) + writer.tail()

    def names(self, form: str) -> list[str]:
        """File names of the targets; wordings of one language have numbers."""
        codes = [target.language for target in self.targets]
        return [
            f"{self.stem}.{code}{f'.{i + 1}' if codes.count(code) > 1 else ''}.{form}" for i, code in enumerate(codes)
        ]

    def as_object(self) -> dict[str, Any]:
        """What an endpoint answers."""
        return {
            "audio": self.audio,
            "results": [
                {
                    "language": target.language,
                    "task": target.task,
                    "instruction": target.instruction,
                    "segments": [said.lines[i].cells() for said in self.said],
                }
                for i, target in enumerate(self.targets)
            ],
        }


def write_downloads(texts: Texts, folder: Path) -> list[Path]:
    """One file for each format: the text itself, or a zip where there are several languages."""
    found = []
    for form in DOWNLOADS:
        names = texts.names(form)
        documents = [texts.document(i, form) for i in range(len(names))]
        if len(names) == 1:
            path = folder / names[0]
            write_text(path, documents[0])
        else:
            path = folder / f"{texts.stem}.{form}.zip"
            write_zip(path, list(zip(names, documents, strict=True)))
        found.append(path)
    return found


def write_zip(path: Path, members: Sequence[tuple[str, str]]) -> None:
    with written_whole(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members:
            archive.writestr(name, text)
