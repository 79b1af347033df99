"""What fairseq leaves out of the checkpoints of half-precision training: the fp32 copy, and the loss scale's counters.

Without them a resumed run starts from weights rounded to half precision, and raises its loss scale at other updates.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

import torch
from fairseq.optim import fp16_optimizer

from sparqle_fairseq.fairseq_fixes.marks import mark, marks

_COUNTERS = ("_iter", "_last_overflow_iter", "_last_rescale_iter", "_overflows_since_rescale")
_SCALER, _WEIGHTS = "loss_scaler", "fp32_params"


def keep_half_precision_whole() -> None:
    """Let fairseq's optimizers for half precision keep all of their state.

    Symptom: ``--fp16`` and ``--bf16`` resume from rounded weights, and the loss scale counts anew. Can go when fairseq
    saves both.
    """
    for name in ("_FP16OptimizerMixin", "_MemoryEfficientFP16OptimizerMixin"):
        kind = getattr(fp16_optimizer, name)
        if "keeps all" not in marks(kind.state_dict):
            kind.state_dict, kind.load_state_dict = _saving(kind.state_dict), _loading(kind.load_state_dict)


def _saving(usual: Any) -> Any:
    @wraps(usual)
    def state_dict(self: Any) -> dict[str, Any]:
        state = usual(self)
        if self.scaler is not None:
            state[_SCALER] = {name: getattr(self.scaler, name) for name in _COUNTERS}
        weights = _copies(self)
        if weights:
            state[_WEIGHTS] = weights
        return state

    mark(state_dict, "keeps all")
    return state_dict


def _loading(usual: Any) -> Any:
    @wraps(usual)
    def load_state_dict(self: Any, state: dict[str, Any], optimizer_overrides: Any = None) -> None:
        state = dict(state)
        counters, weights = state.pop(_SCALER, {}), state.pop(_WEIGHTS, [])
        usual(self, state, optimizer_overrides)
        if self.scaler is not None:
            for name, value in counters.items():
                setattr(self.scaler, name, value)
        own = _copies(self)
        # Others (saved flat, loaded unflattened) stay as they are: the model's weights in fp32.
        if [weight.shape for weight in weights] == [weight.shape for weight in own]:
            for ours, theirs in zip(own, weights, strict=True):
                ours.copy_(theirs)

    return load_state_dict


def _copies(optimizer: Any) -> list[torch.Tensor]:
    """The fp32 copy of the weights: a list of tensors, or one tensor a device."""
    weights = getattr(optimizer, "fp32_params", None)
    if weights is None:
        return []
    return [weight.data for weight in (weights.values() if isinstance(weights, dict) else weights)]
