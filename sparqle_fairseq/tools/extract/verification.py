"""Reads a whole feature store and says what is wrong with it."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sparqle_fairseq.data.feature_store import (
    PART_SUFFIX,
    SHARD_SUFFIX,
    Entry,
    ShardIndex,
    StoreError,
    close_shards,
    index_path,
    parse_entry,
    read_entry,
    read_index,
)
from sparqle_fairseq.data.manifest import read_manifest
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.encoders.stored_features import IDENTITY_FILE, read_stored_encoder

NAMED = 5


@dataclass
class Report:
    """What a store holds, and every fault in it."""

    folder: str
    encoder: dict[str, Any]
    precision: str
    shards: int = 0
    entries: int = 0
    frames: int = 0
    hours: float = 0.0
    feature_bytes: int = 0
    skipped: int = 0  # recordings whose audio could not be used
    manifests: int = 0
    rows: int = 0
    unfinished: list[str] = field(default_factory=list)  # files of runs that go on or were stopped
    faults: list[str] = field(default_factory=list)  # one sentence each

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def verify(folder: Path) -> Report:
    """Compare every checksum, every index with its shard, and every row of the folder's manifests with the indexes.

    Raises `SparqleError` where there is no store at all; faults in one are listed in the report.
    """
    folder = Path(os.path.abspath(folder))  # as the manifests' entries are read
    stored = read_stored_encoder(folder)
    if stored is None:
        raise SparqleError(f"{folder} holds no feature store, there is no {IDENTITY_FILE}; give the folder of one")
    close_shards()
    report = Report(str(folder), stored.identity, stored.precision)
    known: set[Entry] = set()
    # A shard may be missing and its index be there, or the other way round.
    indexes = {path.with_suffix(SHARD_SUFFIX) for path in folder.glob("features-*.json")}
    shards = set(folder.glob(f"features-*{SHARD_SUFFIX}"))
    report.unfinished = sorted(path.name for path in folder.glob(f"*{PART_SUFFIX}"))
    report.unfinished += sorted(shard.name for shard in shards if not index_path(shard).exists())
    for shard in tqdm(sorted(indexes), desc="shards", unit=""):
        try:
            index = read_index(shard)
            if (index.width, index.precision) != (stored.identity["width"], stored.precision):
                raise StoreError(
                    f"{index_path(shard)} says width {index.width} in {index.precision} and {IDENTITY_FILE} "
                    f"{stored.identity['width']} in {stored.precision}; extract the features again, into a new folder"
                )
            known |= _verify_entries(shard, index, report)
        except StoreError as error:
            report.faults.append(str(error))
    report.hours = report.frames / stored.frame_rate / 3600
    for path in sorted(folder.glob("*.tsv")):
        _verify_manifest(path, known, report)
    return report


def faults_sentence(report: Report) -> str:
    """The faults in one sentence for a person."""
    more = f" (and {len(report.faults) - NAMED} more: --json lists all)" if len(report.faults) > NAMED else ""
    return f"{report.folder} has {len(report.faults)} faults: {' | '.join(report.faults[:NAMED])}{more}"


def _verify_entries(shard: Path, index: ShardIndex, report: Report) -> set[Entry]:
    report.shards += 1
    report.skipped += len(index.skipped)
    entries = set()
    for offset, frames in zip(index.offsets, index.frames, strict=True):
        entry = Entry(str(shard), offset, frames)
        try:
            read_entry(entry)
        except StoreError as error:
            report.faults.append(str(error))
        entries.add(entry)
        report.entries += 1
        report.frames += frames
        report.feature_bytes += frames * index.frame_bytes
    return entries


def _verify_manifest(path: Path, known: set[Entry], report: Report) -> None:
    try:
        manifest = read_manifest(path)
    except SparqleError as error:
        report.faults.append(str(error))
        return
    report.manifests += 1
    report.rows += len(manifest)
    for i in range(len(manifest)):
        entry = parse_entry(manifest.audio(i))
        if entry not in known:
            report.faults.append(
                f"{manifest.where(i)}: {manifest.audio(i)} is no entry of this store; give the sparqle "
                f"extract-features command again, which writes the manifests anew"
            )
        elif entry is not None and entry.frames != manifest.n_frames[i]:
            report.faults.append(
                f"{manifest.where(i)}: n_frames is {manifest.n_frames[i]}, its entry has {entry.frames}"
            )
