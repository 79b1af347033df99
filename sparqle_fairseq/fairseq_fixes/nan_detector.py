"""The search for the first number that is not finite: through models that give tensors by names within names, too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import wraps
from typing import Any

from fairseq.nan_detector import NanDetector
from torch import Tensor, nn

from sparqle_fairseq.fairseq_fixes.marks import mark, marks


def look_into_nested_outputs() -> bool:
    """Let fairseq's detector watch the gradient of each tensor that a module gives, however deep it lies.

    Symptom: ``StopIteration`` from torch's ``module.py`` after the first update whose loss is not finite. Reason: the
    detector uses torch's old backward hooks, which look for a tensor among the values of a dict and no deeper; both
    stages give the sums of each objective by its name. Can go when the detector uses other hooks.

    Returns:
        True where this call replaced them.
    """
    usual = NanDetector.add_hooks
    if "looks into nested outputs" in marks(usual):
        return False

    @wraps(usual)
    def add_hooks(self: Any, module: nn.Module) -> None:
        backward, self.backward = self.backward, False
        try:
            usual(self, module)
        finally:
            self.backward = backward
        if not backward:
            return

        def watch(watched: nn.Module, inputs: Any, outputs: Any) -> None:
            for tensor in _tensors(outputs):
                if tensor.requires_grad:
                    tensor.register_hook(lambda gradient: self.bhook_fn(watched, inputs, gradient))

        self.bhooks.append(module.register_forward_hook(watch))

    mark(add_hooks, "looks into nested outputs")
    NanDetector.add_hooks = add_hooks
    return True


def _tensors(outputs: Any) -> Iterator[Tensor]:
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, Mapping):
        for value in outputs.values():
            yield from _tensors(value)
    elif isinstance(outputs, list | tuple):
        for value in outputs:
            yield from _tensors(value)
