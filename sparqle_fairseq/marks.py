"""Marks on functions of other libraries that were replaced, so that importing twice replaces them once.

Names and not one mark for all: several corrections may stand around the same function, and each wrapper carries the
marks of what it wraps (`functools.wraps`).
"""

from __future__ import annotations

from typing import Any

_MARKS = "_sparqle_marks"


def mark(function: Any, name: str) -> None:
    """Say that `function` holds the correction `name`."""
    setattr(function, _MARKS, marks(function) | {name})


def marks(function: Any) -> frozenset[str]:
    """The corrections that `function` holds."""
    return getattr(function, _MARKS, frozenset())
