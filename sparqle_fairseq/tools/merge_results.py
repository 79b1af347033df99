"""What several processes of fairseq-generate wrote, as one: every row once, in the manifest's order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from sparqle_fairseq.errors import SparqleError

_LINE = re.compile(r"([A-Z])-(\d+)\t(.*)")
_KINDS = "STHDPAI"


class Results(dict[int, list[tuple[str, str]]]):
    """Row number -> its lines, as (kind, rest of the line), in the order in which they were written."""

    def rows_with(self, kind: str) -> set[int]:
        """Rows that have a line of this kind."""
        return {row for row, lines in self.items() if any(of == kind for of, _ in lines)}


def read_results(paths: Sequence[Path]) -> Results:
    """Read files of fairseq-generate (`generate-SPLIT.txt`). Raises `SparqleError` where two of them have a row."""
    results = Results()
    seen: dict[int, Path] = {}
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SparqleError(f"{path}: cannot be read as fairseq-generate's output ({error})") from error
        rows: set[int] = set()
        for match in filter(None, map(_LINE.fullmatch, text.splitlines())):
            kind, row = match[1], int(match[2])
            if kind not in _KINDS:
                continue
            if seen.setdefault(row, path) != path:
                raise SparqleError(
                    f"row {row} is in {seen[row]} and in {path}; give each part of one run of fairseq-generate once"
                )
            rows.add(row)
            results.setdefault(row, []).append((kind, match[3]))
        if not rows:
            raise SparqleError(f"{path} holds no hypothesis; give what fairseq-generate wrote below --results-path")
    return results


def check_complete(results: Results, rows: int, what: str) -> None:
    """Raise `SparqleError` where a row of the manifest has no hypothesis, or a hypothesis no row."""
    missing = sorted(set(range(rows)) - results.rows_with("D"))
    beyond = sorted(row for row in results if row >= rows)
    if missing or beyond:
        shown = ", ".join(map(str, (missing or beyond)[:10]))
        raise SparqleError(
            f"{what} has {rows} rows; {len(missing)} have no hypothesis, and {len(beyond)} hypotheses have no row "
            f"({shown}); run fairseq-generate again for the missing part"
        )


def lines_in_order(results: Results) -> list[str]:
    """All lines, rows in the manifest's order."""
    return [f"{kind}-{row}\t{rest}" for row in sorted(results) for kind, rest in results[row]]
