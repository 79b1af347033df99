"""Which of sacrebleu's tokenizers cuts a text into the tokens of BLEU: by its language, else by its script.

Chinese has sacrebleu's `zh`, Japanese and Korean its morphological analysers where their packages are installed
(`sparqle-fairseq[ja]`, `[ko]`) and characters where they are not, the other scripts without spaces between words
(Thai, Khmer, Lao, Burmese, Tibetan, …) characters, and all else `13a`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import langcodes
import regex
from sacrebleu.metrics import BLEU

from sparqle_fairseq.errors import SparqleError, reason
from sparqle_fairseq.scoring.normalise import normalised

WORDS, CHINESE, JAPANESE, KOREAN, CHARACTERS = "13a", "zh", "ja-mecab", "ko-mecab", "char"

# Scripts of South-East Asia and Tibet that part phrases, not words (Unicode line breaking class SA, and Tibetan,
# Javanese, Balinese, Yi, which part lines anywhere or at syllables).
_PHRASES = ("Thai", "Laoo", "Khmr", "Mymr", "Tibt", "Lana", "Tale", "Talu", "Tavt", "Ahom", "Java", "Bali", "Yiii")
_BY_SCRIPT = {
    **dict.fromkeys(("Hans", "Hant", "Hani", "Hanb", "Bopo"), CHINESE),
    **dict.fromkeys(("Jpan", "Hira", "Kana", "Hrkt"), JAPANESE),
    **dict.fromkeys(("Kore", "Hang", "Jamo"), KOREAN),
    **dict.fromkeys(_PHRASES, CHARACTERS),
}


def _class(*scripts: str) -> str:
    return "".join(rf"\p{{Script={script}}}" for script in scripts)


_HAN, _HANGUL = _class("Hani", "Bopo"), _class("Hang")
_KANA = _class("Hira", "Kana") + "\u30fc\uff70"  # the mark of a long vowel is nobody's in Unicode
# Inside a regular expression's brackets: characters of scripts without spaces between words (Korean has them).
UNSPACED = _HAN + _KANA + _class(*_PHRASES)

_COUNTED = {
    CHINESE: regex.compile(f"[{_HAN}]"),
    JAPANESE: regex.compile(f"[{_KANA}]"),
    KOREAN: regex.compile(f"[{_HANGUL}]"),
    CHARACTERS: regex.compile(f"[{_class(*_PHRASES)}]"),
}
_LETTER = regex.compile(r"\p{L}")
# One of these stands for about as much as two letters.
_WEIGHT = {CHINESE: 2, JAPANESE: 2, KOREAN: 2, CHARACTERS: 1}
_KANA_OF_JAPANESE = 0.05  # of Han and Kana; Chinese has a stray one
_ONE_SCRIPT = 0.9  # of the rows: then the others (an abbreviation, a name) are tokenised like them

_PACKAGES = {JAPANESE: ("Japanese", "sparqle-fairseq[ja]"), KOREAN: ("Korean", "sparqle-fairseq[ko]")}


@dataclass(frozen=True)
class Tokenizers:
    """sacrebleu's name of the tokenizer of each row, and what a reader should know of the choice."""

    rows: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def signature(self) -> str:
        """The names, in their order of frequency."""
        return "+".join(name for name, _ in sorted(Counter(self.rows).items(), key=lambda item: (-item[1], item[0])))


def choose_tokenizers(
    references: Sequence[str | None],
    languages: Sequence[str | None] | str | None = None,
    tokenizer: str | None = None,
) -> Tokenizers:
    """The tokenizer of each row.

    Args:
        references: texts by whose script it is chosen where the language does not say it.
        languages: BCP-47 code of all rows, or of each (None: not known). A code counts as far as its script is one
            without spaces: a row of Chinese that is called English is Chinese.
        tokenizer: sacrebleu's name of one for all rows, whatever their language.

    Raises:
        SparqleError: there is no such tokenizer, or it cannot be loaded.
    """
    if tokenizer is not None:
        load_tokenizer(tokenizer)
        return Tokenizers((tokenizer,) * len(references))
    codes = [languages] * len(references) if languages is None or isinstance(languages, str) else list(languages)
    named = [None if code is None else of_language(code) for code in codes]
    seen = _by_script(references)
    wanted = [name if name not in (None, WORDS) else script for name, script in zip(named, seen, strict=True)]
    return Tokenizers(tuple(map(_installed, wanted)), tuple(filter(None, map(_note, dict.fromkeys(wanted)))))


@lru_cache(maxsize=1024)
def of_language(code: str) -> str | None:
    """The tokenizer of a language (`zh_TW`, `cmn`, `yue`, `jpn`, `th`); None where the code names none."""
    try:
        language = langcodes.Language.get(code)
    except ValueError:
        return None
    return _BY_SCRIPT.get(language.maximize().script or "", WORDS) if language.is_valid() else None


@lru_cache(maxsize=32)
def load_tokenizer(name: str) -> BLEU:
    """sacrebleu's BLEU with a tokenizer. Raises `SparqleError` where there is none of that name, or it needs more."""
    if name not in BLEU.TOKENIZERS:
        raise SparqleError(f"the tokenizer {name!r} is not known; sacrebleu has {', '.join(BLEU.TOKENIZERS)}")
    try:
        return BLEU(tokenize=name)
    except Exception as error:  # a package or a dictionary that is not there, a model that cannot be downloaded
        remedy = f'pip install "{_PACKAGES[name][1]}"' if name in _PACKAGES else "choose another one"
        raise SparqleError(f"sacrebleu's tokenizer {name} cannot be used ({reason(error)}); {remedy}") from error


@lru_cache(maxsize=8)
def _installed(name: str) -> str:
    if name in _PACKAGES:
        try:
            load_tokenizer(name)
        except SparqleError:
            return CHARACTERS
    return name


def _note(wanted: str) -> str | None:
    if _installed(wanted) == wanted:
        return None
    language, package = _PACKAGES[wanted]
    return f'{language} is scored by characters; for words (sacrebleu\'s {wanted}): pip install "{package}"'


def _by_script(texts: Sequence[str | None]) -> list[str]:
    """By the letters of each text; texts of one script but for a few are all tokenised alike."""
    counts = [_letters(normalised(text)) for text in texts]
    whole: Counter[str] = sum(counts, Counter())
    common = _name(whole)
    rows = [_name(count) if count else None for count in counts]
    if common == JAPANESE:  # words without Kana are Japanese here, too
        rows = [JAPANESE if name == CHINESE else name for name in rows]
    known = [name for name in rows if name is not None]
    if known.count(common) >= _ONE_SCRIPT * len(known):
        return [common] * len(rows)
    return [name or common for name in rows]


def _letters(text: str) -> Counter[str]:
    """Letters by the tokenizer that their script wants."""
    if text.isascii():
        return Counter({WORDS: sum(map(str.isalpha, text))} if any(map(str.isalpha, text)) else {})
    found = Counter({name: len(pattern.findall(text)) for name, pattern in _COUNTED.items()})
    every = len(_LETTER.findall(text))
    unspaced = sum(len(_LETTER.findall("".join(pattern.findall(text)))) for pattern in _COUNTED.values())
    found[WORDS] = every - unspaced
    return +found


def _name(count: Counter[str]) -> str:
    if sum(_WEIGHT[name] * count[name] for name in _WEIGHT) < max(count[WORDS], 1):
        return WORDS
    if count[JAPANESE] and count[JAPANESE] >= _KANA_OF_JAPANESE * (count[JAPANESE] + count[CHINESE]):
        count = count + Counter({JAPANESE: count[CHINESE]})
    return max(_WEIGHT, key=lambda name: _WEIGHT[name] * count[name])
