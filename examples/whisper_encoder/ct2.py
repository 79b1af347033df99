"""Reads `model.bin` of CTranslate2: named tensors, and names that stand for another tensor.

The file, little-endian: format version (uint32), name of the specification (string), its revision (uint32), number of
variables (uint32); for each its name (string), rank (uint8), dimensions (uint32 each), type (uint8), bytes (uint32),
data; then the number of aliases (uint32) and for each its own and the other's name. A string is its length with the
closing zero (uint16), UTF-8, zero.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sparqle_fairseq.errors import SparqleError

VERSION = 6
TYPES = (torch.float32, torch.int8, torch.int16, torch.int32, torch.float16, torch.bfloat16)  # by their number


class Ct2Error(SparqleError):
    """A file that cannot be read as a CTranslate2 model, or does not hold what is wanted."""


@dataclass(frozen=True)
class Ct2Model:
    """Tensors by name, as they are stored, and other names of some of them."""

    specification: str
    revision: int
    variables: dict[str, Tensor]
    aliases: dict[str, str]


def read_model(path: Path) -> Ct2Model:
    """Read a model. Raises `Ct2Error` where the file is missing, cut off, longer than it says, or of another kind."""
    try:
        reader = _Reader(path, bytearray(path.read_bytes()))
    except OSError as error:
        raise Ct2Error(f"{path} cannot be read ({error.strerror}); fetch it again") from error
    version = reader.number("I")
    if version != VERSION:
        raise Ct2Error(f"{path} is no CTranslate2 model of format {VERSION} (it begins with {version}); fetch it again")
    specification, revision = reader.string(), reader.number("I")
    variables: dict[str, Tensor] = {}
    for _ in range(reader.number("I")):
        name = reader.string()
        if name in variables:
            raise Ct2Error(f"{path} holds {name} twice; fetch it again")
        variables[name] = reader.tensor(name)
    aliases = {reader.string(): reader.string() for _ in range(reader.number("I"))}
    reader.finish()
    for alias, name in aliases.items():
        if name not in variables:
            raise Ct2Error(f"{path}: {alias} stands for {name}, which is not there; fetch the file again")
    return Ct2Model(specification, revision, variables, aliases)


class _Reader:
    def __init__(self, path: Path, data: bytearray) -> None:
        self.path, self.data, self.at = path, data, 0

    def skip(self, count: int) -> int:
        """Where the next `count` bytes begin."""
        start, self.at = self.at, self.at + count
        if self.at > len(self.data):
            raise Ct2Error(f"{self.path} ends within a value, after {len(self.data)} bytes; fetch it again")
        return start

    def number(self, kind: str) -> int:
        return struct.unpack_from(f"<{kind}", self.data, self.skip(struct.calcsize(f"<{kind}")))[0]

    def string(self) -> str:
        start = self.skip(self.number("H"))
        try:
            return self.data[start : self.at].rstrip(b"\0").decode()
        except UnicodeDecodeError as error:
            raise Ct2Error(f"{self.path} has no name at byte {start}; fetch it again") from error

    def tensor(self, name: str) -> Tensor:
        shape = [self.number("I") for _ in range(self.number("B"))]
        number, size = self.number("B"), self.number("I")
        if number >= len(TYPES):
            raise Ct2Error(f"{self.path}: {name} is of type {number}, which is not known; fetch the file again")
        count = math.prod(shape)
        if size != count * TYPES[number].itemsize:
            raise Ct2Error(
                f"{self.path}: {name} has {size} bytes, its shape {tuple(shape)} in {TYPES[number]} takes "
                f"{count * TYPES[number].itemsize}; fetch the file again"
            )
        start = self.skip(size)
        # A copy, since a value may lie at any byte.
        return torch.frombuffer(self.data[start : self.at], dtype=TYPES[number], count=count).reshape(shape)

    def finish(self) -> None:
        if self.at != len(self.data):
            raise Ct2Error(f"{self.path} holds {len(self.data) - self.at} bytes more than it names; fetch it again")
