"""The same command after the end of its run: it says that the run is over, and leaves all as it is."""

from __future__ import annotations

import logging
from functools import wraps
from typing import Any

from fairseq import checkpoint_utils

from sparqle_fairseq.fairseq_fixes import early_stopping
from sparqle_fairseq.fairseq_fixes.marks import mark, marks

logger = logging.getLogger(__name__)


def keep_finished_runs() -> None:
    """Let a run that is over stay over.

    Symptom: `--max-update 8` given three times makes 8, 9 and 10 updates, validates each time and may overwrite
    `checkpoint_best.pt`. Reason: fairseq looks at its limits behind an update and not before the first one. Can go when
    it looks before.
    """
    usual = checkpoint_utils.load_checkpoint
    if "stays over" in marks(usual):
        return

    @wraps(usual)
    def load_checkpoint(cfg: Any, trainer: Any, **more: Any) -> Any:
        extra_state, epoch_itr = usual(cfg, trainer, **more)
        reached = None if extra_state is None else limit_reached(trainer, epoch_itr)
        if reached is not None:
            logger.info(
                "this run is done, and %s is left as it is: it made %d updates, and %s",
                cfg.save_dir,
                trainer.get_num_updates(),
                reached,
            )
        for module in early_stopping.training_modules():
            module.train = _train_unless(reached is not None, module.train)
        return extra_state, epoch_itr

    mark(load_checkpoint, "stays over")
    checkpoint_utils.load_checkpoint = load_checkpoint


def limit_reached(trainer: Any, epoch_itr: Any) -> str | None:
    """Which limit a run that was loaded has come to, and what goes on from there; None for one that is not over.

    All of it is from the checkpoint, so that every process finds the same.
    """
    options, updates = trainer.cfg.optimization, trainer.get_num_updates()
    if 0 < options.max_update <= updates:
        return f"--max-update is {options.max_update}: raise it to go on"
    if 0 < options.max_epoch < epoch_itr.next_epoch_idx:
        return f"--max-epoch is {options.max_epoch}: raise it to go on"
    hours = trainer._previous_training_time / 3600
    if 0 < options.stop_time_hours < hours:
        return f"it took {hours:.2f} hours, --stop-time-hours is {options.stop_time_hours:g}: raise it to go on"
    rate = trainer.get_lr()
    if not isinstance(rate, dict) and rate <= options.stop_min_lr:
        return f"its learning rate is {rate:g}, --stop-min-lr is {options.stop_min_lr:g}: lower that to go on"
    patience = trainer.cfg.checkpoint.patience
    if 0 < patience <= early_stopping.state().get("num_runs", 0):
        return f"the last {patience} validations found nothing better (--patience): raise it to go on"
    return None


def _train_unless(over: bool, train: Any) -> Any:
    """fairseq's `train(cfg, trainer, task, epoch_itr)` of an epoch, or one that ends training at once."""
    epoch = getattr(train, "_trains_an_epoch", train)

    @wraps(epoch)
    def wrapper(*given: Any, **named: Any) -> Any:
        return ([None], True) if over else epoch(*given, **named)

    wrapper._trains_an_epoch = epoch  # type: ignore[attr-defined]
    return wrapper
