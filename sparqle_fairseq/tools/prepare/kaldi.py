"""Kaldi's and ESPnet's data folders: `wav.scp`, `text` or `text.<lang>`, `segments`, `utt2spk`, …"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from sparqle_fairseq.tools.prepare.common import CorpusError, Utterance, lines_of, one_line, shown
from sparqle_fairseq.tools.prepare.languages import language_code, required_code, serves
from sparqle_fairseq.tools.prepare.ledger import Ledger
from sparqle_fairseq.tools.prepare.recordings import Recordings
from sparqle_fairseq.tools.prepare.splits import Item, split_in_name
from sparqle_fairseq.tools.prepare.table_rows import Languages

SCP = "wav.scp"
_ARK = re.compile(r"\.ark(:\d+)?$|:\d+$|\[[\d:,]+\]$")
# ESPnet keeps a text with case and punctuation (tc), in lower case (lc), without punctuation (rm): the fuller first.
_CASES = ("", "tc.", "lc.", "lc.rm.")

Entries = dict[str, tuple[int, str]]  # key -> line, the rest of it


def is_kaldi(folder: Path) -> bool:
    return (folder / SCP).is_file()


def kaldi_folders(root: Path) -> list[tuple[Path, str]]:
    """The data folders at `root` or right below it, each with its split (empty: to be drawn)."""
    if is_kaldi(root):
        return [(root, split_in_name(root.name) or "")]
    below = [path for path in sorted(root.iterdir()) if path.is_dir() and is_kaldi(path)]
    return [(path, split_in_name(path.name, [other.name for other in below]) or "") for path in below]


def items_of_kaldi(
    folder: Path, recordings: Recordings, languages: Languages, ledger: Ledger, split: str = ""
) -> list[Item]:
    """One item for every utterance and language that has a text.

    Raises:
        CorpusError: a command or an archive in place of a file, a line that cannot be read, a key that comes twice.
    """
    files = {key: _file(folder / SCP, line, value) for key, (line, value) in _entries(folder / SCP).items()}
    segments = _segments(folder, files)
    _one_channel(folder, files)
    spoken_by, spoken_in, lasts = (_optional(folder / name) for name in ("utt2spk", "utt2lang", "utt2dur"))
    by_language = _texts(folder, languages, ledger)
    items: list[Item] = []
    used: set[str] = set()
    said = by_language.pop("", {})
    for language, texts in {"": said, **by_language}.items():
        for utterance in texts:
            if utterance not in segments and (not language or utterance not in said):
                ledger.leave(f"{folder}: {utterance}", "text without a recording")
    for utterance, (recording, start, end, where) in segments.items():
        source = languages.source
        if utterance in spoken_in:
            source = required_code(f"{folder}/utt2lang:{spoken_in[utterance][0]}", spoken_in[utterance][1])
        made = Utterance(
            utterance,
            recordings.find(where, files[recording], folder),
            one_line(said.get(utterance, (0, ""))[1]),
            "",
            source,
            "",
            spoken_by.get(utterance, (0, ""))[1],
            start,
            None if end is None or start is None else end - start,
            _seconds(folder / "utt2dur", *lasts[utterance]) if utterance in lasts else None,
            where,
        )
        rows = [
            Item(_translated(made, one_line(texts[utterance][1]), language), split)
            for language, texts in by_language.items()
            if utterance in texts and one_line(texts[utterance][1])
        ]
        if not rows and made.src_text:
            rows = [Item(made, split)]
        if not rows:
            ledger.leave(f"{where} ({utterance})", "utterance without a text")
        items += rows
        used.add(recording)
    for recording in files:
        if recording not in used:
            ledger.leave(f"{folder}/{SCP}: {recording}", "recording without a segment")
    return items


def _translated(utterance: Utterance, text: str, language: str) -> Utterance:
    return replace(utterance, tgt_text=text, tgt_lang=language)


# -- the files of a folder -----------------------------------------------------------------------------------


def _entries(path: Path) -> Entries:
    """`key value…` lines; a key stands once."""
    found: Entries = {}
    for number, line in enumerate(lines_of(path, "file of a Kaldi folder"), start=1):
        key, _, value = line.strip().replace("\t", " ").partition(" ")
        if not key:
            continue
        if key in found:
            raise CorpusError(f"{path}:{number}: found {key!r}, which line {found[key][0]} has; remove one of them")
        found[key] = (number, value.strip())
    return found


def _optional(path: Path) -> Entries:
    return _entries(path) if path.is_file() else {}


def _file(scp: Path, line: int, value: str) -> str:
    if not value:
        raise CorpusError(f"{scp}:{line}: found a recording without a file; write its path")
    if value.endswith("|") or value.startswith("|"):
        raise CorpusError(
            f"{scp}:{line}: found the command {shown(value)}, and commands of a table are not run; run it once into a "
            f"file and write that file's path here"
        )
    if value == "-" or _ARK.search(value):
        raise CorpusError(
            f"{scp}:{line}: found {shown(value)}, which is no sound file; write recordings to files of their own (for "
            f"example with copy-wav or wav-copy) and their paths here"
        )
    return value


def _segments(folder: Path, files: dict[str, str]) -> dict[str, tuple[str, float | None, float | None, str]]:
    """Utterance -> recording, start, end (None: to the end; no start: the whole), `file:line`."""
    path = folder / "segments"
    if not path.is_file():
        return {key: (key, None, None, f"{folder / SCP}:{line}") for key, (line, _) in _entries(folder / SCP).items()}
    found: dict[str, tuple[str, float | None, float | None, str]] = {}
    for key, (line, value) in _entries(path).items():
        where, cells = f"{path}:{line}", value.split()
        if len(cells) != 3:
            raise CorpusError(f"{where}: found {shown(value)}; write utterance, recording, start and end")
        if cells[0] not in files:
            raise CorpusError(f"{where}: found the recording {cells[0]!r}, which {SCP} lacks; add it there")
        start, end = _seconds(path, line, cells[1]), _seconds(path, line, cells[2], least=-1.0)
        if 0 <= end <= start:
            raise CorpusError(f"{where}: found the end {end:g} before the start {start:g}; correct them")
        found[key] = (cells[0], start, None if end < 0 else end, where)
    return found


def _seconds(path: Path, line: int, text: str, least: float = 0.0) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = float("nan")
    if not least <= seconds < float("inf"):
        raise CorpusError(f"{path}:{line}: found {text!r} where a number of seconds stands; correct it")
    return seconds


def _one_channel(folder: Path, files: dict[str, str]) -> None:
    """Refuses folders whose recordings are single channels of files: a manifest names no channel."""
    path = folder / "reco2file_and_channel"
    sides: dict[str, tuple[str, int]] = {}
    for key, (line, value) in _optional(path).items():
        file, _, side = value.partition(" ")
        before = sides.setdefault(file, (side, line))
        if key in files and (before[0] != side or side.strip() not in ("", "A", "0", "1")):
            raise CorpusError(
                f"{path}:{line}: found channel {side} of {file}, and channels are averaged when a file is "
                f"read; write each channel to a file of its own"
            )


def _texts(folder: Path, languages: Languages, ledger: Ledger) -> dict[str, Entries]:
    """Texts by language, "" for what is said: `text`, or the `text.<case>.<lang>` of the spoken language."""
    found: dict[str, Entries] = {}
    if (folder / "text").is_file():
        found[""] = _entries(folder / "text")
    codes: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.glob("text.*")):
        for case, code in _case_and_language(path):
            codes.setdefault(code, {})[case] = path
            break
        else:
            ledger.leave(path, "text of no known language")
    for code, paths in codes.items():
        case = next(case for case in _CASES if case in paths)
        for other, path in paths.items():
            if other != case:
                ledger.leave(path, f"the same text as {paths[case].name}, with less of its case or punctuation")
        if serves(code, languages.source):
            if "" in found:
                ledger.leave(paths[case], "another transcript; text was taken")
            else:
                found[""] = _entries(paths[case])
        elif languages.target is None or serves(code, languages.target):
            found[languages.target or code] = _entries(paths[case])
        else:
            ledger.leave(paths[case], f"text in {code}, not in {languages.target}")
    if not found:
        raise CorpusError(f"{folder}: found neither text nor text.{languages.source}; a data folder needs one of them")
    return found


def _case_and_language(path: Path) -> Iterator[tuple[str, str]]:
    rest = path.name.removeprefix("text.")
    for case in sorted(_CASES, key=len, reverse=True):
        code = language_code(rest.removeprefix(case)) if rest.startswith(case) else None
        if code:
            yield case, code
