"""A learning rate of its own for what learns in the speech encoder (`--encoder-lr`), whatever the optimizer.

The steps of fairseq's optimizers are proportional to the learning rate. So the encoder's part of a step is shortened to
its share, `--encoder-lr` of `--lr`, and follows the schedule of `--lr`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class EncoderRate:
    """`parameters` learn at `rate` where the optimizer's others learn at the first of its `--lr`."""

    def __init__(self, parameters: Iterable[nn.Parameter], rate: float) -> None:
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.rate = rate

    @torch.no_grad()
    def step(self, optimizer: Any, take: Callable[[], None]) -> None:
        """Let the optimizer take its step by `take`."""
        share = self.rate / _peak(optimizer)
        weights = _stepped(optimizer, self.parameters)
        before = [weight.detach().clone() for weight in weights]
        with torch.enable_grad():
            take()
        for weight, old in zip(weights, before, strict=True):
            weight.copy_(torch.lerp(old, weight, share))
        if hasattr(optimizer, "_sync_fp32_params_to_fp16"):
            optimizer._sync_fp32_params_to_fp16()


def _peak(optimizer: Any) -> float:
    inner = getattr(optimizer, "fp32_optimizer", None) or getattr(optimizer, "wrapped_optimizer", None) or optimizer
    rate = inner.cfg.lr
    return float(next(iter(rate)) if isinstance(rate, Collection) else rate)


def _stepped(optimizer: Any, parameters: list[nn.Parameter]) -> list[Tensor]:
    """What the optimizer steps in their place: fp32 copies of half precision, flat or each alone; or they."""
    copies = getattr(optimizer, "fp32_params", None)
    if copies is None:
        return [parameter.data for parameter in parameters]
    wanted = {id(parameter) for parameter in parameters}
    found, offset = [], 0
    if isinstance(copies, dict):
        (copies,) = copies.values()
    for index, parameter in enumerate(optimizer.fp16_params):
        flat = torch.is_tensor(copies)
        copy = copies.data[offset : offset + parameter.numel()] if flat else copies[index].data
        offset += parameter.numel()
        if id(parameter) in wanted:
            found.append(copy)
    return found
