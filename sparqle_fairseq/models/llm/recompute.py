"""Gradient checkpointing of a frozen model: layers whose insides are computed again in the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from sparqle_fairseq.errors import SparqleError


def recompute_layers(model: nn.Module, name: str) -> None:
    """Make every layer of a Hugging Face model keep its input alone, wherever a gradient flows through it.

    transformers' own switch works in train mode only, and a frozen model never is in it. A pass with a cache
    (generation) is left as it is. Raises `SparqleError` naming the model where it has no such layers.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers: list[Any] = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise SparqleError(
            f"{name}: transformers cannot recompute the layers of this model; leave --llm-gradient-checkpointing out"
        )
    for layer in layers:
        layer.forward = _recomputing(layer.forward)


def _recomputing(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*inputs: Any, **named: Any) -> Any:
        cached = named.get("past_key_values") is not None or named.get("layer_past") is not None
        flows = any(isinstance(each, torch.Tensor) and each.requires_grad for each in (*inputs, *named.values()))
        if cached or not flows or not torch.is_grad_enabled():
            return forward(*inputs, **named)
        return checkpoint(forward, *inputs, use_reentrant=False, **named)

    return run
