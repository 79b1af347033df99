"""How much text a recording may hold: letters per second, for languages with and without spaces."""

from __future__ import annotations

import unicodedata

import regex

# Letters of an alphabet that one sign of another kind takes the time of. A Han, kana or Hangul sign is a syllable or
# two; a digit is spoken as a word. Spaces and punctuation count nothing, so that languages without spaces are equal.
SIGN, DIGIT = 2.5, 4.0
_LETTER = regex.compile(r"\p{L}+")
_SIGN = regex.compile(r"[\p{Script=Hani}\p{Script=Hira}\p{Script=Kana}\p{Script=Hang}]+")
_DIGIT = regex.compile(r"\p{Nd}+")
_WORDS = regex.compile(r"[\p{L}\p{M}\p{N}]+")
# Seconds by which a short recording may be off: speech that is cut close, and silence around it.
_CUT_CLOSE, _SILENCE = 0.5, 2.0


def letters(text: str) -> float:
    """The length of a text in letters of an alphabet."""
    signs = 0 if text.isascii() else _count(_SIGN, text)
    return _count(_LETTER, text) + (SIGN - 1) * signs + DIGIT * _count(_DIGIT, text)


def _count(pattern: regex.Pattern[str], text: str) -> int:
    return sum(map(len, pattern.findall(text)))


def check_pace(text: str, seconds: float, slowest: float, fastest: float) -> str | None:
    """What is wrong where nobody speaks `text` in `seconds`. The two limits are letters per second."""
    count = letters(text)
    if not count or not seconds:
        return None
    pace = f"{count:.0f} letters in {seconds:.1f} seconds"
    if count > fastest * (seconds + _CUT_CLOSE):
        return f"{pace}, more than {fastest:g} per second; the text is another recording's, or the end is missing"
    if count < slowest * (seconds - _SILENCE):
        return f"{pace}, fewer than {slowest:g} per second; part of the text is missing, or the audio is not cut"
    return None


def spoken_form(text: str) -> str:
    """What two texts that sound the same have in common: letters and digits, without case, spaces, punctuation."""
    return "".join(_WORDS.findall(unicodedata.normalize("NFKC", text).casefold()))
