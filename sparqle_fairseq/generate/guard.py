"""Finds text in which a model went round in circles: the same words again and again to the end of its room."""

from __future__ import annotations

import zlib

import numpy as np

# How these were chosen: docs/translate.md, "When a model repeats itself".
REPEATS = 4  # times in direct succession
REPEATED_CHARACTERS = 24  # that they fill together: "no, no, no, no, no" is a person
COMPRESSION = 2.8  # characters per byte of deflated text

# A text that loops is searched again without any repeated sequence of so many tokens.
BLOCKED_NGRAM = 3


def is_loop(text: str) -> bool:
    """Whether `text` repeats one stretch at least `REPEATS` times on end, or deflates as only repetition does."""
    repeats = _may_repeat(text) and longest_repetition(text) >= REPEATED_CHARACTERS
    return repeats or compression(text) > COMPRESSION


def _may_repeat(text: str) -> bool:
    """False only where no part of at least `REPEATED_CHARACTERS` is one stretch `REPEATS` times on end.

    Such a part of C characters has C - 3 sequences of four, of which at most C / REPEATS differ. Counting those that
    differ is ten times as quick as looking for the part.
    """
    line = _one_line(text)
    again = len(line) - 3 - len({line[i : i + 4] for i in range(len(line) - 3)})
    return again >= REPEATED_CHARACTERS - 3 - REPEATED_CHARACTERS // REPEATS


def longest_repetition(text: str) -> int:
    """Characters of the longest part of `text` that is one stretch, at least `REPEATS` times on end; 0 without one."""
    points = np.frombuffer(_one_line(text).encode("utf-32-le"), np.uint32)
    longest = 0
    for period in range(1, len(points) // REPEATS + 1):
        equal = points[period:] == points[:-period]
        breaks = np.flatnonzero(np.concatenate([[True], ~equal, [True]]))
        run = int(np.diff(breaks).max()) - 1  # characters in a row that are those one period before
        if run >= (REPEATS - 1) * period:
            longest = max(longest, run + period)
    return longest


def _one_line(text: str) -> str:
    """Small letters with single spaces, one after the last word as after those before it."""
    return " ".join([*text.casefold().split(), ""])


def compression(text: str) -> float:
    """Characters per byte of deflated text.

    One byte a character, whatever the script: in UTF-8 the bytes that a script's characters share would deflate well.
    """
    places: dict[str, int] = {}
    data = bytes(places.setdefault(character, len(places)) % 256 for character in text)
    return len(data) / len(zlib.compress(data)) if data else 0.0
