"""Read the prompt lists of `asterisk-core-sounds-*` (`id: text` lines) and keep what is really spoken."""

import gzip
import re
import unicodedata
from pathlib import Path

_BRACKETED = re.compile(r"\[([^\]]*)\]|\(([^)]*)\)|<([^>]*)>")
_GLUED_ENTRY = re.compile(r"[a-z]+(?:-[a-z0-9]+)+:")  # two lines of the list that lost their line break
_ELLIPSIS = re.compile(r"\.{2,}|…")
_SPOKEN = re.compile(r"[^\W_]|[ .,;:!?'\u2019\"“”%&/\u2010-\u2014-]")


def read_prompts(path: Path) -> dict[str, str]:
    """Prompt id -> text as written, from a plain or gzipped list; an id with two different texts is left out.

    Raises ValueError, naming file and line, for bytes that are not UTF-8 and for a line that is no entry.
    """
    raw = path.read_bytes()
    if path.suffix == ".gz":
        raw = gzip.decompress(raw)
    texts: dict[str, str] = {}
    ambiguous: set[str] = set()
    for number, line in enumerate(raw.split(b"\n"), 1):
        try:
            entry = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} line {number} is not UTF-8; fetch the package again.") from error
        if not entry or entry.startswith(";"):
            continue
        prompt, colon, text = entry.partition(":")
        if not colon or not prompt.strip():
            raise ValueError(f"{path} line {number} is not of the form `id: text`: {entry[:60]!r}.")
        prompt, text = prompt.strip(), text.strip()
        if texts.setdefault(prompt, text) != text:
            ambiguous.add(prompt)
    return {prompt: text for prompt, text in texts.items() if prompt not in ambiguous}


def clean_text(text: str) -> str | None:
    """The spoken words of a prompt, or None where the text does not say exactly what is heard.

    A bracket with words in it describes a sound or the manner of speaking; one with none shows a symbol and is
    removed. Dots that stand for "a number follows" and stray quotation marks at the ends go.
    """
    for match in _BRACKETED.finditer(text):
        if any(character.isalpha() for character in "".join(filter(None, match.groups()))):
            return None
    text = unicodedata.normalize("NFC", _BRACKETED.sub(" ", text))
    if _GLUED_ENTRY.search(text):
        return None
    text = " ".join(_ELLIPSIS.sub(" ", text).split())
    text = text.strip(" \"“”'").lstrip(".,;: ").rstrip(",;: ")
    if not any(character.isalnum() for character in text) or _SPOKEN.sub("", text):
        return None
    return text


def words(text: str) -> list[str]:
    """Lower-case words without accents and punctuation: what two texts are compared by."""
    bare = unicodedata.normalize("NFKD", text.casefold())
    bare = "".join(character for character in bare if not unicodedata.combining(character))
    return re.findall(r"[^\W_]+", bare)


def is_sentence(text: str, min_words: int) -> bool:
    """True for `min_words` words or more that are not a spelled abbreviation (`M I S D N`)."""
    found = words(text)
    return len(found) >= min_words and max(map(len, found)) > 1
