"""The rows of a table of recordings: a person's own, Hugging Face's `metadata.csv`, NeMo's manifest."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from sparqle_fairseq.data.audio import SAMPLE_RATE
from sparqle_fairseq.tools.prepare.common import CorpusError, Utterance, one_line, shown
from sparqle_fairseq.tools.prepare.languages import required_code, serves
from sparqle_fairseq.tools.prepare.ledger import Ledger
from sparqle_fairseq.tools.prepare.recordings import Recordings
from sparqle_fairseq.tools.prepare.splits import SPLITS, Item, split_of
from sparqle_fairseq.tools.prepare.tables import Row, Table

# What a column may be called, in any case.
NAMES = {
    "audio": (
        *("audio", "path", "file", "file_name", "filename", "audio_filepath", "audio_path", "file_path", "filepath"),
        *("wav", "wav_filename", "recording"),
    ),
    "id": ("id", "utt_id"),
    "transcript": ("transcript", "src_text", "text", "sentence", "transcription"),
    "translation": ("translation", "tgt_text"),
    "answer": ("answer",),
    "src_lang": ("src_lang", "source_lang", "source_language"),
    "tgt_lang": ("tgt_lang", "target_lang", "target_language"),
    "lang": ("lang", "language", "locale"),
    "speaker": ("speaker", "client_id", "speaker_id"),
    "split": ("split", "subset"),
    "start": ("start", "offset", "start_time"),
    "end": ("end", "end_time"),
    "duration": ("duration",),
    "n_frames": ("n_frames",),
    "task": ("taskname", "task"),
}
KNOWN = frozenset(name for names in NAMES.values() for name in names)
_USE = {name: use for use, names in NAMES.items() for name in names}
_TRANSLATES = ("s2t_translation", "ast", "st", "translation", "translate")
_ALIKE = 0.85  # of difflib's ratio: a column's name that is a slip of the pen for a known one


@dataclass(frozen=True)
class Languages:
    """What holds where a table says nothing."""

    source: str
    target: str | None


class _Cells:
    """The cells of a row by what they are for."""

    def __init__(self, table: Table, row: Row, columns: Mapping[str, list[str]]) -> None:
        self.where = table.where(row)
        self._table, self._row, self._columns = table, row, columns

    def get(self, use: str) -> str:
        """One line of text; empty where there is none. Two columns for one use must agree."""
        found = {name: one_line(self._table.text(self._row, name)) for name in self._columns.get(use, [])}
        values = dict.fromkeys(value for value in found.values() if value)
        if len(values) > 1:
            raise CorpusError(
                f"{self.where}: found {' and '.join(map(shown, values))} in {' and '.join(found)}, which mean the "
                f"same; keep one of the columns"
            )
        return next(iter(values), "")

    def seconds(self, use: str) -> float | None:
        text = self.get(use)
        if not text:
            return None
        try:
            seconds = float(text.replace(",", "."))
        except ValueError:
            seconds = math.nan
        if not math.isfinite(seconds) or seconds < 0:
            raise CorpusError(f"{self.where}: found {text!r} in {use}; write seconds, such as 12.5")
        return seconds


def items_of_table(
    table: Table, recordings: Recordings, languages: Languages, ledger: Ledger, split: str = ""
) -> list[Item]:
    """One item a row; a row without a text is left out.

    Args:
        table: its rows.
        recordings: where the recordings are.
        languages: those of rows that name none.
        ledger: told of rows that are left out and of columns that nobody reads.
        split: of all rows that name none; empty: to be drawn.

    Raises:
        CorpusError: a row that cannot be read in one way only; its line, what was found, the remedy.
    """
    columns = _columns(table, ledger)
    nemo = "audio_filepath" in map(str.lower, table.columns) and "translation" not in columns
    rows = [_Cells(table, row, columns) for row in table.rows]
    splits = {cells.get("split") for cells in rows}
    items = []
    for cells in rows:
        audio = cells.get("audio")
        if not audio:
            raise CorpusError(f"{cells.where}: found an empty {columns['audio'][0]}; name the file of the recording")
        if nemo:
            said, translated, spoken, target = _nemo_texts(cells, languages)
        else:
            said, translated, spoken, target = _own_texts(cells, languages)
        recording = recordings.find(cells.where, audio, table.path.parent)
        if not said and not translated:
            ledger.leave(f"{cells.where} ({audio})", "row without a text")
            continue
        if not translated and "translation" in columns:
            ledger.leave(f"{cells.where} ({audio})", "row without a translation")
        utterance = Utterance(
            id=cells.get("id"),
            recording=recording,
            src_text=said,
            tgt_text=translated,
            src_lang=spoken,
            tgt_lang=target,
            speaker=cells.get("speaker"),
            where=cells.where,
        )
        part = _part(cells, utterance)
        if part.start is not None and recordings.packed is not None:
            raise CorpusError(f"{cells.where}: recordings in a zip file cannot be cut; unpack {recordings.root}")
        if not part.id:
            part = replace(part, id=_id(audio, part, table.path, recordings))
        items.append(Item(part, _split(cells, splits, ledger) or _folder_split(table, audio) or split))
    return _whole_or_cut(items)


def _columns(table: Table, ledger: Ledger) -> dict[str, list[str]]:
    """The table's columns by their use."""
    columns: dict[str, list[str]] = {}
    for name in table.columns:
        use = _USE.get(name.strip().lower())
        if use:
            columns.setdefault(use, []).append(name)
    unused = [name for name in table.columns if name.strip().lower() not in KNOWN]
    for name in unused:
        meant = difflib.get_close_matches(name.strip().lower(), KNOWN, 1, _ALIKE)
        if meant and _USE[meant[0]] not in columns:
            line = next((row.line for row in table.rows if row.cells.get(name) not in (None, "")), 1)
            raise CorpusError(
                f"{table.path}:{line}: found the column {name!r}; write {meant[0]!r} if that is meant, or another name"
            )
    if "audio" not in columns or not {"transcript", "translation", "answer"} & set(columns):
        raise CorpusError(
            f"{table.path}: found the columns {', '.join(table.columns)}; it needs audio, and transcript or translation"
        )
    if not table.rows:
        raise CorpusError(f"{table.path}: found no rows; write one for each recording")
    if unused:
        ledger.note(f"{table.path}: no use is made of the columns {', '.join(unused)}")
    return columns


# -- texts and their languages -------------------------------------------------------------------------------


def _own_texts(cells: _Cells, languages: Languages) -> tuple[str, str, str, str]:
    """Transcript, translation, their languages; each text has a column of its own."""
    spoken = _code(cells, "src_lang") or _code(cells, "lang") or languages.source
    target = _code(cells, "tgt_lang") or languages.target or ""
    translated = cells.get("translation") or cells.get("answer")
    if translated and not target:
        raise CorpusError(f"{cells.where}: found a translation of no language; give --tgt-lang or a column tgt_lang")
    if translated and serves(target, spoken):
        raise CorpusError(
            f"{cells.where}: found a translation into {target}, which is spoken; correct tgt_lang or src_lang"
        )
    return cells.get("transcript"), translated, spoken, target


def _nemo_texts(cells: _Cells, languages: Languages) -> tuple[str, str, str, str]:
    """The same of NeMo's manifest, whose one text is in `target_lang` (or `lang`): a transcript or a translation."""
    task = cells.get("task").lower()
    spoken, target, lang = _code(cells, "src_lang"), _code(cells, "tgt_lang"), _code(cells, "lang")
    answer = cells.get("answer")
    answer = "" if answer.lower() == "na" else answer  # what NeMo writes where it has none
    text = cells.get("transcript")
    written = target or lang
    if not written:
        written = (languages.target or "") if task in _TRANSLATES else spoken or languages.source
    if not written:
        raise CorpusError(f"{cells.where}: found a translation of no language; give --tgt-lang or target_lang")
    if not spoken:
        into = task in _TRANSLATES or bool(target) or (languages.target and serves(written, languages.target))
        spoken = languages.source if into or serves(written, languages.source) else written
    translates = not serves(written, spoken)
    if translates != (task in _TRANSLATES) and task in (*_TRANSLATES, "asr"):
        raise CorpusError(
            f"{cells.where}: found the task {task!r} from {spoken} into {written}; correct source_lang or target_lang"
        )
    if translates:
        return (text if answer and text != answer else ""), answer or text, spoken, written
    if text and answer and text != answer:
        raise CorpusError(f"{cells.where}: found two transcripts, {shown(text)} and {shown(answer)}; keep one")
    return text or answer, "", spoken, languages.target or ""


def _code(cells: _Cells, use: str) -> str:
    text = cells.get(use)
    return required_code(cells.where, text) if text else ""


# -- parts and lengths ---------------------------------------------------------------------------------------


def _part(cells: _Cells, utterance: Utterance) -> Utterance:
    """With its part of the recording. A length without a start or an end is that of the whole recording."""
    start, end, duration = (cells.seconds(use) for use in ("start", "end", "duration"))
    frames = cells.seconds("n_frames")
    stated = None if frames is None else frames / SAMPLE_RATE
    if end is not None:
        start = start or 0.0
        if end <= start:
            raise CorpusError(f"{cells.where}: found the end {end:g} before the start {start:g}; correct them")
        if duration is not None and abs(end - start - duration) > 0.05:
            raise CorpusError(
                f"{cells.where}: found seconds {start:g} to {end:g} and a duration of {duration:g}; correct one of them"
            )
        return replace(utterance, start=start, duration=end - start, stated=stated)
    if start:
        return replace(utterance, start=start, duration=duration, stated=stated)
    if duration == 0:
        raise CorpusError(f"{cells.where}: found a duration of 0 seconds; correct it")
    # Whether a start of 0 with a duration cuts shows when the other rows are known.
    return replace(utterance, duration=duration, stated=stated)


def _whole_or_cut(items: list[Item]) -> list[Item]:
    """Durations from second 0 cut recordings that other rows cut too; of others they state the length."""
    cut = {item.utterance.recording for item in items if item.utterance.start}
    for item in items:
        utterance = item.utterance
        if utterance.start is None and utterance.duration is not None:
            if utterance.recording in cut:
                item.utterance = replace(utterance, start=0.0)
            else:
                item.utterance = replace(utterance, duration=None, stated=utterance.duration)
    return items


# -- names ---------------------------------------------------------------------------------------------------


def _id(audio: str, utterance: Utterance, table: Path, recordings: Recordings) -> str:
    """The recording's path without its ending, below the root, and where the part starts."""
    name = audio
    folder = table.parent.absolute()
    root = recordings.root.absolute()
    if folder != root and root in folder.parents and not (root / audio).exists():
        name = (folder.relative_to(root) / audio).as_posix()
    stem = str(PurePosixPath(name.replace("\\", "/")).with_suffix("")).lstrip("/")
    return stem if utterance.start is None else f"{stem}_{utterance.start:g}"


def _split(cells: _Cells, company: set[str], ledger: Ledger) -> str:
    name = cells.get("split")
    if not name:
        return ""
    split = split_of(name, company)
    if split is None:
        raise CorpusError(f"{cells.where}: found the split {name!r}; write {', '.join(SPLITS)} or nothing")
    if split != name:
        ledger.note(f"the split {name!r} is read as {split}")
    return split


def _folder_split(table: Table, audio: str) -> str:
    """Hugging Face's `metadata.csv` above the folders of the splits: `train/0001.wav`."""
    if not table.path.name.lower().startswith("metadata."):
        return ""
    parts = PurePosixPath(audio.replace("\\", "/")).parts
    return (split_of(parts[0]) or "") if len(parts) > 1 else ""


def check_ids(items: list[Item]) -> None:
    """Refuses an id that two pieces of speech of a split have, and a row that comes twice.

    Raises:
        CorpusError: with both rows.
    """
    first: dict[tuple[str, str], Utterance] = {}
    seen = set()
    for item in items:
        utterance = item.utterance
        before = first.setdefault((item.split, utterance.id), utterance)
        if speech(before) != speech(utterance):
            raise CorpusError(
                f"{utterance.where}: found the id {utterance.id!r}, which {before.where} has for other speech; write a "
                f"column id"
            )
        row = item.split, utterance.id, utterance.tgt_lang if utterance.tgt_text else ""
        if row in seen:
            raise CorpusError(
                f"{utterance.where}: found the utterance {utterance.id!r}, which {before.where} has; remove one row"
            )
        seen.add(row)


def speech(utterance: Utterance) -> tuple[object, ...]:
    """What is equal in the rows of one piece of speech, which has a row for each of its translations."""
    return utterance.id, utterance.recording, utterance.start, utterance.duration, utterance.src_text
