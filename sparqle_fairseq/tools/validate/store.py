"""Keeps findings on disk while they come, so that a million bad rows need no memory."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from sparqle_fairseq.tools.validate.findings import ERROR, KINDS, WARNING, Finding

_ORDER = {code: k for k, code in enumerate(KINDS)}


class Kept(NamedTuple):
    """A finding as it comes back: with its manifest, and what a clean manifest did about it."""

    manifest: int
    finding: Finding
    done: str | None


class Count(NamedTuple):
    """How often a code was found, at one severity."""

    code: str
    severity: str
    times: int


class FindingStore:
    """Findings of several manifests, in a temporary folder that goes with the `with` block."""

    def __enter__(self) -> FindingStore:
        self._folder = tempfile.TemporaryDirectory(prefix="sparqle-validate-")
        self._base = sqlite3.connect(Path(self._folder.name) / "findings.db")
        self._base.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            "CREATE TABLE findings (manifest INT, line INT, code TEXT, severity TEXT, id TEXT, message TEXT,"
            " changes TEXT, done TEXT);"
            "CREATE TABLE dropped (manifest INT, line INT, PRIMARY KEY (manifest, line)) WITHOUT ROWID;"
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._base.close()
        self._folder.cleanup()

    def add(self, manifest: int, findings: Iterable[Finding]) -> None:
        self._base.executemany(
            "INSERT INTO findings VALUES (?, ?, ?, ?, ?, ?, ?, NULL)",
            (
                (manifest, f.line, f.code, f.level, f.id, f.message, json.dumps(f.changes) if f.changes else None)
                for f in findings
            ),
        )

    def finish(self) -> None:
        """Call once all are in: makes what follows fast."""
        self._base.execute("CREATE INDEX by_place ON findings (manifest, line)")
        self._base.execute("CREATE INDEX by_code ON findings (code, severity, manifest, line)")

    def counts(self) -> list[Count]:
        """Errors before warnings, each in the order of `KINDS`."""
        found = self._base.execute("SELECT code, severity, COUNT(*) FROM findings GROUP BY code, severity")
        return sorted((Count(*row) for row in found), key=lambda count: (count.severity != ERROR, _ORDER[count.code]))

    def total(self, severity: str) -> int:
        return sum(count.times for count in self.counts() if count.severity == severity)

    def first(self, code: str, severity: str, limit: int) -> list[Kept]:
        return list(self._select("WHERE code = ? AND severity = ?", (code, severity), f"LIMIT {limit}"))

    def all(self) -> Iterator[Kept]:
        """Every finding, by manifest and line."""
        return self._select()

    def bad_rows(self) -> int:
        """Rows with at least one error."""
        query = "SELECT COUNT(*) FROM (SELECT DISTINCT manifest, line FROM findings WHERE line > 0 AND severity = ?)"
        return int(self._base.execute(query, (ERROR,)).fetchone()[0])

    def drop(self, warnings: bool) -> None:
        """Choose the rows that a clean manifest leaves out: those with an error (or warning) nothing safe mends."""
        self._base.execute(
            "INSERT INTO dropped SELECT DISTINCT manifest, line FROM findings"
            " WHERE line > 0 AND changes IS NULL AND severity IN (?, ?)",
            (ERROR, WARNING if warnings else ERROR),
        )

    def dropped(self, manifest: int) -> set[int]:
        found = self._base.execute("SELECT line FROM dropped WHERE manifest = ?", (manifest,))
        return {line for (line,) in found}

    def changes(self, manifest: int) -> dict[int, dict[str, str]]:
        """Line -> new cells, of the rows that stay."""
        found = self._base.execute(
            "SELECT line, changes FROM findings WHERE manifest = ? AND changes IS NOT NULL"
            " AND NOT EXISTS (SELECT 1 FROM dropped d WHERE d.manifest = findings.manifest AND d.line = findings.line)",
            (manifest,),
        )
        changes: dict[int, dict[str, str]] = {}
        for line, new in found:
            changes.setdefault(line, {}).update(json.loads(new))
        return changes

    def note_what_was_done(self, manifest: int) -> None:
        """Say with each finding of a manifest what its clean copy did about it."""
        here = "manifest = ? AND line > 0"
        is_dropped = "EXISTS (SELECT 1 FROM dropped d WHERE d.manifest = findings.manifest AND d.line = findings.line)"
        self._base.execute(f"UPDATE findings SET done = 'row left out' WHERE {here} AND {is_dropped}", (manifest,))
        self._base.execute(
            f"UPDATE findings SET done = 'changed' WHERE {here} AND done IS NULL AND changes IS NOT NULL", (manifest,)
        )
        self._base.execute(f"UPDATE findings SET done = 'kept' WHERE {here} AND done IS NULL", (manifest,))

    def _select(self, where: str = "", values: tuple[Any, ...] = (), limit: str = "") -> Iterator[Kept]:
        query = (
            "SELECT manifest, line, code, id, message, changes, severity, done FROM findings "
            f"{where} ORDER BY manifest, line, rowid {limit}"
        )
        for manifest, line, code, name, message, changes, severity, done in self._base.execute(query, values):
            finding = Finding(line, code, name, message, json.loads(changes) if changes else None, severity)
            yield Kept(manifest, finding, done)
