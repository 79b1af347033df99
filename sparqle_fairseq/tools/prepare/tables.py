"""A person's table (csv, tsv, json, json lines; packed with gzip or not) into rows with lines. Nothing is dropped.

What can be read in one way only is read so: semicolons or tabs in a csv file, a spreadsheet's `sep=` line, UTF-16 with
a byte order mark, csv's quotation marks in a tsv file. A row that does not fit the header is refused with its line.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparqle_fairseq.data.audio import is_audio
from sparqle_fairseq.data.not_text import without_csv_quotes
from sparqle_fairseq.errors import reason
from sparqle_fairseq.files import decoded, lines_of
from sparqle_fairseq.tools.prepare.common import CorpusError, file_of, shown

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl")
_JSON = (".json", ".jsonl", ".ndjson")
_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
_BLANK = " \t\r\n"
_OTHERS = {
    b"PK\x03\x04": "a spreadsheet or a zip file",
    b"PAR1": "a parquet file",
    b"\xd0\xcf\x11\xe0": "a spreadsheet",
}

Cells = list[str]
Lines = list[tuple[int, Cells]]  # 1-based line, cells


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its line in the file, and its cells by column; text in csv and tsv, any JSON value in the others."""

    line: int
    cells: dict[str, Any]


@dataclass(frozen=True)
class Table:
    """All rows of a table."""

    path: Path
    columns: tuple[str, ...]  # in their order; of JSON every key that an object has
    rows: list[Row]

    def where(self, row: Row) -> str:
        """`file:line`, the start of a sentence about a row."""
        return f"{self.path}:{row.line}"

    def text(self, row: Row, column: str) -> str:
        """A cell as text; empty where it is missing or null.

        Raises:
            CorpusError: a list, an object, true or false.
        """
        value = row.cells.get(column)
        if value is None or isinstance(value, str):
            return value or ""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            kind = {bool: "true or false", list: "a list", dict: "an object"}.get(type(value), type(value).__name__)
            raise CorpusError(f"{self.where(row)}: found {kind} in {column}; write a text or a number")
        return str(value)


def is_table(path: Path) -> bool:
    """Whether a file goes by the name of a table: `x.csv`, `x.jsonl.gz`."""
    name = path.name.lower().removesuffix(".gz")
    return name.endswith(SUFFIXES) and not path.name.startswith(".")


def read_table(path: Path, known: Collection[str] = (), *, text: str | None = None, escape: bool = False) -> Table:
    """Every row of a table.

    Args:
        path: csv, tsv, json or jsonl, by its name; with any other name its beginning decides. `.gz` is unpacked.
        known: names that columns may have (in lower case); they decide between two ways to read the header.
        text: what is in the file, where it does not lie open at `path`.
        escape: in a tsv file a backslash stands before a mark that is meant as it is (tables of Common Voice).

    Raises:
        CorpusError: one sentence with file, line, what was found and the remedy.
    """
    text = _text(path) if text is None else text
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise CorpusError(f"{path}:{line}: found a NUL character; save the table as UTF-8")
    if "\r" in text and "\n" not in text:  # as Macs once ended lines
        text = text.replace("\r", "\n")
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if suffix in _JSON or (suffix not in SUFFIXES and text.lstrip()[:1] in ("{", "[")):
        return _json_table(path, text)
    lines = lines_of(text)
    start = next((k for k, line in enumerate(lines) if line.strip()), len(lines))
    delimiter = None
    if start < len(lines) and lines[start].strip().strip('"').lower().startswith("sep=") and len(lines[start]) < 9:
        delimiter = lines[start].strip().strip('"')[4:] or None
        start += 1
    if start >= len(lines):
        raise CorpusError(f"{path}: found an empty table; write a header and a row for each recording")
    if delimiter is None:
        delimiter = _delimiter(lines[start], known, "\t" if suffix == ".tsv" else ",")
    if delimiter == "\t":
        return _tab_table(path, lines, start, escape)
    return _checked(path, _csv_lines(path, lines, start, delimiter), delimiter)


def _text(path: Path) -> str:
    file_of(path, "the table")
    try:
        data = path.read_bytes()
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise CorpusError(f"{path}: the table cannot be read ({reason(error)}); copy it again") from error
    for mark, kind in _OTHERS.items():
        if data.startswith(mark):
            raise CorpusError(f"{path}: is {kind}; save the table as csv (UTF-8) or as JSON lines")
    return decoded(data, path, "table")


def _delimiter(header: str, known: Collection[str], usual: str) -> str:
    """What separates the cells: what gives most columns with known names; else the most columns; else the usual."""

    def worth(delimiter: str) -> tuple[int, int, bool]:
        names = [name.strip().strip('"').strip().lower() for name in header.split(delimiter)]
        return sum(name in known for name in names) if len(names) > 1 else 0, len(names), delimiter == usual

    if usual in header and not known:
        return usual
    return max(_DELIMITERS, key=worth)


# -- csv and tsv -----------------------------------------------------------------------------------------------


def _csv_lines(path: Path, lines: list[str], start: int, delimiter: str) -> Lines:
    """Rows by the rules of csv (RFC 4180); a quotation mark that has no partner is refused."""
    reader = csv.reader(
        (f"{line}\n" for line in lines[start:]), delimiter=delimiter, strict=True, skipinitialspace=True
    )
    rows: Lines = []
    while True:
        line = start + reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise CorpusError(
                f"{path}:{line}: found quotation marks that do not pair ({reason(error)}) in {shown(lines[line - 1])}; "
                f'write " around a whole cell, and "" for one that is part of the text'
            ) from None
        if cells is None:
            return rows
        for cell in cells:
            for k, more in enumerate(cell.split("\n")[1:], start=1):
                if is_audio(more.split(delimiter)[0].strip().strip('"')):
                    raise CorpusError(
                        f"{path}:{line}: found a cell that goes on over line {line + k}, which is a row of its own "
                        f"({shown(more)}); close its quotation mark"
                    )
        rows.append((line, [cell.removesuffix("\n") for cell in cells]))


def _tab_table(path: Path, lines: list[str], start: int, escape: bool) -> Table:
    """A quotation mark in a tsv file is one, unless the table was written by rules of csv."""
    plain = [(k, _unescaped(line) if escape else line.split("\t")) for k, line in enumerate(lines[start:], start + 1)]
    header = plain[0][1]
    quoted = all(len(cell) > 2 and cell[0] == cell[-1] == '"' for cell in header)
    if quoted or any(not _fits(cells, header) for _, cells in plain if any(cells)):
        try:
            return _checked(path, _csv_lines(path, lines, start, "\t"), "\t")
        except CorpusError:
            if quoted:
                raise
    return _checked(path, [(line, [without_csv_quotes(cell) for cell in cells]) for line, cells in plain], "\t")


def _unescaped(line: str) -> Cells:
    if "\\" not in line:
        return line.split("\t")
    return next(csv.reader([line], delimiter="\t", quoting=csv.QUOTE_NONE, escapechar="\\"), [])


def _fits(cells: Cells, header: Cells) -> bool:
    return len(cells) >= len(header) and not any(cell.strip() for cell in cells[len(header) :])


def _checked(path: Path, lines: Lines, delimiter: str) -> Table:
    """The rows below the header, each with as many cells; rows that are empty to the end are none."""
    header_line, header = lines[0][0], [name.strip() for name in lines[0][1]]
    names = Counter(name.lower() for name in header if name)
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        raise CorpusError(f"{path}:{header_line}: found the column {twice!r} twice; rename or remove one")
    rows: list[Row] = []
    for line, cells in lines[1:]:
        if not any(cell.strip() for cell in cells):
            continue
        if not _fits(cells, header):
            raise CorpusError(_misfit(f"{path}:{line}", cells, header, delimiter))
        for k, name in enumerate(header):
            if not name and cells[k].strip() and not (k == 0 and _counts(cells[0], len(rows))):
                raise CorpusError(
                    f"{path}:{line}: found {shown(cells[k])} in column {k + 1}, which has no name in line "
                    f"{header_line}; name the column or empty it"
                )
        rows.append(Row(line, {name: cells[k] for k, name in enumerate(header) if name}))
    return Table(path, tuple(name for name in header if name), rows)


def _counts(cell: str, row: int) -> bool:
    """Whether a cell of a first column without a name merely numbers the rows, as pandas writes them."""
    return cell.strip() in (str(row), str(row + 1))


def _misfit(where: str, cells: Cells, header: Cells, delimiter: str) -> str:
    found = ", ".join(map(shown, cells[:6])) + (", …" if len(cells) > 6 else "")
    columns = ", ".join(header[:8]) + (", …" if len(header) > 8 else "")
    if len(cells) < len(header):
        remedy = "write every cell, the empty ones too"
    elif delimiter == "\t":
        remedy = "leave no tab inside a cell"
    else:
        remedy = f'put a text that has a {_DELIMITERS.get(delimiter, delimiter)} in quotation marks: "…"'
    few = "too few" if len(cells) < len(header) else "too many"
    return (
        f"{where}: found {few} cells, {len(cells)} ({found}) where the header has {len(header)} ({columns}); {remedy}"
    )


# -- json ------------------------------------------------------------------------------------------------------


def _json_table(path: Path, text: str) -> Table:
    """A list of objects, or objects one after the other (JSON lines)."""
    rows = [Row(line, value) for line, value in _json_values(path, text)]
    for row in rows:
        if not isinstance(row.cells, dict):
            found = shown(json.dumps(row.cells, ensure_ascii=False))
            raise CorpusError(f"{path}:{row.line}: found {found} where an object stands; write one object a recording")
    if not rows:
        raise CorpusError(f"{path}: found an empty table; write one object a recording")
    return Table(path, tuple(dict.fromkeys(name for row in rows for name in row.cells)), rows)


def _json_values(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    """(line, value) of every value of a list, or of a file of values."""
    line, at, seen = 1, 0, 0

    def once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found and found[name] != value:
                raise CorpusError(f"{path}:{line}: found the key {name!r} twice in one object; rename or remove one")
            found[name] = value
        return found

    decoder = json.JSONDecoder(object_pairs_hook=once, parse_constant=lambda name: None if name == "NaN" else name)
    at = _after_blanks(text, 0)
    listed = text[at : at + 1] == "["
    at += listed
    try:
        while True:
            at = _after_blanks(text, at)
            if listed and text[at : at + 1] == "]":
                at = _after_blanks(text, at + 1)
                if at < len(text):
                    raise json.JSONDecodeError("Extra data", text, at)
                return
            if not listed and at == len(text):
                return
            line += text.count("\n", seen, at)
            seen = at
            value, at = decoder.raw_decode(text, at)
            yield line, value
            at = _after_blanks(text, at)
            if listed and text[at : at + 1] == ",":
                at += 1
            elif listed and text[at : at + 1] != "]":
                raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
    except json.JSONDecodeError as error:
        place = line if error.pos >= len(text.rstrip()) else error.lineno  # what has no end is found where it begins
        near = shown(text.split("\n")[place - 1])
        raise CorpusError(f"{path}:{place}: cannot be read as JSON ({error.msg}) at {near}; repair it") from None
    except RecursionError:
        raise CorpusError(
            f"{path}:{line}: found values nested too deeply; write one plain object a recording"
        ) from None


def _after_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANK:
        at += 1
    return at
