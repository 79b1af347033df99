"""What turns query outputs into embeddings of the LLM. Plain PyTorch."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.qformer.precision import Linear

ROWS_AT_ONCE = 16_384  # of a vocabulary, where all of it at once would be a copy
PROJECTORS = ("linear", "mlp", "linear-norm", "scaled")


class ScaledLinear(Linear):
    """A linear layer that speaks in units of the LLM's embeddings: their mean + their spread x (W x + b).

    Adam moves a weight by about the learning rate, whatever the weight's size. Embeddings of an LLM differ by 0.1 or
    less in each dimension; the weights that write such small numbers are small too, and a rate that suits the Q-Former
    throws them about. Here W and b have the size of the Q-Former's own weights. `mean` (M,) and `spread` (one number)
    come from the LLM and do not learn.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, width: int, llm_width: int) -> None:
        super().__init__(width, llm_width)
        self.register_buffer("mean", torch.zeros(llm_width))
        self.register_buffer("spread", torch.ones(()))

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., width) -> (..., M)."""
        return self.mean + self.spread * super().forward(hidden)


def build_projector(kind: str, width: int, llm_width: int) -> nn.Module:
    """(..., width) -> (..., llm_width).

    `linear` is the published one; `mlp` has a hidden layer of the LLM's width with GELU; `linear-norm` ends in a
    LayerNorm; `scaled` is linear in units of the embeddings, which `start_among` tells it. Raises `SparqleError`.
    """
    if kind == "linear":
        return Linear(width, llm_width)
    if kind == "mlp":
        return nn.Sequential(Linear(width, llm_width), nn.GELU(), nn.Linear(llm_width, llm_width))
    if kind == "linear-norm":
        return nn.Sequential(Linear(width, llm_width), nn.LayerNorm(llm_width))
    if kind == "scaled":
        return ScaledLinear(width, llm_width)
    raise SparqleError(f"--projector {kind} is unknown; choose from {', '.join(PROJECTORS)}")


def centre(embeddings: Tensor) -> tuple[Tensor, float]:
    """The mean (M,) of `embeddings` (V, M) in fp32, and their mean squared distance to it.

    A part of them at a time: a copy of a large vocabulary is what building a model would need most memory for.
    """
    parts = embeddings.detach().split(ROWS_AT_ONCE)
    middle = sum((rows.double().sum(dim=0) for rows in parts), torch.zeros(())) / len(embeddings)
    middle = middle.float()
    distance = sum(float((rows.float() - middle).square().sum()) for rows in parts) / len(embeddings)
    return middle, distance


def start_among(projector: nn.Module, embeddings: Tensor) -> None:
    """Let a new projector's outputs lie among `embeddings` (V, M): around their mean, as far from it as they are."""
    middle, distance = centre(embeddings)
    std = math.sqrt(distance / embeddings.size(1))
    last = list(projector.modules())[-1]
    with torch.no_grad():
        if isinstance(last, ScaledLinear):
            last.mean.copy_(middle)
            last.spread.fill_(std)
            last.weight.normal_(std=last.in_features**-0.5)
            last.bias.zero_()
            return
        if isinstance(last, nn.LayerNorm):
            last.weight.fill_(std)
        else:  # its inputs, normalised, have a variance of about 1
            assert isinstance(last, nn.Linear)
            last.weight.normal_(std=std / last.in_features**0.5)
        last.bias.copy_(middle)


def as_linear(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weight and bias of the linear layer that computes what a `ScaledLinear` with this state does."""
    spread = state["spread"]
    return {"weight": spread * state["weight"], "bias": state["mean"] + spread * state["bias"]}
