"""Half precision where it does no harm: matrix products. What runs from layer to layer stays in fp32. Plain PyTorch.

The utterances of a new adapter lie so close together that bf16, with 8 bits, rounds away much of what tells them apart;
the contrastive loss lives on that. So sums with the residual, the norms behind them and their outputs are fp32.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparqle_fairseq.models.qformer.saved import can_be_made_again, cast


def at_least_fp32(x: Tensor) -> Tensor:
    """fp16 and bf16 become fp32; fp32 and fp64 stay."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class Linear(nn.Linear):
    """A linear layer that computes in the precision of its weights, whatever that of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(cast(x, self.weight.dtype))

    def in_fp32(self, x: Tensor) -> Tensor:
        """The same in fp32."""
        return F.linear(at_least_fp32(x), at_least_fp32(self.weight), at_least_fp32(self.bias))


class LayerNorm(nn.LayerNorm):
    """A LayerNorm in fp32, whose output stays in fp32."""

    def forward(self, x: Tensor) -> Tensor:
        x, weight, bias = at_least_fp32(x), at_least_fp32(self.weight), at_least_fp32(self.bias)
        normed = F.layer_norm(x, self.normalized_shape, weight, bias, self.eps)
        given = (x.detach(), self.normalized_shape, weight.detach(), bias.detach(), self.eps)
        can_be_made_again(normed, lambda: F.layer_norm(*given))
        return normed


def convolve_narrow_in_fp32(module: nn.Module) -> None:
    """Let the convolutions of a module that see few channels compute in fp32 on CPUs; their weights stay as they are.

    Where a CPU has AMX, torch 2.13 gives numbers in bf16 that are off by their own size when a kernel of some length
    runs over 2 to 12 channels of a group, as the position embedding of a small HuBERT does; other widths are right.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv1d) and 1 < part.in_channels // part.groups < 16:
            setattr(part, "_conv_forward", partial(_convolve_in_fp32, part._conv_forward))  # noqa: B010


def _convolve_in_fp32(convolve: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if x.device.type != "cpu":
        return convolve(x, weight, bias)
    bias = bias if bias is None else at_least_fp32(bias)
    return convolve(at_least_fp32(x), at_least_fp32(weight), bias).to(x.dtype)
