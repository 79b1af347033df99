"""The adapters by name: `qformer`, and the plain ones."""

from __future__ import annotations

from sparqle_fairseq.data.names import check_name
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
    if kind.name == QFORMER:
        raise SparqleError(f"there is an adapter {QFORMER!r} already; give yours another name")
    check_name("an adapter", kind, _PLAIN)
    _PLAIN[kind.name] = kind
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
