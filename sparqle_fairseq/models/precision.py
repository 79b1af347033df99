"""Half precision where it does no harm: matrix products. What runs from layer to layer stays in fp32. Plain PyTorch.

The utterances of a new adapter lie so close together that bf16, with 8 bits, rounds away much of what tells them apart;
the contrastive loss lives on that. So sums with the residual, the norms behind them and their outputs are fp32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def at_least_fp32(x: Tensor) -> Tensor:
    """fp16 and bf16 become fp32; fp32 and fp64 stay."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class Linear(nn.Linear):
    """A linear layer that computes in the precision of its weights, whatever that of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype))

    def in_fp32(self, x: Tensor) -> Tensor:
        """The same in fp32."""
        return F.linear(at_least_fp32(x), at_least_fp32(self.weight), at_least_fp32(self.bias))


class LayerNorm(nn.LayerNorm):
    """A LayerNorm in fp32, whose output stays in fp32."""

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = at_least_fp32(self.weight), at_least_fp32(self.bias)
        return F.layer_norm(at_least_fp32(x), self.normalized_shape, weight, bias, self.eps)
