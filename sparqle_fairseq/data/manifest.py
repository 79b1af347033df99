"""Reads and writes manifests: the tables that say which utterances a split holds.

Two forms are read: the TSV of fairseq's speech-to-text scripts (a header line, then one utterance a line) and
the manifest of its wav2vec and HuBERT scripts (a root folder, then ``path<TAB>n_samples``) with a label file
beside it. A manifest stays columnar: the file's bytes and, for each column, where its cells end. No Python
object exists per row, so a million rows load in seconds and data-loader workers that are forked share them.

The columns and their meaning: ``manifests/README.md``.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path

import numpy as np

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.files import written_whole

REQUIRED_COLUMNS = ("id", "audio", "n_frames")
KNOWN_COLUMNS = (
    *REQUIRED_COLUMNS,
    "src_text",
    "tgt_text",
    "src_lang",
    "tgt_lang",
    "task",
    "speaker",
    "prompt",
    "prefix",
)
TASKS = ("transcription", "translation")
LABEL_SUFFIXES = (".wrd", ".ltr", ".txt")

_CHUNK = 1 << 23  # bytes looked at in one step; bounds the temporary arrays
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# First bytes of everything that str.strip() removes, and "|", the word separator of letter labels.
_BLANK_STARTS = np.frombuffer(b"\t\n\v\f\r\x1c\x1d\x1e\x1f |\xc2\xe1\xe2\xe3", np.uint8)
_WHY_REQUIRED = {
    "src_text": "stage 1 needs a transcript in src_text",
    "tgt_text": "stage 2 needs a target text in tgt_text",
}


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


def _refuse(fault: RowFault) -> None:
    raise ManifestError(str(fault))


@dataclass(frozen=True)
class ManifestRow:
    """One utterance with every default filled in; ``None`` where the manifest says nothing."""

    id: str
    audio: str  # absolute path, or a slice or zip member of one (see data/audio.py)
    n_frames: int  # samples at 16 kHz, or feature frames
    src_text: str | None
    tgt_text: str | None
    src_lang: str | None
    tgt_lang: str | None
    task: str  # one of TASKS
    speaker: str | None
    prompt: str | None
    line: int  # 1-based line in the manifest
    prefix: str | None = None  # what the answer begins with in generation


class _Column:
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


class Manifest:
    """The rows of one manifest file. Made by ``read_manifest``; never changes."""

    def __init__(
        self,
        path: str,
        columns: dict[str, _Column],
        n_frames: np.ndarray,
        root: str,
        src_lang: str | None,
        tgt_lang: str | None,
        row_task: str | None,
        lines: np.ndarray | None = None,
        rooted: bool = False,
        labels: str | None = None,
    ) -> None:
        self.path = path
        self.rooted = rooted  # of the second form: a root folder, then paths and lengths
        self.labels = labels  # its label file
        self.columns = tuple(columns)  # names that the file has
        self.n_frames = n_frames  # (rows,) int64: samples at 16 kHz, or feature frames
        self._columns = columns
        self._root = root
        self._defaults = {"src_lang": src_lang, "tgt_lang": tgt_lang}
        self._row_task = row_task
        self._lines = lines  # (rows,) where lines were left out

    def __len__(self) -> int:
        return len(self.n_frames)

    def id(self, i: int) -> str:
        return self._columns["id"].text(self._index(i))

    def ids(self) -> Iterator[str]:
        """Every id in the order of the file, made one at a time."""
        return (cell.decode("utf-8") for cell in self._columns["id"].cells())

    def audio(self, i: int) -> str:
        """Where row ``i``'s speech is; relative paths have been joined to the audio root."""
        return os.path.join(self._root, self._columns["audio"].text(self._index(i)))

    def task(self, i: int) -> str:
        """The row's own task, else the default, else what its languages say: one of TASKS."""
        i = self._index(i)
        return self._task_of(*(self._cell(name, i) for name in ("task", "src_lang", "tgt_lang")))

    def text(self, column: str, i: int) -> str | None:
        """The cell of a column with defaults filled in, as ``row`` gives it; None where there is nothing.

        Raises KeyError for a column that is neither known nor in this file.
        """
        i = self._index(i)
        if column == "audio":
            return self.audio(i)
        if column == "task":
            return self.task(i)
        if column not in self._columns and column not in KNOWN_COLUMNS:
            raise KeyError(f"{self.path} has no column {column!r}; its columns are {', '.join(self.columns)}")
        if column in self._columns:
            return self._columns[column].text(i) or self._defaults.get(column)
        if column == "src_text" and "tgt_text" in self._columns and self.task(i) == "transcription":
            return self._columns["tgt_text"].text(i) or None
        return self._defaults.get(column)

    def line_number(self, i: int) -> int:
        """The 1-based line of row ``i``: one line, header or root folder, stands before the rows."""
        return self._index(i) + 2 if self._lines is None else int(self._lines[self._index(i)])

    def cells(self, i: int) -> dict[str, str]:
        """What the file itself says in row ``i``, by column."""
        i = self._index(i)
        return {name: column.text(i) for name, column in self._columns.items()}

    def where(self, i: int) -> str:
        """``path:line (utterance id)``, the start of an error message about row ``i``."""
        return f"{self.path}:{self.line_number(i)} (utterance {self.id(i)})"

    def row(self, i: int) -> ManifestRow:
        i = self._index(i)
        return ManifestRow(
            id=self.id(i),
            audio=self.audio(i),
            n_frames=int(self.n_frames[i]),
            src_text=self.text("src_text", i),
            tgt_text=self.text("tgt_text", i),
            src_lang=self.text("src_lang", i),
            tgt_lang=self.text("tgt_lang", i),
            task=self.task(i),
            speaker=self.text("speaker", i),
            prompt=self.text("prompt", i),
            line=self.line_number(i),
            prefix=self.text("prefix", i),
        )

    def is_translation(self) -> np.ndarray:
        """(rows,) bool: True where ``task(i)`` is translation."""
        codes, values = self.distinct(("task",))
        return np.array([task == "translation" for (task,) in values])[codes]

    def distinct(self, names: Sequence[str]) -> tuple[np.ndarray, list[tuple[str | None, ...]]]:
        """What rows have in the columns ``names``, among src_lang, tgt_lang and task, with defaults filled in.

        Returns (rows,) indices into the list of values that occur.
        """
        decides = ("task", "src_lang", "tgt_lang")
        assert set(names) <= set(decides), names
        if not any(name in self._columns for name in decides):
            return np.zeros(len(self), np.int32), [tuple(self.text(name, 0) for name in names)]
        cells = (self._columns[n].cells() if n in self._columns else repeat(b"", len(self)) for n in decides)
        known: dict[tuple[bytes, ...], int] = {}  # raw cells -> index into the values
        values: dict[tuple[str | None, ...], int] = {}

        def code(i: int, key: tuple[bytes, ...]) -> int:
            if key not in known:
                value = tuple(self.text(name, i) for name in names)
                known[key] = values.setdefault(value, len(values))
            return known[key]

        codes = np.fromiter((code(i, key) for i, key in enumerate(zip(*cells, strict=True))), np.int32, len(self))
        return codes, list(values)

    def _index(self, i: int) -> int:
        if not 0 <= i < len(self):
            raise IndexError(f"{self.path} has rows 0 to {len(self) - 1}, not {i}")
        return int(i)

    def _cell(self, column: str, i: int) -> bytes:
        return self._columns[column].cell(i) if column in self._columns else b""

    def _task_of(self, task: bytes, src_lang: bytes, tgt_lang: bytes) -> str:
        if task:
            return task.decode("utf-8")
        if self._row_task:
            return self._row_task
        source = src_lang.decode("utf-8") or self._defaults["src_lang"] or ""
        target = tgt_lang.decode("utf-8") or self._defaults["tgt_lang"] or ""
        return "translation" if target and target.lower() != source.lower() else "transcription"


def read_manifest(
    path: str | os.PathLike[str],
    *,
    audio_root: str | os.PathLike[str] | None = None,
    labels: str | os.PathLike[str] | None = None,
    src_lang: str | None = None,
    tgt_lang: str | None = None,
    row_task: str | None = None,
    require: Sequence[str] = (),
    on_fault: Callable[[RowFault], None] | None = None,
) -> Manifest:
    """Reads a manifest of either form and checks every line of it.

    Args:
        path: the manifest. With a tab in its first line that line is a header, else it is a root folder.
        audio_root: folder of relative audio paths; by default the manifest's own folder, and for the second
            form the root folder in its first line.
        labels: label file of the second form, one text a line; by default the manifest's name with the suffix
            .wrd, .ltr or .txt, the first that exists.
        src_lang, tgt_lang, row_task: what holds where the manifest has no such column or the cell is empty.
        require: text columns in which no row may be empty, such as ``("src_text",)`` for stage 1.
        on_fault: called with every bad line, so that all of them can be shown; by default the first one is raised.

    Raises:
        ManifestError: one sentence with file, line, what was found and the remedy. With ``on_fault`` only where
            there is no table to speak of: no file, no header, no rows, another number of labels.
    """
    path = os.fspath(path)
    if row_task is not None and row_task not in TASKS:
        raise ManifestError(f"found {_show(row_task)} as default task; use {' or '.join(TASKS)}")
    report = on_fault or _refuse
    data, start, unreadable = _read_text(path, report=report)
    head_end = data.find(b"\n", start)
    head_end = len(data) if head_end < 0 else head_end
    head = data[start:head_end].decode("utf-8").rstrip("\r")
    folder = os.path.dirname(os.path.abspath(path))
    table = _Table(path, data, head_end + 1, unreadable, report)
    if "\t" in head:
        _read_tsv_columns(table, head.split("\t"))
        label_file = None
        root = folder if audio_root is None else os.path.abspath(audio_root)
    else:
        _read_rooted_columns(table)
        label_file = _label_file(path, labels)
        if label_file is not None:
            _read_labels(table, label_file)
        root = os.path.join(folder, head) if audio_root is None else os.path.abspath(audio_root)
    n_frames = _checked_n_frames(table)
    _check_names(table)
    if "task" in table.columns:
        _check_tasks(table)
    manifest = Manifest(
        path, table.columns, n_frames, root, src_lang, tgt_lang, row_task, table.numbers, "\t" not in head, label_file
    )
    for column in require:
        _check_required(manifest, column, table.columns)
    return manifest


def write_manifest(
    path: str | os.PathLike[str], rows: Iterable[Mapping[str, object] | ManifestRow], columns: Sequence[str]
) -> int:
    """Writes a TSV manifest and returns its number of rows; an existing file is replaced at the end or stays.

    Args:
        path: the manifest to write.
        rows: mappings from column name to value (None or no such name: an empty cell), or ``ManifestRow``.
        columns: header, in this order; ``id``, ``audio`` and ``n_frames`` must be among them.

    Raises:
        ManifestError: a cell holds a tab or a line break, or a row has a name that is no column.
        SparqleError: the disk refuses.
    """
    path = Path(path)
    missing = [name for name in REQUIRED_COLUMNS if name not in columns]
    if missing or len(set(columns)) < len(columns):
        raise ManifestError(f"{path}: cannot write the columns {list(columns)}; name id, audio and n_frames, each once")
    if not path.parent.is_dir():
        raise ManifestError(f"{path}: there is no folder {path.parent}; make it first")
    count = 0
    with written_whole(path) as file:
        file.write(_line(path, 1, columns))
        for count, row in enumerate(rows, start=1):
            values = vars(row) if isinstance(row, ManifestRow) else row
            surplus = [] if isinstance(row, ManifestRow) else [name for name in values if name not in columns]
            if surplus:
                raise ManifestError(f"{path}: row {count} has {surplus[0]!r}, which is no column; add it to columns")
            cells = ["" if values.get(name) is None else str(values[name]) for name in columns]
            file.write(_line(path, count + 1, cells))
    return count


def _line(path: Path, line: int, cells: Sequence[str]) -> bytes:
    for cell in cells:
        if any(mark in cell for mark in "\t\n\r"):
            raise ManifestError(f"{path}:{line}: found a tab or line break in {_show(cell)}; replace it by a space")
    try:
        return ("\t".join(cells) + "\n").encode("utf-8")
    except UnicodeEncodeError as error:
        raise ManifestError(f"{path}:{line}: found text that UTF-8 cannot hold ({error}); repair it") from error


def _show(value: str | bytes) -> str:
    """A found value, shortened to stay readable in a sentence."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return repr(text if len(text) <= 60 else text[:57] + "...")


@dataclass
class _Table:
    """A manifest while it is read: its bytes, then its columns."""

    path: str
    data: bytes
    start: int  # of the rows
    unreadable: set[int]  # lines that are not UTF-8
    report: Callable[[RowFault], None]
    columns: dict[str, _Column] = field(default_factory=dict)
    numbers: np.ndarray | None = None  # (rows,) line numbers where lines were left out
    total: int = 0  # lines below the first, those that were left out too

    def line(self, i: int) -> int:
        return i + 2 if self.numbers is None else int(self.numbers[i])

    def fault(self, i: int, code: str, message: str, id: str | None = None) -> None:
        self.report(RowFault(self.path, self.line(i), code, message, id))


def _read_text(
    path: str, what: str = "manifest", report: Callable[[RowFault], None] = _refuse, first_line: int = 2
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
                    (report if line >= first_line else _refuse)(fault)
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


def _field_bounds(table: _Table, n_fields: int, expected: str) -> tuple[np.ndarray, np.ndarray | None, int]:
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


def _read_tsv_columns(table: _Table, header: list[str]) -> None:
    path = table.path
    missing = [name for name in REQUIRED_COLUMNS if name not in header]
    if missing:
        raise ManifestError(
            f"{path}:1: found no column {missing[0]} among {_show(', '.join(header))}; "
            f"the header must name id, audio and n_frames"
        )
    repeated = [name for k, name in enumerate(header) if name in header[:k]]
    if repeated:
        raise ManifestError(f"{path}:1: found the column {_show(repeated[0])} twice; rename or remove one")
    bounds, table.numbers, table.total = _field_bounds(table, len(header), f"the header has {len(header)}")
    table.columns = {name: _Column(table.data, bounds[k], bounds[k + 1]) for k, name in enumerate(header)}


def _read_rooted_columns(table: _Table) -> None:
    """Columns of a wav2vec or HuBERT manifest; an id is the relative path without its suffix."""
    path, data, start = table.path, table.data, table.start
    end = data.find(b"\n", start)
    second = data[start : end if end >= 0 else len(data)]
    collecting = table.report is not _refuse and b"\t" in data
    if second.strip() and b"\t" not in second and not collecting:
        raise ManifestError(
            f"{path}:1: found neither a tab-separated header with id, audio and n_frames nor a root folder "
            f"followed by lines of path and n_samples; check that the columns are separated by tabs"
        )
    bounds, table.numbers, table.total = _field_bounds(table, 2, "a path and n_samples make 2")
    audio = _Column(data, bounds[0], bounds[1])

    def id_end(before: int, end: int) -> int:
        dot = data.rfind(b".", before + 1, end)
        slash = data.rfind(b"/", before + 1, end)
        colon = data.rfind(b":", before + 1, end)  # x.zip:OFFSET:LENGTH is unique only as a whole
        return dot if dot > max(slash, colon, before) + 1 else end

    starts_and_ends = zip(audio.before.tolist(), audio.end.tolist(), strict=True)
    ends = np.fromiter((id_end(*pair) for pair in starts_and_ends), audio.end.dtype, len(audio))
    table.columns = {
        "id": _Column(data, audio.before, ends),
        "audio": audio,
        "n_frames": _Column(data, bounds[1], bounds[2]),
    }


def _label_file(path: str, labels: str | os.PathLike[str] | None) -> str | None:
    """The label file that was named, or the one beside the manifest."""
    if labels is not None:
        return os.fspath(labels)
    beside = (os.path.splitext(path)[0] + suffix for suffix in LABEL_SUFFIXES)
    return next((name for name in beside if name != path and os.path.isfile(name)), None)


def _read_labels(table: _Table, name: str) -> None:
    """Texts of a wav2vec or HuBERT manifest: line k of the label file belongs to row k."""
    data, start, unreadable = _read_text(name, "label file", table.report, first_line=1)
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
    column = _Column(data, before, ends, letters=name.endswith(".ltr"))
    table.columns |= {"src_text": column, "tgt_text": column}


def _checked_n_frames(table: _Table) -> np.ndarray:
    column = table.columns["n_frames"]
    n_frames, bad = column.positive_integers()
    for i in bad.tolist():
        message = (
            f"found {_show(column.cell(i))} in n_frames; write a positive whole number, the length in "
            f"samples at 16 kHz or in feature frames"
        )
        table.fault(i, "n-frames-invalid", message, table.columns["id"].text(i))
    return n_frames


def _check_names(table: _Table) -> None:
    for name in ("id", "audio"):
        for i in table.columns[name].blanks():
            table.fault(i, "cell-empty", f"found an empty cell in {name}; every row needs one")
    column = table.columns["id"]
    for first, second in column.repeats():
        message = (
            f"found the id {_show(column.cell(second))}, which line {table.line(first)} "
            f"has already; give every utterance its own id"
        )
        table.fault(second, "duplicate-id", message)


def _check_tasks(table: _Table) -> None:
    allowed = {b"", *(task.encode() for task in TASKS)}
    for i, cell in enumerate(table.columns["task"].cells()):
        if cell not in allowed:
            table.fault(i, "task-unknown", f"found {_show(cell)} in task; write {' or '.join(TASKS)}")


def _check_required(manifest: Manifest, name: str, columns: dict[str, _Column]) -> None:
    why = _WHY_REQUIRED.get(name, f"this run needs {name}")
    column = columns.get(name)
    fallback = name == "src_text" and column is None and "tgt_text" in columns
    if fallback:
        translations = np.flatnonzero(manifest.is_translation())
        if len(translations):
            raise ManifestError(
                f"{manifest.where(int(translations[0]))}: {why} and found a translation row in a "
                f"manifest without that column; add src_text or keep only transcription rows"
            )
        column = columns["tgt_text"]
    if column is None:
        if manifest.text(name, 0):  # a default fills every row
            return
        raise ManifestError(
            f"{manifest.path}:1: {why} and found only the columns {', '.join(manifest.columns)}; "
            f"add the column, or for a manifest that starts with a root folder put a label file beside it"
        )
    blank = next(column.blanks(), None) if manifest._defaults.get(name) is None else None
    if blank is not None:
        raise ManifestError(
            f"{manifest.where(blank)}: {why} and found an empty {'tgt_text' if fallback else name}; "
            f"write the text or remove the row"
        )
