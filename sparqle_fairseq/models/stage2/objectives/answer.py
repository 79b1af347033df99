"""`answer`: cross-entropy of the answer's tokens, and of nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field

from sparqle_fairseq.models.stage1.losses import generation_loss
from sparqle_fairseq.models.stage2.batch import Stage2Batch
from sparqle_fairseq.models.stage2.objectives.base import Objective, Sums
from sparqle_fairseq.models.stage2.objectives.registry import register_objective


@dataclass(frozen=True)
class AnswerOptions:
    answer_label_smoothing: float = field(default=0.0, metadata={"help": "label smoothing of the answer's loss"})


@register_objective
class Answer(Objective):
    """The end of turn is a token of the answer."""

    name = "answer"
    rates = {"accuracy": ("hits", "count")}
    LossOptions = AnswerOptions

    def sums(self, batch: Stage2Batch) -> Sums:
        logits = batch.logits.flatten(0, 1).index_select(0, batch.places)  # (K, V)
        targets = batch.answer.flatten()[batch.places]  # (K,)
        loss = generation_loss(logits, targets, self.loss_options.answer_label_smoothing).sum()
        return {"sum": loss, "count": batch.tokens, "hits": (logits.argmax(dim=-1) == targets).sum()}
