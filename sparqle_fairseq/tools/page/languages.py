"""The languages that the page offers: those that the model was trained on first, all others marked zero-shot."""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import langcodes
import torch
from language_data.name_data import CODE_TO_NAMES
from language_data.names import normalize_name

from sparqle_fairseq.data.checkpoint_files import allow_fairseq_checkpoints
from sparqle_fairseq.data.manifest import read_manifest
from sparqle_fairseq.data.prompts import PromptError, language_name
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.files import read_json

ZERO_SHOT = "zero-shot"
_CODE = re.compile(r"[a-z]{2,3}")
_NO_LANGUAGE = {"und", "mul", "mis", "zxx"}  # unknown, several, none of the others, no speech at all


@lru_cache(maxsize=1)
def named_languages() -> dict[str, str]:
    """`{code: English name}` of every single language that langcodes names, those with two letters first.

    Groups ("Bantu languages") and codes that another one has replaced are none.
    """
    found = {}
    for code in sorted(filter(_CODE.fullmatch, CODE_TO_NAMES), key=lambda code: (len(code), code)):
        name = CODE_TO_NAMES[code].get("en")
        if not name or code in _NO_LANGUAGE or name.endswith(" languages"):
            continue
        language = langcodes.Language.get(code)
        if str(language) == code and language.is_valid():
            found[code] = name
    return found


@lru_cache(maxsize=1)
def _codes_by_name() -> dict[str, list[str]]:
    """Codes of each English name: some name two languages."""
    found = defaultdict(list)
    for code, name in named_languages().items():
        found[normalize_name(name)].append(code)
    return dict(found)


def choices(trained: Sequence[str]) -> list[tuple[str, str]]:
    """(what is shown, code) of every language: the trained ones, those with two letters, all others."""
    names = named_languages()
    rest = sorted((code for code in names if code not in trained), key=lambda code: (len(code), names[code].casefold()))
    return [(shown(code, trained), code) for code in [*trained, *rest]]


def shown(code: str, trained: Sequence[str]) -> str:
    """`French`, or `Danish (zero-shot)` where the model was not trained on it; nothing is known of no languages.

    A name that two languages share, or that may be a code, has its own code behind it.
    """
    name = named_languages().get(code) or language_name(code)
    if len(_codes_by_name().get(normalize_name(name), ())) > 1 or _CODE.fullmatch(name.casefold()):
        name = f"{name} [{code}]"
    return name if code in trained or not trained else f"{name} ({ZERO_SHOT})"


def codes_of(values: Iterable[str]) -> list[str]:
    """Codes of codes or names, as a person or program gives them. Raises `SparqleError` for what is no language."""
    codes: list[str] = []
    for value in values:
        text = str(value).strip().removesuffix(f" ({ZERO_SHOT})")
        parts = text.split(",") if "," in text and not _named(text) else [text]
        for part in filter(None, map(str.strip, parts)):
            codes += _codes_of(part)
    return list(dict.fromkeys(codes))


def _codes_of(text: str) -> list[str]:
    named, coded = _named(text), _coded(text)
    if coded and (not named or named == coded or text.islower()):
        return coded  # a code in small letters is a code, though some language may be called so
    if len(coded + named) > 1:
        meant = ", ".join(f"{code} ({language_name(code)})" for code in dict.fromkeys(coded + named))
        raise PromptError(f"{text!r} may be {meant}; write the code of the one that you mean")
    if named:
        return named
    alike = difflib.get_close_matches(normalize_name(text), _codes_by_name(), n=3)
    near = [_codes_by_name()[name][0] for name in alike]
    meant = ", ".join(f"{language_name(code)} ({code})" for code in near)
    raise PromptError(
        f"{text!r} is not the name or code of a language; " + (f"did you mean {meant}?" if meant else "choose one")
    )


def _coded(text: str) -> list[str]:
    """The code that `text` is, in its usual spelling."""
    try:
        language_name(text)
    except PromptError:
        return []
    return [langcodes.standardize_tag(text)]


def _named(text: str) -> list[str]:
    """Codes of the languages that are called exactly so: in English, else in any language."""
    found = re.fullmatch(r"(.+) \[([a-z]{2,3})\]", text)  # as `shown` writes those that share a name
    if found and named_languages().get(found[2]) == found[1]:
        return [found[2]]
    wanted = normalize_name(text)
    if wanted in _codes_by_name():
        return _codes_by_name()[wanted]
    try:
        code = langcodes.find(text).to_tag()
    except LookupError:
        return []
    # langcodes cuts what it does not know off the end of a name, which would be a guess.
    single = code.split("-")[0] in named_languages()
    return [code] if single and wanted in map(normalize_name, CODE_TO_NAMES.get(code, {}).values()) else []


def trained_languages(checkpoint: str | Path) -> list[str]:
    """Target languages of translations in the manifest that a model was trained on; none where it is not there."""
    options = _options(Path(checkpoint))
    found: dict[str, None] = {}
    for folder in str(options.get("data") or "").split(":"):
        for split in str(options.get("train_subset") or "train").split(","):
            path = Path(folder, f"{split}.tsv")
            if not path.is_file():
                continue
            try:
                manifest = read_manifest(path)
            except SparqleError:
                continue  # it has changed since; what it says is no matter of this page
            for task, code in manifest.distinct(("task", "tgt_lang"))[1]:
                if task == "translation" and code:
                    found[langcodes.standardize_tag(code)] = None
    return list(found)


def _options(place: Path) -> dict[str, Any]:
    """The task's options of a checkpoint, or of what an exported folder says of its training."""
    if place.is_dir():
        from sparqle_fairseq.huggingface.folder import TRAINING

        record = place / TRAINING
        return read_json(record, "record of its training")["cfg"]["task"] if record.is_file() else {}
    allow_fairseq_checkpoints()
    options = torch.load(place, map_location="cpu", weights_only=True, mmap=True)["cfg"]["task"]
    return options if isinstance(options, dict) else vars(options)
