"""Which parts of names, and which cells, are language codes, and whether a text in one language serves another."""

from __future__ import annotations

import re
from functools import lru_cache

import langcodes

from sparqle_fairseq.tools.prepare.common import CorpusError

_TAG = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*")
_NO_LANGUAGE = {"und", "mul", "mis", "zxx"}  # codes for unknown, several, other, none
# What langcodes keeps apart and people do not: the standard form and its macrolanguage.
_SAME = {"cmn": "zh", "nb": "no"}


@lru_cache(maxsize=4096)
def language_code(text: str) -> str | None:
    """The usual spelling of a BCP-47 code (`FR`, `fra`, `fr_FR` -> `fr`, `fr`, `fr-FR`); None where it is none."""
    if not _TAG.fullmatch(text):
        return None
    try:
        language = langcodes.Language.get(text)
    except ValueError:
        return None
    code = language.language or ""
    if not language.is_valid() or not code or code in _NO_LANGUAGE or (len(code) == 3 and "qaa" <= code <= "qtz"):
        return None
    return langcodes.standardize_tag(text)


def required_code(where: str, text: str) -> str:
    """The usual spelling of a code that must be one.

    Raises:
        CorpusError: `where`, with the code that is meant where a language's name was given.
    """
    code = language_code(text)
    if code is not None:
        return code
    try:
        meant = langcodes.find(text).to_tag() if len(text) > 3 else ""
    except LookupError:
        meant = ""
    raise CorpusError(
        f"{where}: found {text!r}, which is no language code; write for example {meant or 'fr, de or pt-BR'}"
    )


@lru_cache(maxsize=4096)
def serves(code: str, wanted: str) -> bool:
    """Whether a text in `code` is one in `wanted`: same language and script, and no other country.

    `fr-FR` and `fr` serve each other; `pt-PT` and `pt-BR` do not, nor do `zh-Hant` and `zh`.
    """
    here, there = langcodes.Language.get(code), langcodes.Language.get(wanted)
    if here.territory and there.territory and here.territory != there.territory:
        return False
    return _language_and_script(here) == _language_and_script(there)


def _language_and_script(language: langcodes.Language) -> tuple[str | None, str | None]:
    return _SAME.get(language.language or "", language.language), language.maximize().script


def language_name(code: str) -> str:
    """Its English name."""
    return langcodes.Language.get(code).display_name("en")
