"""What fairseq-generate printed, read back: the one reader of its T-, H-, D-, P-, A- and I- lines.

A text is on one line (`data.one_line`). Where an output of elsewhere broke a hypothesis over several lines, both its H-
and its D- line go on with them: such lines are read as part of it, and what else stands in the file (a log) is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sparqle_fairseq.data.one_line import from_one_line, one_line
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.files import read_lines

KINDS = "STHDPAI"
_LINE = re.compile(rf"([{KINDS}])-([0-9]+)(?:\t(.*))?", re.DOTALL)
_WHAT = "output of fairseq-generate"


class OutputLine(NamedTuple):
    """One line: `KIND-ROW<TAB>rest`, the rest as it was printed."""

    number: int  # of the line in its file, from 1
    kind: str
    row: int
    rest: str | None  # None: the line ends before its tab

    def __str__(self) -> str:
        return f"{self.kind}-{self.row}\t{self.rest}"


class Utterance(NamedTuple):
    """What was generated for one row of a manifest."""

    row: int
    reference: str | None
    hypothesis: str


class Results(dict[int, list[OutputLine]]):
    """Row number -> its lines, in the order in which they were written."""

    def rows_with(self, kind: str) -> set[int]:
        """Rows that have a line of this kind."""
        return {row for row, lines in self.items() if any(line.kind == kind for line in lines)}


def read_output(path: str | Path) -> list[OutputLine]:
    """The lines of one file, without what else is in it. Raises `SparqleError` where it cannot be read."""
    found: list[OutputLine] = []
    after: list[list[str]] = []  # what follows each of them
    for number, line in enumerate(read_lines(path, _WHAT), 1):
        match = _LINE.fullmatch(line)
        if match is not None:
            found.append(OutputLine(number, match[1], int(match[2]), match[3]))
            after.append([])
        elif after:
            after[-1].append(line)
    return list(_whole(found, after))


class Generated(NamedTuple):
    """What one run of fairseq-generate printed, by row."""

    references: dict[int, str]  # as printed: an empty one is empty
    hypotheses: dict[int, str]  # the best of each row
    remarks: dict[int, str]  # the rest of the best one's I- line


def read_generated(path: str | Path) -> Generated:
    """T-, D- and I- lines. Of several D- or I- lines of a row (`--nbest`) the first counts.

    Raises:
        SparqleError: the file cannot be read, is not of fairseq-generate, has a reference twice, or a line is cut off.
    """
    found = Generated({}, {}, {})
    for line in read_output(path):
        if line.kind not in "TDI":
            continue
        text = line.rest if line.kind == "I" else _text_of(line)
        if text is None:
            raise SparqleError(f"{path} line {line.number} is cut off: {str(line)[:60]!r}; run fairseq-generate again")
        if line.kind == "T" and line.row in found.references:
            raise SparqleError(f"{path} line {line.number}: utterance {line.row} comes twice; score one run at a time")
        kinds = {"T": found.references, "D": found.hypotheses, "I": found.remarks}
        kinds[line.kind].setdefault(line.row, text)
    if not found.references and not found.hypotheses:
        raise SparqleError(f"{path} has no T- and D- lines; is it the output of fairseq-generate?")
    return found


def read_generation(path: str | Path) -> list[Utterance]:
    """Reference and best hypothesis of every utterance, by row; a row whose reference is empty or missing has None.

    Raises:
        SparqleError: as `read_generated`, or there is no reference at all, or one without a hypothesis.
    """
    references, hypotheses, _ = read_generated(path)
    if not references:
        raise SparqleError(
            f"{path}: {len(hypotheses)} utterance(s) lack a reference (T-), so nothing can be scored; run "
            "fairseq-generate again, with references in the manifest"
        )
    if missing := sorted(references.keys() - hypotheses.keys()):
        raise SparqleError(
            f"{path}: {len(missing)} utterance(s) lack a hypothesis (D-), the first is {missing[0]}; run "
            "fairseq-generate again"
        )
    return [
        Utterance(row, references[row] if references.get(row, "").strip() else None, hypotheses[row])
        for row in sorted(hypotheses)
    ]


def read_results(paths: Sequence[Path]) -> Results:
    """Several files (`generate-SPLIT.txt`) together. Raises `SparqleError` where two of them have a row."""
    results = Results()
    seen: dict[int, Path] = {}
    for path in paths:
        lines = read_output(path)
        if not lines:
            raise SparqleError(f"{path} holds no hypothesis; give what fairseq-generate wrote below --results-path")
        for line in lines:
            if line.rest is None:
                raise SparqleError(
                    f"{path} line {line.number} is cut off ({line.kind}-{line.row}); run fairseq-generate again"
                )
            if seen.setdefault(line.row, path) != path:
                raise SparqleError(
                    f"row {line.row} is in {seen[line.row]} and in {path}; give each part of one run of "
                    "fairseq-generate once"
                )
            results.setdefault(line.row, []).append(line)
    return results


def _text_of(line: OutputLine) -> str | None:
    """The text of a T- or D- line; None where it is cut off. A D- line has its score first."""
    parts = [] if line.rest is None else line.rest.split("\t", 1 if line.kind == "D" else 0)
    return from_one_line(parts[-1]) if len(parts) == (2 if line.kind == "D" else 1) else None


def _whole(lines: Sequence[OutputLine], after: Sequence[Sequence[str]]) -> Iterator[OutputLine]:
    """Hypotheses with the lines that they go on with: those after the H- line that are after the D- line as well."""
    for i, line in enumerate(lines):
        pair = {"H": i + 1, "D": i - 1}.get(line.kind)
        if (
            after[i]
            and pair is not None
            and 0 <= pair < len(lines)
            and {lines[pair].kind, line.kind} == {"H", "D"}
            and lines[pair].row == line.row
            and (more := _common(after[i], after[pair]))
        ):
            yield line._replace(rest=one_line("\n").join([line.rest or "", *map(one_line, more)]))
        else:
            yield line


def _common(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """The lines that both begin with."""
    count = 0
    while count < min(len(first), len(second)) and first[count] == second[count]:
        count += 1
    return list(first[:count])
