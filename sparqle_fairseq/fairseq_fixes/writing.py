"""Files that are written whole or not at all: a checkpoint has its name only when every byte of it is on the disk."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any

import torch

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.fairseq_fixes.compat import mark, marks

PART_SUFFIX = ".tmp"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# A network file system may hiccup: other errors than a full disk are tried again.
ATTEMPTS, PAUSE_SECONDS = 3, 2.5


class _Witness:
    """A file whose failed write is remembered: torch reports it as a position that it did not expect."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def write_whole(path: str, write: Callable[[Any], Any]) -> None:
    """Make `path` by `write(file)`, under another name first; whatever had the name stays until then.

    Raises:
        SparqleError: the disk is full or refuses; what had the name still has it.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _write_once(path, write)
            return
        except OSError as error:
            if attempt < ATTEMPTS and error.errno not in _FULL:
                time.sleep(PAUSE_SECONDS)
                continue
            what = "the disk is full" if error.errno in _FULL else "the disk refused"
            raise SparqleError(
                f"{path} could not be written, {what} ({error.strerror or error}); make room, then give the same "
                "command again: the checkpoints that are there are whole, and training goes on from the newest"
            ) from error


def _write_once(path: str, write: Callable[[Any], Any]) -> None:
    part = path + PART_SUFFIX
    try:
        with open(part, "wb") as file:
            witness = _Witness(file)
            try:
                write(witness)
            except Exception as error:
                if witness.error is not None:
                    raise witness.error from error
                raise
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise
    _sync_folder(os.path.dirname(path) or ".")


def _sync_folder(folder: str) -> None:
    """Have the new name on the disk too; where a file system cannot, the name is left to it."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def copy_whole(source: str, target: str) -> None:
    """Copy a file, so that `target` is the old one or the whole new one at every moment. Raises `SparqleError`."""

    def copy(file: Any) -> None:
        with open(source, "rb") as original:
            shutil.copyfileobj(original, file, length=1 << 20)

    write_whole(target, copy)


def save_whole(state: Any, path: str) -> None:
    """`torch.save`, whole or not at all. Raises `SparqleError`."""
    write_whole(path, lambda file: torch.save(state, file))


def install() -> None:
    """Let fairseq write and copy checkpoints whole; see `compat.keep_work`."""
    from fairseq import checkpoint_utils
    from fairseq.file_io import PathManager

    usual = checkpoint_utils.torch_persistent_save
    if "writes whole" in marks(usual):
        return

    @wraps(usual)
    def torch_persistent_save(obj: Any, filename: Any, async_write: bool = False) -> None:
        if async_write or not isinstance(filename, str) or PathManager.path_requires_pathmanager(filename):
            usual(obj, filename, async_write)
        else:
            save_whole(obj, filename)

    class WholeCopies(PathManager):
        """fairseq's file access, for the module that copies checkpoints."""

        @staticmethod
        def copy(src_path: str, dst_path: str, overwrite: bool = False) -> bool:
            if any(PathManager.path_requires_pathmanager(path) for path in (src_path, dst_path)):
                return PathManager.copy(src_path, dst_path, overwrite)
            copy_whole(src_path, dst_path)
            return True

    mark(torch_persistent_save, "writes whole")
    checkpoint_utils.torch_persistent_save = torch_persistent_save
    checkpoint_utils.PathManager = WholeCopies
