"""Random numbers that depend on named keys alone: not on the process, the batch or what was drawn before."""

from __future__ import annotations

import hashlib

from torch import Tensor

# SplitMix64's constants (Steele, Lea & Flood 2014) as signed 64-bit integers; torch's int64 products wrap around.
_GOLDEN = -0x61C8864680B583EB
_MIX1 = -0x40A7B892E31B1A47
_MIX2 = -0x6B2FB644ECCEEE15
_MASK53 = (1 << 53) - 1


def text_key(text: str) -> int:
    """A stable signed 64-bit key of a text."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


def keyed_uniform(rows: Tensor, columns: Tensor, seed: int) -> Tensor:
    """Uniform numbers in (0, 1), float32 (B, N), a function of (seed, row key, column key) only.

    `rows` (B,) and `columns` (N,) are int64 keys.
    """
    start = _signed(_GOLDEN * (seed + 1))
    state = _mix(rows + start)[:, None] + columns[None, :] * _GOLDEN
    bits = _shift_right(_mix(_mix(state)), 11)  # 53 random bits
    # In float32 the largest quotients round to 1, where Gumbel noise would be infinite.
    return ((bits.double() + 0.5) / (_MASK53 + 1)).float().clamp(1e-7, 1 - 1e-7)


def _signed(x: int) -> int:
    return (x + (1 << 63)) % (1 << 64) - (1 << 63)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift_right(x, 30)) * _MIX1
    x = (x ^ _shift_right(x, 27)) * _MIX2
    return x ^ _shift_right(x, 31)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical shift; torch's is arithmetic."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
