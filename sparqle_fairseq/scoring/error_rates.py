"""Word and character errors: what counts as a word, what as a character, and how many differ.

Words are lower-case and without punctuation at their ends. A script that puts no spaces between words (Chinese, Thai)
has no such words; there each character with its marks counts as one, as is usual in speech recognition, so that the
word error rate means something in every language and in texts of several. Characters are Unicode's, of the same words:
one space between two words counts, a space beside a character of an unspaced script does not.
"""

from __future__ import annotations

import unicodedata

import editdistance
import regex

from sparqle_fairseq.scoring.languages import UNSPACED
from sparqle_fairseq.scoring.normalise import SIGNATURE, normalised

WER_SIGNATURE = f"nrefs:1|case:lc|punct:no|unit:word|unspaced:char|{SIGNATURE}"
CER_SIGNATURE = f"nrefs:1|case:lc|punct:no|unit:char|{SIGNATURE}"

_HAS_UNSPACED = regex.compile(f"[{UNSPACED}]")
_PIECES = regex.compile(rf"[{UNSPACED}][\p{{M}}\u200c\u200d]*|[^{UNSPACED}]+")
_WIDE_PUNCTUATION = regex.compile(r"[\p{P}&&[\p{ea=W}\p{ea=F}]]", regex.V1)
_PUNCTUATION = regex.compile(r"\p{P}")
_SPACES = regex.compile(rf" (?=[{UNSPACED}])|(?<=[{UNSPACED}]) ")


def words(text: str) -> list[str]:
    """What the word error rate compares (`Re-enter, 你好！` -> `re-enter`, `你`, `好`)."""
    # Lower case may decompose a letter (U+0130), so NFC comes again.
    text = unicodedata.normalize("NFC", normalised(text).lower())
    if not text.isascii():
        text = _WIDE_PUNCTUATION.sub(" ", text)
    found = []
    for word in text.split():
        if _HAS_UNSPACED.search(word):
            pieces = _PIECES.findall(word)
            found += [part for piece in pieces for part in _PUNCTUATION.sub(" ", piece).split()]
        elif bare := _without_punctuation_around(word):
            found.append(bare)
    return found


def characters(text: str) -> str:
    """What the character error rate compares, as one string."""
    return _SPACES.sub("", " ".join(words(text)))


def word_errors(reference: str, hypothesis: str) -> tuple[int, int]:
    """(edit distance in words, words of the reference)."""
    expected = words(reference)
    return editdistance.eval(expected, words(hypothesis)), len(expected)


def character_errors(reference: str, hypothesis: str) -> tuple[int, int]:
    """(edit distance in characters, characters of the reference)."""
    expected = characters(reference)
    return editdistance.eval(expected, characters(hypothesis)), len(expected)


def _without_punctuation_around(word: str) -> str:
    kept = [i for i, character in enumerate(word) if unicodedata.category(character)[0] != "P"]
    return word[kept[0] : kept[-1] + 1] if kept else ""
