"""Collectives over the training processes: ragged gathers, with and without gradient, and summed counts.

Without a process group, or in a group of one, each function returns what it was given.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_ranks(values: Tensor) -> Tensor:
    """Sum of `values` over all processes; no gradient."""
    if world_size() == 1:
        return values.detach()
    total = values.detach().clone()
    dist.all_reduce(total)
    return total


def gather_rows(tensor: Tensor, fill: float = 0) -> Tensor:
    """Rows (dim 0) of all processes, in rank order, with gradient to the process that each row came from.

    Ranks may have different numbers of rows, and tensors of different sizes in the other dimensions: these are padded
    at their end with `fill` to the largest.
    """
    if world_size() == 1:
        return tensor
    shapes = _all_shapes(tensor)
    largest = [max(sizes) for sizes in zip(*shapes, strict=True)]
    padding = [
        pad for size, most in zip(reversed(tensor.shape), reversed(largest), strict=True) for pad in (0, most - size)
    ]
    padded = F.pad(tensor, padding, value=fill)
    gathered = _Gather.apply(padded) if tensor.requires_grad else _gather(padded)  # (world, rows, ...)
    return torch.cat([gathered[rank, : shape[0]] for rank, shape in enumerate(shapes)])


def rows_before(rows: int, device: torch.device) -> int:
    """How many rows the lower ranks contribute to `gather_rows`: the place of this rank's first row."""
    if world_size() == 1:
        return 0
    counts = _all_shapes(torch.empty(rows, device=device))
    return sum(shape[0] for shape in counts[: dist.get_rank()])


def _all_shapes(tensor: Tensor) -> list[list[int]]:
    shape = torch.tensor(tensor.shape, device=tensor.device)
    return [row.tolist() for row in _gather(shape)]


def _gather(tensor: Tensor) -> Tensor:
    """Stack of the equally shaped tensors of all ranks: (world, ...)."""
    # gloo and nccl gather no bools on some versions; bytes go everywhere.
    sent = tensor.to(torch.uint8) if tensor.dtype == torch.bool else tensor
    parts = [torch.empty_like(sent) for _ in range(world_size())]
    dist.all_gather(parts, sent.contiguous())
    return torch.stack(parts).to(tensor.dtype)


class _Gather(torch.autograd.Function):
    """All-gather whose backward sums, over ranks, the gradients of what this rank sent."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return _gather(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous()
        dist.all_reduce(total)
        return total[dist.get_rank()]
