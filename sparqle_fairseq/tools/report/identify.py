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
FEWEST_LETTERS = 8  # fewer say nothing
HOW_TO_INSTALL = "pip install 'sparqle-fairseq[report]'"
# One language where the identifier has another code than a manifest, or several.
_SAME = {"nb": "no", "nn": "no", "tl": "fil"}
_NO_LANGUAGE = "zxx"


@dataclass(frozen=True)
class Identified:
    """What came out where another language was asked for."""

    wrong: dict[int, str]  # row -> code of the language
    unsure: int  # rows that nothing can be said of
    references_wrong: int  # rows whose reference the identifier takes for another language


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
    wrong, unsure, mistaken = {}, 0, 0
    for row, (text, reference) in enumerate(zip(texts, references, strict=True)):
        of_reference = _language(reference)
        if of_reference not in (None, wanted):
            mistaken += 1
        found = _language(text)
        if found is None or of_reference != wanted:
            unsure += 1
        elif found != wanted:
            wrong[row] = found
    return Identified(wrong, unsure, mistaken)


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
