"""Language codes as a person types them."""

from __future__ import annotations

import difflib
import itertools
import string

import langcodes

from sparqle_fairseq.data.prompts import PromptError, language_name


def parse_languages(text: str) -> list[str]:
    """The BCP-47 codes of `fr,de,pt-br` in their usual spelling, each once.

    Raises:
        PromptError: one is no language code; names those that may be meant.
    """
    codes = [_code(word.strip()) for word in text.split(",") if word.strip()]
    if not codes:
        raise PromptError("no target language was named; write for example --to fr or --to fr,de")
    return list(dict.fromkeys(codes))


def _code(word: str) -> str:
    try:
        language_name(word)
    except PromptError as error:
        meant = ", ".join(f"{code} ({language_name(code)})" for code in _near(word))
        raise PromptError(f"{word!r} is not a language code; did you mean {meant}?" if meant else str(error)) from error
    return langcodes.standardize_tag(word)


def _near(word: str) -> list[str]:
    """Codes of languages whose English name, or whose name for itself, is like `word`."""
    names: dict[str, str] = {}
    for pair in itertools.product(string.ascii_lowercase, repeat=2):
        language = langcodes.Language.get("".join(pair))
        if language.is_valid():
            names.setdefault(language.display_name("en").casefold(), str(language))
            names.setdefault(language.autonym().casefold(), str(language))
    if word.casefold() in names:
        return [names[word.casefold()]]
    close = difflib.get_close_matches(word.casefold(), names, n=3, cutoff=0.7)
    return list(dict.fromkeys(names[name] for name in close))
