"""Reads and writes manifests: the tables that say which utterances a split holds.

Two forms are read: the TSV of fairseq's speech-to-text scripts (a header line, then one utterance a line) and
the manifest of its wav2vec and HuBERT scripts (a root folder, then ``path<TAB>n_samples``) with a label file
beside it. A manifest stays columnar: the file's bytes and, for each column, where its cells end. No Python
object exists per row, so a million rows load in seconds and data-loader workers that are forked share them.

The columns and their meaning: ``manifests/README.md``.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np

from sparqle_fairseq.data.manifest_table import (
    REQUIRED_COLUMNS,
    Column,
    ManifestError,
    RowFault,
    Table,
    label_file_of,
    read_bytes,
    read_labels,
    read_rooted_columns,
    read_tsv_columns,
    refuse,
    shown,
)
from sparqle_fairseq.files import written_whole

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
_WHY_REQUIRED = {
    "src_text": "stage 1 needs a transcript in src_text",
    "tgt_text": "stage 2 needs a target text in tgt_text",
}


@dataclass(frozen=True)
class ManifestRow:
    """One utterance with every default filled in; ``None`` where the manifest says nothing."""

    id: str
    audio: str  # absolute path, or a slice or zip member of one (see data/audio)
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


class Manifest:
    """The rows of one manifest file. Made by ``read_manifest``; never changes."""

    def __init__(
        self,
        path: str,
        columns: dict[str, Column],
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

    @property
    def nbytes(self) -> int:
        """Bytes of memory: of the files, of where their cells end, and of lengths; what columns share counts once."""
        bounds = [array for column in self._columns.values() for array in (column.before, column.end)]
        arrays = [self.n_frames, *bounds, *(() if self._lines is None else (self._lines,))]
        owners = [array if array.base is None else array.base for array in arrays]
        texts = [column.data for column in self._columns.values()]
        numbers = {id(owner): int(owner.nbytes) for owner in owners}
        return sum(numbers.values()) + sum({id(text): len(text) for text in texts}.values())

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
        raise ManifestError(f"found {shown(row_task)} as default task; use {' or '.join(TASKS)}")
    report = on_fault or refuse
    data, start, unreadable = read_bytes(path, report=report)
    head_end = data.find(b"\n", start)
    head_end = len(data) if head_end < 0 else head_end
    head = data[start:head_end].decode("utf-8").rstrip("\r")
    folder = os.path.dirname(os.path.abspath(path))
    table = Table(path, data, head_end + 1, unreadable, report)
    if "\t" in head:
        read_tsv_columns(table, head.split("\t"))
        label_file = None
        root = folder if audio_root is None else os.path.abspath(audio_root)
    else:
        read_rooted_columns(table)
        label_file = label_file_of(path, labels)
        if label_file is not None:
            read_labels(table, label_file)
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
            raise ManifestError(f"{path}:{line}: found a tab or line break in {shown(cell)}; replace it by a space")
    try:
        return ("\t".join(cells) + "\n").encode("utf-8")
    except UnicodeEncodeError as error:
        raise ManifestError(f"{path}:{line}: found text that UTF-8 cannot hold ({error}); repair it") from error


def _checked_n_frames(table: Table) -> np.ndarray:
    column = table.columns["n_frames"]
    n_frames, bad = column.positive_integers()
    for i in bad.tolist():
        message = (
            f"found {shown(column.cell(i))} in n_frames; write a positive whole number, the length in "
            f"samples at 16 kHz or in feature frames"
        )
        table.fault(i, "n-frames-invalid", message, table.columns["id"].text(i))
    return n_frames


def _check_names(table: Table) -> None:
    for name in ("id", "audio"):
        for i in table.columns[name].blanks():
            table.fault(i, "cell-empty", f"found an empty cell in {name}; every row needs one")
    column = table.columns["id"]
    for first, second in column.repeats():
        message = (
            f"found the id {shown(column.cell(second))}, which line {table.line(first)} "
            f"has already; give every utterance its own id"
        )
        table.fault(second, "duplicate-id", message)


def _check_tasks(table: Table) -> None:
    allowed = {b"", *(task.encode() for task in TASKS)}
    for i, cell in enumerate(table.columns["task"].cells()):
        if cell not in allowed:
            table.fault(i, "task-unknown", f"found {shown(cell)} in task; write {' or '.join(TASKS)}")


def _check_required(manifest: Manifest, name: str, columns: dict[str, Column]) -> None:
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
