"""A task looks at the whole command before the first update, and at a metric that validation did not have."""

from __future__ import annotations

from functools import wraps
from typing import Any

from fairseq import checkpoint_utils
from fairseq.data import data_utils

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.fairseq_fixes.early_stopping import training_modules
from sparqle_fairseq.fairseq_fixes.marks import mark, marks


def let_tasks_look_first() -> None:
    """Call `task.before_training(trainer)`, where a task has it, when all but the checkpoint is loaded.

    Symptom: options that cannot go together are found out after an epoch, in `KeyError: 'bleu'` or a division by 0,
    and nothing is saved. Reason: fairseq hands a task its own options alone. Can go when it asks the task.
    """
    usual = checkpoint_utils.load_checkpoint
    if "looks first" in marks(usual):
        return

    @wraps(usual)
    def load_checkpoint(cfg: Any, trainer: Any, **more: Any) -> Any:
        if hasattr(trainer.task, "before_training"):
            trainer.task.before_training(trainer)
        for module in training_modules():
            if "saves before it misses" not in marks(module.validate):
                module.validate = _saving_first(module.validate)
        return usual(cfg, trainer, **more)

    mark(load_checkpoint, "looks first")
    checkpoint_utils.load_checkpoint = load_checkpoint


def _saving_first(usual: Any) -> Any:
    """fairseq's `validate`: where the metric of the best checkpoint is missing after all, the work is saved first."""

    @wraps(usual)
    def validate(cfg: Any, trainer: Any, task: Any, epoch_itr: Any, subsets: Any) -> Any:
        metric = cfg.checkpoint.best_checkpoint_metric
        try:
            return usual(cfg, trainer, task, epoch_itr, subsets)
        except KeyError as error:
            if error.args != (metric,):
                raise
            checkpoint_utils.save_checkpoint(cfg.checkpoint, trainer, epoch_itr, None)
            raise SparqleError(
                f"--best-checkpoint-metric {metric}: validation on one of {', '.join(subsets)} has none; all up to "
                f"update {trainer.get_num_updates()} is saved in {cfg.checkpoint.save_dir}: go on with another metric"
            ) from error

    mark(validate, "saves before it misses")
    return validate


def name_unused_validation_sets() -> None:
    """Let a valid2.tsv beside valid.tsv, which --valid-subset does not name, be said in one sentence.

    Symptom: `ValueError: Valid paths {'valid2'} will be ignored. Set --combine-val …`, an option that there is not.
    Reason: fairseq means its own way to divide data. Can go when its sentence names its options.
    """
    usual = data_utils.raise_if_valid_subsets_unintentionally_ignored
    if "names them" in marks(usual):
        return

    @wraps(usual)
    def raise_if_valid_subsets_unintentionally_ignored(cfg: Any) -> None:
        try:
            usual(cfg)
        except ValueError as error:
            named = cfg.dataset.valid_subset.split(",")
            others = sorted(data_utils._find_extra_valid_paths(cfg.task.data) - set(named))
            raise SparqleError(
                f"{cfg.task.data} holds {', '.join(others)}, and --valid-subset {','.join(named)} leaves it out; give "
                f"--valid-subset {','.join([*named, *others])}, or --ignore-unused-valid-subsets"
            ) from error

    mark(raise_if_valid_subsets_unintentionally_ignored, "names them")
    data_utils.raise_if_valid_subsets_unintentionally_ignored = raise_if_valid_subsets_unintentionally_ignored
