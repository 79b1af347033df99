"""Means in fairseq's log, read from the device when they are printed and not in every step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch
from fairseq.logging import metrics
from torch import Tensor

from sparqle_fairseq.models.stage1.weighted import Logged


def log_means(entries: Iterable[Logged]) -> None:
    """Log each. Where its numbers are on a device, their sums stay there, and so does what is made of them."""
    for entry in entries:
        if not isinstance(entry.total, Tensor):
            metrics.log_scalar(entry.name, entry.value, entry.weight, round=entry.digits)
            continue
        # fairseq's own mean of tensors asks for its weight, and rounds it, in every step.
        metrics.log_scalar_sum(f"_{entry.name}_total", entry.total)
        metrics.log_scalar_sum(f"_{entry.name}_weight", entry.weight)
        metrics.log_derived(entry.name, partial(_mean, entry.name, entry.digits))


def _mean(name: str, digits: int, meters: Any) -> Any:
    total, weight = meters[f"_{name}_total"].sum, meters[f"_{name}_weight"].sum
    if isinstance(total, Tensor):
        return (total.double() / weight).round(decimals=digits)
    return round(total / weight, digits) if weight else 0.0  # nothing was counted since the last report


def on_cpu(log: Mapping[str, Any]) -> dict[str, Any]:
    """A criterion's log with numbers in the place of tensors, fetched from the device together."""
    tensors = {name: value for name, value in log.items() if isinstance(value, Tensor)}
    if not tensors:
        return dict(log)
    numbers = torch.stack([value.detach().double() for value in tensors.values()]).tolist()
    return {**log, **dict(zip(tensors, numbers, strict=True))}
