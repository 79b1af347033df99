"""The adapters by name: `qformer`, and the plain ones."""

from __future__ import annotations

import re

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.qformer.plain.base import PlainAdapter
from sparqle_fairseq.models.qformer.plain.conv import ConvAdapter
from sparqle_fairseq.models.qformer.plain.ctc import CtcAdapter
from sparqle_fairseq.models.qformer.plain.stack import StackAdapter

QFORMER = "qformer"

# Named here one by one: the flat files of `export-hf --with-code` hold what can be reached from the model.
_PLAIN: dict[str, type[PlainAdapter]] = {
    "stack": StackAdapter,
    "conv": ConvAdapter,
    "ctc": CtcAdapter,
}


def register_adapter(kind: type[PlainAdapter]) -> type[PlainAdapter]:
    """Class decorator: `--adapter` knows this one from now on. Raises `SparqleError` for a name that is taken."""
    name, before = kind.name, _PLAIN.get(kind.name)
    if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        raise SparqleError(f"an adapter cannot be called {name!r}; take small letters, digits and hyphens")
    same = before is not None and (before.__module__, before.__qualname__) == (kind.__module__, kind.__qualname__)
    if name == QFORMER or (before is not None and not same):
        raise SparqleError(f"there is an adapter {name!r} already; give yours another name")
    _PLAIN[name] = kind
    return kind


def adapter_names() -> list[str]:
    """Every adapter that `--adapter` knows."""
    return [QFORMER, *_PLAIN]


def plain_kind(name: str) -> type[PlainAdapter]:
    """The plain adapter of that name. Raises `SparqleError`."""
    if name not in _PLAIN:
        raise SparqleError(f"--adapter {name!r} is unknown; choose from {', '.join(adapter_names())}")
    return _PLAIN[name]


def compresses(name: str) -> bool:
    """Whether stage 2 behind the adapter of that name gives the LLM only what CTC reads. Raises `SparqleError`."""
    return name != QFORMER and plain_kind(name).compresses
