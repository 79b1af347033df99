"""What turns query outputs into embeddings of the LLM. Plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparqle_fairseq.errors import SparqleError

PROJECTORS = ("linear", "mlp", "linear-norm")


def build_projector(kind: str, width: int, llm_width: int) -> nn.Module:
    """(..., width) -> (..., llm_width).

    `linear` is the published one; `mlp` has a hidden layer of the LLM's width with GELU; `linear-norm` ends in a
    LayerNorm. Raises `SparqleError`.
    """
    if kind == "linear":
        return nn.Linear(width, llm_width)
    if kind == "mlp":
        return nn.Sequential(nn.Linear(width, llm_width), nn.GELU(), nn.Linear(llm_width, llm_width))
    if kind == "linear-norm":
        return nn.Sequential(nn.Linear(width, llm_width), nn.LayerNorm(llm_width))
    raise SparqleError(f"--projector {kind} is unknown; choose from {', '.join(PROJECTORS)}")


def start_among(projector: nn.Module, embeddings: Tensor) -> None:
    """Let a new projector's outputs lie among `embeddings` (V, M): around their mean, as far from it as they are."""
    middle = embeddings.float().mean(dim=0)
    std = float((embeddings.float() - middle).square().mean().sqrt())
    last = list(projector.modules())[-1]
    with torch.no_grad():
        if isinstance(last, nn.LayerNorm):
            last.weight.fill_(std)
        else:  # its inputs, normalised, have a variance of about 1
            assert isinstance(last, nn.Linear)
            last.weight.normal_(std=std / last.in_features**0.5)
        last.bias.copy_(middle)
