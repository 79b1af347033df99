"""What to say when training ends because numbers overflow: which part of the model, and which option helps."""

from __future__ import annotations

from functools import wraps
from typing import Any

import torch
from fairseq.trainer import Trainer
from torch import Tensor

from sparqle_fairseq.errors import SparqleError, reason
from sparqle_fairseq.fairseq_fixes.marks import mark, marks
from sparqle_fairseq.models.llm.llm import overflow


def name_overflows() -> bool:
    """Let numbers that overflow in half precision be told in one sentence with the option that helps.

    Symptom: ``FloatingPointError: Minimum loss scale reached`` or ``gradients are Nan/Inf`` after pages of NanDetector.
    Reason: fairseq cannot know which part of the model overflows. Can stay for good: the remedy is this plugin's.

    Returns:
        True where this call wrapped the trainer.
    """
    usual = Trainer.train_step
    if "names overflows" in marks(usual):
        return False

    @wraps(usual)
    def train_step(self: Any, samples: Any, *rest: Any, **named: Any) -> Any:
        try:
            return usual(self, samples, *rest, **named)
        except FloatingPointError as error:
            if "inconsistent" in str(error):  # between processes: nothing overflowed
                raise
            raise SparqleError(explain(self, samples, error)) from error

    mark(train_step, "names overflows")
    Trainer.train_step = train_step
    return True


@torch.no_grad()
def explain(trainer: Any, samples: Any, error: FloatingPointError) -> str:
    """One sentence for a `FloatingPointError` of fairseq's trainer in an update over `samples`.

    Runs the frozen parts over the first batch. They talk to no other process, and every process comes here.
    """
    said = reason(error)
    model = trainer.get_model().eval()
    sample, _ = trainer._prepare_sample(next((sample for sample in samples if sample), None))
    net_input = sample["net_input"]
    encoder = model.speech_encoder
    if net_input["source"].dim() == 2 and net_input["source"].is_floating_point():
        values = encoder(net_input["source"], net_input["padding_mask"]).values
        if not _finite(values):
            return (
                f"the speech encoder gives numbers that are not finite ({said}); if --encoder-dtype is fp16 give bf16 "
                "or fp32, otherwise look at the recordings with sparqle validate"
            )
    llm = getattr(model, "llm", None)
    names = ("source", "padding_mask", "prompt", "prompt_padding_mask")
    if llm is not None and llm.sharding == "none":
        prompt, seen = model.prompt_embeddings(*(net_input[name] for name in names))
        if _finite(prompt):
            logits, _ = llm(prompt, seen, logits_to_keep=1)
            if not _finite(logits.max()):
                return f"{overflow(llm.frozen.dtype)} ({said})"
    if llm is not None and llm.frozen.dtype == torch.float16:
        return (
            f"numbers overflow in half precision ({said}); the LLM passes gradients on in fp16: give --llm-dtype bf16"
        )
    if trainer.cfg.common.fp16:
        return f"numbers overflow in fp16 ({said}); train with --bf16 in place of --fp16, or lower --lr"
    return f"the loss is no finite number any more ({said}); lower --lr, or give --clip-norm 1.0"


def _finite(values: Tensor) -> bool:
    return bool(torch.isfinite(values).all())
