"""Options of the models, as training has them, on the command line of `sparqle plan`."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import Field, fields
from typing import Any, get_args, get_type_hints

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.config import PretrainModelConfig, SpeechLLMConfig
from sparqle_fairseq.models.stage2.objectives import DEFAULT, kinds

# What the plan cannot count, and what to do. Others are counted, or change no memory.
_NO_ENCODER = "plans no encoder that learns; leave it out, and expect more memory than is planned"
_NO_UNITS = "plans speech and no units; leave it out"
NOT_PLANNED: Mapping[str, str] = {
    "encoder_lora": _NO_ENCODER,
    "unfreeze_encoder_layers": _NO_ENCODER,
    "source": _NO_UNITS,
    "unit_vocabulary": _NO_UNITS,
    "unit_rate": _NO_UNITS,
    "collapse_units": _NO_UNITS,
    "query_windows": "cannot know where tokens end; leave it out, and give the mean length with --query-window-seconds",
    "llm_quantization": "knows no LLM in fewer bits; leave it out, and expect less memory than is planned",
    "llm_sharding": "knows no LLM that is divided; leave it out, and expect less memory than is planned",
    "pretrained_adapter": "reads no checkpoint; give the options that it was trained with",
    "speech_encoder": "calls it --encoder; give that",
}


def model_options(words: Sequence[str], own: Sequence[str] = ()) -> dict[str, Any]:
    """`--query-window-seconds 0.5 --qformer-gradient-checkpointing` -> values by the names of the models' options.

    `own` are the command's other options, for who has written one of them wrongly. Raises `SparqleError`: an option
    that training does not know, one that is not planned, or a value that is none.
    """
    known = _known()
    found: dict[str, Any] = {}
    left = iter(words)
    for word in left:
        option, given, value = word.partition("=")
        name = option.removeprefix("--").replace("-", "_")
        if not option.startswith("--") or name not in known:
            raise SparqleError(_unknown(option, [*own, *(f"--{each.replace('_', '-')}" for each in known)]))
        if name in NOT_PLANNED:
            raise SparqleError(f"{option}: the plan {NOT_PLANNED[name]}")
        field, kind = known[name]
        if kind is bool:
            if given:
                raise SparqleError(f"{word}: {option} takes no value; leave it out")
            found[name] = True
        else:
            found[name] = _value(option, value if given else _next(option, left), kind, field)
    return found


def of_stage2(options: Mapping[str, Any], objective: str) -> Iterator[str]:
    """Those of `model_options` that stage 1 has not, as they are written; and the objective of stage 2, if chosen."""
    if objective != DEFAULT:
        yield "--objective-stage2"
    for name in options:
        if not hasattr(PretrainModelConfig, name):
            yield f"--{name.replace('_', '-')}"


def _known() -> dict[str, tuple[Field[Any], type]]:
    """Options of the models, and of stage 2's losses, by name, with the kind of their values."""
    found = {}
    for options in (PretrainModelConfig, SpeechLLMConfig, *(kind.LossOptions for kind in kinds())):
        hints = get_type_hints(options)
        for field in fields(options):
            inner = [kind for kind in get_args(hints[field.name]) if kind is not type(None)]
            found[field.name] = (field, inner[0] if inner else hints[field.name])
    return found


def _next(option: str, left: Iterator[str]) -> str:
    value = next(left, None)
    if value is None or value.startswith("--"):
        raise SparqleError(f"{option} needs a value; give one behind it")
    return value


def _value(option: str, text: str, kind: type, field: Field[Any]) -> Any:
    choices = field.metadata.get("choices")
    if choices and text not in choices:
        raise SparqleError(f"{option} {text} is unknown; choose from {', '.join(choices)}")
    try:
        return kind(text)
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise SparqleError(f"{option} {text} is no number; give {wanted}") from None


def _unknown(option: str, known: Sequence[str]) -> str:
    if not option.startswith("-"):
        return f"{option!r} belongs to no option; leave it out"
    near = difflib.get_close_matches(option, known, 1)
    advice = f"did you mean {near[0]}?" if near else "sparqle plan --help names the plan's"
    return f"neither the plan nor a model has an option {option}; {advice}"
