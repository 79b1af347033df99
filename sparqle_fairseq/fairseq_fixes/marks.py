"""Marks on functions that were put in the place of another library's: which corrections they hold."""

from __future__ import annotations

from typing import Any

_MARKS = "_sparqle_marks"


def mark(function: Any, name: str) -> None:
    """Say that a function, put in the place of another library's, holds the correction `name`.

    Names and not one mark for all: several corrections may stand around the same function, and each wrapper carries the
    marks of what it wraps (`functools.wraps`).
    """
    setattr(function, _MARKS, marks(function) | {name})


def marks(function: Any) -> frozenset[str]:
    """The corrections that a function holds; who finds its own there does not make it twice."""
    return getattr(function, _MARKS, frozenset())
