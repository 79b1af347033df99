"""Writes one shard of a feature store: whole, or not at all."""

from __future__ import annotations

import fcntl
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np

from sparqle_fairseq.data.feature_store import (
    PART_SUFFIX,
    PRECISIONS,
    ShardIndex,
    index_path,
    write_index,
)
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.files import DiskFullError, PartFile

# Left free on the disk: logs, checkpoints and other people want to go on.
RESERVE = 100_000_000  # bytes


class ShardFile:
    """A shard that is being written, as `NAME.part`.

    `finish` gives it its name; leaving the block without it removes the file.
    """

    def __init__(self, path: Path, precision: str, width: int) -> None:
        self.path = path
        self.index = ShardIndex(precision, width)
        self._part = PartFile(path, part=path.with_name(path.name + PART_SUFFIX))
        self._offset = 0

    def __enter__(self) -> ShardFile:
        return self

    def append(self, source: str, values: np.ndarray) -> None:
        """Add the features (frames, width) of a recording. Raises `DiskFullError`."""
        data = np.ascontiguousarray(values, dtype=PRECISIONS[self.index.precision])
        with _room(self.path.parent), self._part.writing() as file:
            file.write(data.data)
        self.index.sources.append(source)
        self.index.offsets.append(self._offset)
        self.index.frames.append(len(data))
        self.index.checksums.append(zlib.crc32(data.data))
        self._offset += data.nbytes

    def skip(self, source: str, why: str) -> None:
        """Note that a recording cannot be used."""
        self.index.skipped[source] = why

    def finish(self) -> None:
        """Give the shard its name, then write its index. Raises `DiskFullError`."""
        with _room(self.path.parent):
            index_path(self.path).unlink(missing_ok=True)  # of a damaged shard of this name
            self._part.finish(sync=True)
            write_index(self.path, self.index)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._part.abandon()


def check_room(folder: Path, wanted: int) -> None:
    """Raise `DiskFullError` where the disk of `folder` has less than `wanted` bytes and a reserve free."""
    free = shutil.disk_usage(folder).free
    if free < wanted + RESERVE:
        raise DiskFullError(
            f"{folder}: {size_text(wanted)} of features do not fit, the disk has {size_text(free)} free and "
            f"{size_text(RESERVE)} are to stay so; make room or give another folder with --out, then give the same "
            f"command again (finished shards are kept)"
        )


def size_text(count: int) -> str:
    """Bytes for a person: 368.6 MB."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.1f} kB"


@contextmanager
def only_one(folder: Path, name: str) -> Iterator[None]:
    """Hold the lock of a share of the work. Raises `SparqleError` where another process holds it."""
    with (folder / f".{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SparqleError(
                f"{folder}: another process is writing this share of the features; wait for it, or share the work with "
                f"--shard 1/2 and --shard 2/2"
            ) from None
        except OSError:  # a file system without locks
            pass
        yield


@contextmanager
def _room(folder: Path) -> Iterator[None]:
    """A full disk gets the sentence with the remedy."""
    try:
        yield
    except DiskFullError as error:
        raise DiskFullError(
            f"{folder}: the disk became full; make room, then give the same command again (finished shards are kept)"
        ) from error
