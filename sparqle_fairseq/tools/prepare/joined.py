"""Neighbouring segments of one recording joined into long ones, with the texts of all.

A model that was trained on sentences meets the pauses and the length of real talk (as arXiv 2606.04730 does). Nothing
is read or written of the recordings: a segment is a slice of one, and so is what is joined.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import regex

from sparqle_fairseq.data.audio import SAMPLE_RATE
from sparqle_fairseq.data.audio.place import Place, audio_place
from sparqle_fairseq.data.manifest import Manifest, ManifestRow, read_manifest, write_manifest
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.scoring.languages import UNSPACED
from sparqle_fairseq.tools.prepare.ledger import Ledger

COLUMNS = ("id", "audio", "n_frames", "src_text", "tgt_text", "src_lang", "tgt_lang", "task", "speaker")
_UNSPACED = regex.compile(f"[{UNSPACED}]")


@dataclass(frozen=True)
class Segment:
    """A row that is a slice of a recording."""

    row: ManifestRow
    place: Place
    where: str

    @property
    def begin(self) -> int:
        return self.place.start or 0

    @property
    def end(self) -> int:
        return self.begin + self.place.length


@dataclass(frozen=True)
class Joined:
    """What was written."""

    rows: int
    segments: int
    hours: float
    ledger: Ledger


def join_manifest(manifest: Path, out: Path, longest: float, gap: float) -> Joined:
    """Write the joined segments of a manifest, and those alone.

    Args:
        manifest: rows of slices of recordings, `talk.wav:START:LENGTH`.
        out: the manifest to write.
        longest: seconds of a joined segment at most.
        gap: seconds between two neighbours at most.

    Raises:
        SparqleError: the manifest cannot be read, or there are no two segments to join.
    """
    read, ledger = read_manifest(manifest), Ledger()
    packs = []
    for group in _recordings(read, ledger):
        for pack in _packs(group, longest * SAMPLE_RATE, gap * SAMPLE_RATE):
            if len(pack) > 1:
                packs.append(pack)
            else:
                ledger.leave(pack[0].where, "no neighbour to join")
    if not packs:
        raise SparqleError(
            f"{manifest}: no two neighbouring segments of one recording together have {longest:g} seconds or less "
            f"({ledger.sentence() or 'no rows'}); a row to join has talk.wav:START:LENGTH as its audio"
        )
    rows = [_row(pack) for pack in packs]
    write_manifest(out, rows, COLUMNS)
    hours = sum(row["n_frames"] for row in rows) / SAMPLE_RATE / 3600
    return Joined(len(rows), sum(map(len, packs)), hours, ledger)


def _recordings(manifest: Manifest, ledger: Ledger) -> list[list[Segment]]:
    """Segments by recording, languages, task and speaker, each in the order of time."""
    found: dict[Any, list[Segment]] = {}
    for i in range(len(manifest)):
        row, where = manifest.row(i), manifest.where(i)
        place = audio_place(row.audio)
        if place.start is None or place.in_zip or place.path.endswith(".bin"):
            ledger.leave(where, "no slice of a recording")
        elif row.prompt or row.prefix:
            ledger.leave(where, "has a prompt or prefix of its own")
        else:
            key = (place.path, row.src_lang, row.tgt_lang, row.task, row.speaker)
            found.setdefault(key, []).append(Segment(row, place, where))
    return [sorted(group, key=lambda segment: (segment.begin, segment.end)) for group in found.values()]


def _packs(segments: Sequence[Segment], longest: float, gap: float) -> Iterator[list[Segment]]:
    """Neighbours together, as many as fit; lengths in samples at 16 kHz."""
    pack: list[Segment] = []
    for segment in segments:
        a_sample = _rate_share(segment)
        if pack:
            between = (segment.begin - pack[-1].end) * a_sample
            whole = (segment.end - pack[0].begin) * a_sample
            # Segments that overlap by a frame or so are neighbours; of others a part would be said twice.
            near = -SAMPLE_RATE / 50 <= between <= gap
            if not near or whole > longest or not _both_or_none(pack[0].row, segment.row):
                yield pack
                pack = []
        pack.append(segment)
    if pack:
        yield pack


def _both_or_none(one: ManifestRow, other: ManifestRow) -> bool:
    """Whether the same texts are known of both."""
    return (one.src_text is None, one.tgt_text is None) == (other.src_text is None, other.tgt_text is None)


def _rate_share(segment: Segment) -> float:
    """Samples at 16 kHz for each of the file's own."""
    return segment.row.n_frames / max(1, segment.place.length)


def _row(pack: Sequence[Segment]) -> dict[str, Any]:
    first, last = pack[0], pack[-1]
    length = max(segment.end for segment in pack) - first.begin
    a_sample = sum(segment.row.n_frames for segment in pack) / sum(segment.place.length for segment in pack)
    return {
        "id": f"{first.row.id}+{last.row.id}",
        "audio": f"{first.place.path}:{first.begin}:{length}",
        "n_frames": math.ceil(length * a_sample),
        "src_text": _text([segment.row.src_text for segment in pack]),
        "tgt_text": _text([segment.row.tgt_text for segment in pack]),
        "src_lang": first.row.src_lang,
        "tgt_lang": first.row.tgt_lang,
        "task": first.row.task,
        "speaker": first.row.speaker,
    }


def _text(texts: Sequence[str | None]) -> str | None:
    """Texts one after the other, with a space between them where their script has spaces."""
    joined = ""
    for text in (text.strip() for text in texts if text):
        unspaced = any(_UNSPACED.fullmatch(letter) for letter in (joined[-1:], text[:1]) if letter)
        joined += text if not joined or unspaced else f" {text}"
    return joined or None
