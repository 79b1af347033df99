"""`sparqle prepare` as a person runs it, on little folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from sparqle_fairseq.cli.main import app, main
from sparqle_fairseq.data.manifest import ManifestRow, read_manifest

RATE = 8000


def sound(path: Path, seconds: float = 2.0, channels: int = 1, **options: Any) -> Path:
    """A recording of noise at 8 kHz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.1 * np.random.default_rng(len(path.name)).standard_normal((round(seconds * RATE), channels))
    soundfile.write(path, wave, RATE, **options)
    return path


def sounds(folder: Path, *names: str) -> Path:
    for name in names:
        sound(folder / name)
    return folder


class Prepared:
    """What a command wrote and said."""

    def __init__(self, out: Path, reports: list[dict[str, Any]], said: str) -> None:
        self.out, self.reports, self.said = out, reports, said

    def rows(self, name: str) -> list[ManifestRow]:
        manifest = read_manifest(self.out / f"{name}.tsv")
        return [manifest.row(i) for i in range(len(manifest))]

    def texts(self) -> dict[str, list[tuple[str, str]]]:
        """(id, target text) by manifest."""
        names = sorted(path.stem for path in self.out.glob("*.tsv"))
        return {name: [(row.id, row.tgt_text or "") for row in self.rows(name)] for name in names}

    @property
    def left_out(self) -> dict[str, int]:
        """How many were left out, by reason."""
        found: dict[str, int] = {}
        for report in self.reports:
            for reason, count in report["left_out"].items():
                found[reason] = found.get(reason, 0) + count
        return found

    @property
    def named(self) -> list[str]:
        return [name for report in self.reports for name in report["named"]]

    @property
    def corrected(self) -> int:
        return sum(report["corrected"] for report in self.reports)

    @property
    def notes(self) -> list[str]:
        return [note for report in self.reports for note in report["notes"]]


def prepared(out: Path, *words: object) -> Prepared:
    """A command that succeeds."""
    done = CliRunner().invoke(app, ["prepare", *map(str, words), "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output + str(done.exception)
    return Prepared(out, json.loads(done.stdout), done.stderr)


def refused(capsys: pytest.CaptureFixture[str], out: Path, *words: object) -> str:
    """The sentence of a command that fails and writes nothing."""
    assert main(["prepare", *map(str, words), "--out", str(out)]) == 1
    (sentence,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert not list(out.glob("*.tsv"))
    return sentence


OWN = ("--src-lang", "en", "--tgt-lang", "fr", "--dev", 0, "--test", 0)
