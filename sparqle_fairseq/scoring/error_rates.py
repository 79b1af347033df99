"""Word and character errors: what counts as a word, what as a character, and how many differ.

Three normalisers say what is compared, and the signature names the one that was used:

* `lower`: lower case, without punctuation at the ends of words. A script that puts no spaces between words (Chinese,
  Thai) has no such words; there each character with its marks counts as one, as is usual in speech recognition, so that
  the word error rate means something in every language and in texts of several. Characters are Unicode's, of the same
  words: one space between two words counts, a space beside a character of an unspaced script does not.
* `none`: what stands between spaces, with case and punctuation; characters with the spaces.
* `whisper`: the English normaliser of Whisper (Radford et al., 2022), as transformers has it. Its table of British and
  American spellings comes with Whisper's models: `whisper:FILE` reads their normalizer.json, `whisper` has no table.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import editdistance
import regex

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.files import read_json
from sparqle_fairseq.scoring.languages import UNSPACED
from sparqle_fairseq.scoring.normalise import SIGNATURE, normalised

DEFAULT_NORMALISER = "lower"
NORMALISERS = ("none", DEFAULT_NORMALISER, "whisper")

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
    """(edit distance in words, words of the reference), by the normaliser `lower`."""
    return _LOWER.word_errors(reference, hypothesis)


def character_errors(reference: str, hypothesis: str) -> tuple[int, int]:
    """(edit distance in characters, characters of the reference), by the normaliser `lower`."""
    return _LOWER.character_errors(reference, hypothesis)


@dataclass(frozen=True)
class Normaliser:
    """What error rates compare of a text, and how a signature says it."""

    words: Callable[[str], list[str]]
    characters: Callable[[str], str]
    word_signature: str
    character_signature: str

    def word_errors(self, reference: str, hypothesis: str) -> tuple[int, int]:
        expected = self.words(reference)
        return editdistance.eval(expected, self.words(hypothesis)), len(expected)

    def character_errors(self, reference: str, hypothesis: str) -> tuple[int, int]:
        expected = self.characters(reference)
        return editdistance.eval(expected, self.characters(hypothesis)), len(expected)


_LOWER = Normaliser(
    words,
    characters,
    f"nrefs:1|case:lc|punct:no|unit:word|unspaced:char|{SIGNATURE}",
    f"nrefs:1|case:lc|punct:no|unit:char|{SIGNATURE}",
)
_NONE = Normaliser(
    lambda text: normalised(text).split(),
    normalised,
    f"nrefs:1|case:mixed|punct:yes|unit:word|{SIGNATURE}",
    f"nrefs:1|case:mixed|punct:yes|unit:char|{SIGNATURE}",
)


@lru_cache(maxsize=8)
def normaliser_named(name: str) -> Normaliser:
    """`none`, `lower`, `whisper` or `whisper:FILE`. Raises `SparqleError` where there is none of that name."""
    kind, colon, table = name.partition(":")
    if kind not in NORMALISERS or (colon and (kind != "whisper" or not table)):
        raise SparqleError(f"the normaliser {name!r} is not known; choose of {', '.join(NORMALISERS)}, whisper:FILE")
    if kind != "whisper":
        return _LOWER if kind == DEFAULT_NORMALISER else _NONE
    from transformers import __version__
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    spellings = read_json(table, "table of spellings") if table else {}
    if not isinstance(spellings, dict):
        raise SparqleError(f"{table} holds no table of spellings; give the normalizer.json of a Whisper model")
    normalise = EnglishTextNormalizer(spellings)

    def text_of(text: str) -> str:
        return " ".join(normalise(normalised(text)).split())

    says = f"nrefs:1|norm:whisper-en|spelling:{'us' if table else 'as-is'}|transformers:{__version__}"
    return Normaliser(
        lambda text: text_of(text).split(), text_of, f"{says}|unit:word|{SIGNATURE}", f"{says}|unit:char|{SIGNATURE}"
    )


def _without_punctuation_around(word: str) -> str:
    kept = [i for i, character in enumerate(word) if unicodedata.category(character)[0] != "P"]
    return word[kept[0] : kept[-1] + 1] if kept else ""
