"""Batches of which nothing is left (`--skip-bad-audio`, the end of an epoch of several processes) in fairseq's trainer.

fairseq puts the first batch of the data in the place of an empty one, and counts nothing of it where it comes last.
"""

from __future__ import annotations

import logging
from functools import wraps
from typing import Any

import torch
from fairseq import checkpoint_utils
from fairseq.data.iterators import EpochBatchIterator
from fairseq.distributed import utils as distributed
from fairseq.trainer import Trainer

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.fairseq_fixes.early_stopping import training_modules
from sparqle_fairseq.fairseq_fixes.marks import mark, marks

logger = logging.getLogger(__name__)


def pass_over_empty_batches() -> None:
    """Let training pass over empty batches, wherever they come, and count what is in the others right.

    Symptoms: where nothing of the first batch can be read, `Invalid dummy batch: {}` after a whole epoch, and no
    checkpoint; a stand-in that is counted in the validation's scores, in --max-update and in the size of an update of
    several batches (--update-freq), or makes the whole update's size 0. Reasons: fairseq's stand-in is the first batch,
    whatever it holds, and its trainer asks of the last batch of an update alone whether it was one. Can go when it asks
    of each.
    """
    if "passes over empty batches" in marks(Trainer.train_step):
        return
    EpochBatchIterator.first_batch = property(_first_batch_that_holds_something(EpochBatchIterator.first_batch.fget))
    Trainer._prepare_sample = _with_a_silent_stand_in(Trainer._prepare_sample)
    Trainer.train_step = _training(Trainer.train_step)
    Trainer.valid_step = _validating(Trainer.valid_step)
    checkpoint_utils.load_checkpoint = _minding_updates(checkpoint_utils.load_checkpoint)


def _first_batch_that_holds_something(usual: Any) -> Any:
    @wraps(usual)
    def first_batch(self: Any) -> Any:
        if not len(self.frozen_batches) or not getattr(self.dataset, "skip_bad_audio", False):
            return usual(self)
        for indices in self.frozen_batches:
            batch = self.collate_fn([self.dataset[i] for i in indices])
            if batch:
                return batch
        raise SparqleError(self.dataset.nothing_left())

    return first_batch


def _with_a_silent_stand_in(usual: Any) -> Any:
    """A task may say what a stand-in must be, so that the other processes hear nothing of it."""

    @wraps(usual)
    def _prepare_sample(self: Any, sample: Any, *rest: Any, **named: Any) -> Any:
        prepared, stands_in = usual(self, sample, *rest, **named)
        if stands_in and hasattr(self.task, "stand_in"):
            prepared = self.task.stand_in(prepared)
        return prepared, stands_in

    return _prepare_sample


def _training(usual: Any) -> Any:
    @wraps(usual)
    def train_step(self: Any, samples: Any, *rest: Any, **named: Any) -> Any:
        full = [sample for sample in samples if sample]
        empty = [sample for sample in samples if not sample]
        self.passed_over = not _anywhere(self, bool(full))
        if self.passed_over:
            _say(self, "training", len(empty))
            return None
        if self.data_parallel_world_size == 1:
            return usual(self, full, *rest, **named)
        # Every process makes as many steps as the others. Empty ones first: fairseq looks at the last one.
        return usual(self, [*empty, *full], *rest, **named)

    mark(train_step, "passes over empty batches")
    return train_step


def _validating(usual: Any) -> Any:
    @wraps(usual)
    def valid_step(self: Any, sample: Any, raise_oom: bool = False) -> Any:
        # With `raise_oom` fairseq tries a batch once more, in this process alone.
        if not raise_oom and not _anywhere(self, bool(sample)):
            _say(self, "validation", 1)
            return None
        return usual(self, sample, raise_oom)

    return valid_step


def _anywhere(trainer: Any, here: bool) -> bool:
    """Whether any process has something in this step; all processes get the same answer."""
    if trainer.data_parallel_world_size == 1 or not getattr(trainer.task, "batches_may_be_empty", False):
        return here or trainer.data_parallel_world_size > 1  # the last ones of an epoch are never empty everywhere
    flag = torch.tensor([float(here)], device=trainer.device)
    distributed.all_reduce(flag, group=trainer.data_parallel_process_group, op="max")
    return bool(flag.item())


def _say(trainer: Any, what: str, count: int) -> None:
    counts = trainer.__dict__.setdefault("batches_passed_over", {})
    counts[what] = counts.get(what, 0) + count
    logger.warning(
        "a batch is passed over, for nothing in it can be read (--skip-bad-audio); so far %d in %s", counts[what], what
    )


def _minding_updates(usual: Any) -> Any:
    """Where no update was made, none is validated and saved a second time for it (--save-interval-updates)."""

    @wraps(usual)
    def load_checkpoint(*given: Any, **named: Any) -> Any:
        for module in training_modules():
            if "minds updates" not in marks(module.validate_and_save):
                module.validate_and_save = _unless_passed_over(module.validate_and_save)
        return usual(*given, **named)

    return load_checkpoint


def _unless_passed_over(usual: Any) -> Any:
    @wraps(usual)
    def validate_and_save(
        cfg: Any, trainer: Any, task: Any, epoch_itr: Any, valid_subsets: Any, end_of_epoch: bool
    ) -> Any:
        if getattr(trainer, "passed_over", False) and not end_of_epoch:
            return [None], False
        return usual(cfg, trainer, task, epoch_itr, valid_subsets, end_of_epoch)

    mark(validate_and_save, "minds updates")
    return validate_and_save
