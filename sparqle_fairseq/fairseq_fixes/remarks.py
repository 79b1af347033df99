"""fairseq-generate prints what our tasks say of a hypothesis: why it ended, and its contrast to no speech."""

from __future__ import annotations

import copy
import sys
from functools import wraps
from typing import Any

from sparqle_fairseq.fairseq_fixes.marks import mark, marks

_NAME = "remarks"


def print_remarks() -> None:
    """Have an I- line printed for each hypothesis of this package's tasks, as if --print-step were given.

    Symptom: no word on why a text ended. Reason: fairseq prints I- lines for its non-autoregressive generator, which
    knows in how many steps it was done, and only with that option. What a person gave is left as it is: the command
    goes on with a copy. Can go when fairseq prints what a task says of a hypothesis.
    """
    import fairseq_cli.generate

    # Run as `python -m fairseq_cli.generate`, the command is not the module of that name.
    modules: list[Any] = [fairseq_cli.generate]
    running: Any = sys.modules["__main__"]
    if getattr(getattr(running, "__spec__", None), "name", None) == "fairseq_cli.generate":
        modules.append(running)
    for module in modules:
        if _NAME not in marks(module._main):
            module._main = _with_remarks(module._main)


def _with_remarks(usual: Any) -> Any:
    @wraps(usual)
    def main(cfg: Any, output_file: Any) -> Any:
        if str(cfg.task._name).startswith("sparqle_"):
            cfg = copy.deepcopy(cfg)
            cfg.generation.print_step = True
        return usual(cfg, output_file)

    mark(main, _NAME)
    return main
