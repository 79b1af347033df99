"""A run's options from a YAML file and the command line: unknown keys and values that cannot be are one sentence."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import yaml
from transformers import HfArgumentParser

from sparqle_fairseq.errors import SparqleError, reason
from sparqle_fairseq.files import read_text
from sparqle_fairseq.huggingface.training.options import (
    DataOptions,
    SparqleTrainingArguments,
    Stage1LossOptions,
    Stage2LossOptions,
)
from sparqle_fairseq.models.config import PretrainModelConfig, SpeechLLMConfig

MODELS = {1: PretrainModelConfig, 2: SpeechLLMConfig}
LOSSES = {1: Stage1LossOptions, 2: Stage2LossOptions}


class Run(NamedTuple):
    """All options of a run."""

    data: DataOptions
    model: Any  # of `MODELS`
    loss: Any  # of `LOSSES`
    training: SparqleTrainingArguments

    @property
    def stage(self) -> int:
        return self.data.stage

    def as_dict(self) -> dict[str, Any]:
        """Every option and its value, as they were given."""
        parts: list[Any] = [self.data, self.model, self.loss]
        found = {name: value for part in parts for name, value in asdict(part).items()}
        return found | json.loads(self.training.to_json_string())


class _Parser(HfArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SparqleError(f"{self.prog}: {message}")


def parse_run(arguments: Sequence[str]) -> Run:
    """Options of `[CONFIG.yaml] [--option value]…`; what the command line says goes before what the file says.

    Raises:
        SparqleError: one sentence that names the file and the key, or the option.
    """
    words = list(arguments)
    path = None
    given: dict[str, Any] = {}
    if words and not words[0].startswith("-"):
        path = Path(words.pop(0))
        given = read_options(path)
    stage = _stage(given, words)
    kinds: list[Any] = [DataOptions, MODELS[stage], LOSSES[stage], SparqleTrainingArguments]
    known = {option.name for kind in kinds for option in fields(kind) if option.init}
    for key in given:
        if key not in known:
            raise SparqleError(f"{path}: unknown key {key!r}{_instead(str(key), known)}")
    _Parser(kinds, prog=f"{path}", allow_abbrev=False).parse_known_args(_words(given))  # says what is wrong there
    return Run(*_parse(kinds, [*_words(given), *words], f"{path}" if not words else "the command line"))


def read_options(path: Path) -> dict[str, Any]:
    """The mapping of a YAML file. Raises `SparqleError`."""
    try:
        content = yaml.safe_load(read_text(path, "configuration"))
    except yaml.YAMLError as error:
        raise SparqleError(f"{path}: cannot be read as YAML ({reason(error)}); repair it") from error
    if not isinstance(content, dict):
        raise SparqleError(f"{path}: expected lines of the form `option: value`")
    return content


def _stage(given: dict[str, Any], words: Sequence[str]) -> int:
    found = re.search(r"(?:^| )--stage[= ](\S+)", " ".join(words))
    stage = str(found[1] if found else given.get("stage", 2))
    if stage not in ("1", "2"):
        raise SparqleError(f"stage {stage} is neither 1 nor 2")
    return int(stage)


def _parse(kinds: list[Any], words: list[str], what: str) -> tuple[Any, ...]:
    parser = _Parser(kinds, prog=what, allow_abbrev=False)
    try:
        *found, rest = parser.parse_args_into_dataclasses(
            words, return_remaining_strings=True, look_for_args_file=False
        )
    except SparqleError:
        raise
    except (ValueError, TypeError) as error:  # of TrainingArguments, which looks at its own
        raise SparqleError(f"{what}: {reason(error)}") from error
    if rest:
        known = {option.name for kind in kinds for option in fields(kind)}
        raise SparqleError(f"{what}: unknown option {rest[0]}{_instead(rest[0].lstrip('-').replace('-', '_'), known)}")
    return tuple(found)


def _words(given: dict[str, Any]) -> list[str]:
    """The same on a command line."""
    words = []
    for name, value in given.items():
        if value is None:
            continue
        words.append(f"--{name}")
        if isinstance(value, list):
            words += map(str, value)
        elif isinstance(value, dict):
            words.append(json.dumps(value))
        else:
            words.append(str(value))
    return words


def _instead(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]}?" if near else "; docs/huggingface.md says which there are"
