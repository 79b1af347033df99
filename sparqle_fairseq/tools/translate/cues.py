"""A segment's text as subtitles: cues of at most two lines and some seconds, cut between words.

Times within a segment are not known word by word: a cue has the share of the segment's time that its text has of the
segment's width. Widths are those of a terminal (Unicode's East Asian Width): a Han sign or Kana is as wide as two Latin
letters, so that 42 is also 21 of them.
"""
# ruff: noqa: RUF001  (marks of other scripts that look like Latin ones are meant)

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import regex

LINES = 2

# Between these a line may break: white space that is not there to hold two words together, and U+200B.
_SPACE = regex.compile(r"([^\S\u00a0\u202f\u2007]+|\u200b+)")
# One sign of a script that may break anywhere between its signs.
_SIGN = r"[\p{Script=Hani}\p{Script=Hira}\p{Script=Kana}\p{Script=Bopo}\p{Script=Yiii}\u30fc]\p{M}*"
# What never begins a line, and what never ends one.
_CLOSING = r"[\p{Pe}\p{Pf}\p{Po}ー々ゝヽぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶ…]"
_OPENING = r"[\p{Ps}\p{Pi}]"
_PIECE = regex.compile(rf"{_OPENING}*(?:{_SIGN}|(?:(?!{_SIGN}|{_OPENING}).)+|{_OPENING}+){_CLOSING}*", regex.DOTALL)
_PARTS_WORDS = regex.compile(_SIGN)
# A run of a script without spaces that is too wide for a line breaks between signs and their marks.
_UNSPACED = regex.compile(r"[\p{Script=Thai}\p{Script=Laoo}\p{Script=Khmr}\p{Script=Mymr}\p{Script=Tibt}]")
_SENTENCE_END = regex.compile(r"[.!?…。！？؟।][\p{Pe}\p{Pf}\"']*$")
_PAUSE = regex.compile(r"[,;:，、；：،–—][\p{Pe}\p{Pf}\"']*$")

# What it costs to end a cue elsewhere than at the end of a sentence or clause, and to have one cue more.
_AT_WORD, _AT_PAUSE, _ONE_MORE = 0.5, 0.2, 1.0


@dataclass(frozen=True)
class CueRule:
    """How large a cue may be; a word that is wider than a line stays whole on a line of its own."""

    width: int = 42  # of a line, in Latin letters
    seconds: float = 7.0


@dataclass(frozen=True)
class Cue:
    """Lines of text and the seconds in which they are shown."""

    start: float
    end: float
    lines: tuple[str, ...]


@dataclass(frozen=True)
class _Word:
    """What stays on one line, and the white space before it on the same line."""

    before: str
    text: str

    @cached_property
    def width(self) -> int:
        return max(text_width(self.text), 1)  # a mark by itself takes its time, too

    @cached_property
    def full_width(self) -> int:
        return self.width + text_width(self.before)


def text_width(text: str) -> int:
    """Columns that a text takes: 2 for a wide sign, 0 for a mark, 1 for the rest."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return wide + sum(unicodedata.category(character) not in ("Mn", "Me", "Cf") for character in text)


def cues_of(text: str, start: float, end: float, rule: CueRule) -> list[Cue]:
    """The cues of a segment from `start` to `end`, in seconds; none for an empty text.

    One follows the other without a gap. A text of too few words for cues of `rule.seconds` is shown so long and no
    longer, each of them from its share of the time on.
    """
    words = _words(text, rule.width)
    if not words or end <= start:
        return [Cue(start, end, (text.strip(),))] if words else []
    total = sum(word.width for word in words)
    second = (end - start) / total  # of a column
    places = _cut(words, rule, second)
    cues, done = [], 0
    for first, last in zip([0, *places], places, strict=False):
        begin = start + second * done
        done += sum(word.width for word in words[first:last])
        finish = end if last == len(words) else start + second * done
        cues.append(Cue(begin, min(finish, begin + rule.seconds), _lines(words[first:last], rule.width)))
    return cues


def _words(text: str, width: int) -> list[_Word]:
    found: list[_Word] = []
    before = ""
    for part in _SPACE.split(text.strip()):
        if not part or _SPACE.fullmatch(part):
            before = "" if not part or part.startswith("\u200b") else " "
            continue
        for piece in _pieces(part, width):
            # "Bonjour !" has a space before its mark, and no line begins with one.
            if found and regex.fullmatch(f"{_CLOSING}+", piece):
                found[-1] = _Word(found[-1].before, f"{found[-1].text}{before}{piece}")
            else:
                found.append(_Word(before, piece))
            before = ""
    return found


def _pieces(word: str, width: int) -> list[str]:
    """A word, or the parts of it between which a line may break."""
    if _PARTS_WORDS.search(word):
        return _PIECE.findall(word)
    if text_width(word) > width and _UNSPACED.search(word):
        return regex.findall(r"\X", word)
    return [word]


def _cut(words: Sequence[_Word], rule: CueRule, second: float) -> list[int]:
    """Where the cues end (word numbers, the last is that of all words): few, equally full, at ends of clauses."""
    best: list[tuple[float, int]] = [(0.0, 0)]  # cost of the words up to a place, and where the last cue begins
    for last in range(1, len(words) + 1):
        found = (float("inf"), last - 1)
        for first in range(last - 1, -1, -1):
            part = words[first:last]
            width = part[0].width + sum(word.full_width for word in part[1:])
            seconds = second * sum(word.width for word in part)
            if last - first > 1 and (seconds > rule.seconds or not _fits(part, rule.width)):
                break  # more words do not fit either
            fill = max(width / (LINES * rule.width), seconds / rule.seconds)
            cost = best[first][0] + _ONE_MORE + fill**2
            if last < len(words):
                text = words[last - 1].text
                cost += 0 if _SENTENCE_END.search(text) else _AT_PAUSE if _PAUSE.search(text) else _AT_WORD
            found = min(found, (cost, first))
        best.append(found)
    places, place = [], len(words)
    while place:
        places.append(place)
        place = best[place][1]
    return places[::-1]


def _fits(words: Sequence[_Word], width: int) -> bool:
    """Whether the words fill no more than the lines of a cue, filled one after the other."""
    lines, room = 1, width - words[0].width
    for word in words[1:]:
        if word.full_width <= room:
            room -= word.full_width
        else:
            lines, room = lines + 1, width - word.width
        if lines > LINES or room < 0:
            return False
    return room >= 0


def _lines(words: Sequence[_Word], width: int) -> tuple[str, ...]:
    """One line where that fits, else two that are as equal as they can be."""
    whole = _joined(words)
    if text_width(whole) <= width or len(words) == 1:
        return (whole,)
    pairs = [(_joined(words[:i]), _joined(words[i:])) for i in range(1, len(words))]
    fitting = [pair for pair in pairs if max(map(text_width, pair)) <= width]
    return min(fitting or pairs, key=lambda pair: abs(text_width(pair[0]) - text_width(pair[1])))


def _joined(words: Sequence[_Word]) -> str:
    return words[0].text + "".join(word.before + word.text for word in words[1:])
