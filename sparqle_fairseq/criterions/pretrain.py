"""Criterion `sparqle_pretrain`: the weighted sum of the stage-1 losses, each over its own global count."""

# fairseq reads the types of these fields at run time: no postponed annotations and no `X | None` in this file.

from dataclasses import dataclass, field
from typing import Any

import torch
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics
from fairseq.tasks import FairseqTask
from torch import Tensor

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.gather import sum_over_ranks
from sparqle_fairseq.losses import (
    contrastive_loss,
    contrastive_targets,
    generation_loss,
    matching_loss,
)
from sparqle_fairseq.models.stage1 import OBJECTIVES, Stage1Output


@dataclass
class PretrainCriterionConfig(FairseqDataclass):
    stc_weight: float = field(default=1.0, metadata={"help": "weight of the speech-text contrastive loss; 0 = off"})
    stm_weight: float = field(default=1.0, metadata={"help": "weight of the speech-text matching loss; 0 = off"})
    stg_weight: float = field(default=1.0, metadata={"help": "weight of the text generation loss; 0 = off"})
    stg_label_smoothing: float = field(default=0.1, metadata={"help": "label smoothing of the generation loss"})


def stage1_sums(output: Stage1Output, label_smoothing: float) -> dict[str, Tensor]:
    """Loss sums, counts and hits of a batch: `<loss>_sum` with gradient, `<loss>_count` and hits without."""
    sums: dict[str, Tensor] = {}
    if output.contrast is not None:
        s2t, t2s, rows, columns = output.contrast
        targets = contrastive_targets(rows, columns)
        losses = (contrastive_loss(s2t, targets) + contrastive_loss(t2s, targets)) / 2
        sums["stc_sum"] = losses.sum()
        sums["stc_count"] = _count(losses)
        sums["s2t_hits"] = (columns[s2t.argmax(dim=1)] == rows).sum()
        sums["t2s_hits"] = (columns[t2s.argmax(dim=1)] == rows).sum()
    if output.matching is not None:
        losses = matching_loss(*output.matching)
        sums["stm_sum"] = losses.sum()
        sums["stm_count"] = _count(losses)
        sums["stm_hits"] = (output.matching.logits.argmax(dim=1) == output.matching.labels).sum()
    if output.generation is not None:
        losses = generation_loss(*output.generation, label_smoothing)
        sums["stg_sum"] = losses.sum()
        sums["stg_count"] = _count(losses)
        sums["stg_hits"] = (output.generation.logits.argmax(dim=1) == output.generation.targets).sum()
    return sums


@register_criterion("sparqle_pretrain", dataclass=PretrainCriterionConfig)
class PretrainCriterion(FairseqCriterion):
    """Divides each loss by its count over all processes, so one process and many take the same step."""

    def __init__(
        self,
        task: FairseqTask,
        stc_weight: float,
        stm_weight: float,
        stg_weight: float,
        stg_label_smoothing: float,
    ) -> None:
        super().__init__(task)
        weights = dict(zip(OBJECTIVES, (stc_weight, stm_weight, stg_weight), strict=True))
        if min(weights.values()) < 0 or not any(weights.values()):
            raise SparqleError(
                "the stage-1 loss weights must not be negative, and one must be above 0; found "
                + ", ".join(f"--{name}-weight {weight:g}" for name, weight in weights.items())
            )
        self.weights = {name: weight for name, weight in weights.items() if weight}
        if not 0 <= stg_label_smoothing < 1:
            raise SparqleError(f"--stg-label-smoothing {stg_label_smoothing:g} must be at least 0 and below 1")
        self.label_smoothing = stg_label_smoothing

    def forward(self, model: Any, sample: dict[str, Any], reduce: bool = True) -> tuple[Tensor, int, dict[str, Any]]:
        """Loss times the global number of utterances, the local number, and what to log.

        fairseq sums gradients over the processes and divides by the sum of the local numbers, which leaves each loss
        divided by its own global count.
        """
        assert reduce, "sparqle_pretrain has no per-utterance loss"
        output = model(**sample["net_input"], objectives=tuple(self.weights))
        sums = stage1_sums(output, self.label_smoothing)
        active = sample["net_input"].get("active", True)
        local = sample["nsentences"] if active else 0
        counts = torch.stack(
            [torch.tensor(float(local), device=sample["net_input"]["source"].device)]
            + [sums[f"{name}_count"] * float(active) for name in self.weights]
        )
        utterances, *global_counts = sum_over_ranks(counts)
        loss = sum(
            weight * sums[f"{name}_sum"] / count.clamp(min=1)
            for (name, weight), count in zip(self.weights.items(), global_counts, strict=True)
        )
        # Tensors, not numbers: a number would make the device wait at every step.
        log: dict[str, Any] = {name: value.detach() * float(active) for name, value in sums.items()}
        log |= {
            "loss": (loss * utterances).detach(),
            "temperature": model.temperature().detach() * local,
            "sample_size": local,
            "nsentences": local,
            "ntokens": sample["ntokens"] if active else 0,
        }
        return loss * utterances, local, log

    @staticmethod
    def reduce_metrics(logging_outputs: list[dict[str, float]]) -> None:
        """Log every loss (nats), STM accuracy, recall@1 within the batch, STG accuracy and the temperature."""

        def total(key: str) -> float:
            return sum(float(log.get(key, 0)) for log in logging_outputs)

        utterances = max(total("sample_size"), 1)
        metrics.log_scalar("loss", total("loss") / utterances, utterances, round=3)
        for name in OBJECTIVES:
            if count := total(f"{name}_count"):
                metrics.log_scalar(f"{name}_loss", total(f"{name}_sum") / count, count, round=3)
        rates = {
            "stm_accuracy": ("stm_hits", "stm_count"),
            "s2t_recall_at_1": ("s2t_hits", "stc_count"),
            "t2s_recall_at_1": ("t2s_hits", "stc_count"),
            "stg_accuracy": ("stg_hits", "stg_count"),
        }
        for name, (hits, of) in rates.items():
            if count := total(of):
                metrics.log_scalar(name, 100 * total(hits) / count, count, round=2)
        metrics.log_scalar("temperature", total("temperature") / utterances, utterances, round=4)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True


def _count(losses: Tensor) -> Tensor:
    return torch.tensor(float(losses.numel()), device=losses.device)
