"""Writes a clean manifest beside the old one: without bad rows, with corrected cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sparqle_fairseq.data.manifest import Manifest, write_manifest
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.files import read_lines, written_whole
from sparqle_fairseq.tools.validate.run import Source
from sparqle_fairseq.tools.validate.store import FindingStore


@dataclass(frozen=True)
class Cleaned:
    """What became of one manifest."""

    path: Path | None  # None: nothing could be written
    kept: int = 0
    left_out: int = 0  # rows and lines
    changed: int = 0


def clean_path(path: str) -> Path:
    """`train.tsv` -> `train.clean.tsv`."""
    name = Path(path)
    return name.with_name(f"{name.stem}.clean{name.suffix}")


def refuse_to_overwrite(sources: Sequence[Source]) -> None:
    """Raise `SparqleError` where a clean manifest would replace a file."""
    for source in sources:
        if clean_path(source.path).exists():
            raise SparqleError(f"{clean_path(source.path)}: this file exists already; remove it or add --force")


def write_clean(sources: Sequence[Source], store: FindingStore, warnings: bool) -> list[Cleaned]:
    """Write the clean manifests and note in `store` what was done; rows with `warnings` alone go too if asked for."""
    store.drop(warnings)
    return [_write(source, k, store) for k, source in enumerate(sources)]


def _write(source: Source, k: int, store: FindingStore) -> Cleaned:
    manifest = source.manifest
    dropped, changes = store.dropped(k), store.changes(k)
    if manifest is None:
        return Cleaned(None)
    kept = [i for i in range(len(manifest)) if manifest.line_number(i) not in dropped]
    left_out = len(manifest) - len(kept) + source.lines_lost
    if not kept:
        return Cleaned(None, 0, left_out)
    path = clean_path(source.path)
    if manifest.rooted:
        _write_rooted(path, manifest, kept, changes)
    else:
        rows = ({**manifest.cells(i), **changes.get(manifest.line_number(i), {})} for i in kept)
        write_manifest(path, rows, manifest.columns)
    store.note_what_was_done(k)
    return Cleaned(path, len(kept), left_out, len(changes))


def _write_rooted(path: Path, manifest: Manifest, kept: Sequence[int], changes: dict[int, dict[str, str]]) -> None:
    """The wav2vec and HuBERT form: root folder and rows, and the label file that was read."""

    def cells() -> Iterator[tuple[dict[str, str], dict[str, str]]]:
        for i in kept:
            yield manifest.cells(i), changes.get(manifest.line_number(i), {})

    root = read_lines(manifest.path)[0]
    rows = (f"{row['audio']}\t{new.get('n_frames', row['n_frames'])}" for row, new in cells())
    files = {path: _lines([root], rows)}
    if manifest.labels is not None:
        labels = path.with_suffix(Path(manifest.labels).suffix)
        texts = (new.get("src_text", row["src_text"]) for row, new in cells())
        files[labels] = map(_letters, texts) if labels.suffix == ".ltr" else texts
    for name, content in files.items():
        with written_whole(name, "w") as file:
            file.writelines(f"{line}\n" for line in content)


def _lines(*parts: Iterator[str] | Sequence[str]) -> Iterator[str]:
    for part in parts:
        yield from part


def _letters(text: str) -> str:
    """`THE FOG` -> `T H E | F O G |`."""
    return "".join(f"{'|' if character == ' ' else character} " for character in f"{text} ").strip()
