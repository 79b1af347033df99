"""The objectives of stage 1 by name, and how a sum of them is written: `stc+stm+0.5*stg`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import Field, fields
from typing import Any, TypeVar

from sparqle_fairseq.data.names import check_in_time, check_name
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.stage1.objectives.base import Objective
from sparqle_fairseq.models.stage1.sums import parse_sum

PUBLISHED = ("stc", "stm", "stg")
# Names for sums of objectives.
SUMS = {"sparqle": PUBLISHED}
# Heads are made and losses computed in an order, in which random numbers are drawn; a seed gives what it always gave
# while those that came first keep theirs. Others follow by their names.
_FIRST = (*PUBLISHED, "stg-outputs", "ctc", "llm-ctc", "adversarial")

_KINDS: dict[str, type[Objective]] = {}
_options_were_read = False
_Kind = TypeVar("_Kind", bound=type[Objective])


def register_objective(kind: _Kind) -> _Kind:
    """Class decorator: `--objective` knows this one from now on. Raises `SparqleError`."""
    name, before = kind.name, _KINDS.get(kind.name)
    check_name("an objective", kind, _KINDS, SUMS)
    for part in kind.parts:
        taken = next((other for other in _KINDS.values() if part in other.parts and other is not before), None)
        if taken is not None or part in ("qformer", "plain", "reader", "layer_mix"):
            owner = f"the objective {taken.name}" if taken else "every adapter"
            raise SparqleError(f"objective {name!r} has a part {part!r}, and so has {owner}; call yours otherwise")
    if stray := set(kind.carried) - set(kind.parts):
        raise SparqleError(f"objective {name!r} wants {', '.join(sorted(stray))} carried, which is none of its parts")
    if _options_were_read:
        check_in_time(name, [option.name for option in options_of(kind)])
    _KINDS[name] = kind
    return kind


def kinds() -> list[type[Objective]]:
    """Every objective that is registered, in the order in which they are computed."""
    return [_KINDS[name] for name in sorted(_KINDS, key=_place)]


def kind_of(name: str) -> type[Objective]:
    return _KINDS[name]


def options_of(kind: type[Objective]) -> list[Field[Any]]:
    """The options that an objective adds to the command line, those of its head and of its loss."""
    return [*fields(kind.Options), *fields(kind.LossOptions)]


def options_are_read() -> None:
    """Say that the command line is known: an objective with options of its own would come too late from now on."""
    global _options_were_read
    _options_were_read = True


def parse_objective(text: str, trained: str = "") -> dict[str, float]:
    """`0.5*stg + llm-ctc` -> {"stg": 0.5, "llm-ctc": 1.0}, in the order of `kinds`.

    `trained` names the checkpoint whose objective it is, where it is one's.

    Raises:
        SparqleError: it is no sum of objectives, one of them is not registered or in it twice, or a weight is not a
            number above 0.
    """
    weights = parse_sum(text, [kind.name for kind in kinds()], SUMS, trained)
    return {name: weights[name] for name in sorted(weights, key=_place)}


def trained_objective(options: Mapping[str, Any], trained: str) -> dict[str, float]:
    """The objective that a checkpoint was trained with, of its model's options. Raises `SparqleError` as above."""
    return parse_objective(objective_text(options), trained)


def parts_left_behind(objective: Iterable[str]) -> set[str]:
    """Parts of a stage-1 adapter, by name, that stage 2 does not take over."""
    chosen = [kind for kind in kinds() if kind.always_built or kind.name in objective]
    return {part for kind in chosen for part in kind.parts if part not in kind.carried}


def objective_text(options: Mapping[str, Any]) -> str:
    """What `--objective` is today of a checkpoint's options: once the adversary's weight was one of its own."""
    text = str(options.get("objective", "sparqle"))
    weight = float(options.get("adversarial_weight", 0) or 0)
    return f"{text}+{weight!r}*adversarial" if weight else text


def _place(name: str) -> tuple[int, str]:
    return (_FIRST.index(name) if name in _FIRST else len(_FIRST), name)
