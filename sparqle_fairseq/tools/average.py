"""One checkpoint of several: the mean of their weights, or of the moving averages that training kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from sparqle_fairseq.data.checkpoint_files import allow_fairseq_checkpoints, save_whole, whole
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.identity import STATE_NAME, check_identity, decode_identity


def average_checkpoints(paths: Sequence[Path], output: Path, ema: bool = False) -> int:
    """Write the mean of the checkpoints' weights, with the options of the last one, and no optimizer.

    Args:
        paths: checkpoints of one model: the same names and sizes, the same encoder, LLM and vocabulary.
        output: a checkpoint to translate with.
        ema: take the moving average that `--store-ema` kept in place of the weights.

    Returns:
        How many values were averaged.

    Raises:
        SparqleError: a checkpoint is damaged, of another model, or has no moving average.
    """
    allow_fairseq_checkpoints()
    sums: dict[str, torch.Tensor] = {}
    first: dict[str, Any] = {}
    state: dict[str, Any] = {}
    for path in paths:
        whole(str(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
        weights = _moving_average(path, state) if ema else state["model"]
        if STATE_NAME not in weights:
            raise SparqleError(f"{path} is a checkpoint of another model; give those of stage 1 or 2")
        if not first:
            first = weights
        _check_alike(path, weights, paths[0], first)
        for name, value in weights.items():
            if name != STATE_NAME:  # the last one's: it is a name, and no number
                sums[name] = sums[name] + value.double() if name in sums else value.double()
    means = {name: (total / len(paths)).to(first[name].dtype) for name, total in sums.items()}
    state["model"] = {**means, STATE_NAME: state["model"][STATE_NAME]}
    state.pop("last_optimizer_state", None)
    for name in ("ema", "ema_fp32_params"):
        state["extra_state"].pop(name, None)
    save_whole(state, output)
    return sum(value.numel() for value in means.values())


def _moving_average(path: Path, state: dict[str, Any]) -> dict[str, torch.Tensor]:
    extra = state["extra_state"]
    weights = extra.get("ema_fp32_params") or extra.get("ema")
    if not weights:
        raise SparqleError(f"{path} has no moving average; train with --store-ema, or leave --ema out")
    return weights


def _check_alike(path: Path, weights: dict[str, Any], other: Path, first: dict[str, Any]) -> None:
    for one, two, of_one, of_two in ((weights, first, path, other), (first, weights, other, path)):
        for name, value in one.items():
            if name != STATE_NAME and (name not in two or two[name].shape != value.shape):
                raise SparqleError(f"{of_one} and {of_two} are not of one model: {name} is not the same in both")
    try:
        check_identity(decode_identity(first[STATE_NAME]), decode_identity(weights[STATE_NAME]))
    except SparqleError as error:
        raise SparqleError(f"{path} and {other} are not of one model: {error}") from error
