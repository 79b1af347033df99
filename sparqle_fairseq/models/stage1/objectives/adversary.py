"""`adversarial`: text features from which a classifier cannot tell source and target language.

A classifier learns to tell the two; the gradient that reaches the features is reversed, so that these learn to give it
nothing to go by (Ganin et al. 2016, arXiv 1505.07818). It goes with an objective that reads text, and teaches nothing
by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparqle_fairseq.data.options import plain_options
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.gather import gather_rows, rows_before
from sparqle_fairseq.models.stage1.batch import Stage1Batch
from sparqle_fairseq.models.stage1.objectives.base import Given, Objective, Reach, Sums
from sparqle_fairseq.models.stage1.objectives.registry import kind_of, register_objective
from sparqle_fairseq.models.stage1.objectives.stm import Matching

# What the classifier reads: the text's place in the contrastive space, or the [CLS] output itself.
ADVERSARY_INPUTS = ("features", "hidden")
ADVERSARY_NORMS = ("batch", "none")
SOURCE, TARGET = 0, 1
_HIDDEN = 100
_STEEPNESS = 10.0


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradient, None


def reverse_gradient(x: Tensor, strength: float) -> Tensor:
    """`x` itself; its gradient is multiplied by minus `strength`."""
    return _Reverse.apply(x, strength)


def reversal_strength(progress: float) -> float:
    """0 at the start of training, near 1 at its end: 2 / (1 + exp(-10 p)) - 1 for `progress` p from 0 to 1."""
    return 2 / (1 + math.exp(-_STEEPNESS * min(max(progress, 0.0), 1.0))) - 1


class DomainClassifier(nn.Module):
    """Features (N, W) -> logits (N, 2) of source and target: linear, BatchNorm, ReLU, linear.

    It must be given the features of all processes: the statistics of its BatchNorm are then those that one process
    with the whole batch would have, and the running ones are the same everywhere. Computed in fp32.
    """

    def __init__(self, width: int, norm: str = "batch") -> None:
        super().__init__()
        if norm not in ADVERSARY_NORMS:
            raise SparqleError(f"--adversarial-norm {norm} is unknown; choose from {', '.join(ADVERSARY_NORMS)}")
        self.hidden = nn.Linear(width, _HIDDEN)
        self.norm = nn.BatchNorm1d(_HIDDEN) if norm == "batch" else None
        self.output = nn.Linear(_HIDDEN, 2)

    def forward(self, features: Tensor) -> Tensor:
        x = F.linear(features.float(), self.hidden.weight.float(), self.hidden.bias.float())
        if self.norm is not None:
            x = self._normalise(x, self.norm)
        return F.linear(F.relu(x), self.output.weight.float(), self.output.bias.float())

    def _normalise(self, x: Tensor, norm: Any) -> Tensor:
        """BatchNorm in fp32 whatever the trainer made of its buffers; a batch without a row passes through as well."""
        mean, variance = norm.running_mean.float(), norm.running_var.float()
        if self.training and len(x) > 1:
            mean, variance = x.mean(dim=0), x.var(dim=0, unbiased=False)
            with torch.no_grad():
                unbiased = variance * len(x) / (len(x) - 1)
                norm.running_mean.lerp_(mean.to(norm.running_mean), norm.momentum)
                norm.running_var.lerp_(unbiased.to(norm.running_var), norm.momentum)
                norm.num_batches_tracked += 1
        return (x - mean) * (variance + norm.eps).rsqrt() * norm.weight.float() + norm.bias.float()


@dataclass(frozen=True)
class AdversaryOptions:
    adversarial_input: str = field(
        default="features",
        metadata={
            "help": "for --objective ...+0.4*adversarial, what its classifier reads: features (of the contrastive "
            "space) or hidden (the text's [CLS] output)",
            "choices": ADVERSARY_INPUTS,
        },
    )
    adversarial_norm: str = field(
        default="batch",
        metadata={
            "help": "between the classifier's layers: batch (BatchNorm over all processes) or none",
            "choices": ADVERSARY_NORMS,
        },
    )


@dataclass(frozen=True)
class AdversaryLossOptions:
    adversarial_ramp_updates: int = field(
        default=0,
        metadata={"help": "updates over which the gradient of the objective adversarial grows; default: --max-update"},
    )


@register_objective
class Adversary(Objective):
    name = "adversarial"
    parts = ("domain_classifier",)
    reach = Reach.TEXT
    reads_translations = True
    rates = {"adversarial_accuracy": ("hits", "count")}
    Options = AdversaryOptions
    LossOptions = AdversaryLossOptions

    ramp_updates = 0  # over which its gradient grows; 0: it has its full strength at once

    def build(self, given: Given) -> dict[str, nn.Module | nn.Parameter]:
        others = [name for name in given.asked if name != self.name]
        if not any(Reach.SEEN_TEXT in kind_of(name).reach for name in others):
            raise SparqleError(
                f"the objective adversarial aligns text, and {'+'.join(others) or 'nothing'} beside it reads none in "
                "the Q-Former; add stc, stm or stg to --objective"
            )
        width = given.config.hidden_size
        if self.options.adversarial_input == "features":
            if "stc" not in others:
                raise SparqleError(
                    f"--adversarial-input features is the space that stc learns, and --objective {'+'.join(others)} "
                    "has none; give --adversarial-input hidden"
                )
            width = plain_options(kind_of("stc").Options, given.options).contrastive_width
        return {"domain_classifier": DomainClassifier(width, self.options.adversarial_norm)}

    def settle(self, options: Any) -> None:
        super().settle(options)
        longest = int(getattr(options, "max_update", 0))
        self.ramp_updates = self.loss_options.adversarial_ramp_updates or longest
        if self.ramp_updates <= 0:
            raise SparqleError(
                f"the objective adversarial grows over --max-update {longest} updates, which says no number; give "
                "--adversarial-ramp-updates"
            )

    def sums(self, adapter: Any, batch: Stage1Batch) -> Sums:
        return self.domains(adapter, batch).sums()

    def domains(self, adapter: Any, batch: Stage1Batch) -> Matching:
        """What the classifier makes of transcripts and their translations; rows without one take no part.

        It sees the pairs of all processes, and answers here (2 P, 2) for the P of this one, labelled SOURCE or TARGET.
        """
        text, foreign = batch.text, batch.text.foreign
        assert foreign is not None
        pairs = foreign.rows.numel() if batch.active else 0
        # Without a pair one transcript stands in, and is cut off again: every process takes part in the collectives.
        rows = foreign.rows if pairs else foreign.rows.new_zeros(1)
        tokens, padded = text.tokens[rows], text.padding_mask[rows]
        if pairs:
            tokens = _stack(tokens, foreign.tokens, adapter.pad_token)
            padded = _stack(padded, foreign.padding_mask, True)
        if self.options.adversarial_input == "features":
            features = adapter.text_features(tokens, padded)
        else:
            features = adapter.qformer.encode_text(tokens, padded, wanted=1)[:, 0]
        strength = reversal_strength(batch.update / self.ramp_updates) if self.ramp_updates else 1.0
        features = reverse_gradient(features, strength)[: 2 * pairs]
        start = rows_before(2 * pairs, features.device)
        logits = adapter.domain_classifier(gather_rows(features))[start : start + 2 * pairs]
        labels = torch.full((2 * pairs,), SOURCE, device=logits.device)
        labels[pairs:] = TARGET
        return Matching(logits, labels)


def _stack(one: Tensor, other: Tensor, fill: int | bool) -> Tensor:
    """Rows of both, the shorter ones padded at their end."""
    longest = max(one.size(1), other.size(1))
    return torch.cat([F.pad(x, (0, longest - x.size(1)), value=fill) for x in (one, other)])
