"""All checks of a row by itself; what a worker process does with a piece of a manifest."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from sparqle_fairseq.data.audio import audio_place, is_features
from sparqle_fairseq.data.feature_store import parse_entry
from sparqle_fairseq.data.manifest import Manifest, ManifestRow
from sparqle_fairseq.data.not_text import csv_quoted, like_placeholder, placeholder, without_csv_quotes
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.tools.validate.characters import check_characters, cleaned, has_control
from sparqle_fairseq.tools.validate.findings import ERROR, Finding, shown
from sparqle_fairseq.tools.validate.languages import check_code, check_script
from sparqle_fairseq.tools.validate.pace import check_pace, letters, spoken_form
from sparqle_fairseq.tools.validate.recordings import check_limit, check_recording, look_at
from sparqle_fairseq.tools.validate.settings import FEATURES_A_SECOND, Settings

# A cell without any of these needs no closer look.
_SUSPECT = re.compile(r"[^\x20-\x7e]|[<&\[{]")

TEXTS = ("src_text", "tgt_text", "prompt", "speaker")
WHOLE_FILE = np.iinfo(np.int64).max

# What tells a row's speech and text from another's: 64-bit digests (0: nothing to compare), and the part of the file.
IDENTITY = np.dtype([("file", "u8"), ("start", "i8"), ("end", "i8"), ("sound", "u8"), ("text", "u8")])


@dataclass
class Checked:
    """What was found in rows `start` to `stop` of a manifest."""

    start: int
    stop: int
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0
    widths: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))  # of features; 0: a waveform, -1: unread
    identity: np.ndarray = field(default_factory=lambda: np.zeros(0, IDENTITY))


def check_rows(manifest: Manifest, start: int, stop: int, settings: Settings) -> Checked:
    """Check rows by themselves, and gather what tells whether others are like them."""
    checked = Checked(start, stop)
    checked.widths = np.full(stop - start, -1, np.int32)
    checked.identity = np.zeros(stop - start if settings.splits else 0, IDENTITY)
    for i in range(start, stop):
        try:
            _check_row(manifest, i, settings, checked)
        except SparqleError:
            raise
        except Exception as error:
            raise RuntimeError(f"the check of {manifest.where(i)} failed; please report this") from error
    return checked


def _check_row(manifest: Manifest, i: int, settings: Settings, checked: Checked) -> None:
    row = manifest.row(i)
    cells = manifest.cells(i)
    audio = bool(cells["audio"].strip())  # an empty cell has been reported
    n_frames, features = row.n_frames, audio and _named_features(row.audio)
    if settings.audio and audio:
        found = look_at(row.audio)
        checked.findings += check_recording(row, found, settings)
        if not found.fault:
            n_frames = found.n_frames
            checked.widths[i - checked.start] = found.width
    seconds = n_frames / (FEATURES_A_SECOND if features else 16_000)
    checked.seconds += seconds
    if not row.n_frames:
        checked.findings.append(_no_length(row, cells["n_frames"], n_frames))
    checked.findings += check_limit(row, n_frames, features, settings)
    checked.findings += check_texts(row, cells, seconds, settings)
    if settings.splits:
        checked.identity[i - checked.start] = _identity(row, audio, settings)


def _named_features(audio: str) -> bool:
    """Whether a cell means features, without an error where its archive cannot be read."""
    try:
        return is_features(audio)
    except SparqleError:
        return False


def _no_length(row: ManifestRow, cell: str, n_frames: int) -> Finding:
    message = f"found {shown(cell)} in n_frames; write a positive whole number, samples at 16 kHz or feature frames"
    return Finding(row.line, "n-frames-invalid", row.id, message, {"n_frames": str(n_frames)} if n_frames else None)


def check_texts(row: ManifestRow, cells: dict[str, str], seconds: float, settings: Settings) -> list[Finding]:
    """Everything that is wrong with the texts and language codes of a row. `cells` are what the file itself says."""
    findings: list[Finding] = []

    def add(code: str, message: str, changes: dict[str, str] | None = None, severity: str = "") -> None:
        findings.append(Finding(row.line, code, row.id, message, changes, severity))

    _check_missing(row, cells, settings, add)
    _check_cells(cells, add)
    _check_marks(cells, add)
    languages = {"src_text": row.src_lang, "tgt_text": row.tgt_lang}
    if row.task == "transcription":
        languages["tgt_text"] = row.tgt_lang or row.src_lang
    good = {}
    for column in ("src_lang", "tgt_lang"):
        code = getattr(row, column)
        wrong = check_code(code) if code else None
        if wrong:
            message, meant = wrong
            add("language-code", f"{column}: {message}", {column: meant} if meant and cells.get(column) else None)
            good[code] = meant
    for column, code in languages.items():
        text, code = cells.get(column), good.get(code, code) if code else None
        wrong_script = check_script(text, code, settings.script_share) if text and code else None
        if wrong_script:
            add("script", f"{column}: {wrong_script}: {shown(text or '')}; correct the text or the language code")
    spoken = row.src_text or row.tgt_text
    wrong_pace = check_pace(spoken, seconds, settings.min_pace, settings.max_pace) if spoken else None
    if wrong_pace:
        add("duration-ratio", f"{wrong_pace}: {shown(spoken or '')}")
    return findings


def _check_missing(row: ManifestRow, cells: dict[str, str], settings: Settings, add: Callable[..., None]) -> None:
    needed = {1: "src_text", 2: "tgt_text"}.get(settings.stage or 0)
    if needed and not (getattr(row, needed) or "").strip():
        add("text-missing", f"stage {settings.stage} needs a text in {needed}; write it", None, ERROR)
    for column in ("src_text", "tgt_text"):
        if column != needed and column in cells and not cells[column].strip():
            add("text-missing", f"found an empty {column}; write the text or remove the row")


def _check_cells(cells: dict[str, str], add: Callable[..., None]) -> None:
    seen: dict[tuple[str, str], None] = {}
    for column, cell in cells.items():
        if not _SUSPECT.search(cell):
            continue
        if column not in TEXTS:
            control = has_control(cell)
            if control:
                add("control-characters", f"found {control} in {column}; write it again")
            continue
        for code, found in check_characters(cell):
            if (code, cell) in seen:  # a label file fills src_text and tgt_text
                continue
            seen[code, cell] = None
            new = cleaned(cell)
            same = [name for name in TEXTS if cells.get(name) == cell]
            changes = dict.fromkeys(same, new) if new is not None else None
            add(code, f"{column}: found {found} in {shown(cell)}; remove it or write the text again", changes)


def _check_marks(cells: dict[str, str], add: Callable[..., None]) -> None:
    """Cells that a table's writer filled, not a speaker: quotation marks of csv, marks for a text that is not there."""
    seen = set()
    for column in ("src_text", "tgt_text"):
        cell = cells.get(column, "")
        if cell in seen:
            continue
        seen.add(cell)
        same = [name for name in ("src_text", "tgt_text") if cells.get(name) == cell]
        if csv_quoted(cell):
            new = without_csv_quotes(cell)
            changes = None if check_characters(new) else dict.fromkeys(same, new)
            add("csv-quotes", f"{column}: found quotation marks as csv doubles them in {shown(cell)}", changes)
        mark = like_placeholder(cell)
        if mark is not None:
            certain = placeholder(cell) is not None
            what = "a mark for a text that is not there" if certain else "what may be a mark and no text"
            message = f"{column}: found {what}, {shown(mark)}; write the text or remove the row"
            add("placeholder", message, None, ERROR if certain else "")


def _identity(row: ManifestRow, audio: bool, settings: Settings) -> tuple[int, int, int, int, int]:
    file = start = end = sound = 0
    if audio:
        place = audio_place(row.audio)
        file, start = _digest(_real(place.path)), place.start or 0
        # Entries of a feature store do not overlap, and count their start and length differently.
        length = 1 if parse_entry(row.audio) else place.length
        end = WHOLE_FILE if place.start is None else start + length
        if settings.audio:
            found = look_at(row.audio)
            silent = found.peak < 10 ** (settings.silence_db / 20)  # one silence is like another
            sound = 0 if silent else found.digest
    text = row.src_text or row.tgt_text or ""
    return file, start, end, sound, _digest(spoken_form(text)) if letters(text) >= settings.shared_letters else 0


@lru_cache(maxsize=4096)
def _real(path: str) -> str:
    return os.path.realpath(path)


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") or 1
