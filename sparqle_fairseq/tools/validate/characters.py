"""Checks on the characters of a text, and the repairs that cannot change what it says."""

from __future__ import annotations

import html
import unicodedata

import regex

# Neither letters nor marks that a script needs: U+200C to U+200F join, part and direct letters and may stay.
_NO_TEXT = r"\p{Cc}\p{Co}\p{Cs}\u00AD\u2028\u2029\u2061-\u2065\uFDD0-\uFDEF\uFEFF\uFFF9-\uFFFC\uFFFE\uFFFF"
# Where a line may break and where not: part of the spelling where no spaces stand between words.
_BREAKS = r"\u200B\u2060"
_UNSPACED = regex.compile(
    r"[\p{Script=Thai}\p{Script=Laoo}\p{Script=Khmr}\p{Script=Mymr}\p{Script=Tibt}\p{Script=Lana}\p{Script=Tale}"
    r"\p{Script=Talu}\p{Script=Tavt}\p{Script=Java}\p{Script=Bali}]"
)
# What turns the direction of a part: needed where texts run from right to left and hold a name that does not.
_DIRECTIONS = r"\u202A-\u202E\u2066-\u2069"
_RIGHT_TO_LEFT = regex.compile(r"[\p{L}&&[\p{Bidi_Class=R}\p{Bidi_Class=AL}]]", regex.V1)
_CONTROL = {
    (breaks, turns): regex.compile(f"[{_NO_TEXT}{'' if breaks else _BREAKS}{'' if turns else _DIRECTIONS}]")
    for breaks in (False, True)
    for turns in (False, True)
}
# Nobody knows what these stand for, or (U+FFF9 to U+FFFB, which set a reading beside a word) what of it is text.
_UNKNOWN = regex.compile(r"[\p{Co}\uFFF9-\uFFFC]")
_MARKUP = regex.compile(
    r"</?[A-Za-z][A-Za-z0-9]*(?:\s[^<>]*)?/?>"  # <i>, </b>, <br/>, <font color=…>, <unk>
    r"|<!--"
    r"|<\|[^<>|]{1,40}\|>"  # <|im_end|>
    r"|\[(?:CLS|SEP|PAD|UNK|MASK|DEC|/?INST)\]"
    r"|&(?:[A-Za-z][A-Za-z0-9]{1,30}|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});"
    r"|\{\\[^{}]*\}"  # {\an8} of subtitles
)
# Tags that only format. Not <s>: an end of sentence for many a language model.
_INLINE = regex.compile(r"</?(?:b|i|u|em|strong|small|big|font|span|sub|sup)(?:\s[^<>]*)?/?>", regex.IGNORECASE)
_BLOCK = regex.compile(r"</?(?:br|p|div)(?:\s[^<>]*)?/?>", regex.IGNORECASE)
_ENTITY = regex.compile(r"&(?:[A-Za-z][A-Za-z0-9]{1,30}|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});")
# UTF-8 that was read as Latin-1 or Windows-1252: é became Ã©, ’ became â€™, Cyrillic became Ð¿Ñ€. Quotation marks after
# a capital are left out, MAÇÃ» ends a Portuguese quotation.
_HIGH = "\\u0080-\\u00bf" + bytes(range(0x80, 0xA0)).decode("cp1252", "ignore")
_MISREAD = regex.compile(
    r"Ã[\u00a1-\u00aa\u00ac-\u00ba\u00bc-\u00bf\u0178\u2030]|Â[\u00a1-\u00aa\u00ac-\u00ba\u00bc-\u00bf]"
    rf"|â€[\u2122\u0153\u00a6\u201c\u201d\u0080-\u009f]|(?:[ÐÑ][{_HIGH}]){{2}}"
)
_LOST = "\ufffd"


def check_characters(text: str) -> list[tuple[str, str]]:
    """(code, what was found) of everything in `text` that is no text."""
    findings = []
    found = _control(text).findall(text)
    if found:
        findings.append(("control-characters", _named(found)))
    if not unicodedata.is_normalized("NFC", text):
        findings.append(("text-not-nfc", _first_change(text)))
    marks = _MARKUP.findall(text)
    if marks:
        findings.append(("markup", ", ".join(map(repr, dict.fromkeys(marks[:3])))))
    if _LOST in text:
        findings.append(("text-damaged", "U+FFFD, which stands for a lost character"))
    else:
        misread = _MISREAD.search(text)
        if misread:
            findings.append(("text-damaged", f"{misread[0]!r}, UTF-8 that was read in another encoding"))
    return findings


def has_control(text: str) -> str | None:
    """The control characters (Unicode class Cc) of a cell that is no text, or None."""
    found = regex.findall(r"\p{Cc}", text)
    return _named(found) if found else None


def cleaned(text: str) -> str | None:
    """`text` in NFC, without control characters, formatting tags and entities; None where more than that is wrong.

    A character that breaks lines becomes a space, a C1 control what it is in Windows-1252 (as HTML defines it), and
    the others go; what the text's script needs stays. Private-use characters, unknown tags and lost characters cannot
    be mended.
    """
    if _UNKNOWN.search(text):
        return None
    new = _INLINE.sub("", _BLOCK.sub(" ", text))
    new = _ENTITY.sub(lambda match: html.unescape(match[0]), new)
    new = unicodedata.normalize("NFC", _control(new).sub(_replacement, new))
    new = regex.sub(r"[ \u00a0]{2,}", " ", new).strip()
    return None if not new or check_characters(new) else new


def _control(text: str) -> regex.Pattern[str]:
    """Characters that are no text in this one."""
    return _CONTROL[bool(_UNSPACED.search(text)), bool(_RIGHT_TO_LEFT.search(text))]


def _first_change(text: str) -> str:
    """The first letter, with its marks, that NFC writes otherwise."""
    letters = regex.findall(r"\X", text)
    letter = next((letter for letter in letters if not unicodedata.is_normalized("NFC", letter)), text)
    return f"{letter!r} as {_spelled(letter)} where NFC has {_spelled(unicodedata.normalize('NFC', letter))}"


def _replacement(match: regex.Match[str]) -> str:
    character = match[0]
    if character.isspace():
        return " "
    if "\x80" <= character <= "\x9f":
        return bytes([ord(character)]).decode("cp1252", "ignore")
    return ""


def _spelled(letter: str) -> str:
    return " ".join(f"U+{ord(character):04X}" for character in letter[:4])


def _named(characters: list[str]) -> str:
    return ", ".join(f"U+{ord(character):04X}" for character in dict.fromkeys(characters[:3]))
