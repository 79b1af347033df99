"""Criterion `sparqle_finetune`: the weighted sum of the objectives of stage 2, by default the answer's loss alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.tasks import FairseqTask
from torch import Tensor

from sparqle_fairseq.criterions.means import log_means
from sparqle_fairseq.data.options import fairseq_dataclass, with_options
from sparqle_fairseq.models.stage2.batch import Lessons
from sparqle_fairseq.models.stage2.objectives import kinds, options_are_read, reads_candidates
from sparqle_fairseq.models.stage2.weighted import joined_loss, logged


@dataclass
@with_options(kind.LossOptions for kind in kinds())
class FinetuneCriterionConfig:
    """Those of the objectives' losses."""


options_are_read()


@register_criterion("sparqle_finetune", dataclass=fairseq_dataclass(FinetuneCriterionConfig))
class FinetuneCriterion(FairseqCriterion):
    """Sums over answer tokens or utterances; `sample_size` counts them, so fairseq divides by the number of all."""

    def __init__(self, cfg: Any, task: FairseqTask) -> None:
        super().__init__(task)
        # The model knows --objective, which goes into the checkpoint with its other options.
        self.weights: dict[str, float] = task.model.objective
        for objective in task.model.objectives.values():
            objective.settle(cfg)

    def forward(
        self, model: Any, sample: dict[str, Any], reduce: bool = True
    ) -> tuple[Tensor, int | Tensor, dict[str, Any]]:
        """Summed loss, what it is to be divided by, and what to log."""
        assert reduce, "sparqle_finetune has no per-utterance loss"
        if reads_candidates(self.weights):
            sample = {**sample, "candidates": self.task.candidates(sample)}
        lessons = Lessons(**{name: sample[name] for name in Lessons._fields if name in sample})
        sums = model(**sample["net_input"], lessons=lessons, source_lengths=sample.get("source_lengths"))
        active = sample.get("active", True)
        return joined_loss(sums, self.weights, sample["nsentences"], sample["ntokens"], active)

    @staticmethod
    def reduce_metrics(logging_outputs: list[dict[str, float]]) -> None:
        """Log the loss (nats) and what each objective says of itself: rates (percent) and means."""
        log_means(logged(logging_outputs))

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True
