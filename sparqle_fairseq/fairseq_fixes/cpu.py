"""Training on CPUs: distributed data parallel, and fp16 whose gradients overflow."""

from __future__ import annotations

import types
from functools import wraps
from typing import Any

import torch
from fairseq import trainer
from fairseq.models import distributed_fairseq_model

from sparqle_fairseq.fairseq_fixes.marks import mark, marks


def let_ddp_run_on_cpu() -> bool:
    """Let ``--ddp-backend pytorch_ddp`` (fairseq's default) train on CPUs.

    Symptom: ``ValueError: DistributedDataParallel device_ids and output_device arguments only work with single-device
    GPU modules``. Reason: ``DistributedFairseqModel`` names a device whatever the model is on. Can go when it asks.

    Returns:
        True where this call wrapped it.
    """
    usual = distributed_fairseq_model.DistributedDataParallel
    if "runs on cpu" in marks(usual):
        return False

    @wraps(usual)
    def wrapped(*, module: Any, **options: Any) -> Any:
        if next(module.parameters()).device.type == "cpu":
            options |= {"device_ids": None, "output_device": None}
        return usual(module=module, **options)

    mark(wrapped, "runs on cpu")
    distributed_fairseq_model.DistributedDataParallel = wrapped
    return True


class _TorchWithoutGpu(types.ModuleType):
    """torch as ``fairseq.trainer`` expects it: what it makes with ``tensor`` can be asked to go to a GPU, and stays."""

    def __init__(self) -> None:
        super().__init__("torch", torch.__doc__)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def tensor(*values: Any, **options: Any) -> Any:
        made: Any = torch.tensor(*values, **options)
        made.cuda = lambda: made
        return made


def let_overflow_pass_on_cpu() -> bool:
    """Let ``--fp16 --cpu`` lower its loss scale and go on.

    Symptom: at the first gradient that overflows, ``AssertionError: Torch not compiled with CUDA enabled``. Reason: the
    trainer says ``torch.tensor(0.0).cuda()``. Only where there is no GPU, and only in that module. Can go when it names
    its device.

    Returns:
        True where this call gave the trainer its view of torch.
    """
    if torch.cuda.is_available() or trainer.torch is not torch:
        return False
    trainer.torch = _TorchWithoutGpu()
    return True
