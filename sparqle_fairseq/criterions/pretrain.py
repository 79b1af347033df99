"""Criterion `sparqle_pretrain`: the weighted sum of the stage-1 objectives, each over its own global count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.logging import metrics
from fairseq.tasks import FairseqTask
from omegaconf import II
from torch import Tensor

from sparqle_fairseq.data.options import fairseq_dataclass, with_options
from sparqle_fairseq.gather import sum_over_ranks
from sparqle_fairseq.models.stage1.objectives import kinds, options_are_read


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
        sums = model(**sample["net_input"])
        active = sample["net_input"].get("active", True)
        local = sample["nsentences"] if active else 0
        counts = torch.stack(
            [torch.tensor(float(local), device=sample["net_input"]["source"].device)]
            + [sums[name]["count"] * float(active) for name in self.weights]
        )
        utterances, *global_counts = sum_over_ranks(counts)
        loss = sum(
            weight * sums[name]["sum"] / count.clamp(min=1)
            for (name, weight), count in zip(self.weights.items(), global_counts, strict=True)
        )
        alone = len(self.weights) == 1
        global_size, size = (global_counts[0], counts[1]) if alone else (utterances, local)
        # Tensors, not numbers: a number would make the device wait at every step.
        log: dict[str, Any] = {
            f"{logged_name(name)}_{what}": value.detach() * float(active)
            for name, own in sums.items()
            for what, value in own.items()
        }
        log |= {
            "loss": (loss * global_size).detach(),
            "sample_size": size,
            "nsentences": local,
            "ntokens": sample["ntokens"] if active else 0,
        }
        return loss * global_size, size, log

    @staticmethod
    def reduce_metrics(logging_outputs: list[dict[str, float]]) -> None:
        """Log every loss (nats), and what each objective says of itself: rates (percent) and means."""

        def total(key: str) -> float:
            return sum(float(log.get(key, 0)) for log in logging_outputs)

        def show(name: str, kind: Any, of: str, by: str, scale: float, digits: int) -> None:
            key = logged_name(kind.name)
            if count := total(f"{key}_{by}"):
                metrics.log_scalar(name, scale * total(f"{key}_{of}") / count, count, round=digits)

        size = max(total("sample_size"), 1)
        metrics.log_scalar("loss", total("loss") / size, size, round=3)
        for kind in kinds():
            show(f"{logged_name(kind.name)}_loss", kind, "sum", "count", 1, 3)
        for kind in kinds():
            for name, (hits, of) in kind.rates.items():
                show(name, kind, hits, of, 100, 2)
        for kind in kinds():
            for name, (what, of) in kind.means.items():
                show(name, kind, what, of, 1, 4)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True


def logged_name(name: str) -> str:
    """An objective's name in logs."""
    return name.replace("-", "_")
