"""Errors that a person can act on: one sentence each, and shown as one sentence by the fairseq commands."""

from __future__ import annotations

import os
import re
import sys
from types import TracebackType
from typing import Any

SHOW_TRACEBACK = "SPARQLE_TRACEBACK"


class SparqleError(ValueError):
    """Base of this package's errors. The message says what was found where, and what to do."""


class MissingPackage(SparqleError, ImportError):
    """Something needs a package that is not installed, or that cannot be imported."""


def need_fairseq(what: str) -> None:
    """Raise `MissingPackage` saying what to install where fairseq cannot be imported; `what` is what needs it."""
    try:
        import fairseq  # noqa: F401
    except Exception as error:  # on a Python that it does not know, fairseq's own import raises other kinds
        raise MissingPackage(
            f"{what} needs the package fairseq, which cannot be imported here ({reason(error)}); run: pip install "
            "ve-fairseq"
        ) from error


def reason(error: BaseException, most: int = 200) -> str:
    """What another library's error says, as part of a sentence: one line of at most `most` characters."""
    said = " ".join(str(error).split())
    return said[:most] or type(error).__name__


def sentence_of(error: BaseException) -> str | None:
    """The sentence of the first `SparqleError` that `error` is, was raised from, or was raised while handling."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if isinstance(current, SparqleError):
            # A data-loader worker hands an error over as the text of its traceback; our sentence is its last line.
            return re.sub(r"^[\w.]*Error: ", "", str(current).strip().rpartition("\n")[2])
        current = current.__cause__ or current.__context__
    return None


def install_hook() -> None:
    """Show a `SparqleError` that nobody handles as its sentence; with SPARQLE_TRACEBACK=1, as any other error."""
    if getattr(sys.excepthook, "shows_sentences", False):
        return
    usual = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        sentence = sentence_of(error)
        if sentence is None or os.environ.get(SHOW_TRACEBACK):
            usual(kind, error, traceback)
        else:
            print(f"error: {sentence}", file=sys.stderr)

    marked: Any = hook
    marked.shows_sentences = True
    sys.excepthook = marked
