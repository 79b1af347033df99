"""A checkpoint that cannot be used, named in one sentence."""

from __future__ import annotations

import os
import pickle
from functools import wraps
from typing import Any

from fairseq import checkpoint_utils

from sparqle_fairseq.errors import SparqleError, reason
from sparqle_fairseq.fairseq_fixes.marks import mark, marks


def name_bad_checkpoints() -> bool:
    """Let a checkpoint that cannot be used be named in one sentence.

    Symptom: a cut, empty or foreign file after ``--path``, or as the one to resume from, stops the command with
    ``EOFError``, ``KeyError: 'best_loss'``, ``pop from empty list``, or forty lines of torch on how to switch its
    protection off; none names the file. Reason: ``fairseq.checkpoint_utils`` reads whatever it is given. Its two
    readers are wrapped; what they read does not change. Can go when fairseq checks what it reads.

    Returns:
        True where this call wrapped them.
    """
    if "names bad files" in marks(checkpoint_utils.load_checkpoint_to_cpu):
        return False
    read, build = checkpoint_utils.load_checkpoint_to_cpu, checkpoint_utils.load_model_ensemble_and_task

    @wraps(read)
    def load_checkpoint_to_cpu(path: str, *rest: Any, **named: Any) -> Any:
        try:
            return read(path, *rest, **named)
        except Exception as error:  # torch, pickle, zipfile and fairseq raise many kinds
            raise SparqleError(_what_is_wrong(path, error)) from error

    @wraps(build)
    def load_model_ensemble_and_task(filenames: list[str], *rest: Any, **named: Any) -> Any:
        for path in filenames:
            if not os.path.isfile(path) and named.get("num_shards", 1) == 1:
                raise SparqleError(f"{path}: there is no such file; give a checkpoint of fairseq-train")
        try:
            return build(filenames, *rest, **named)
        except SparqleError as error:
            names = ":".join(filenames)
            raise SparqleError(str(error) if names in str(error) else f"{names}: {error}") from error

    mark(load_checkpoint_to_cpu, "names bad files")
    checkpoint_utils.load_checkpoint_to_cpu = load_checkpoint_to_cpu
    checkpoint_utils.load_model_ensemble_and_task = load_model_ensemble_and_task
    return True


def _what_is_wrong(path: str, error: Exception) -> str:
    """One sentence for whatever came up while `path` was read."""
    if isinstance(error, pickle.UnpicklingError) and "Unsupported global" in str(error):
        return f"{path} holds more than data, and is not loaded; ask its maker for the weights alone"
    found = f"{type(error).__name__}: {reason(error, 120)}" if str(error) else type(error).__name__
    return f"{path} is damaged or no fairseq checkpoint ({found}); give one of fairseq-train"
