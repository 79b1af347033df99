"""Files of checkpoints: read without running code from them, looked at for damage, written whole.

A checkpoint has its name only when every byte of it is on the disk.
"""

from __future__ import annotations

import argparse
import collections
import errno
import os
import shutil
import time
import typing
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.files import written_whole

_NEEDED = ("model", "optimizer_history", "extra_state")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# A network file system may hiccup: other errors than a full disk are tried again.
ATTEMPTS, PAUSE_SECONDS = 3, 2.5


# ---- reading


def allow_fairseq_checkpoints() -> None:
    """Let ``torch.load(..., weights_only=True)`` read fairseq's own checkpoints, where fairseq is installed or not.

    Symptom: resuming ``fairseq-train``, ``fairseq-generate`` and reading a released encoder stop with
    ``UnpicklingError: Weights only load failed``. Reason: since torch 2.6 ``torch.load`` builds only classes
    that were named beforehand, and fairseq's ``load_checkpoint_to_cpu`` names none. This names the data
    classes that fairseq stores and leaves the protection on: a file that holds anything else is still
    refused. Can go when fairseq names them itself.
    """
    torch.serialization.add_safe_globals(_checkpoint_types())


def _checkpoint_types() -> list[Any]:
    """Every class that a fairseq checkpoint may hold beside tensors and plain Python containers.

    All of them are data: making one runs no code that the file could choose.
    """
    from omegaconf import DictConfig, ListConfig
    from omegaconf.base import ContainerMetadata, Metadata, Node
    from omegaconf.nodes import AnyNode, BooleanNode, FloatNode, IntegerNode, StringNode

    multiarray = getattr(np, "_core", None) or np.core
    multiarray = multiarray.multiarray
    return [
        argparse.Namespace,  # the arguments of checkpoints older than fairseq's dataclasses
        # cfg of checkpoints that were saved before fairseq turned it into plain dictionaries; omegaconf keeps
        # an (empty) defaultdict in each of its nodes
        collections.defaultdict,
        *(DictConfig, ListConfig, ContainerMetadata, Metadata, Node),
        *(AnyNode, BooleanNode, FloatNode, IntegerNode, StringNode),
        *((typing.Any, "typing.Any"), dict, list, tuple, int, float, bool, str),
        # numpy numbers among the meters and the best validation loss; both names of the functions that make
        # them
        np.dtype,
        np.ndarray,
        *sorted({type(np.dtype(code)) for code in "?bhilqBHILQefd"}, key=lambda kind: kind.__name__),
        *((multiarray.scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
        *((multiarray._reconstruct, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
        *_types_of_fairseq(),
    ]


def _types_of_fairseq() -> list[Any]:
    """fairseq's own data classes; without fairseq a file that holds one is refused, as any other class is."""
    try:
        from fairseq.data.dictionary import Dictionary  # task_state of a pre-training task
        from fairseq.distributed.utils import _TensorPlaceholder  # sent by the first process when training is resumed
    except ImportError:
        return []
    return [Dictionary, _TensorPlaceholder]


class Found(NamedTuple):
    """A checkpoint that training can go on from."""

    path: str
    updates: int
    has_optimizer: bool


def look_at(path: str) -> Found:
    """What a checkpoint says of itself; its tensors are not read. Raises `SparqleError` for one that is none."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        missing = [name for name in _NEEDED if name not in state]
        if missing or "train_iterator" not in state["extra_state"]:
            raise SparqleError(f"{path} has no {(missing or ['train_iterator'])[0]}")
        updates = int(state["optimizer_history"][-1]["num_updates"])
        return Found(path, updates, state.get("last_optimizer_state") is not None)
    except SparqleError:
        raise
    except Exception as error:  # torch, pickle and zipfile raise many kinds
        raise SparqleError(f"{path} is damaged ({type(error).__name__})") from error


def check_bytes(path: str) -> None:
    """Compare every entry of a checkpoint with the checksum it was written with. Raises `SparqleError`."""
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except Exception as error:  # zipfile and zlib raise many kinds
        raise SparqleError(f"{path} is damaged ({type(error).__name__})") from error
    if bad is not None:
        raise SparqleError(f"{path} is damaged (the checksum of {bad} is wrong)")


def whole(path: str) -> Found:
    """`look_at` and `check_bytes`. Raises `SparqleError`."""
    found = look_at(path)
    check_bytes(path)
    return found


# ---- writing


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
    """Make `path` by `write(file)`, and try again after a hiccup; whatever had the name stays until then.

    Raises:
        SparqleError: the disk is full or refuses; what had the name still has it.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with written_whole(path, sync=True) as file:
                _watched(write, file)
            return
        except SparqleError as refused:
            error = refused.__cause__
            if not isinstance(error, OSError):
                raise
            if attempt < ATTEMPTS and error.errno not in _FULL:
                time.sleep(PAUSE_SECONDS)
                continue
            what = "the disk is full" if error.errno in _FULL else "the disk refused"
            raise SparqleError(
                f"{path} could not be written, {what} ({error.strerror or error}); make room, then give the same "
                "command again: the checkpoints that are there are whole, and training goes on from the newest"
            ) from error


def _watched(write: Callable[[Any], Any], file: Any) -> None:
    witness = _Witness(file)
    try:
        write(witness)
    except Exception as error:
        if witness.error is not None:
            raise witness.error from error
        raise


def copy_whole(source: str, target: str) -> None:
    """Copy a file, so that `target` is the old one or the whole new one at every moment. Raises `SparqleError`."""

    def copy(file: Any) -> None:
        with open(source, "rb") as original:
            shutil.copyfileobj(original, file, length=1 << 20)

    write_whole(target, copy)


def save_whole(state: Any, path: str | os.PathLike[str]) -> None:
    """`torch.save`, whole or not at all. Raises `SparqleError`."""
    write_whole(os.fspath(path), lambda file: torch.save(state, file))
