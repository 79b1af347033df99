"""Waveforms as they were read, in half-precision training."""

from __future__ import annotations

from functools import wraps
from typing import Any

from fairseq.trainer import Trainer

from sparqle_fairseq.fairseq_fixes.marks import mark, marks


def keep_waveforms_whole() -> bool:
    """Let ``--fp16`` and ``--bf16`` give a task's `source` to the model as it was read.

    Symptom: the same recording has other features in training than in generation: behind bfloat16's 8 bits those of
    Whisper-base are 1 to 9 % away, behind fp16's 0.1 to 0.7 %. Reason: the trainer rounds every floating-point tensor
    of a batch, so an encoder that runs in float32 (``--encoder-dtype``) hears rounding noise. Only for tasks that say
    ``whole_source``: their models cast for themselves. Can go when a task can say what is to be rounded.

    Returns:
        True where this call wrapped the trainer.
    """
    usual = Trainer._fp_convert_sample
    if "keeps waveforms" in marks(usual):
        return False

    @wraps(usual)
    def _fp_convert_sample(self: Any, sample: Any) -> Any:
        converted = usual(self, sample)
        if getattr(self.task, "whole_source", False) and "net_input" in converted:
            converted["net_input"]["source"] = sample["net_input"]["source"]
        return converted

    mark(_fp_convert_sample, "keeps waveforms")
    Trainer._fp_convert_sample = _fp_convert_sample
    return True
