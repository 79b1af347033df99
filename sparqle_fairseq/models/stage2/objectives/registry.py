"""The objectives of stage 2 by name, and how a sum of them is written: `answer+0.5*distill`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import TypeVar

from sparqle_fairseq.data.names import check_in_time, check_name
from sparqle_fairseq.models.stage1.sums import parse_sum
from sparqle_fairseq.models.stage2.objectives.base import Objective

DEFAULT = "answer"

_KINDS: dict[str, type[Objective]] = {}
_options_were_read = False
_Kind = TypeVar("_Kind", bound=type[Objective])


def register_objective(kind: _Kind) -> _Kind:
    """Class decorator: `--objective` of stage 2 knows this one from now on. Raises `SparqleError`."""
    check_name("an objective", kind, _KINDS)
    if _options_were_read:
        check_in_time(kind.name, [option.name for option in fields(kind.LossOptions)])
    _KINDS[kind.name] = kind
    return kind


def kinds() -> list[type[Objective]]:
    """Every objective that is registered, by name."""
    return [_KINDS[name] for name in sorted(_KINDS)]


def kind_of(name: str) -> type[Objective]:
    return _KINDS[name]


def reads_transcripts(objectives: Iterable[str]) -> bool:
    """Whether one of them has the LLM read what was said."""
    return any(kind_of(name).reads_transcripts for name in objectives)


def reads_candidates(objectives: Iterable[str]) -> bool:
    """Whether one of them compares answers that the model finds in each step."""
    return any(kind_of(name).reads_candidates for name in objectives)


def reads_start(objectives: Iterable[str]) -> bool:
    """Whether one of them compares with the adapter that training began with."""
    return any(kind_of(name).reads_start for name in objectives)


def options_are_read() -> None:
    """Say that the command line is known: an objective with options of its own would come too late from now on."""
    global _options_were_read
    _options_were_read = True


def parse_objective(text: str, trained: str = "") -> dict[str, float]:
    """`answer + 0.5*distill` -> {"answer": 1.0, "distill": 0.5}, by name.

    `trained` names the checkpoint whose objective it is, where it is one's. Raises `SparqleError`; see `parse_sum`.
    """
    return dict(sorted(parse_sum(text, [kind.name for kind in kinds()], trained=trained).items()))
