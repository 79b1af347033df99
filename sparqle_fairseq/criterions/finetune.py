"""Criterion `sparqle_finetune`: cross-entropy of the answer, and of nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.logging import metrics
from fairseq.tasks import FairseqTask
from torch import Tensor, nn

from sparqle_fairseq.data.options import fairseq_dataclass
from sparqle_fairseq.models.stage1.losses import generation_loss


@dataclass
class FinetuneCriterionConfig:
    answer_label_smoothing: float = field(default=0.0, metadata={"help": "label smoothing of the answer's loss"})


@register_criterion("sparqle_finetune", dataclass=fairseq_dataclass(FinetuneCriterionConfig))
class FinetuneCriterion(FairseqCriterion):
    """Sum over answer tokens; `sample_size` counts them, so fairseq divides by their number in all processes."""

    def __init__(self, task: FairseqTask, answer_label_smoothing: float) -> None:
        super().__init__(task)
        self.label_smoothing = answer_label_smoothing

    def forward(
        self, model: nn.Module, sample: dict[str, Any], reduce: bool = True
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """Summed loss, number of answer tokens (end of turn included), and what to log."""
        assert reduce, "sparqle_finetune has no per-utterance loss"
        net_input = sample["net_input"]
        real = ~net_input["answer_padding_mask"]  # (B, L)
        logits = model(**net_input)[real]  # (K, V)
        targets = sample["target"][real]
        loss = generation_loss(logits, targets, self.label_smoothing).sum()
        log = {
            "loss": loss.detach(),
            "hits": (logits.argmax(dim=-1) == targets).sum(),
            "ntokens": sample["ntokens"],
            "nsentences": sample["nsentences"],
            "sample_size": sample["ntokens"],
        }
        return loss, sample["ntokens"], log

    @staticmethod
    def reduce_metrics(logging_outputs: list[dict[str, float]]) -> None:
        """Log the loss (nats a token) and the share of answer tokens that were the likeliest."""
        tokens = max(sum(float(log.get("sample_size", 0)) for log in logging_outputs), 1)
        metrics.log_scalar("loss", sum(float(log.get("loss", 0)) for log in logging_outputs) / tokens, tokens, round=3)
        hits = sum(float(log.get("hits", 0)) for log in logging_outputs)
        metrics.log_scalar("accuracy", 100 * hits / tokens, tokens, round=2)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True
