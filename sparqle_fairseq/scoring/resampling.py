"""Resamples of a test set as sums of its counts: the bootstrap draws utterances, a randomisation swaps two systems'.

N utterances, K counts of each (those of all metrics and systems may stand side by side: they get the same draws).
Random numbers are those of `sacrebleu.significance` at the same seed. Sums are matrix products of how often an
utterance was drawn, a part of the draws at a time, so that 100,000 utterances fit into memory.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sparqle_fairseq.errors import SparqleError

SEED = 12345  # sacrebleu's own default
FEWEST_RESAMPLES = 40
_CELLS = 1 << 22  # random numbers at a time
_BITS = 32  # numpy makes so many of its random bits of one number


def bootstrap_sums(table: np.ndarray, draws: int = 1000, seed: int = SEED) -> np.ndarray:
    """(draws, K) sums of `table` (N, K) over N utterances that are drawn with replacement (Koehn, 2004).

    Raises `SparqleError` for too few draws.
    """
    if draws < FEWEST_RESAMPLES:
        raise SparqleError(f"{draws} resamples are too few for a 95 % interval; at least {FEWEST_RESAMPLES} are needed")
    rng = np.random.default_rng(seed)
    count = len(table)
    counts = table.astype(float)
    sums = np.empty((draws, table.shape[1]))
    for part in _parts(draws, count):
        rows = part.stop - part.start
        drawn = rng.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        sums[part] = times.astype(float) @ counts
    return sums


def swapped_sums(
    first: np.ndarray, second: np.ndarray, trials: int = 10000, seed: int = SEED
) -> tuple[np.ndarray, np.ndarray]:
    """Sums (trials, K) of two pseudo-systems, each of which has every utterance from one of the two (Noreen, 1989).

    `first`, `second`: (N, K) counts of the same utterances.
    """
    rng = np.random.default_rng(seed)
    count = len(first)
    differences = first.astype(float) - second
    sums = np.empty((trials, first.shape[1]))
    for part in _parts(trials, count):
        swapped = rng.integers(2, size=(part.stop - part.start, count), dtype=bool)
        sums[part] = swapped.astype(float) @ differences
    sums += second.sum(0)
    return sums, first.sum(0) + second.sum(0) - sums


def _parts(whole: int, count: int) -> Iterator[slice]:
    """Parts of `whole` draws of `count` random numbers. Cutting them does not change the numbers."""
    size = max(_BITS, _CELLS // max(count, 1) // _BITS * _BITS)
    return (slice(start, min(start + size, whole)) for start in range(0, whole, size))
