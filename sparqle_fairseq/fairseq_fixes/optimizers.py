"""What torch loads for its optimizers and fairseq never uses."""

from __future__ import annotations

import inspect
import sys
from typing import Any

from torch.optim import Optimizer

# Where torch keeps what it calls in place of a function that a compiler must not look into.
_IN_ITS_PLACE = "__dynamo_disable"


def leave_the_compiler_unloaded() -> bool:
    """Let an optimizer of fairseq be made without torch's compiler.

    Symptom: a second of CPU time at the start of every training. Reason: `Optimizer.add_param_group`, `state_dict` and
    `load_state_dict` load `torch._dynamo`, only to keep it out of themselves should they be compiled; and fairseq
    compiles nothing. Here each is called as it is. Where the compiler is there already, nothing is changed.
    Can go when torch makes optimizers without it.

    Returns:
        True where this call changed something.
    """
    if "torch._dynamo" in sys.modules:
        return False
    changed = False
    for method in _methods_that_load_it():
        if not hasattr(method, _IN_ITS_PLACE):
            setattr(method, _IN_ITS_PLACE, method)
            changed = True
    return changed


def _methods_that_load_it() -> list[Any]:
    """The methods as they are, beneath what torch wraps around them."""
    wrappers = [value for value in vars(Optimizer).values() if inspect.isfunction(value)]
    return [
        each.__wrapped__
        for each in wrappers
        if each.__globals__.get("__name__") == "torch._compile" and hasattr(each, "__wrapped__")
    ]
