"""The languages that the page offers: those that the model was trained on first, all others marked zero-shot."""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import langcodes
import torch

from sparqle_fairseq.data.checkpoint_files import allow_fairseq_checkpoints
from sparqle_fairseq.data.manifest import read_manifest
from sparqle_fairseq.data.prompts import PromptError, language_name
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.files import read_json
from sparqle_fairseq.tools.translate.languages import parse_languages

ZERO_SHOT = "zero-shot"


@lru_cache(maxsize=1)
def listed_codes() -> tuple[str, ...]:
    """Codes of the languages that have one of two letters; all others of `langcodes` can be typed."""
    found: dict[str, None] = {}
    for pair in itertools.product(string.ascii_lowercase, repeat=2):
        language = langcodes.Language.get("".join(pair))
        if language.is_valid() and language.language:
            found[str(language)] = None
    return tuple(found)


def choices(trained: Sequence[str]) -> list[tuple[str, str]]:
    """(what is shown, code) of every language."""
    rest = [code for code in listed_codes() if code not in trained]
    return [(shown(code, trained), code) for code in [*trained, *sorted(rest, key=language_name)]]


def shown(code: str, trained: Sequence[str]) -> str:
    """`French`, or `Danish (zero-shot)` where the model was not trained on it; nothing is known of no languages."""
    name = language_name(code)
    return name if code in trained or not trained else f"{name} ({ZERO_SHOT})"


def codes_of(values: Iterable[str]) -> list[str]:
    """Codes of codes or names, as a person or program gives them. Raises `SparqleError` for what is no language."""
    codes: list[str] = []
    for value in values:
        text = str(value).strip().removesuffix(f" ({ZERO_SHOT})")
        try:
            codes += parse_languages(text) if text else []
        except PromptError as error:
            try:
                codes.append(langcodes.find(text).to_tag())
            except LookupError:
                raise error from None
    return list(dict.fromkeys(codes))


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
