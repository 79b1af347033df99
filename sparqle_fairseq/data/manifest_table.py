"""The bytes of a manifest and of its label file as columns: where each line and each cell of it ends.

A column holds no text: the file's bytes, and for each row where its cell begins and ends. `manifest` says what the
cells mean.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from sparqle_fairseq.errors import SparqleError

REQUIRED_COLUMNS = ("id", "audio", "n_frames")
LABEL_SUFFIXES = (".wrd", ".ltr", ".txt")

_CHUNK = 1 << 23  # bytes looked at in one step; bounds the temporary arrays
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# First bytes of everything that str.strip() removes, and "|", the word separator of letter labels.
_BLANK_STARTS = np.frombuffer(b"\t\n\v\f\r\x1c\x1d\x1e\x1f |\xc2\xe1\xe2\xe3", np.uint8)


class ManifestError(SparqleError):
    """A manifest that cannot be used; one sentence with file, line, what was found and the remedy."""


@dataclass(frozen=True)
class RowFault:
    """One line of a manifest that cannot be used as it is."""

    path: str  # of the manifest, or of its label file
    line: int  # 1-based
    code: str  # one of ROW_FAULTS
    message: str  # what was found and the remedy, without the place
    id: str | None = None

    def __str__(self) -> str:
        return f"{self.path}:{self.line}{f' (utterance {self.id})' if self.id else ''}: {self.message}"


# Faults of a line. The first two leave no row; with the others the row is there (a bad n_frames reads as 0).
ROW_FAULTS = ("not-utf8", "fields", "n-frames-invalid", "cell-empty", "duplicate-id", "task-unknown")


def refuse(fault: RowFault) -> None:
    raise ManifestError(str(fault))


def shown(value: str | bytes) -> str:
    """A found value, shortened to stay readable in a sentence."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return repr(text if len(text) <= 60 else text[:57] + "...")


class Column:
    """Cell ``i`` is ``data[before[i] + 1 : end[i]]``; several columns share one ``data``."""

    def __init__(self, data: bytes, before: np.ndarray, end: np.ndarray, letters: bool = False) -> None:
        self.data, self.before, self.end = data, before, end
        self.letters = letters  # cells are "H E L L O | Y O U |"

    def __len__(self) -> int:
        return len(self.end)

    def cell(self, i: int) -> bytes:
        return self.data[self.before[i] + 1 : self.end[i]]

    def cells(self) -> Iterator[bytes]:
        for at in range(0, len(self), 1 << 16):
            part = slice(at, at + (1 << 16))
            for before, end in zip(self.before[part].tolist(), self.end[part].tolist(), strict=True):
                yield self.data[before + 1 : end]

    def text(self, i: int) -> str:
        text = self.cell(i).decode("utf-8")
        return text.replace(" ", "").replace("|", " ").strip() if self.letters else text

    def blanks(self) -> Iterator[int]:
        """The rows whose cell is empty or white space."""
        view = np.frombuffer(self.data, np.uint8)
        first = view[np.minimum(self.before + 1, len(view) - 1)]
        suspects = np.flatnonzero((self.end - self.before <= 1) | np.isin(first, _BLANK_STARTS))
        return (i for i in suspects.tolist() if not self.text(i).strip())

    def repeats(self) -> Iterator[tuple[int, int]]:
        """The rows whose cell an earlier row has too, as (first row that has it, row)."""
        hashes = np.fromiter(map(hash, self.cells()), np.int64, len(self))
        order = np.argsort(hashes, kind="stable")
        equal = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
        seen: dict[bytes, int] = {}
        for i in np.unique(order[np.concatenate([equal, equal + 1])]).tolist():
            earlier = seen.setdefault(self.cell(i), i)
            if earlier != i:
                yield earlier, i

    def positive_integers(self) -> tuple[np.ndarray, np.ndarray]:
        """Every cell as int64 (rows,), and the rows that hold none of 1 to 10**18 - 1: their value is 0."""
        view = np.frombuffer(self.data, np.uint8)
        width = self.end - self.before - 1
        bad = (width < 1) | (width > 18)
        values = np.zeros(len(self), np.int64)
        for k in range(min(int(width.max(initial=0)), 18)):
            inside = k < width
            digit = view[np.minimum(self.before + (1 + k), len(view) - 1)] - np.uint8(ord("0"))
            bad |= inside & (digit > 9)  # unsigned: what lies below "0" wraps to above 9
            values = np.where(inside, values * 10 + digit, values)
        bad |= values < 1
        values[bad] = 0
        return values, np.flatnonzero(bad)


@dataclass
class Table:
    """A manifest while it is read: its bytes, then its columns."""

    path: str
    data: bytes
    start: int  # of the rows
    unreadable: set[int]  # lines that are not UTF-8
    report: Callable[[RowFault], None]
    columns: dict[str, Column] = field(default_factory=dict)
    numbers: np.ndarray | None = None  # (rows,) line numbers where lines were left out
    total: int = 0  # lines below the first, those that were left out too

    def line(self, i: int) -> int:
        return i + 2 if self.numbers is None else int(self.numbers[i])

    def fault(self, i: int, code: str, message: str, id: str | None = None) -> None:
        self.report(RowFault(self.path, self.line(i), code, message, id))


def read_bytes(
    path: str, what: str = "manifest", report: Callable[[RowFault], None] = refuse, first_line: int = 2
) -> tuple[bytes, int, set[int]]:
    """The bytes of a UTF-8 file, where its text starts (after a byte order mark), and reported lines of other bytes.

    Lines above ``first_line`` are no rows: bytes that are not UTF-8 are always an error there.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        raise ManifestError(f"{path}: there is no such {what}; check the path") from None
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path}: this {what} cannot be read ({error}); check the path and its rights") from error
    start = len(_BYTE_ORDER_MARK) if data.startswith(_BYTE_ORDER_MARK) else 0
    if len(data) == start or data.isspace():
        raise ManifestError(f"{path}: found an empty {what}; write it again")
    unreadable: set[int] = set()
    at = 0
    while at < len(data):  # decoding everything at once would take four times the memory
        end = data.rfind(b"\n", at, at + _CHUNK) + 1 or data.find(b"\n", at) + 1 or len(data)
        try:
            data[at:end].decode("utf-8")
        except UnicodeDecodeError:
            first = data.count(b"\n", 0, at) + 1
            for line, cells in enumerate(data[at:end].split(b"\n"), start=first):
                try:
                    cells.decode("utf-8")
                except UnicodeDecodeError as error:
                    fault = RowFault(
                        path,
                        line,
                        "not-utf8",
                        f"found the byte 0x{cells[error.start]:02x}, which is not UTF-8; convert the file to UTF-8",
                    )
                    (report if line >= first_line else refuse)(fault)
                    unreadable.add(line)
        at = end
    return data, start, unreadable


def _line_and_field_ends(data: bytes, start: int, stop: int, marks: bytes) -> np.ndarray:
    """Where ``data[start:stop]`` holds one of the marks, and ``stop``, where its last line ends: (found + 1,)."""
    view = np.frombuffer(data, np.uint8)
    dtype = np.int32 if len(data) < 2**31 - 64 else np.int64
    found = []
    for at in range(start, stop, _CHUNK):
        chunk = view[at : min(at + _CHUNK, stop)]
        hits = chunk == marks[0]
        for mark in marks[1:]:
            hits |= chunk == mark
        found.append((np.flatnonzero(hits) + at).astype(dtype))
    return np.concatenate([*found, np.array([stop], dtype)])


def _without_carriage_return(data: bytes, before: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The ends of cells that close a line, moved left by one where a Windows line ending left its mark."""
    view = np.frombuffer(data, np.uint8)
    return end - ((end > before + 1) & (view[np.maximum(end, 1) - 1] == ord("\r"))).astype(end.dtype)


def _field_bounds(table: Table, n_fields: int, expected: str) -> tuple[np.ndarray, np.ndarray | None, int]:
    """Where the fields of the lines below the first one end: (n_fields + 1, rows).

    Index 0 is the byte before the first field, so that field k is ``data[bounds[k] + 1 : bounds[k + 1]]``. Also the
    numbers of the lines that are rows, None where all are, and how many lines there are.
    """
    path, data, start = table.path, table.data, table.start
    view = np.frombuffer(data, np.uint8)
    ends = _line_and_field_ends(data, start, _end_of_rows(path, data, start), b"\t\n")
    lines = np.append(np.flatnonzero(view[ends[:-1]] == ord("\n")), len(ends) - 1)
    counts = np.diff(lines, prepend=-1)
    good = counts == n_fields
    before = np.append(np.array([start - 1], ends.dtype), ends[lines[:-1]])
    for i in np.flatnonzero(~good).tolist():
        if i + 2 not in table.unreadable:
            few = "few" if counts[i] < n_fields else "many"
            message = (
                f"found too {few} fields, {counts[i]} where {expected}; "
                f"separate cells by one tab and leave no tab or line break inside a cell"
            )
            table.report(RowFault(path, i + 2, "fields", message))
    good[[line - 2 for line in table.unreadable]] = False
    numbers = None
    if not good.all():
        if not good.any():
            raise ManifestError(f"{path}: found no usable row; write one line per utterance below the first")
        numbers = np.flatnonzero(good) + 2
        ends, before = ends[np.repeat(good, counts)], before[good]
    bounds = np.empty((n_fields + 1, len(before)), ends.dtype)
    bounds[0] = before
    bounds[1:] = ends.reshape(-1, n_fields).T
    bounds[-1] = _without_carriage_return(data, bounds[-2], bounds[-1])
    return bounds, numbers, len(counts)


def _end_of_rows(path: str, data: bytes, start: int) -> int:
    """Where the last row ends; empty lines at the end of the file are no rows."""
    stop = len(data)
    while stop > start and data[stop - 1] in b"\r\n":
        stop -= 1
    if stop <= start:
        raise ManifestError(f"{path}: found a first line but no rows; write one line per utterance below it")
    return stop


def read_tsv_columns(table: Table, header: list[str]) -> None:
    path = table.path
    missing = [name for name in REQUIRED_COLUMNS if name not in header]
    if missing:
        raise ManifestError(
            f"{path}:1: found no column {missing[0]} among {shown(', '.join(header))}; "
            f"the header must name id, audio and n_frames"
        )
    repeated = [name for k, name in enumerate(header) if name in header[:k]]
    if repeated:
        raise ManifestError(f"{path}:1: found the column {shown(repeated[0])} twice; rename or remove one")
    bounds, table.numbers, table.total = _field_bounds(table, len(header), f"the header has {len(header)}")
    table.columns = {name: Column(table.data, bounds[k], bounds[k + 1]) for k, name in enumerate(header)}


def read_rooted_columns(table: Table) -> None:
    """Columns of a wav2vec or HuBERT manifest; an id is the relative path without its suffix."""
    path, data, start = table.path, table.data, table.start
    end = data.find(b"\n", start)
    second = data[start : end if end >= 0 else len(data)]
    collecting = table.report is not refuse and b"\t" in data
    if second.strip() and b"\t" not in second and not collecting:
        raise ManifestError(
            f"{path}:1: found neither a tab-separated header with id, audio and n_frames nor a root folder "
            f"followed by lines of path and n_samples; check that the columns are separated by tabs"
        )
    bounds, table.numbers, table.total = _field_bounds(table, 2, "a path and n_samples make 2")
    audio = Column(data, bounds[0], bounds[1])

    def id_end(before: int, end: int) -> int:
        dot = data.rfind(b".", before + 1, end)
        slash = data.rfind(b"/", before + 1, end)
        colon = data.rfind(b":", before + 1, end)  # x.zip:OFFSET:LENGTH is unique only as a whole
        return dot if dot > max(slash, colon, before) + 1 else end

    starts_and_ends = zip(audio.before.tolist(), audio.end.tolist(), strict=True)
    ends = np.fromiter((id_end(*pair) for pair in starts_and_ends), audio.end.dtype, len(audio))
    table.columns = {
        "id": Column(data, audio.before, ends),
        "audio": audio,
        "n_frames": Column(data, bounds[1], bounds[2]),
    }


def label_file_of(path: str, labels: str | os.PathLike[str] | None) -> str | None:
    """The label file that was named, or the one beside the manifest."""
    if labels is not None:
        return os.fspath(labels)
    beside = (os.path.splitext(path)[0] + suffix for suffix in LABEL_SUFFIXES)
    return next((name for name in beside if name != path and os.path.isfile(name)), None)


def read_labels(table: Table, name: str) -> None:
    """Texts of a wav2vec or HuBERT manifest: line k of the label file belongs to row k."""
    data, start, unreadable = read_bytes(name, "label file", table.report, first_line=1)
    ends = _line_and_field_ends(data, start, len(data) - data.endswith(b"\n"), b"\n")
    rows = table.total
    if len(ends) > rows and not data[ends[rows - 1] :].strip():
        ends = ends[:rows]  # empty lines at the end of the file
    if len(ends) != rows:
        raise ManifestError(
            f"{name}: found {len(ends)} lines for the {rows} rows of {table.path}; line k must be the text of row k"
        )
    before = np.append(np.array([start - 1], ends.dtype), ends[:-1])
    ends = _without_carriage_return(data, before, ends)
    if table.numbers is not None or unreadable:
        lines = np.arange(rows) + 2 if table.numbers is None else table.numbers
        kept = ~np.isin(lines - 1, list(unreadable))
        if not kept.any():
            raise ManifestError(f"{name}: found no usable line; convert the file to UTF-8")
        for column in table.columns.values():
            column.before, column.end = column.before[kept], column.end[kept]
        table.numbers = lines[kept]
        before, ends = before[table.numbers - 2], ends[table.numbers - 2]
    column = Column(data, before, ends, letters=name.endswith(".ltr"))
    table.columns |= {"src_text": column, "tgt_text": column}
