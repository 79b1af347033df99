"""The one form in which texts are compared: Unicode NFC, without characters that nobody sees, single spaces."""

from __future__ import annotations

import unicodedata

import regex

# What every signature says of this file.
SIGNATURE = "norm:NFC|fmt:no"

# Where a line may break, in which direction it runs: nothing of what it says. U+200C and U+200D stay: they spell words
# in Persian and in the languages of India.
_INVISIBLE = regex.compile(r"[\u00AD\u061C\u200B\u200E\u200F\u202A-\u202E\u2060-\u2069\uFEFF]")


def normalised(text: str | None) -> str:
    """`text` as every score sees it; empty for None and for a text of which nothing can be seen."""
    if text is None:
        return ""
    if text.isascii():
        return " ".join(text.split())
    return " ".join(unicodedata.normalize("NFC", _INVISIBLE.sub("", text)).split())
