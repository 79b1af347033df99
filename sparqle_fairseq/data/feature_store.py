"""The feature store as files: frames in large shards that are mapped into memory, an index beside each.

A store is a folder that `sparqle extract-features` writes:

* ``encoder.json``          the encoder that made the features (models/features.py)
* ``features-00000.bin``    a shard: frames one after the other, little-endian fp16 or fp32, no header
* ``features-00000.json``   its index: for each recording its source, offset in bytes, frames and CRC-32
* ``train.tsv``             manifests whose audio cells are entries, ``features-00000.bin:OFFSET:FRAMES``

An index is written after its shard: a shard without one is not finished. Reading is a slice of a map that each process
makes once for a shard; what several processes map, they share. The checksum of an entry is compared at every read: it
takes a third of the time that turning the entry into float32 takes.
"""

import json
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.files import write_text

PRECISIONS: dict[str, np.dtype] = {"fp16": np.dtype("<f2"), "fp32": np.dtype("<f4")}
SHARD_SUFFIX, INDEX_SUFFIX, PART_SUFFIX = ".bin", ".json", ".part"

# A map keeps a file descriptor. Of a store with more shards the longest unused map is closed.
_OPEN_SHARDS = 512
_ENTRY = re.compile(r"(.+\.bin):(\d{1,18}):(\d{1,18})", re.DOTALL)
_AGAIN = "delete it and give the sparqle extract-features command that made it again"


class StoreError(SparqleError):
    """A store whose files are missing or damaged; one sentence with the file and the remedy."""


class Entry(NamedTuple):
    """Where the features of one recording lie."""

    shard: str  # path or, in a store's own manifest, file name
    offset: int  # bytes
    frames: int

    def __str__(self) -> str:
        return f"{self.shard}:{self.offset}:{self.frames}"


@dataclass
class ShardIndex:
    """What a shard holds; entry k is ``sources[k]``, ``offsets[k]``, …"""

    precision: str  # of PRECISIONS
    width: int
    sources: list[str] = field(default_factory=list)  # audio cells with absolute paths
    offsets: list[int] = field(default_factory=list)  # bytes
    frames: list[int] = field(default_factory=list)
    checksums: list[int] = field(default_factory=list)  # CRC-32 of the bytes
    skipped: dict[str, str] = field(default_factory=dict)  # source -> why its audio could not be used

    @property
    def frame_bytes(self) -> int:
        return self.width * PRECISIONS[self.precision].itemsize

    @property
    def shard_bytes(self) -> int:
        return sum(self.frames) * self.frame_bytes


def parse_entry(audio: str) -> Entry | None:
    """The entry that an audio cell names, or None where it names something else; no file is looked at."""
    match = _ENTRY.fullmatch(audio)
    return Entry(match[1], int(match[2]), int(match[3])) if match else None


def read_entry(entry: Entry) -> np.ndarray:
    """The features of an entry, (frames, width) in the store's precision: read-only, a piece of the mapped shard.

    Raises:
        StoreError: the shard or its index is missing or damaged, or the index has no such entry.
    """
    shard = _open(entry.shard)
    found = shard.entries.get(entry.offset)
    if found is None or found[0] != entry.frames:
        raise StoreError(
            f"{entry}: the shard's index has no such entry; give the sparqle extract-features command again, which "
            f"writes the manifests anew"
        )
    first = entry.offset // shard.frame_bytes
    values = shard.frames[first : first + entry.frames]
    checksum = zlib.crc32(values.data)
    if checksum != found[1]:
        raise StoreError(
            f"{entry}: the features are damaged, their checksum is {checksum:08x} where the index says "
            f"{found[1]:08x}; delete {entry.shard} and give the sparqle extract-features command that made it again"
        )
    return values


def close_shards() -> None:
    """Let go of all maps of this process: shards may have been written anew."""
    _open.cache_clear()


def index_path(shard: str | os.PathLike[str]) -> Path:
    return Path(shard).with_suffix(INDEX_SUFFIX)


def read_index(shard: str | os.PathLike[str]) -> ShardIndex:
    """The index of a shard, and a look at the shard's size. Raises `StoreError`."""
    path = index_path(shard)
    try:
        index = _parse_index(json.loads(path.read_bytes()))
        size = os.stat(shard).st_size
    except FileNotFoundError as error:
        raise StoreError(
            f"{error.filename}: this part of a feature store is missing; copy it here again, or give the sparqle "
            f"extract-features command that made the store again"
        ) from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StoreError(f"{path} cannot be read as the index of a shard of features ({error}); {_AGAIN}") from error
    if size != index.shard_bytes:
        raise StoreError(f"{shard}: found {size} bytes where its index says {index.shard_bytes}; {_AGAIN}")
    return index


def write_index(shard: Path, index: ShardIndex) -> None:
    """Write the index of a shard; by that the shard is finished."""
    write_text(index_path(shard), json.dumps(asdict(index)))


def _parse_index(found: Mapping[str, object]) -> ShardIndex:
    missing = [part.name for part in fields(ShardIndex) if part.name not in found]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    index = ShardIndex(**{part.name: found[part.name] for part in fields(ShardIndex)})  # type: ignore[arg-type]
    columns: list[Sequence[object]] = [index.offsets, index.frames, index.checksums]
    if index.precision not in PRECISIONS or any(len(column) != len(index.sources) for column in columns):
        raise ValueError("its columns do not agree")
    if not all(isinstance(value, int) for column in (*columns, [index.width]) for value in column):
        raise ValueError("it holds other values than whole numbers")
    return index


class _Shard:
    """A mapped shard: its frames (all frames, width), and of each offset the frames and checksum of the entry."""

    def __init__(self, path: str) -> None:
        index = read_index(path)
        self.frame_bytes = index.frame_bytes
        self.entries = dict(zip(index.offsets, zip(index.frames, index.checksums, strict=True), strict=True))
        try:
            mapped = np.memmap(path, dtype=PRECISIONS[index.precision], mode="r")
        except (OSError, ValueError) as error:
            raise StoreError(f"{path} cannot be mapped into memory ({error}); check the file and its rights") from error
        self.frames = np.asarray(mapped).reshape(-1, index.width)


@lru_cache(maxsize=_OPEN_SHARDS)
def _open(path: str) -> _Shard:
    return _Shard(path)
