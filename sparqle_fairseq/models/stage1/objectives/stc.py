"""`stc`: a query near its own transcript, far from those of the batch (speech-text contrastive loss)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.qformer.precision import Linear
from sparqle_fairseq.models.stage1.batch import Stage1Batch
from sparqle_fairseq.models.stage1.losses import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    contrastive_loss,
    contrastive_targets,
)
from sparqle_fairseq.models.stage1.objectives.base import Given, Objective, Reach, Sums, count_of
from sparqle_fairseq.models.stage1.objectives.registry import register_objective


@dataclass(frozen=True)
class StcOptions:
    contrastive_width: int = field(default=256, metadata={"help": "width of the space of the contrastive loss"})
    temperature: float = field(default=0.07, metadata={"help": "temperature that the contrastive loss starts from"})


@dataclass(frozen=True)
class StcLossOptions:
    stc_smoothing: float = field(
        default=0.1, metadata={"help": "share of the contrastive target that is spread over all texts of the batch"}
    )


@register_objective
class Stc(Objective):
    name = "stc"
    parts = ("speech_projection", "text_projection", "temperature")
    always_built = True
    reach = Reach.QUERIES | Reach.TEXT
    rates = {"s2t_recall_at_1": ("s2t_hits", "count"), "t2s_recall_at_1": ("t2s_hits", "count")}
    means = {"temperature": ("temperature", "count")}
    Options = StcOptions
    LossOptions = StcLossOptions

    def build(self, given: Given) -> dict[str, nn.Module | nn.Parameter]:
        width, temperature = self.options.contrastive_width, self.options.temperature
        if not MIN_TEMPERATURE <= temperature <= MAX_TEMPERATURE:
            raise SparqleError(f"--temperature {temperature:g} must be {MIN_TEMPERATURE:g} to {MAX_TEMPERATURE:g}")
        return {
            "speech_projection": Linear(given.config.hidden_size, width),
            "text_projection": Linear(given.config.hidden_size, width),
            "temperature": nn.Parameter(torch.tensor(temperature)),
        }

    def settle(self, options: Any) -> None:
        super().settle(options)
        smoothing = self.loss_options.stc_smoothing
        if not 0 <= smoothing <= 1:
            raise SparqleError(f"--stc-smoothing {smoothing:g} must be 0 to 1")

    def sums(self, adapter: Any, batch: Stage1Batch) -> Sums:
        s2t, t2s, rows, columns = batch.contrast
        targets = contrastive_targets(rows, columns, self.loss_options.stc_smoothing)
        losses = (contrastive_loss(s2t, targets) + contrastive_loss(t2s, targets)) / 2  # (B,)
        return {
            "sum": losses.sum(),
            "count": count_of(losses),
            "s2t_hits": (columns[s2t.argmax(dim=1)] == rows).sum(),
            "t2s_hits": (columns[t2s.argmax(dim=1)] == rows).sum(),
            "temperature": adapter.clamped_temperature().detach() * losses.numel(),
        }
