"""A person's own recordings: a folder (or a zip file) of sound files, with a table or with text files beside them."""

from __future__ import annotations

import csv
import hashlib
import json
import struct
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path, PurePosixPath
from typing import Any

import soundfile

from sparqle_fairseq.tools.prepare.common import CorpusError, Utterance, folder_of, lines_of, one_line, transcription

SPLITS = ("train", "dev", "test")
GROUPS = ("text", "speaker")
TABLES = (".csv", ".tsv", ".json", ".jsonl")
SOUNDS = (*(f".{name.lower()}" for name in soundfile.available_formats()), ".opus", ".oga", ".aif")
# What a column may be called.
NAMES = {
    "audio": ("audio", "path", "file", "file_name", "filename"),
    "id": ("id",),
    "transcript": ("transcript", "src_text", "text", "sentence"),
    "translation": ("translation", "tgt_text"),
    "src_lang": ("src_lang",),
    "tgt_lang": ("tgt_lang",),
    "speaker": ("speaker", "client_id", "speaker_id"),
    "split": ("split",),
    "start": ("start", "offset"),
    "end": ("end",),
    "duration": ("duration",),
}
_LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip member; at its end the lengths of name and extra field


@dataclass
class Item:
    """One line of a person's table, or one recording with the texts beside it."""

    utterance: Utterance  # its target text is the translation, or empty
    split: str


def read_own_audio(
    root: Path,
    *,
    table: Path | None = None,
    source: str,
    target: str | None = None,
    shares: Mapping[str, float],
    group: str = "text",
    seed: int = 1,
) -> dict[str, list[Utterance]]:
    """`<split>_<lang>` for every language that a text is in: the spoken one, and those of the translations.

    Args:
        root: folder of the recordings, or a zip file that stores them uncompressed.
        table: csv, tsv, json or jsonl file; by default the only one in the folder, else texts beside the recordings.
        source, target: language codes of what has none of its own.
        shares: share of the utterances that go to dev and to test, where the table has no `split`.
        group: what never lies in two splits: the same text, or the same speaker.
        seed: another one draws other splits.
    """
    recordings = _zip_members(root) if root.suffix.lower() == ".zip" and root.is_file() else None
    if recordings is None:
        folder_of("own_audio", root)
    found = table or (_only_table(root) if recordings is None else None)
    if found is not None:
        items = _from_table(found, root, recordings, source, target)
    else:
        items = list(_from_files(root, recordings, source, target))
    if not items:
        raise CorpusError(f"{root}: found no recordings with a text; write a table or a .txt file beside each")
    _draw_splits(items, shares, group, seed)
    manifests: dict[str, list[Utterance]] = {}
    transcribed = set()
    for item in sorted(items, key=lambda item: SPLITS.index(item.split)):
        utterance = item.utterance
        if utterance.src_text and _speech(utterance) not in transcribed:
            manifests.setdefault(f"{item.split}_{utterance.src_lang}", []).append(transcription(utterance))
            transcribed.add(_speech(utterance))
        if utterance.tgt_text:
            manifests.setdefault(f"{item.split}_{utterance.tgt_lang}", []).append(utterance)
    return manifests


def _only_table(root: Path) -> Path | None:
    tables = [path for path in sorted(root.iterdir()) if path.suffix.lower() in TABLES and path.is_file()]
    if len(tables) > 1:
        raise CorpusError(f"{root}: found {', '.join(path.name for path in tables)}; say which one with --table")
    return tables[0] if tables else None


# -- tables ------------------------------------------------------------------------------------------------


def _from_table(
    table: Path, root: Path, recordings: dict[str, str] | None, source: str, target: str | None
) -> list[Item]:
    rows = list(_table_rows(table))
    if not rows:
        raise CorpusError(f"{table}: found no rows; write one for each recording")
    columns = {use: next((name for name in names if name in rows[0]), None) for use, names in NAMES.items()}
    if columns["audio"] is None or (columns["transcript"] is None and columns["translation"] is None):
        raise CorpusError(
            f"{table}: found the columns {', '.join(rows[0])}; it needs audio, and transcript or translation"
        )
    items = []
    first: dict[str, tuple[int, tuple[object, ...]]] = {}
    for number, row in enumerate(rows, start=1):
        cells = {use: one_line(str(row.get(name) or "")) if name else "" for use, name in columns.items()}
        where = f"{table}, row {number}"
        if not cells["audio"]:
            raise CorpusError(f"{where}: found an empty audio; name its file")
        start, end, duration = (_seconds(where, cells, name) for name in ("start", "end", "duration"))
        if start is None and (end is not None or duration is not None):
            start = 0.0
        if end is not None and start is not None:
            duration = end - start
        if start is not None and recordings is not None:
            raise CorpusError(f"{where}: recordings in a zip file cannot be cut; unpack {root}")
        tgt_lang = cells["tgt_lang"] or target or ""
        if cells["translation"] and not tgt_lang:
            raise CorpusError(f"{where}: found a translation of no language; give --tgt-lang or a column tgt_lang")
        if cells["split"] and cells["split"] not in SPLITS:
            raise CorpusError(f"{where}: found the split {cells['split']!r}; write {', '.join(SPLITS)} or nothing")
        utterance = Utterance(
            id=cells["id"] or _id(cells["audio"], start),
            recording=_recording(where, root, recordings, cells["audio"]),
            src_text=cells["transcript"],
            tgt_text=cells["translation"],
            src_lang=cells["src_lang"] or source,
            tgt_lang=tgt_lang,
            speaker=cells["speaker"],
            start=start,
            duration=duration,
        )
        before, speech = first.setdefault(utterance.id, (number, _speech(utterance)))
        if speech != _speech(utterance):
            raise CorpusError(
                f"{where}: found the id {utterance.id!r}, which row {before} has for other speech; write a column id"
            )
        items.append(Item(utterance, cells["split"]))
    return items


def _speech(utterance: Utterance) -> tuple[object, ...]:
    """What is equal in the rows of one piece of speech, which has a row for each of its translations."""
    return utterance.id, utterance.recording, utterance.start, utterance.duration, utterance.src_text


def _table_rows(table: Path) -> list[dict[str, Any]]:
    kind = table.suffix.lower()
    text = "\n".join(lines_of(table, "the table"))
    if kind in (".json", ".jsonl"):
        try:
            rows = (
                json.loads(text) if kind == ".json" else [json.loads(line) for line in text.split("\n") if line.strip()]
            )
        except json.JSONDecodeError as error:
            raise CorpusError(f"{table}: cannot be read as {kind[1:].upper()} ({error})") from None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise CorpusError(f"{table}: found no list of objects; write one object a recording")
        return rows
    if kind not in TABLES:
        raise CorpusError(f"{table}: is no table that can be read; give {', '.join(TABLES)}")
    lines = text.split("\n")
    try:
        if kind == ".tsv":  # as in a manifest: no quoting
            return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
        delimiter = ";" if ";" in lines[0] else ","
        return list(csv.DictReader((f"{line}\n" for line in lines), delimiter=delimiter))
    except csv.Error as error:
        raise CorpusError(f"{table}: cannot be read as {kind[1:].upper()} ({error}); save it again") from None


def _seconds(where: str, cells: Mapping[str, str], name: str) -> float | None:
    if not cells[name]:
        return None
    try:
        return float(cells[name].replace(",", "."))
    except ValueError:
        raise CorpusError(f"{where}: found {cells[name]!r} in {name}; write seconds, such as 12.5") from None


def _id(audio: str, start: float | None) -> str:
    stem = str(PurePosixPath(audio).with_suffix("")).lstrip("/")
    return stem if start is None else f"{stem}_{start:g}"


def _recording(where: str, root: Path, recordings: dict[str, str] | None, audio: str) -> str:
    if recordings is None:
        return str((root / audio).absolute())
    if audio not in recordings:
        raise CorpusError(f"{where}: {root} holds no {audio}; correct the name")
    return recordings[audio]


# -- text files beside the recordings ------------------------------------------------------------------------


def _from_files(root: Path, recordings: dict[str, str] | None, source: str, target: str | None) -> Iterable[Item]:
    """`talk.wav` with `talk.txt`, what is said, and `talk.fr.txt`, its translation into French."""
    if recordings is not None:
        raise CorpusError(f"{root}: recordings in a zip file need a table; give it with --table")
    sounds = sorted(path for path in root.rglob("*") if path.suffix.lower() in SOUNDS and path.is_file())
    for path in sounds:
        relative = path.relative_to(root).as_posix()
        beside = [file for file in sorted(path.parent.glob(f"{_escaped(path.stem)}.*txt")) if file.is_file()]
        texts = {file.name[len(path.stem) + 1 :].removesuffix("txt").rstrip("."): file for file in beside}
        transcript = texts.pop("", texts.pop(source, None))
        said = _text(transcript) if transcript else ""
        wanted = {lang: file for lang, file in texts.items() if target is None or lang == target}
        utterance = Utterance(_id(relative, None), str(path.absolute()), said, "", source, "")
        for lang, file in wanted.items():
            yield Item(Utterance(utterance.id, utterance.recording, said, _text(file), source, lang), "")
        if not wanted and said:
            yield Item(utterance, "")


def _escaped(stem: str) -> str:
    return "".join(f"[{mark}]" if mark in "*?[" else mark for mark in stem)


def _text(path: Path) -> str:
    return one_line("\n".join(lines_of(path, "the text of a recording")))


# -- zip files -----------------------------------------------------------------------------------------------


def _zip_members(path: Path) -> dict[str, str]:
    """Where each sound file lies in a zip file, as a manifest says it: `x.zip:OFFSET:LENGTH`."""
    places = {}
    try:
        with zipfile.ZipFile(path) as packed, path.open("rb") as file:
            for member in packed.infolist():
                if PurePosixPath(member.filename).suffix.lower() not in SOUNDS:
                    continue
                if member.compress_type != zipfile.ZIP_STORED:
                    raise CorpusError(
                        f"{path}: {member.filename} is compressed, and only what is stored can be read in place; "
                        f"unpack the file, or pack it again with `zip -0`"
                    )
                file.seek(member.header_offset)
                name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
                start = member.header_offset + _LOCAL_HEADER.size + name + extra
                places[member.filename] = f"{path.absolute()}:{start}:{member.file_size}"
    except (zipfile.BadZipFile, OSError, struct.error) as error:
        raise CorpusError(f"{path}: cannot be read as a zip file ({error}); pack it again") from None
    return places


# -- splits --------------------------------------------------------------------------------------------------


def _draw_splits(items: list[Item], shares: Mapping[str, float], group: str, seed: int) -> None:
    """Fills in the splits that the table does not give. What is equal stays together, and training gets most."""
    if sum(shares.values()) >= 1 or min(shares.values(), default=0) < 0:
        raise CorpusError(f"found shares of {dict(shares)}; dev and test together must leave something to train on")
    open_items = [item for item in items if not item.split]
    keys = {_group(item.utterance, group) for item in open_items}
    order = sorted(keys, key=lambda key: hashlib.sha256(f"{seed}\t{key}".encode()).digest())
    split_of = dict.fromkeys(order, "train")
    taken = 0
    for split, share in shares.items():
        count = min(ceil(share * len(order)), len(order) - 1 - taken)
        split_of |= dict.fromkeys(order[taken : taken + count], split)
        taken += max(count, 0)
    for item in open_items:
        item.split = split_of[_group(item.utterance, group)]


def _group(utterance: Utterance, group: str) -> str:
    if group == "speaker":
        if not utterance.speaker:
            raise CorpusError(
                f"utterance {utterance.id}: has no speaker to split by; name it in the table, or split by text"
            )
        return utterance.speaker
    # Rows of one recording go where its transcript goes, and without a transcript where the recording goes.
    return utterance.src_text.casefold() or utterance.recording
