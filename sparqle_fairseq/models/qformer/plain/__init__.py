"""What may stand in the Q-Former's place (`--adapter`), one file each: the names that the rest of the package uses."""

from sparqle_fairseq.models.qformer.plain.base import Outputs, PlainAdapter, PlainConfig
from sparqle_fairseq.models.qformer.plain.reading import ReadingConfig, ReadsSpeech
from sparqle_fairseq.models.qformer.plain.registry import (
    QFORMER,
    adapter_names,
    compresses,
    plain_kind,
    register_adapter,
)

__all__ = [
    "QFORMER",
    "Outputs",
    "PlainAdapter",
    "PlainConfig",
    "ReadingConfig",
    "ReadsSpeech",
    "adapter_names",
    "compresses",
    "plain_kind",
    "register_adapter",
]
