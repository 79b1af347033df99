"""Which language a text is in, by py3langid (after Lui and Baldwin, 2012): 140 languages, offline, BSD licence.

An identifier errs on short texts. So a hypothesis is called wrong only where the identifier is surer than not, and
calls the reference of the same row right; and how often it is wrong about the references is part of the report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import langcodes

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.scoring.normalise import normalised

SURE = 0.5  # probability of a language among all
MOST_REFERENCES = 5000  # that are looked at only to know how often the identifier errs
FEWEST_LETTERS = 8  # fewer say nothing
HOW_TO_INSTALL = "pip install 'sparqle-fairseq[report]'"
# One language where the identifier has another code than a manifest, or several.
_SAME = {"nb": "no", "nn": "no", "tl": "fil"}
_NO_LANGUAGE = "zxx"


@dataclass(frozen=True)
class Identified:
    """What came out where another language was asked for."""

    wrong: dict[int, str]  # row -> code of the language
    looked: int  # references that were looked at, to know how often the identifier errs
    mistaken: int  # those of them that it takes for another language


def identifier_there() -> bool:
    """Whether the package is installed."""
    return _identifier() is not None


def identify(texts: Sequence[str], references: Sequence[str], language: str) -> Identified | None:
    """Texts that are in another language than `language`; None where the identifier does not know it.

    Raises `SparqleError` where the package is not installed.
    """
    identifier = _identifier()
    if identifier is None:
        raise SparqleError(f"languages are told apart by py3langid, which is not installed; {HOW_TO_INSTALL}")
    wanted = _code(language)
    if wanted not in {_code(str(code)) for code in identifier.labels}:
        return None
    wrong = {}
    for row, text in enumerate(texts):
        found = _language(text)
        if found not in (None, wanted) and _language(references[row]) == wanted:
            wrong[row] = found
    looked = references[:: -(-len(references) // MOST_REFERENCES) or 1]
    mistaken = sum(_language(reference) not in (None, wanted) for reference in looked)
    return Identified(wrong, len(looked), mistaken)


def other_language(text: str, language: str) -> str | None:
    """Code of the language that a text surely is in, where that is another than `language`; else None."""
    found = _language(text)
    return None if found in (None, _code(language)) else found


@lru_cache(maxsize=1 << 17)
def _language(text: str) -> str | None:
    """The language that a text surely is in."""
    text = normalised(text)
    if sum(map(str.isalpha, text)) < FEWEST_LETTERS:
        return None
    code, probability = _identifier().classify(text)
    return _code(str(code)) if probability >= SURE and code != _NO_LANGUAGE else None


def _code(language: str) -> str:
    base = langcodes.Language.get(language).language or language
    base = langcodes.standardize_tag(base)
    return _SAME.get(base, base)


@lru_cache(maxsize=1)
def _identifier() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        return None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
