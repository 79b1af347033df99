"""The part of an adapter that reads the speech, whichever `--adapter` names; the same in both stages."""

from __future__ import annotations

from typing import Any

from torch import nn

from sparqle_fairseq.models.qformer.plain.base import PlainConfig
from sparqle_fairseq.models.qformer.plain.registry import QFORMER, plain_kind
from sparqle_fairseq.models.qformer.qformer import QFormer, QFormerConfig

ReadingConfig = QFormerConfig | PlainConfig


class ReadsSpeech(nn.Module):
    """Holds what makes outputs of speech, under the name that its tensors have in a checkpoint.

    Attributes:
        qformer: the Q-Former, or None.
        plain: the `PlainAdapter` in its place, or None.
    """

    def __init__(self, config: ReadingConfig, with_text: bool) -> None:
        super().__init__()
        # By name: where transformers runs the flat files, it may load a class twice.
        sizes: Any = config
        self.qformer: Any = QFormer(sizes, with_text) if config.adapter == QFORMER else None
        self.plain: Any = None if config.adapter == QFORMER else plain_kind(config.adapter)(sizes)

    @property
    def reader(self) -> Any:
        """Whichever there is: called with speech (B, T, W) and its padding mask (B, T), it gives `Outputs`."""
        return self.plain if self.qformer is None else self.qformer
