"""The count of `--patience`, which fairseq keeps in the process and forgets when training is resumed."""

from __future__ import annotations

import sys
from typing import Any

from fairseq import checkpoint_utils

_KEPT = ("best", "num_runs")


def training_modules() -> list[Any]:
    """fairseq's training module where it runs: as a module, or as a script (`python -m fairseq_cli.train`)."""
    # Looked up and not imported: importing it sets logging up, which is for training alone.
    found = [sys.modules.get(name) for name in ("fairseq_cli.train", "__main__")]
    return [module for module in found if hasattr(module, "validate_and_save") and hasattr(module, "should_stop_early")]


def state() -> dict[str, float]:
    """What to keep of it in a checkpoint."""
    kept: dict[str, float] = {}
    for module in training_modules():
        kept |= {name: value for name, value in vars(module.should_stop_early).items() if name in _KEPT}
    return kept


def restore(kept: dict[str, float]) -> None:
    for module in training_modules():
        vars(module.should_stop_early).update({name: value for name, value in kept.items() if name in _KEPT})


def forget() -> None:
    """Start as a new process does: without a count, and without a best score, which fairseq keeps there too."""
    vars(checkpoint_utils.save_checkpoint).pop("best", None)
    for module in training_modules():
        for name in _KEPT:
            vars(module.should_stop_early).pop(name, None)
