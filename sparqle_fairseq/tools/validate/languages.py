"""Checks on language codes and on the script of a text."""

from __future__ import annotations

from functools import lru_cache

import langcodes
import regex

from sparqle_fairseq.data.prompts import PromptError, language_name

# Valid codes that say "no language", "several", "not known", and codes for private use.
_NO_LANGUAGE = {"und", "mul", "mis", "zxx"}
_NAME = 4  # letters; what is shorter is a mistyped code rather than the name of a language
_PARTS = {
    "Hans": ("Hani",),
    "Hant": ("Hani",),
    "Hanb": ("Hani", "Bopo"),
    "Jpan": ("Hani", "Hira", "Kana"),
    "Hrkt": ("Hira", "Kana"),
    "Kore": ("Hang", "Hani"),
}
# Languages that are written in more scripts than their likeliest one (Unicode CLDR).
_ALSO = {
    "az": ("Latn", "Cyrl", "Arab"),
    "bs": ("Latn", "Cyrl"),
    "kk": ("Cyrl", "Latn", "Arab"),
    "ks": ("Arab", "Deva"),
    "ku": ("Latn", "Arab", "Cyrl"),
    "ky": ("Cyrl", "Arab", "Latn"),
    "mn": ("Cyrl", "Mong"),
    "ms": ("Latn", "Arab"),
    "pa": ("Guru", "Arab"),
    "sd": ("Arab", "Deva"),
    "sh": ("Latn", "Cyrl"),
    "sr": ("Cyrl", "Latn"),
    "tg": ("Cyrl", "Arab", "Latn"),
    "tk": ("Latn", "Cyrl", "Arab"),
    "tt": ("Cyrl", "Latn"),
    "ug": ("Arab", "Cyrl", "Latn"),
    "uz": ("Latn", "Cyrl", "Arab"),
}
_LATIN = regex.compile(r"\p{Script=Latn}+")
# Names and abbreviations in Latin letters turn up in every language; other scripts say sooner that they are foreign.
_ENOUGH_LATIN, _ENOUGH = 10, 4


@lru_cache(maxsize=1024)
def check_code(code: str) -> tuple[str, str | None] | None:
    """What is wrong with a language code and the code that was meant, where that is certain; None if nothing is."""
    try:
        language_name(code)
    except PromptError as error:
        try:
            meant = langcodes.find(code).to_tag() if len(code) >= _NAME else None
        except LookupError:
            meant = None
        if meant is None:
            return str(error), None
        return f"{code!r} is the name of a language, not its code; write {meant!r}", meant
    language = langcodes.Language.get(code).language or ""
    if language in _NO_LANGUAGE or ("qaa" <= language <= "qtz" and len(language) == 3):
        return f"{code!r} names no language; write for example 'fr', 'de' or 'pt-BR'", None
    return None


@lru_cache(maxsize=1024)
def _scripts(code: str) -> tuple[str, ...]:
    """The scripts (ISO 15924, as in Unicode) that a language is written in; nothing where they are not known."""
    language = langcodes.Language.get(code)
    if not language.script and language.language in _ALSO:
        return _ALSO[language.language]
    script = language.maximize().script
    return _PARTS.get(script, (script,)) if script and script not in ("Zyyy", "Zxxx", "Zzzz") else ()


@lru_cache(maxsize=64)
def _patterns(scripts: tuple[str, ...]) -> tuple[regex.Pattern[str], regex.Pattern[str]] | None:
    """Letters of these scripts, and letters of any other; those that all scripts share are in neither."""
    own = "".join(rf"\p{{Script={script}}}" for script in scripts)
    try:
        right = regex.compile(rf"[\p{{L}}&&[{own}]]+", regex.V1)
        return right, regex.compile(rf"[\p{{L}}--[{own}\p{{Script=Zyyy}}\p{{Script=Zinh}}]]+", regex.V1)
    except regex.error:  # a script that Unicode does not have
        return None


def _count(pattern: regex.Pattern[str], text: str) -> int:
    return sum(map(len, pattern.findall(text)))


def check_script(text: str, code: str, share: float) -> str | None:
    """What is wrong where less than `share` of the letters of `text` are of the language's script."""
    scripts = _scripts(code)
    patterns = _patterns(scripts) if scripts else None
    foreign = _count(patterns[1], text) if patterns else 0
    if patterns is None or foreign < _ENOUGH:
        return None
    right = _count(patterns[0], text)
    all_latin = "Latn" not in scripts and _count(_LATIN, text) >= foreign
    if right >= share * (right + foreign) or (all_latin and foreign < _ENOUGH_LATIN):
        return None
    percent = 100 * right // (right + foreign)
    return f"{percent} % of its letters are of the script of {language_name(code)} ({', '.join(scripts)})"
