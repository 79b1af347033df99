"""Criterion `sparqle_pretrain`: the weighted sum of the stage-1 objectives, each over its own global count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.tasks import FairseqTask
from omegaconf import II
from torch import Tensor

from sparqle_fairseq.criterions.means import log_means
from sparqle_fairseq.data.options import fairseq_dataclass, with_options
from sparqle_fairseq.models.stage1.batch import LENGTHS
from sparqle_fairseq.models.stage1.objectives import kinds, options_are_read
from sparqle_fairseq.models.stage1.weighted import logged, weighted_loss


@dataclass
@with_options(kind.LossOptions for kind in kinds())
class PretrainCriterionConfig:
    max_update: int = II("optimization.max_update")


options_are_read()


@register_criterion("sparqle_pretrain", dataclass=fairseq_dataclass(PretrainCriterionConfig))
class PretrainCriterion(FairseqCriterion):
    """Divides each loss by its count over all processes, so one process and many take the same step.

    `sample_size` counts utterances; where one loss is asked for alone, what that loss counts (STG: tokens), so that
    --update-freq adds up to the larger batch, whatever the lengths, for every loss that does not compare utterances.
    """

    def __init__(self, cfg: Any, task: FairseqTask) -> None:
        super().__init__(task)
        # The model knows --objective: it has a head for each.
        self.weights: dict[str, float] = task.model.objective
        for objective in task.model.adapter.objectives.values():
            objective.settle(cfg)

    def forward(
        self, model: Any, sample: dict[str, Any], reduce: bool = True
    ) -> tuple[Tensor, int | Tensor, dict[str, Any]]:
        """Loss times the global sample size, the local sample size, and what to log.

        fairseq sums gradients over the processes and divides by the sum of the local numbers, which leaves each loss
        divided by its own global count.
        """
        assert reduce, "sparqle_pretrain has no per-utterance loss"
        sums = model(**sample["net_input"], **{name: sample[name] for name in LENGTHS if name in sample})
        active = sample["net_input"].get("active", True)
        return weighted_loss(sums, self.weights, sample["nsentences"], sample["ntokens"], active)

    @staticmethod
    def reduce_metrics(logging_outputs: list[dict[str, float]]) -> None:
        """Log every loss (nats), and what each objective says of itself: rates (percent) and means."""
        log_means(logged(logging_outputs))

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True
