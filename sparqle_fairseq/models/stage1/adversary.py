"""Language-adversarial alignment: text features from which a classifier cannot tell source and target language.

A classifier learns to tell the two; the gradient that reaches the features is reversed, so that these learn to give it
nothing to go by (Ganin et al. 2016, arXiv 1505.07818). Plain PyTorch.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparqle_fairseq.errors import SparqleError

# What the classifier reads: the text's place in the contrastive space, or the [CLS] output itself.
ADVERSARY_INPUTS = ("features", "hidden")
ADVERSARY_NORMS = ("batch", "none")
SOURCE, TARGET = 0, 1
_HIDDEN = 100
_STEEPNESS = 10.0


class Domains(NamedTuple):
    logits: Tensor  # (2 P, 2) of this process's pairs
    labels: Tensor  # (2 P,) SOURCE or TARGET


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
