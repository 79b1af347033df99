"""Europarl-ST: `<source>/audios/*.m4a`, `<source>/<target>/<split>/segments.{lst,<source>,<target>}` line by line."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from sparqle_fairseq.tools.prepare.common import (
    CorpusError,
    Manifests,
    Utterance,
    folder_of,
    lines_of,
    other_ending,
    shown,
    transcription,
)
from sparqle_fairseq.tools.prepare.splits import spelled

SPLITS = ("train", "train-noisy", "dev", "test")


def read_europarl_st(
    root: Path,
    source: str,
    targets: tuple[str, ...],
    rows: str = "both",
    splits: tuple[str, ...] = (),
) -> Manifests:
    """`<split>_<lang>` (translation rows) of every target, `<split>_<source>` (transcription rows) of the first.

    Args:
        root: the folder that holds the languages' folders (`v1.1`).
        source, targets: language codes of the folders.
        rows: translation, transcription or both.
        splits: names out of `SPLITS`; by default those that are there.

    Raises:
        CorpusError: a folder, table or text that is missing, cannot be read, or does not fit the others.
    """
    audios = folder_of("Europarl-ST", root, source, "audios").absolute()
    manifests: Manifests = {}
    for k, target in enumerate(targets):
        pair = folder_of("Europarl-ST", root, source, target)
        there = [path.name for path in sorted(pair.iterdir()) if (path / "segments.lst").is_file()]
        there.sort(key=lambda name: SPLITS.index(name) if name in SPLITS else len(SPLITS))
        if not there:
            raise CorpusError(f"{pair}: found no <split>/segments.lst; unpack the archive again")
        for name in splits or there:
            split = spelled(name, there)
            if split is None:
                raise CorpusError(f"{pair}: there is no split {name!r}; there are {', '.join(there)}")
            utterances = _read_split(pair / split, audios, source, target)
            if rows in ("translation", "both"):
                manifests[f"{split}_{target}"] = utterances
            if rows in ("transcription", "both") and k == 0:
                manifests[f"{split}_{source}"] = [transcription(utterance) for utterance in utterances]
    return manifests


def _read_split(folder: Path, audios: Path, source: str, target: str) -> list[Utterance]:
    table = folder / "segments.lst"
    segments = lines_of(table, "the table of segments")
    texts = {}
    for language in (source, target):
        path = folder / f"segments.{language}"
        texts[language] = [line.strip() for line in lines_of(path, f"the {language} text of the segments")]
        if len(texts[language]) != len(segments):
            raise CorpusError(
                f"{path}: found {len(texts[language])} lines for the {len(segments)} segments of {table}; unpack the "
                f"archive again"
            )
    count: Counter[str] = Counter()
    files: dict[str, Path] = {}
    utterances = []
    for number, (line, said, translation) in enumerate(
        zip(segments, texts[source], texts[target], strict=True), start=1
    ):
        where = f"{table}:{number}"
        name, start, end = _segment(where, line)
        file = files.setdefault(name, other_ending(audios / f"{name}.m4a"))
        utterances.append(
            Utterance(
                f"{name}_{count[name]}",
                str(file),
                said,
                translation,
                source,
                target,
                start=start,
                duration=end - start,
                where=where,
            )
        )
        count[name] += 1
    return utterances


def _segment(where: str, line: str) -> tuple[str, float, float]:
    try:
        name, first, last = line.split()
        start, end = float(first), float(last)
    except ValueError:
        raise CorpusError(f"{where}: found {shown(line)} where a recording, a start and an end stand") from None
    if not 0 <= start < end < float("inf"):
        raise CorpusError(f"{where}: found the segment from {start:g} to {end:g} seconds; unpack the archive again")
    return name, start, end
