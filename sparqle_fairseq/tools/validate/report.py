"""Shows what was found: a table for a person, JSON for a program."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sparqle_fairseq.files import written_whole
from sparqle_fairseq.tools.validate.findings import ERROR, KINDS, WARNING
from sparqle_fairseq.tools.validate.fix import Cleaned
from sparqle_fairseq.tools.validate.run import Source
from sparqle_fairseq.tools.validate.store import FindingStore, Kept

_LINES_SHOWN = 4


def summary(sources: Sequence[Source], store: FindingStore) -> str:
    """One line: what was looked at, and how much of it is wrong."""
    rows, hours = sum(source.rows + source.lines_lost for source in sources), sum(s.seconds for s in sources) / 3600
    errors, warnings = store.total(ERROR), store.total(WARNING)
    return (
        f"{_many(len(sources), 'manifest')}, {_many(rows, 'row')}, {hours:.1f} hours: "
        f"{_many(errors, 'error')} in {_many(store.bad_rows(), 'row')}, {_many(warnings, 'warning')}"
    )


def print_table(sources: Sequence[Source], store: FindingStore, cleaned: Sequence[Cleaned]) -> None:
    """The table of findings, an example of each, and what became of the manifests, on stdout."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, emoji=False, markup=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("finding", "severity"):
        table.add_column(name, no_wrap=True)
    table.add_column("count", justify="right", no_wrap=True)
    table.add_column("first lines", overflow="fold")
    examples = []
    for code, severity, count in store.counts():
        first = store.first(code, severity, _LINES_SHOWN)
        style = "red" if severity == ERROR else "yellow"
        table.add_row(Text(code), Text(severity, style), f"{count:,}", Text(_places(first, sources, count)))
        examples.append((code, first[0]))
    if examples:
        console.print(table)
        console.print()
        for code, kept in examples:
            console.print(Text(f"{code} ({KINDS[code][1]})", "bold"), soft_wrap=True)
            console.print(Text(f"  {_sentence(kept, sources)}"), soft_wrap=True)
        console.print()
    # None was cleaned without --fix.
    for source, clean in zip(sources if cleaned else (), cleaned, strict=True):
        if clean.path is None:
            console.print(Text(f"{source.path}: no row can be kept, no clean manifest was written"), soft_wrap=True)
        else:
            done = f"{clean.kept:,} kept, {clean.left_out:,} left out, {clean.changed:,} changed"
            console.print(Text(f"{clean.path}: {done}"), soft_wrap=True)
    console.print(Text(summary(sources, store)), soft_wrap=True)


def _places(first: Sequence[Kept], sources: Sequence[Source], count: int) -> str:
    """`train.tsv:3, 7, dev.tsv:2, …`"""
    parts: list[str] = []
    last = -1
    for kept in first:
        name = os.path.basename(sources[kept.manifest].path)
        place = name if not kept.finding.line else f"{name}:{kept.finding.line}"
        parts.append(str(kept.finding.line) if kept.manifest == last else place)
        last = kept.manifest
    return ", ".join(parts) + (", …" if count > len(first) else "")


def _sentence(kept: Kept, sources: Sequence[Source]) -> str:
    finding, path = kept.finding, sources[kept.manifest].path
    if not finding.line:
        return finding.message  # names the file itself
    name = f" (utterance {_plain(finding.id)})" if finding.id else ""
    return f"{path}:{finding.line}{name}: {_plain(finding.message)}"


def _plain(text: str) -> str:
    """Without characters that would move a terminal's cursor."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def write_report(path: Path, sources: Sequence[Source], store: FindingStore, cleaned: Sequence[Cleaned]) -> None:
    """Write the JSON report; an existing one is replaced at the end. Raises `SparqleError`."""
    with written_whole(path, "w") as file:
        file.writelines(json_report(sources, store, cleaned))


def json_report(sources: Sequence[Source], store: FindingStore, cleaned: Sequence[Cleaned]) -> Iterator[str]:
    """The report in pieces of JSON: totals first, then one finding a line."""
    head: dict[str, Any] = {
        "manifests": [_manifest(source, cleaned[k] if cleaned else None) for k, source in enumerate(sources)],
        "errors": store.total(ERROR),
        "warnings": store.total(WARNING),
        "rows_with_errors": store.bad_rows(),
        "counts": {},
    }
    for code, _, count in store.counts():
        head["counts"][code] = head["counts"].get(code, 0) + count
    yield json.dumps(head, ensure_ascii=False, indent=1)[:-2] + ',\n "findings": ['
    separator = "\n  "
    for kept in store.all():
        yield separator + json.dumps(_finding(kept, sources), ensure_ascii=False)
        separator = ",\n  "
    yield "\n ]\n}\n"


def _manifest(source: Source, clean: Cleaned | None) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "file": source.path,
        "split": source.split,
        "rows": source.rows,
        "lines_that_are_no_rows": source.lines_lost,
        "seconds": round(source.seconds, 2),
    }
    if clean is not None:
        entry["clean"] = {
            "file": None if clean.path is None else str(clean.path),
            "kept": clean.kept,
            "left_out": clean.left_out,
            "changed": clean.changed,
        }
    return entry


def _finding(kept: Kept, sources: Sequence[Source]) -> dict[str, Any]:
    finding = kept.finding
    entry: dict[str, Any] = {
        "file": sources[kept.manifest].path,
        "line": finding.line,
        "id": finding.id,
        "code": finding.code,
        "severity": finding.level,
        "message": finding.message,
    }
    if kept.done is not None:
        entry["done"] = kept.done
        if kept.done == "changed":
            entry["changes"] = finding.changes
    return entry


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
