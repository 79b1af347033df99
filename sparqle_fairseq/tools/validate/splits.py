"""Checks across rows: the same speech or text in two splits, and features that do not go together.

The row in the larger split is the one that is reported, and that `--fix` leaves out: a test set stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

# Share of a slice that may lie in another split's slice: boundaries of neighbours are not exact.
_EDGE = 0.025
_WHOLE_FILE = np.iinfo(np.int64).max


class Shared(NamedTuple):
    """`row` has what `owner`, a row of a smaller split, has too."""

    row: int
    owner: int


def ranks(sizes: Sequence[int]) -> np.ndarray:
    """(splits,) 0 for the smallest split; of equal ones the last named is the smaller."""
    order = sorted(range(len(sizes)), key=lambda split: (sizes[split], -split))
    return np.argsort(order)


def equal_keys(keys: np.ndarray, rank: np.ndarray) -> Iterator[Shared]:
    """Rows with a key that a row of a lower rank has too. keys (N,), 0: nothing to compare; rank (N,) of its split."""
    rows = np.flatnonzero(keys)
    rows = rows[np.lexsort((rows, rank[rows], keys[rows]))]
    if not len(rows):
        return
    first = np.append(True, keys[rows[1:]] != keys[rows[:-1]])
    owners = rows[np.maximum.accumulate(np.where(first, np.arange(len(rows)), 0))]
    shared = rank[rows] != rank[owners]
    for row, owner in zip(rows[shared].tolist(), owners[shared].tolist(), strict=True):
        yield Shared(row, owner)


def overlaps(file: np.ndarray, start: np.ndarray, end: np.ndarray, rank: np.ndarray) -> Iterator[Shared]:
    """Rows whose part of a file overlaps that of a row of a lower rank. All (N,); file 0: nothing to compare."""
    rows = np.flatnonzero(file)
    rows = rows[np.argsort(file[rows], kind="stable")]
    edges = np.flatnonzero(np.append(True, file[rows[1:]] != file[rows[:-1]])) if len(rows) else np.zeros(0, int)
    if not len(edges):
        return
    lowest, highest = np.minimum.reduceat(rank[rows], edges), np.maximum.reduceat(rank[rows], edges)
    stops = np.append(edges[1:], len(rows))
    for k in np.flatnonzero(lowest != highest).tolist():
        group = rows[edges[k] : stops[k]]
        edge = np.where(end[group] == _WHOLE_FILE, 0, (end[group] - start[group]) * _EDGE).astype(np.int64)
        yield from _overlaps_in_file(group, start[group] + edge, end[group] - edge, rank[group])


def _overlaps_in_file(rows: np.ndarray, start: np.ndarray, end: np.ndarray, rank: np.ndarray) -> Iterator[Shared]:
    """A row overlaps some earlier-starting owner if the furthest end among those exceeds the row's start."""
    todo = np.ones(len(rows), bool)
    for lower in np.unique(rank).tolist():
        owners = np.flatnonzero(rank == lower)
        owners = owners[np.argsort(start[owners], kind="stable")]
        furthest = np.maximum.accumulate(end[owners])
        others = np.flatnonzero((rank > lower) & todo)
        before = np.searchsorted(start[owners], end[others], side="left") - 1
        hit = (before >= 0) & (furthest[np.maximum(before, 0)] > start[others])
        for other, at in zip(others[hit].tolist(), before[hit].tolist(), strict=True):
            reach = int(np.searchsorted(furthest[: at + 1], furthest[at]))  # the owner that ends there
            yield Shared(int(rows[other]), int(rows[owners[reach]]))
        todo[others[hit]] = False


def odd_widths(widths: np.ndarray) -> tuple[int, Iterator[int], Iterator[int]]:
    """The width of the first row that was read (0: waveforms), the rows of other widths, the rows of the other kind.

    widths (N,): -1 where nothing could be read.
    """
    known = np.flatnonzero(widths >= 0)
    if not len(known):
        return 0, iter(()), iter(())
    width = int(widths[known[0]])
    mixed = known[(widths[known] == 0) != (width == 0)]
    other = known[(widths[known] != width) & ((widths[known] == 0) == (width == 0))]
    return width, iter(other.tolist()), iter(mixed.tolist())
