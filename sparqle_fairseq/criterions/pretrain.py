"""Criterion `sparqle_pretrain`: the weighted sum of the stage-1 objectives, each over its own global count."""

# fairseq reads the types of these fields at run time: no postponed annotations and no `X | None` in this file.

from dataclasses import dataclass, field
from typing import Any

import torch
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics
from fairseq.tasks import FairseqTask
from omegaconf import II
from torch import Tensor

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.gather import sum_over_ranks
from sparqle_fairseq.models.stage1.adapter import Contrast, Generation, Matching, Stage1Output
from sparqle_fairseq.models.stage1.heads import Alignment
from sparqle_fairseq.models.stage1.losses import (
    contrastive_loss,
    contrastive_targets,
    ctc_loss,
    generation_loss,
    matching_loss,
)
from sparqle_fairseq.models.stage1.objectives import ADVERSARIAL, OBJECTIVES, PUBLISHED

Sums = dict[str, Tensor]


@dataclass
class PretrainCriterionConfig(FairseqDataclass):
    stc_weight: float = field(default=1.0, metadata={"help": "weight of the speech-text contrastive loss; 0 = off"})
    stm_weight: float = field(default=1.0, metadata={"help": "weight of the speech-text matching loss; 0 = off"})
    stg_weight: float = field(default=1.0, metadata={"help": "weight of the text generation loss; 0 = off"})
    stc_smoothing: float = field(
        default=0.1, metadata={"help": "share of the contrastive target that is spread over all texts of the batch"}
    )
    stg_label_smoothing: float = field(default=0.1, metadata={"help": "label smoothing of the generation losses"})
    adversarial_ramp_updates: int = field(
        default=0,
        metadata={"help": "updates over which the gradient of --adversarial-weight grows; default: --max-update"},
    )
    max_update: int = II("optimization.max_update")


def contrast_sums(contrast: Contrast, smoothing: float) -> Sums:
    s2t, t2s, rows, columns = contrast
    targets = contrastive_targets(rows, columns, smoothing)
    losses = (contrastive_loss(s2t, targets) + contrastive_loss(t2s, targets)) / 2
    hits = {
        "s2t_hits": (columns[s2t.argmax(dim=1)] == rows).sum(),
        "t2s_hits": (columns[t2s.argmax(dim=1)] == rows).sum(),
    }
    return {"sum": losses.sum(), "count": _count(losses), **hits}


def matching_sums(matching: Matching) -> Sums:
    losses = matching_loss(*matching)
    return {
        "sum": losses.sum(),
        "count": _count(losses),
        "hits": (matching.logits.argmax(dim=1) == matching.labels).sum(),
    }


def generation_sums(generation: Generation, label_smoothing: float) -> Sums:
    losses = generation_loss(*generation, label_smoothing)
    hits = (generation.logits.argmax(dim=1) == generation.targets).sum()
    return {"sum": losses.sum(), "count": _count(losses), "hits": hits}


def alignment_sums(alignment: Alignment) -> Sums:
    """Counted in tokens of the transcripts that the queries have room for; `skipped` are those they have none for."""
    losses, possible = ctc_loss(*alignment)
    tokens = (alignment.tokens >= 0).sum(dim=1)
    count = (tokens * possible).sum().to(losses)
    return {"sum": losses.sum(), "count": count, "skipped": (~possible).sum(), "rows": _count(losses)}


def stage1_sums(output: Stage1Output, label_smoothing: float, stc_smoothing: float = 0.1) -> Sums:
    """Loss sums, counts and hits of a batch: `<objective>_sum` with gradient, `<objective>_count` and hits without."""
    parts: dict[str, Sums] = {}
    if output.contrast is not None:
        parts["stc"] = contrast_sums(output.contrast, stc_smoothing)
    if output.matching is not None:
        parts["stm"] = matching_sums(output.matching)
    if output.generation is not None:
        parts["stg"] = generation_sums(output.generation, label_smoothing)
    if output.output_generation is not None:
        parts["stg-outputs"] = generation_sums(output.output_generation, label_smoothing)
    if output.ctc is not None:
        parts["ctc"] = alignment_sums(output.ctc)
    if output.llm_ctc is not None:
        parts["llm-ctc"] = alignment_sums(output.llm_ctc)
    if output.domains is not None:  # pairs of classes, as in matching
        parts[ADVERSARIAL] = matching_sums(Matching(*output.domains))
    return {f"{_key(name)}_{what}": value for name, sums in parts.items() for what, value in sums.items()}


@register_criterion("sparqle_pretrain", dataclass=PretrainCriterionConfig)
class PretrainCriterion(FairseqCriterion):
    """Divides each loss by its count over all processes, so one process and many take the same step.

    `sample_size` counts utterances; where one loss is asked for alone, what that loss counts (STG: tokens), so that
    --update-freq adds up to the larger batch, whatever the lengths, for every loss that does not compare utterances.
    """

    def __init__(
        self,
        task: FairseqTask,
        stc_weight: float,
        stm_weight: float,
        stg_weight: float,
        stc_smoothing: float,
        stg_label_smoothing: float,
        adversarial_ramp_updates: int = 0,
        max_update: int = 0,
    ) -> None:
        super().__init__(task)
        given = dict(zip(PUBLISHED, (stc_weight, stm_weight, stg_weight), strict=True))
        # The model knows --objective: it has a head for each. Its weights and the options' multiply.
        asked = task.model.objective
        weights = {name: weight * given.get(name, 1.0) for name, weight in asked.items()}
        if min(given.values()) < 0 or not any(weights.values()):
            raise SparqleError(
                "the stage-1 loss weights must not be negative, and one must be above 0; found "
                + ", ".join(f"--{name}-weight {weight:g}" for name, weight in given.items())
            )
        self.weights = {name: weight for name, weight in weights.items() if weight}
        task.model.train_only(self.weights)
        if ADVERSARIAL in self.weights:
            updates = adversarial_ramp_updates or max_update
            if updates <= 0:
                raise SparqleError(
                    f"--adversarial-weight grows over --max-update {max_update} updates, which says no number; give "
                    "--adversarial-ramp-updates"
                )
            task.model.ramp_over(updates)
        if not 0 <= stc_smoothing <= 1:
            raise SparqleError(f"--stc-smoothing {stc_smoothing:g} must be 0 to 1")
        self.stc_smoothing = stc_smoothing
        if not 0 <= stg_label_smoothing < 1:
            raise SparqleError(f"--stg-label-smoothing {stg_label_smoothing:g} must be at least 0 and below 1")
        self.label_smoothing = stg_label_smoothing

    def forward(
        self, model: Any, sample: dict[str, Any], reduce: bool = True
    ) -> tuple[Tensor, int | Tensor, dict[str, Any]]:
        """Loss times the global sample size, the local sample size, and what to log.

        fairseq sums gradients over the processes and divides by the sum of the local numbers, which leaves each loss
        divided by its own global count.
        """
        assert reduce, "sparqle_pretrain has no per-utterance loss"
        output = model(**sample["net_input"], objectives=tuple(self.weights))
        sums = stage1_sums(output, self.label_smoothing, self.stc_smoothing)
        active = sample["net_input"].get("active", True)
        local = sample["nsentences"] if active else 0
        counts = torch.stack(
            [torch.tensor(float(local), device=sample["net_input"]["source"].device)]
            + [sums[f"{_key(name)}_count"] * float(active) for name in self.weights]
        )
        utterances, *global_counts = sum_over_ranks(counts)
        loss = sum(
            weight * sums[f"{_key(name)}_sum"] / count.clamp(min=1)
            for (name, weight), count in zip(self.weights.items(), global_counts, strict=True)
        )
        alone = len(self.weights) == 1
        global_size, size = (global_counts[0], counts[1]) if alone else (utterances, local)
        # Tensors, not numbers: a number would make the device wait at every step.
        log: dict[str, Any] = {name: value.detach() * float(active) for name, value in sums.items()}
        log |= {
            "loss": (loss * global_size).detach(),
            "temperature": model.temperature().detach() * local,
            "sample_size": size,
            "nsentences": local,
            "ntokens": sample["ntokens"] if active else 0,
        }
        return loss * global_size, size, log

    @staticmethod
    def reduce_metrics(logging_outputs: list[dict[str, float]]) -> None:
        """Log every loss (nats), hit rates (percent), and the share of transcripts that CTC had no room for."""

        def total(key: str) -> float:
            return sum(float(log.get(key, 0)) for log in logging_outputs)

        size = max(total("sample_size"), 1)
        metrics.log_scalar("loss", total("loss") / size, size, round=3)
        for name in (*OBJECTIVES, ADVERSARIAL):
            key = _key(name)
            if count := total(f"{key}_count"):
                metrics.log_scalar(f"{key}_loss", total(f"{key}_sum") / count, count, round=3)
        rates = {
            "stm_accuracy": ("stm_hits", "stm_count"),
            "s2t_recall_at_1": ("stc_s2t_hits", "stc_count"),
            "t2s_recall_at_1": ("stc_t2s_hits", "stc_count"),
            "stg_accuracy": ("stg_hits", "stg_count"),
            "stg_outputs_accuracy": ("stg_outputs_hits", "stg_outputs_count"),
            "ctc_skipped": ("ctc_skipped", "ctc_rows"),
            "llm_ctc_skipped": ("llm_ctc_skipped", "llm_ctc_rows"),
            "adversarial_accuracy": ("adversarial_hits", "adversarial_count"),
        }
        for name, (hits, of) in rates.items():
            if count := total(of):
                metrics.log_scalar(name, 100 * total(hits) / count, count, round=2)
        utterances = max(total("nsentences"), 1)
        metrics.log_scalar("temperature", total("temperature") / utterances, utterances, round=4)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True


def _key(name: str) -> str:
    """An objective's name in logs."""
    return name.replace("-", "_")


def _count(losses: Tensor) -> Tensor:
    return torch.tensor(float(losses.numel()), device=losses.device)
