"""FLEURS: a folder a language, with `<split>.tsv` and `audio/<split>/*.wav`; a sentence has one id in all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import langcodes

from sparqle_fairseq.data.not_text import without_csv_quotes
from sparqle_fairseq.tools.prepare.common import CorpusError, Manifests, Utterance, folder_of, lines_of, transcription
from sparqle_fairseq.tools.prepare.ledger import Ledger
from sparqle_fairseq.tools.prepare.splits import SPELLINGS, SPLITS

TEXTS = ("raw", "normalized")
ALL = "all"  # every language whose folder is there
_FIELDS = 7  # sentence id, file, raw text, normalised text, its letters, samples, gender


class _Row(NamedTuple):
    where: str
    sentence: str
    file: str
    texts: dict[str, str]
    gender: str


def read_fleurs(
    root: Path,
    source: str,
    targets: tuple[str, ...],
    rows: str = "both",
    splits: tuple[str, ...] = (),
    text: str = "raw",
    ledger: Ledger | None = None,
) -> Manifests:
    """`<split>_<lang>` (translation rows) of every target, `<split>_<source>` (transcription rows).

    Args:
        root: the folder that holds the languages' folders.
        source, targets: names of those folders, such as `en_us`; `ALL` among the targets are all the others.
        rows: translation, transcription or both.
        splits: names out of `SPLITS`; by default all.
        text: raw (as written, with case and punctuation) or normalized.
        ledger: told of recordings whose sentence a target language does not have.

    Raises:
        CorpusError: a table or folder that is missing or cannot be read.
    """
    ledger = ledger if ledger is not None else Ledger()
    root = root / "data" if (root / "data").is_dir() else root
    source_lang = language_of(source)
    if ALL in targets:
        targets = _all_languages(root, source)
    manifests: Manifests = {}
    sentences = {target: _sentences(root, target, text) for target in targets}
    for split in splits or SPLITS:
        audio = _audio(root / source / "audio", split).absolute()
        spoken = list(_rows(root, source, split))
        for target in targets if rows in ("translation", "both") else ():
            language, known = language_of(target), sentences[target]
            utterances = [
                _utterance(audio, row, text, source_lang, known[row.sentence], language)
                for row in spoken
                if row.sentence in known
            ]
            manifests[f"{split}_{language}"] = utterances
            for row in spoken:
                if row.sentence not in known:
                    ledger.leave(f"{row.where} ({row.file})", f"recording of a sentence that {language} lacks")
        if rows in ("transcription", "both"):
            utterances = [_utterance(audio, row, text, source_lang, "", source_lang) for row in spoken]
            manifests[f"{split}_{source_lang}"] = [transcription(utterance) for utterance in utterances]
    return manifests


def language_of(folder: str) -> str:
    """The shortest code of a folder's language: `fr_fr` -> `fr`, `es_419` -> `es-419`, `cmn_hans_cn` -> `cmn`."""
    tag = folder.replace("_", "-")
    try:
        full = langcodes.Language.get(tag)
    except ValueError:
        full = langcodes.Language.get("und")
    if not full.is_valid() or not full.language or full.language == "und":
        raise CorpusError(f"{folder!r} is no language folder of FLEURS; give its name, such as en_us or fr_fr")
    usual = langcodes.Language.get(full.language).maximize()
    script = None if full.script in (None, usual.script) else full.script
    territory = None if full.territory in (None, usual.territory) else full.territory
    return langcodes.Language.make(full.language, script=script, territory=territory).to_tag()


def _all_languages(root: Path, source: str) -> tuple[str, ...]:
    """Folders that hold the table of a split, but for the spoken language. Raises `CorpusError` where there is none."""
    tables = [f"{name}.tsv" for split in SPLITS for name in SPELLINGS[split]]
    found = sorted(path.name for path in root.glob("*") if any((path / name).is_file() for name in tables))
    others = tuple(name for name in found if name != source)
    if not others:
        raise CorpusError(f"{root} holds no language beside {source}; unpack the folders of others there")
    return others


def _utterance(audio: Path, row: _Row, text: str, source: str, translation: str, target: str) -> Utterance:
    name = f"{row.sentence}_{Path(row.file).stem}"
    recording = str(audio / row.file)
    return Utterance(name, recording, row.texts[text], translation, source, target, row.gender, where=row.where)


def _audio(folder: Path, split: str) -> Path:
    """The recordings of a split, by whichever of its names."""
    names = [name for name in SPELLINGS[split] if (folder / name).is_dir()]
    return folder / names[0] if names else folder_of("FLEURS", folder, split)


def _sentences(root: Path, language: str, text: str) -> dict[str, str]:
    """Every sentence of a language by its id, whatever split its recordings are in."""
    return {row.sentence: row.texts[text] for split in reversed(SPLITS) for row in _rows(root, language, split)}


def _rows(root: Path, language: str, split: str) -> Iterator[_Row]:
    folder = folder_of("FLEURS", root, language)
    table = next((folder / f"{name}.tsv" for name in SPELLINGS[split] if (folder / f"{name}.tsv").is_file()), None)
    table = table or folder / f"{split}.tsv"
    for number, line in enumerate(lines_of(table, f"the {split} table of {language}"), start=1):
        cells = line.split("\t")
        if len(cells) != _FIELDS:
            raise CorpusError(
                f"{table}:{number}: found {len(cells)} fields where FLEURS has {_FIELDS}; download it again"
            )
        raw, normalized = (without_csv_quotes(cell.strip()) for cell in cells[2:4])
        yield _Row(f"{table}:{number}", cells[0], cells[1], {"raw": raw, "normalized": normalized}, cells[6].lower())
