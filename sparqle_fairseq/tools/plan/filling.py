"""The largest batch that a GPU holds, found with few looks at a plan."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

DIGITS = 3  # that a --max-tokens is rounded down to


@dataclass(frozen=True)
class Filling:
    """What fills a GPU's memory in one stage; all 0 where not even one utterance of mean length fits."""

    batch: int  # utterances of mean length, as fairseq counts them out of `max_tokens`
    max_tokens: int  # --max-tokens in samples
    frames: int  # the same in frames of stored features


def largest(memory: Callable[[int], float], limit: float, begin: int, most: int, empty: float) -> int:
    """The largest batch of at most `most` utterances whose memory is within `limit`; 0 where not one utterance is.

    Args:
        memory: bytes of a batch, more for a larger one; asked at most once for each size.
        limit: bytes.
        begin: the size that is looked at first.
        empty: bytes without any utterance, for a first guess; it need not be right.
    """
    fits, exceeds = 0, most + 1
    before, guess, looks = (0.0, empty), begin, 0
    while exceeds - fits > 1:
        looks += 1
        size = min(max(guess, fits + 1), exceeds - 1)
        found = (float(size), float(memory(size)))
        fits, exceeds = (size, exceeds) if found[1] <= limit else (fits, size)
        slope = (found[1] - before[1]) / (found[0] - before[0])
        if slope <= 0 or looks % 4 == 0:  # where the line leads nowhere: twice as much, or the middle
            guess = min(2 * fits + 1, (fits + exceeds) // 2)
        else:
            guess = int(min(found[0] + (limit - found[1]) / slope, most))
        before = found
    return fits


def samples_of(memory: Callable[[int], float], limit: float, batch: int, most: int, utterance: float) -> int:
    """The samples that fit where `batch` utterances of `utterance` samples do, and one more does not.

    Between both sizes memory is taken to grow evenly. Rounded down to `DIGITS` digits, yet never below `batch`.
    """
    part = 0.0
    if batch < most:
        here, next_ = memory(batch), memory(batch + 1)
        part = (limit - here) / (next_ - here)
    samples = int((batch + part) * utterance)
    step = 10 ** max(len(str(samples)) - DIGITS, 0)
    least = math.ceil(batch * utterance)
    if least // utterance < batch:  # the product was rounded
        least += 1
    return max(samples // step * step, least)
