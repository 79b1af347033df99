"""Adam as fairseq computes it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch


class UncorrectedEpsilonAdamW(torch.optim.AdamW):
    """AdamW whose epsilon is added to the square root of the running mean before the bias of that is corrected.

    So does the efficient form at the end of section 2 of Kingma & Ba (2015, arXiv 1412.6980), and so does fairseq. In
    the terms of torch's own, which adds it afterwards, it is epsilon / sqrt(1 - beta2^t): in the first update 32 times
    as large with beta2 = 0.999. Weight decay is decoupled in both.
    """

    def __init__(self, params: Any, lr: float, betas: tuple[float, float], eps: float, weight_decay: float) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
        self.epsilon = eps

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        for group in self.param_groups:
            steps = [self.state[p]["step"] for p in group["params"] if p in self.state and "step" in self.state[p]]
            taken = int(steps[0]) if steps else 0
            group["eps"] = self.epsilon / math.sqrt(1 - group["betas"][1] ** (taken + 1))
        return super().step(closure)
