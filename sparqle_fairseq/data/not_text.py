"""Cells that stand where a text should and are none: a table's marks for "nothing here", and csv's quotation marks."""

from __future__ import annotations

import re

# What no one says: a spreadsheet's errors, a database's NULL, pandas' NaN, the mark of NIST's STM files, a lost word.
_CERTAIN = frozenset(
    {
        "#N/A", "#N/A!", "#NA", "#REF!", "#NAME?", "#VALUE!", "#NULL!", "#DIV/0!", "#NUM!", "#ERROR!",
        "\\N", "<NA>", "NaN", "N/A", "n/a", "<unk>", "<UNK>", "[UNK]", "<null>", "<NULL>", "<none>",
        "ignore_time_segment_in_scoring", "IGNORE_TIME_SEGMENT_IN_SCORING",
        "[inaudible]", "[INAUDIBLE]", "[Inaudible]", "(inaudible)", "<inaudible>",
        "[unintelligible]", "(unintelligible)",
        "[BLANK_AUDIO]", "[NO_SPEECH]", "<nospeech>",
    }
)  # fmt: skip
# What is a word too: German counts "null", "Nan" is a grandmother, "Remove." an order.
_DOUBTFUL = frozenset(
    {
        "nan", "null", "none", "nil", "na", "undefined", "remove", "removed", "delete", "deleted", "empty", "blank",
        "inaudible", "unintelligible", "indistinct", "silence", "noise", "music", "laughter", "applause", "unk",
        "todo", "tbd", "fixme", "xxx", "xx", "error", "missing", "no translation", "no transcript", "not translated",
        "untranslated", "placeholder", "lorem ipsum", "blank_audio", "spoken_noise",
    }
)  # fmt: skip
_AROUND = re.compile(r"^[\s\[({<#*.\-_]+|[\s\])}>#*.!?\-_]+$")
_NO_LETTER = re.compile(r"[\W_]+")


def placeholder(text: str) -> str | None:
    """The mark that is all of `text`, where it is certain that nobody says it; None for a text."""
    mark = text.strip()
    return mark if mark in _CERTAIN else None


def like_placeholder(text: str) -> str | None:
    """The mark that may be all of `text`: those of `placeholder`, words that also are such marks, no letter at all."""
    mark = text.strip()
    if mark in _CERTAIN or _AROUND.sub("", mark).casefold() in _DOUBTFUL:
        return mark
    return mark if mark and _NO_LETTER.fullmatch(mark) else None


def csv_quoted(cell: str) -> bool:
    """Whether a cell still has the quotation marks that csv writes: around it, and doubled within (RFC 4180)."""
    if len(cell) < 4 or cell[0] != '"' or cell[-1] != '"':
        return False
    inner = cell[1:-1]
    return '""' in inner and '"' not in inner.replace('""', "")


def without_csv_quotes(cell: str) -> str:
    """The text that a csv-quoted cell stands for: no marks around it, inner ones single. Any other cell as it is."""
    return cell[1:-1].replace('""', '"') if csv_quoted(cell) else cell
