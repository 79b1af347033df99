"""The order of lengths by radix: a row among millions takes little more than a row among few."""

from __future__ import annotations

import numpy as np

_DIGIT = 16  # bits that NumPy sorts by radix, and the only ones
_MASK = (1 << _DIGIT) - 1


def stable_order(lengths: np.ndarray) -> np.ndarray:
    """`np.argsort(lengths, kind="stable")` of lengths (N,) that are finite and not negative, as float64.

    By comparing, a row takes the longer the more there are: 1.4 times as much among a million as among a hundred
    thousand, and four times as much as here. Raises ValueError for a length that is negative or no number.
    """
    lengths = np.ascontiguousarray(lengths, dtype=np.float64)
    if not lengths.size:
        return np.empty(0, dtype=np.int64)
    if not 0 <= lengths.min() <= lengths.max() < np.inf:
        raise ValueError("lengths must be finite and not negative")
    bits = np.abs(lengths).view(np.int64)  # whose order is that of the numbers; -0.0 is 0.0
    low, high = int(bits.min()), int(bits.max())
    # The 32 highest bits that differ are sorted by, the lower 16 first.
    top = ((bits - low) >> max((high - low).bit_length() - 2 * _DIGIT, 0)).astype(np.uint32)
    order = np.argsort((top & _MASK).astype(np.uint16), kind="stable")
    order = order[np.argsort((top >> _DIGIT).astype(np.uint16)[order], kind="stable")]
    there = lengths[order]
    if (there[1:] < there[:-1]).any():  # some differ in lower bits alone; nearly sorted numbers are sorted in one pass
        order = order[np.argsort(there, kind="stable")]
    return order
