"""A person's own recordings: with text files beside them, a table, or the manifest of another toolkit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sparqle_fairseq.tools.prepare.beside import items_beside
from sparqle_fairseq.tools.prepare.common import CorpusError, Manifests, folder_of, transcription
from sparqle_fairseq.tools.prepare.kaldi import items_of_kaldi, kaldi_folders
from sparqle_fairseq.tools.prepare.languages import required_code
from sparqle_fairseq.tools.prepare.ledger import Ledger
from sparqle_fairseq.tools.prepare.lhotse import CUTS, RECORDINGS, items_of_cuts, items_of_supervisions, kind_of
from sparqle_fairseq.tools.prepare.recordings import Recordings
from sparqle_fairseq.tools.prepare.splits import SPLITS, Item, draw_splits, split_in_name
from sparqle_fairseq.tools.prepare.table_rows import KNOWN, Languages, check_ids, items_of_table, speech
from sparqle_fairseq.tools.prepare.tables import Table, is_table, read_table

_METADATA = "metadata."  # of Hugging Face's audiofolder


def read_own_audio(
    root: Path,
    *,
    table: Path | Sequence[Path] | None = None,
    source: str,
    target: str | None = None,
    shares: Mapping[str, float],
    group: str = "text",
    seed: int = 1,
    ledger: Ledger | None = None,
) -> Manifests:
    """`<split>_<lang>` for every language that a text is in: the spoken one, and those of the translations.

    Args:
        root: folder of the recordings, a zip file that stores them uncompressed, a Kaldi folder (or the folder of
            several), or a table.
        table: table or tables (see `tables`, `table_rows`, `lhotse`); by default those in the folder, else texts beside
            the recordings. Of several, each is a split that its name says.
        source, target: language codes of what has none of its own.
        shares: share of the utterances that go to dev and to test, where the table has no `split`.
        group: what never lies in two splits: the same text, or the same speaker.
        seed: another one draws other splits.
        ledger: told of everything that is left out.

    Raises:
        CorpusError: one sentence with the place, what was found and the remedy.
    """
    ledger = ledger if ledger is not None else Ledger()
    required_code("--src-lang", source)
    if target is not None:
        required_code("--tgt-lang", target)
    languages = Languages(source, target)
    tables = [table] if isinstance(table, Path) else list(table or [])
    if not tables and root.is_file() and is_table(root):
        tables, root = [root], root.parent
    recordings = Recordings(root)
    if recordings.packed is None:
        folder_of("own_audio", root)
    items = _items(root, tables, recordings, languages, ledger)
    if not items:
        seen = f" ({ledger.sentence()})" if ledger.left_out else ""
        raise CorpusError(f"{root}: found no recordings with a text{seen}; write a table or a .txt file beside each")
    check_ids(items)
    draw_splits(items, shares, group, seed)
    return _manifests(items)


def _items(root: Path, tables: list[Path], recordings: Recordings, languages: Languages, ledger: Ledger) -> list[Item]:
    folders = [] if tables or recordings.packed is not None else kaldi_folders(root)
    if folders:
        return [
            item for folder, split in folders for item in items_of_kaldi(folder, recordings, languages, ledger, split)
        ]
    found = (
        [(path, split_in_name(path.name) or "") for path in tables] if len(tables) > 1 else [(p, "") for p in tables]
    )
    if not found and recordings.packed is None:
        found = _tables_of(root, ledger)
    if found:
        items = _of_tables(found, recordings, languages, ledger)
        recordings.report(ledger)
        return items
    if recordings.packed is not None:
        raise CorpusError(f"{root}: recordings in a zip file need a table; give it with --table")
    return items_beside(root, languages, ledger)


def _tables_of(root: Path, ledger: Ledger) -> list[tuple[Path, str]]:
    """The tables in a folder, each with the split that its name says: one, `metadata.*`, or one for every split."""
    there = [path for path in sorted(root.iterdir()) if path.is_file() and is_table(path)]
    metadata = [path for path in there if path.name.lower().startswith(_METADATA)]
    if not there:
        below = [
            path for path in sorted(root.glob("*/*")) if path.is_file() and path.name.lower().startswith(_METADATA)
        ]
        metadata = [path for path in below if is_table(path)]
        there = metadata
        _refuse_parquet([*below, *root.glob(f"{_METADATA}parquet")], metadata)
    if metadata:
        for path in there:
            if path not in metadata:
                ledger.leave(path, f"table beside {metadata[0].name}")
        _once_a_folder(metadata)
        return [(path, _folder_split(root, path)) for path in metadata]
    if len(there) < 2:
        return [(path, split_in_name(path.name) or "") for path in there]
    splits = [split_in_name(path.name, [other.name for other in there]) for path in there]
    if all(splits) or all(_is_lhotse(path) for path in there):
        return [(path, split or "") for path, split in zip(there, splits, strict=True)]
    raise CorpusError(f"{root}: found {', '.join(path.name for path in there)}; say which one with --table")


def _refuse_parquet(there: list[Path], read: list[Path]) -> None:
    packed = [path for path in there if path.suffix.lower() == ".parquet"]
    if packed and not read:
        raise CorpusError(
            f"{packed[0]}: a parquet file is not read; write it as metadata.jsonl, one object a recording"
        )


def _once_a_folder(metadata: list[Path]) -> None:
    folders = [path.parent for path in metadata]
    twice = next((path for path in metadata if folders.count(path.parent) > 1), None)
    if twice is not None:
        names = ", ".join(path.name for path in metadata if path.parent == twice.parent)
        raise CorpusError(f"{twice.parent}: found {names}; say which one with --table")


def _folder_split(root: Path, path: Path) -> str:
    if path.parent == root:
        return ""
    return split_in_name(path.parent.name, [folder.name for folder in root.iterdir() if folder.is_dir()]) or ""


def _is_lhotse(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").endswith(".jsonl") and kind_of(read_table(path)) is not None


def _of_tables(
    found: list[tuple[Path, str]], recordings: Recordings, languages: Languages, ledger: Ledger
) -> list[Item]:
    tables: list[tuple[Table, str]] = [(read_table(path, KNOWN), split) for path, split in found]
    kinds = [kind_of(table) for table, _ in tables]
    sources = [table for (table, _), kind in zip(tables, kinds, strict=True) if kind == RECORDINGS]
    items: list[Item] = []
    for (table, split), kind in zip(tables, kinds, strict=True):
        if kind == CUTS:
            items += items_of_cuts(table, recordings, languages, ledger, split)
        elif kind == RECORDINGS:
            if len(set(kinds)) == 1:
                raise CorpusError(
                    f"{table.path}: holds recordings without texts; give lhotse's supervisions or cuts too"
                )
        elif kind is not None and CUTS in kinds:
            ledger.leave(table.path, "supervisions beside cuts, which hold them")
        elif kind is not None:
            items += items_of_supervisions(table, sources, recordings, languages, ledger, split)
        else:
            items += items_of_table(table, recordings, languages, ledger, split)
    return items


def _manifests(items: list[Item]) -> Manifests:
    """Transcripts of what was not transcribed yet, and translations, by split and language."""
    manifests: Manifests = {}
    transcribed = set()
    for item in sorted(items, key=lambda item: SPLITS.index(item.split)):
        utterance = item.utterance
        if utterance.src_text and speech(utterance) not in transcribed:
            manifests.setdefault(f"{item.split}_{utterance.src_lang}", []).append(transcription(utterance))
            transcribed.add(speech(utterance))
        if utterance.tgt_text:
            manifests.setdefault(f"{item.split}_{utterance.tgt_lang}", []).append(utterance)
    return manifests
