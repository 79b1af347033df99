"""CoVoST 2: the clips and `validated.tsv` of Common Voice, and a table of translations released beside it."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

from sparqle_fairseq.errors import reason
from sparqle_fairseq.files import decoded
from sparqle_fairseq.tools.prepare.common import CorpusError, Manifests, Utterance, file_of, folder_of, transcription
from sparqle_fairseq.tools.prepare.ledger import Ledger
from sparqle_fairseq.tools.prepare.splits import split_of
from sparqle_fairseq.tools.prepare.tables import read_table

SPLITS = ("train", "dev", "test")
_ADDED = "train_covost"  # the released table marks what CoVoST adds to Common Voice's own training set
_REMOVED = "REMOVE"  # written by translators where a translation is to go


def read_covost2(
    root: Path,
    translations: Path,
    source: str,
    targets: tuple[str, ...],
    rows: str = "both",
    splits: tuple[str, ...] = (),
    ledger: Ledger | None = None,
) -> Manifests:
    """`<split>_<lang>` (translation rows) of every target, `<split>_<source>` (transcription rows) of the first.

    Args:
        root: Common Voice's folder of the source language, with `clips` and `validated.tsv`.
        translations: folder of `covost_v2.<source>_<target>.tsv`, its `.tar.gz`, or the three tables of one split
            that CoVoST's own script makes of them.
        source, targets: language codes as in those names.
        rows: translation, transcription or both.
        splits: names out of `SPLITS`; by default all.
        ledger: told of clips without speech or translation: what this release of Common Voice lacks, what translators
            marked for removal.

    Raises:
        CorpusError: a table or folder that is missing or cannot be read.
    """
    ledger = ledger if ledger is not None else Ledger()
    clips = folder_of("Common Voice", root, "clips", archive=source).absolute()
    sentences: dict[str, tuple[str, str]] = {}
    manifests: Manifests = {}
    for k, target in enumerate(targets):
        name = f"covost_v2.{source}_{target}"
        by_split: dict[str, list[Utterance]] = {split: [] for split in SPLITS if not splits or split in splits}
        if (translations / f"{name}.train.tsv").is_file():
            for split, found in by_split.items():
                table = file_of(translations / f"{name}.{split}.tsv", f"CoVoST 2's table of {split}")
                for where, row in _rows(table, None, ("path", "sentence", "translation", "client_id")):
                    if _kept(where, row, ledger):
                        found.append(_utterance(clips, where, row, row["sentence"], row["client_id"], source, target))
        else:
            sentences = sentences or _sentences(root)
            table, content = _released(translations, name)
            for where, row in _rows(table, content, ("path", "translation", "split")):
                split = "train" if row["split"] == _ADDED else split_of(row["split"]) or ""
                if not split:
                    ledger.leave(where, f"split {row['split']!r}, which is none of CoVoST's")
                elif split in by_split and row["path"] not in sentences:
                    ledger.leave(
                        f"{where} ({row['path']})", f"translation into {target} of a clip that Common Voice lacks"
                    )
                elif split in by_split and _kept(where, row, ledger):
                    sentence, speaker = sentences[row["path"]]
                    by_split[split].append(_utterance(clips, where, row, sentence, speaker, source, target))
        for split, utterances in by_split.items():
            if rows in ("translation", "both"):
                manifests[f"{split}_{target}"] = utterances
            if rows in ("transcription", "both") and k == 0:
                manifests[f"{split}_{source}"] = [transcription(utterance) for utterance in utterances]
    return manifests


def _kept(where: str, row: dict[str, str], ledger: Ledger) -> bool:
    if row["translation"].strip() != _REMOVED:
        return True
    ledger.leave(f"{where} ({row['path']})", f"translation that is the mark {_REMOVED}")
    return False


def _utterance(
    clips: Path, where: str, row: dict[str, str], sentence: str, speaker: str, source: str, target: str
) -> Utterance:
    path = row["path"]
    texts = sentence.strip(), row["translation"].strip()
    return Utterance(Path(path).stem, str(clips / path), *texts, source, target, speaker, where=where)


def _sentences(root: Path) -> dict[str, tuple[str, str]]:
    """Common Voice's sentence and speaker of every clip."""
    table = file_of(root / "validated.tsv", "Common Voice's table of clips")
    rows = _rows(table, None, ("path", "sentence", "client_id"))
    return {row["path"]: (row["sentence"], row["client_id"]) for _, row in rows}


def _released(translations: Path, name: str) -> tuple[Path, str | None]:
    """The released table, read inside its archive where that was not unpacked."""
    table = translations / f"{name}.tsv"
    if table.is_file():
        return table, None
    archive = translations / f"{name}.tsv.tar.gz"
    if not archive.is_file():
        raise CorpusError(f"{table}: found neither this table nor {archive.name}; download it as the recipe says")
    try:
        with tarfile.open(archive) as packed:
            members = [member for member in packed if member.isfile() and Path(member.name).name == table.name]
            file = packed.extractfile(members[0]) if members else None
            if file is None:
                raise CorpusError(f"{archive}: found no {table.name} in it; download it again")
            return archive, decoded(file.read(), archive, "table")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise CorpusError(f"{archive}: cannot be read ({reason(error)}); download it again") from None


def _rows(table: Path, content: str | None, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """(`file:line`, row) of a table: tabs, a backslash before a special mark, csv's quotation marks if there."""
    found = read_table(table, columns, text=content, escape=True)
    missing = [column for column in columns if column not in found.columns]
    if missing:
        raise CorpusError(f"{table}:1: found no column {missing[0]} among {', '.join(found.columns)[:80]!r}")
    for row in found.rows:
        yield found.where(row), row.cells
