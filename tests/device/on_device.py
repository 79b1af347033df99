"""fairseq's trainer, batches and models on the pretend device."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from fairseq.logging import metrics
from fairseq.trainer import Trainer
from fairseq.utils import apply_to_sample, set_torch_seed
from pretend import Watch, device_watch, pretend_device
from tiny_models import batch, build

OPTIMIZER = ["--optimizer", "adam", "--lr", "1e-3", "--clip-norm", "1", "--batch-size", "4", "--max-update", "9"]


def moved(sample: Any, device: Any) -> Any:
    """As fairseq moves a batch: its tensors, wherever they are in it, and nothing else."""
    return apply_to_sample(lambda tensor: tensor.to(device), sample)


class DeviceTrainer(Trainer):
    """fairseq's trainer, which knows CUDA and the CPU alone, on another device."""

    def __init__(self, built: SimpleNamespace, device: Any) -> None:
        super().__init__(built.cfg, built.task, built.model, built.criterion)
        self.there = self.device = device  # the second is where fairseq keeps its moving average
        self._model.to(device)
        self._criterion.to(device)

    def _prepare_sample(self, sample: Any, is_dummy: bool = False) -> Any:
        sample, dummy = super()._prepare_sample(sample, is_dummy)
        return moved(sample, self.there), dummy

    def save_checkpoint(self, *_: Any, **__: Any) -> None:
        """A step that fails would write one, and its own error is wanted."""


def _clip(parameters: Any, most: float, _: Any = None) -> Any:
    """fairseq's, which fetches each norm to the CPU where there is no CUDA; the same numbers from torch."""
    own = [parameter for parameter in parameters if parameter.grad is not None]
    return torch.nn.utils.clip_grad_norm_(own, most or float("inf"))


@contextmanager
def trainer_on(device: Any, built: SimpleNamespace) -> Iterator[DeviceTrainer]:
    """fairseq's trainer of a model, which it moves."""
    metrics.reset_meters("train")
    with mock.patch("fairseq.utils.clip_grad_norm_", _clip), metrics.aggregate("train", new_root=True):
        yield DeviceTrainer(built, device)


@dataclass
class Step:
    """A step as seen from outside: loss and norm of the gradient, and what was waited for."""

    loss: float
    norm: float
    seen: Watch = field(default_factory=Watch)
    searched: int = 0  # tokens of the longest answer that was searched for


def step_here(built: SimpleNamespace, sample: Any) -> Step:
    """Forward and backward pass on the CPU, without an update."""
    built.model.train()
    set_torch_seed(built.cfg.common.seed)  # as the trainer does before its first update
    loss, size, _ = built.criterion(built.model, sample)
    (loss / size).backward()
    norm = torch.nn.utils.clip_grad_norm_(built.model.parameters(), float("inf"))
    built.model.zero_grad()
    gc.collect()  # what a graph still holds cannot be moved
    return Step(float(loss / size), float(norm))


def step_there(device: Any, built: SimpleNamespace, sample: Any) -> Step:
    """An update by fairseq's trainer on the device."""
    found: list[Any] = []
    with trainer_on(device, built) as trainer, answers_noted(built.task, found):
        trainer._dummy_batch = sample
        with device_watch() as seen:
            log = trainer.train_step([sample])
        searched = max((each.tokens.size(2) for each in found), default=0)
        return Step(float(log["loss"]), float(metrics.get_meter("train", "gnorm").avg), seen, searched)


@contextmanager
def answers_noted(task: Any, found: list[Any]) -> Iterator[None]:
    """Put what objectives search for in each step (`Candidates`) into `found`."""
    if not hasattr(task, "candidates"):
        yield
        return
    usual = task.candidates

    def noted(sample: Any) -> Any:
        found.append(usual(sample))
        return found[-1]

    with mock.patch.object(task, "candidates", noted):
        yield


def steps(arguments: list[str], split: str) -> tuple[Step, Step]:
    """The same step on the CPU and on the device."""
    built = build([*arguments, *OPTIMIZER])
    sample = batch(built, split, range(4))
    here = step_here(built, sample)
    with pretend_device() as device:
        return here, step_there(device, built, sample)
