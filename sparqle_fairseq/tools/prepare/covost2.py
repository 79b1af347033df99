"""CoVoST 2: the clips and `validated.tsv` of Common Voice, and a table of translations released beside it."""

from __future__ import annotations

import csv
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

from sparqle_fairseq.tools.prepare.common import CorpusError, Utterance, file_of, folder_of, transcription

SPLITS = ("train", "dev", "test")
# The released table marks what CoVoST adds to Common Voice's own training set.
_SPLIT_OF = {"train": "train", "train_covost": "train", "dev": "dev", "test": "test"}


def read_covost2(
    root: Path,
    translations: Path,
    source: str,
    targets: tuple[str, ...],
    rows: str = "both",
    splits: tuple[str, ...] = (),
) -> tuple[dict[str, list[Utterance]], dict[str, int]]:
    """`<split>_<lang>` (translation rows) of every target, `<split>_<source>` (transcription rows) of the first.

    Args:
        root: Common Voice's folder of the source language, with `clips` and `validated.tsv`.
        translations: folder of `covost_v2.<source>_<target>.tsv`, its `.tar.gz`, or the three tables of one split
            that CoVoST's own script makes of them.
        source, targets: language codes as in those names.
        rows: translation, transcription or both.
        splits: names out of `SPLITS`; by default all.

    Returns:
        The manifests, and for each language the translated clips that this release of Common Voice lacks.
    """
    clips = folder_of("Common Voice", root, "clips", archive=source).absolute()
    sentences: dict[str, tuple[str, str]] = {}
    manifests: dict[str, list[Utterance]] = {}
    lacking = dict.fromkeys(targets, 0)
    for k, target in enumerate(targets):
        name = f"covost_v2.{source}_{target}"
        by_split: dict[str, list[Utterance]] = {split: [] for split in SPLITS if not splits or split in splits}
        if (translations / f"{name}.train.tsv").is_file():
            for split, found in by_split.items():
                table = file_of(translations / f"{name}.{split}.tsv", f"CoVoST 2's table of {split}")
                for row in _rows(table, table.read_bytes(), ("path", "sentence", "translation", "client_id")):
                    found.append(_utterance(clips, row, row["sentence"], row["client_id"], source, target))
        else:
            sentences = sentences or _sentences(root)
            table, content = _released(translations, name)
            for row in _rows(table, content, ("path", "translation", "split")):
                split = _SPLIT_OF.get(row["split"], "")
                if split not in by_split:
                    continue
                if row["path"] not in sentences:
                    lacking[target] += 1
                    continue
                sentence, speaker = sentences[row["path"]]
                by_split[split].append(_utterance(clips, row, sentence, speaker, source, target))
        for split, utterances in by_split.items():
            if rows in ("translation", "both"):
                manifests[f"{split}_{target}"] = utterances
            if rows in ("transcription", "both") and k == 0:
                manifests[f"{split}_{source}"] = [transcription(utterance) for utterance in utterances]
    return manifests, lacking


def _utterance(clips: Path, row: dict[str, str], sentence: str, speaker: str, source: str, target: str) -> Utterance:
    path = row["path"]
    return Utterance(
        Path(path).stem, str(clips / path), sentence.strip(), row["translation"].strip(), source, target, speaker
    )


def _sentences(root: Path) -> dict[str, tuple[str, str]]:
    """Common Voice's sentence and speaker of every clip."""
    table = file_of(root / "validated.tsv", "Common Voice's table of clips")
    rows = _rows(table, table.read_bytes(), ("path", "sentence", "client_id"))
    return {row["path"]: (row["sentence"], row["client_id"]) for row in rows}


def _released(translations: Path, name: str) -> tuple[Path, bytes]:
    """The released table, read inside its archive where that was not unpacked."""
    table = translations / f"{name}.tsv"
    if table.is_file():
        return table, table.read_bytes()
    archive = translations / f"{name}.tsv.tar.gz"
    if not archive.is_file():
        raise CorpusError(f"{table}: found neither this table nor {archive.name}; download it as the recipe says")
    try:
        with tarfile.open(archive) as packed:
            members = [member for member in packed if member.isfile() and Path(member.name).name == table.name]
            file = packed.extractfile(members[0]) if members else None
            if file is None:
                raise CorpusError(f"{archive}: found no {table.name} in it; download it again")
            return archive, file.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise CorpusError(f"{archive}: cannot be read ({error}); download it again") from None


def _rows(table: Path, content: bytes, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """The rows of a table as CoVoST's own script reads them: tabs, no quoting, a backslash before a special mark."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{table}: found the byte 0x{content[error.start]:02x}, which is not UTF-8") from None
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE, escapechar="\\")
    header = next(reader, [])
    missing = [column for column in columns if column not in header]
    if missing:
        raise CorpusError(f"{table}:1: found no column {missing[0]} among {', '.join(header)[:80]!r}")
    places = {column: header.index(column) for column in columns}
    try:
        for row in reader:
            if len(row) != len(header):
                found = f"found {len(row)} fields where the header has {len(header)}"
                raise CorpusError(f"{table}:{reader.line_num}: {found}; download it again")
            yield {column: row[place] for column, place in places.items()}
    except csv.Error as error:
        raise CorpusError(f"{table}:{reader.line_num}: cannot be read ({error}); download it again") from None
