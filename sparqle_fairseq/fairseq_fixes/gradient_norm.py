"""The norm of the gradient: one wait for the device in an update, where fairseq's trainer asks two to five times."""

from __future__ import annotations

from functools import wraps
from typing import Any

from fairseq.optim import FairseqOptimizer
from torch import Tensor

from sparqle_fairseq.fairseq_fixes.marks import mark, marks


def read_norms_once() -> bool:
    """Hand the trainer the gradient's norm as a tensor of the CPU.

    Symptom: a GPU that idles at the end of each update. Reason: the trainer asks the norm whether it is finite, then
    again for its log, and its fp16 optimizer whether it is infinite, not a number or to be clipped; each is a wait of
    its own. Can go when the trainer reads it once.

    Returns:
        True where this call wrapped it.
    """
    usual = FairseqOptimizer.clip_grad_norm
    if "reads norms once" in marks(usual):
        return False

    @wraps(usual)
    def clip_grad_norm(self: Any, *args: Any, **named: Any) -> Any:
        norm = usual(self, *args, **named)
        return norm.cpu() if isinstance(norm, Tensor) else norm

    mark(clip_grad_norm, "reads norms once")
    FairseqOptimizer.clip_grad_norm = clip_grad_norm
    return True
