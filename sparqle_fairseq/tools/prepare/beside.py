"""Text files beside recordings: `talk.wav`, `talk.txt` (what is said), `talk.fr.txt` (its translation into French)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sparqle_fairseq.data.audio import is_audio
from sparqle_fairseq.tools.prepare.common import CorpusError, Utterance, lines_of, one_line
from sparqle_fairseq.tools.prepare.languages import language_code, language_name, serves
from sparqle_fairseq.tools.prepare.ledger import Ledger
from sparqle_fairseq.tools.prepare.recordings import walk
from sparqle_fairseq.tools.prepare.splits import Item
from sparqle_fairseq.tools.prepare.table_rows import Languages

_TEXT = ".txt"
TAKEN = "another text of the same recording and language was taken"

_ByName = dict[tuple[Path, str], list[Path]]  # folder, name without its ending in lower case -> recordings


@dataclass
class _Texts:
    """The text files of one recording."""

    transcript: Path | None = None
    coded: dict[str, list[Path]] = field(default_factory=dict)  # by language code, in its usual spelling


def items_beside(root: Path, languages: Languages, ledger: Ledger) -> list[Item]:
    """Every recording of a folder that has texts beside it; every other file is left out, with its reason.

    Args:
        root: the folder, read with all folders in it.
        languages: the spoken one, and the one that translations are wanted in (None: all).
        ledger: told of every file that is not used.
    """
    sounds: dict[Path, _Texts] = {}
    texts: list[Path] = []
    for path in walk(root):
        if is_audio(path):
            sounds[path] = _Texts()
        elif path.suffix.lower() == _TEXT:
            texts.append(path)
        else:
            ledger.leave(path, "file that is neither audio nor text")
    by_name: dict[tuple[Path, str], list[Path]] = {}
    for path in sounds:
        by_name.setdefault((path.parent, path.stem.casefold()), []).append(path)
    for path in texts:
        _assign(path, sounds, by_name, ledger)
    items = []
    for path, found in sounds.items():
        rows = list(_rows(root, path, found, languages, ledger))
        items += rows
        if not rows:
            ledger.leave(path, "recording without a text")
    return items


def _assign(path: Path, sounds: dict[Path, _Texts], by_name: _ByName, ledger: Ledger) -> None:
    """Give a text to the recording of its name, as it is written or else in any case."""
    name = path.name[: -len(_TEXT)]
    stem, dot, code = name.rpartition(".")
    recording = _recording(path, name, by_name)
    if recording is not None:
        if sounds[recording].transcript is not None:
            ledger.leave(path, TAKEN)
        else:
            sounds[recording].transcript = path
        return
    recording = _recording(path, stem, by_name) if dot else None
    if recording is None:
        ledger.leave(path, "text without a recording")
        return
    language = language_code(code)
    if language is None:
        ledger.leave(path, f"text with {code!r} in its name, which is no language code")
        return
    sounds[recording].coded.setdefault(language, []).append(path)


def _recording(text: Path, stem: str, by_name: _ByName) -> Path | None:
    beside = by_name.get((text.parent, stem.casefold()), [])
    named = [path for path in beside if path.stem == stem] or beside
    if len(named) > 1:
        raise CorpusError(
            f"{text}: is a text for {' and '.join(path.name for path in named)}; give each recording a name of its own"
        )
    return named[0] if named else None


def _rows(root: Path, path: Path, found: _Texts, languages: Languages, ledger: Ledger) -> Iterator[Item]:
    said_in = _best(found, languages.source, ledger)
    if found.transcript is None:
        found.transcript = said_in
    elif said_in is not None:
        ledger.leave(said_in, TAKEN)
    wanted: dict[str, Path] = {}
    if languages.target is not None:
        best = _best(found, languages.target, ledger)
        if best is not None:
            wanted[languages.target] = best
        for code, paths in found.coded.items():
            for other in paths:
                ledger.leave(other, f"text in {language_name(code)} ({code}), not in {languages.target}")
    else:
        for code, paths in found.coded.items():
            wanted[code] = paths[0]
            for other in paths[1:]:
                ledger.leave(other, TAKEN)
    said = _text(found.transcript, ledger) if found.transcript else ""
    relative = path.relative_to(root)
    utterance = Utterance(
        relative.with_suffix("").as_posix(), str(path.absolute()), said, "", languages.source, "", where=str(path)
    )
    translated = False
    for code, file in wanted.items():
        text = _text(file, ledger)
        if text:
            translated = True
            yield Item(
                Utterance(utterance.id, utterance.recording, said, text, languages.source, code, where=str(file)), ""
            )
    if said and not translated:
        if languages.target is not None and not serves(languages.target, languages.source):
            ledger.leave(path, f"recording without a translation into {languages.target}")
        yield Item(utterance, "")


def _best(found: _Texts, wanted: str, ledger: Ledger) -> Path | None:
    """Takes out the texts that serve a language; the one whose code is nearest to it is the text, others are left."""
    code = language_code(wanted) or wanted
    serving = sorted(
        (have for have in found.coded if serves(have, code)), key=lambda have: (have != code, len(have), have)
    )
    paths = [path for have in serving for path in found.coded.pop(have)]
    for other in paths[1:]:
        ledger.leave(other, TAKEN)
    return paths[0] if paths else None


def _text(path: Path, ledger: Ledger) -> str:
    text = one_line("\n".join(lines_of(path, "text of a recording")))
    if not text:
        ledger.leave(path, "empty text")
    return text
