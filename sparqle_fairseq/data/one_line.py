"""A text on one line of an output, and back: how T-, H- and D- lines hold a text that breaks lines itself.

Each character at which some reader ends a line or a cell is printed as its sign of Unicode's Control Pictures
(a line feed as U+240A, a tab as U+2409), which a person sees for what it is. U+2028 and U+2029 have no sign and are
printed as U+241B and a letter; U+241B also stands before a sign that is part of the text. Every other text is printed
as it is, and every text is read back exactly.
"""

from __future__ import annotations

import regex

_MARK = "\u241b"
_SIGNS = {
    "\t": "\u2409",
    "\n": "\u240a",
    "\v": "\u240b",
    "\f": "\u240c",
    "\r": "\u240d",
    "\x1c": "\u241c",
    "\x1d": "\u241d",
    "\x1e": "\u241e",
    "\x85": "\u2424",
    "\u2028": f"{_MARK}L",
    "\u2029": f"{_MARK}P",
}
_TO = {**_SIGNS, **{sign: _MARK + sign for sign in [*_SIGNS.values(), _MARK] if len(sign) == 1}}
_BACK = {printed: text for text, printed in _TO.items()}
_TEXT = regex.compile("|".join(_TO))
_PRINTED = regex.compile("|".join(sorted(_BACK, key=len, reverse=True)))


def one_line(text: str) -> str:
    """`text` without a character that ends a line or a cell; `from_one_line` undoes it."""
    return _TEXT.sub(lambda match: _TO[match[0]], text)


def from_one_line(line: str) -> str:
    """The text that `one_line` made `line` of."""
    return _PRINTED.sub(lambda match: _BACK[match[0]], line)
