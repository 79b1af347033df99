"""Options as plain dataclasses, and the two ways between them and fairseq.

A field's metadata holds its `help`, and `choices` where its text is one of some.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, fields, make_dataclass
from enum import Enum
from typing import Any, Optional, TypeVar, Union, get_args, get_origin, get_type_hints

_Options = TypeVar("_Options")
_Class = TypeVar("_Class", bound=type[Any])


def choice(default: str, choices: Iterable[str], help: str) -> Any:
    """A field whose text is one of some."""
    return field(default=default, metadata={"help": help, "choices": tuple(choices)})


def with_options(kinds: Iterable[type[Any]]) -> Callable[[_Class], _Class]:
    """Class decorator below `dataclass`: the fields of other dataclasses become options too, each name once."""

    def add(options: _Class) -> _Class:
        for kind in kinds:
            hints = get_type_hints(kind)
            for option in fields(kind):
                options.__annotations__[option.name] = hints[option.name]
                setattr(options, option.name, field(default=option.default, metadata=option.metadata))
        return options

    return add


def plain_options(kind: type[_Options], given: Any) -> _Options:
    """A dataclass of options from what has values by their names: fairseq's options, a checkpoint's, a namespace.

    What is missing there has its default; what fairseq made an enum of is text again.
    """
    found = {}
    for option in fields(kind):  # type: ignore[arg-type]
        there = option.name in given if isinstance(given, Mapping) else hasattr(given, option.name)
        if there:
            value = given[option.name] if isinstance(given, Mapping) else getattr(given, option.name)
            found[option.name] = value.value if isinstance(value, Enum) else value
    return kind(**found)


def take_back(given: Any, options: Any) -> None:
    """Put values that changed in plain `options` into fairseq's, which they were made from."""
    before = plain_options(type(options), given)
    for option in fields(options):
        value = getattr(options, option.name)
        if value != getattr(before, option.name):
            setattr(given, option.name, value)


def fairseq_dataclass(options: type[Any]) -> Any:
    """The same options as fairseq's parser and Hydra read them: choices are enums, `X | None` is an `Optional`."""
    from fairseq.dataclass import ChoiceEnum, FairseqDataclass

    hints = get_type_hints(options)
    read: list[tuple[str, Any, Any]] = []
    for option in fields(options):
        choices = option.metadata.get("choices")
        kind = ChoiceEnum(list(choices)) if choices else _as_optional(hints[option.name])
        read.append((option.name, kind, field(default=option.default, metadata=option.metadata)))
    made = make_dataclass(f"Fairseq{options.__name__}", read, bases=(options, FairseqDataclass))
    made.__module__ = options.__module__
    return made


def _as_optional(kind: Any) -> Any:
    """fairseq knows no `X | None`."""
    if get_origin(kind) in (Union, types.UnionType):
        inner = [part for part in get_args(kind) if part is not type(None)]
        return Optional[inner[0]]  # noqa: UP045
    return kind
