"""`--adapter stack`: K frames side by side, then two linear layers with a GELU between.

The projector of SLAM-ASR (Ma et al. 2024, arXiv 2402.08846), which has a ReLU and no norms.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from sparqle_fairseq.models.qformer.front_end import FrontEnd
from sparqle_fairseq.models.qformer.plain.base import Outputs, PlainAdapter, PlainConfig, at_least_one
from sparqle_fairseq.models.qformer.precision import LayerNorm, Linear


class StackAdapter(PlainAdapter):
    """Every output is made of its own K frames, and of nothing else."""

    name = "stack"
    reads = ("ffn_size",)

    def __init__(self, config: PlainConfig) -> None:
        super().__init__(config)
        self.front_end = FrontEnd("stack", config.speech_stride, config.speech_width)
        self.expand = Linear(config.speech_stride * config.speech_width, config.ffn_size)
        self.contract = Linear(config.ffn_size, config.hidden_size)
        self.norm = LayerNorm(config.hidden_size)

    def forward(self, values: Tensor, padding_mask: Tensor) -> Outputs:
        stacked, padding_mask = self.front_end(self.speech_norm(values), padding_mask)  # (B, Q, K W)
        hidden = self.contract(self.dropout(F.gelu(self.expand(stacked))))  # (B, Q, H)
        return Outputs(self.norm(hidden), at_least_one(padding_mask))
