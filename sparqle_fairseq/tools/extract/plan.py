"""What a store is to hold: which recordings, in which order, in whose share, and what is there already.

Nothing is written down about it. The order is that of the recordings' lengths, a share is a hash of the recording's
name, and what is finished is what the indexes of finished shards say. So a run that is repeated, resumed, shared or
given more manifests than before does what is missing, and does it in the same order.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sparqle_fairseq.data.audio import SAMPLE_RATE
from sparqle_fairseq.data.feature_store import SHARD_SUFFIX, Entry, StoreError, parse_entry, read_index
from sparqle_fairseq.data.manifest import Manifest
from sparqle_fairseq.errors import SparqleError


class Clip(NamedTuple):
    """One recording, or slice of one, that rows of the manifests name."""

    source: str  # audio cell with an absolute path
    n_frames: int  # samples at 16 kHz, as the manifest says
    manifest: int
    row: int

    @property
    def seconds(self) -> float:
        return self.n_frames / SAMPLE_RATE


class Share(NamedTuple):
    """One of several equal parts of the work, counted from 1."""

    part: int = 1
    parts: int = 1

    @classmethod
    def parse(cls, text: str) -> Share:
        numbers = text.split("/")
        if len(numbers) == 2 and all(n.isdecimal() for n in numbers) and 1 <= int(numbers[0]) <= int(numbers[1]):
            return cls(int(numbers[0]), int(numbers[1]))
        raise SparqleError(f"--shard {text} is no share of the work; give i/n with i from 1 to n, such as 2/4")

    @property
    def name(self) -> str:
        """What the names of its shards begin with."""
        return "features" if self.parts == 1 else f"features-{self.part}of{self.parts}"

    def holds(self, recording: Clip) -> bool:
        return zlib.crc32(recording.source.encode()) % self.parts == self.part - 1


ALL = Share()


class Contents(NamedTuple):
    """What the finished shards of a store hold."""

    entries: dict[str, Entry]  # source -> where its features are; the shard without its folder
    skipped: dict[str, str]  # source -> why its audio could not be used
    shards: frozenset[str]  # file names


def source_of(audio: str) -> str:
    """One name for a recording, however its path was written."""
    return os.path.normpath(audio)


def recordings_of(manifests: Sequence[Manifest]) -> list[Clip]:
    """Every recording once, the longest first: what does not fit into memory shows itself at once."""
    found: dict[str, Clip] = {}
    for number, manifest in enumerate(manifests):
        for row in range(len(manifest)):
            source = source_of(manifest.audio(row))
            if source not in found:
                if parse_entry(source) or source.lower().endswith(".npy"):
                    raise SparqleError(
                        f"{manifest.where(row)}: {source} holds features already; give a manifest of audio"
                    )
                found[source] = Clip(source, int(manifest.n_frames[row]), number, row)
    return sorted(found.values(), key=lambda recording: (-recording.n_frames, recording.source))


def contents_of(folder: Path) -> Contents:
    """What is finished in a store. A shard that is missing, of another size or without index counts as not there."""
    entries: dict[str, Entry] = {}
    skipped: dict[str, str] = {}
    shards = set()
    for path in sorted(folder.glob(f"features-*{SHARD_SUFFIX}")):
        try:
            index = read_index(path)
        except StoreError:
            continue
        shards.add(path.name)
        skipped |= index.skipped
        for source, offset, frames in zip(index.sources, index.offsets, index.frames, strict=True):
            entries.setdefault(source, Entry(path.name, offset, frames))
    return Contents(
        entries, {source: why for source, why in skipped.items() if source not in entries}, frozenset(shards)
    )


def cut(recordings: Iterable[Clip], size: Callable[[Clip], int], limit: int) -> Iterator[list[Clip]]:
    """The recordings in runs of at least `limit` bytes, but for the last: what goes into one shard each."""
    run: list[Clip] = []
    total = 0
    for recording in recordings:
        run.append(recording)
        total += size(recording)
        if total >= limit:
            yield run
            run, total = [], 0
    if run:
        yield run


def batches(recordings: Sequence[Clip], seconds: float) -> Iterator[list[Clip]]:
    """Runs of recordings, longest first, that are at most `seconds` with their padding; a longer one is alone."""
    batch: list[Clip] = []
    for recording in recordings:
        if batch and batch[0].seconds * (len(batch) + 1) > seconds:
            yield batch
            batch = []
        batch.append(recording)
    if batch:
        yield batch


def shard_names(share: Share, taken: frozenset[str]) -> Iterator[str]:
    """File names for new shards of a share: its numbers from 0 on that no finished shard has."""
    number = 0
    while True:
        name = f"{share.name}-{number:05d}{SHARD_SUFFIX}"
        if name not in taken:
            yield name
        number += 1
