"""What a training command asks of validation, looked at before the first update.

Options that cannot go together, and the metric that chooses the best checkpoint: whether every validation set will have
it, and which way it is good.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from fairseq.logging import metrics

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.scoring.directions import more_is_better
from sparqle_fairseq.tasks.scores import log_text_scores

logger = logging.getLogger(__name__)

# What is logged beside the quality of a model.
_BOOKKEEPING = frozenset({"wps", "ups", "wpb", "bsz", "temperature", "without_reference"})


def check_options(cfg: Any) -> None:
    """Raise `SparqleError` where two of fairseq's options contradict each other, or one says nothing.

    fairseq finds it out behind the first epoch (a division by 0), or never (--patience without any validation).
    """
    data, keep, most = cfg.dataset, cfg.checkpoint, cfg.optimization.max_update
    for option, value, least in (
        ("validate-interval", data.validate_interval, 1),
        ("save-interval", keep.save_interval, 1),
        ("log-interval", cfg.common.log_interval, 1),
        ("max-valid-steps", 0 if data.max_valid_steps is None else data.max_valid_steps, 0),
    ):
        if value < least:
            raise SparqleError(f"--{option} {value} says nothing; give a number from {least}, or leave it out")
    if data.combine_valid_subsets:
        raise SparqleError(
            "--combine-valid-subsets is not offered here; name the manifests, such as --valid-subset valid,valid2"
        )
    if data.disable_validation:
        reason = "--disable-validation"
    elif 0 < most < data.validate_after_updates:
        reason = f"--validate-after-updates {data.validate_after_updates}, above --max-update {most},"
    else:
        return
    scheduler = getattr(cfg.lr_scheduler, "_name", None)
    asked = {
        f"--patience {keep.patience}": keep.patience > 0,
        f"--keep-best-checkpoints {keep.keep_best_checkpoints}": keep.keep_best_checkpoints > 0,
        f"--best-checkpoint-metric {keep.best_checkpoint_metric}": keep.best_checkpoint_metric != "loss",
        "--eval-generate": cfg.task.eval_generate,
        f"--lr-scheduler {scheduler}": scheduler == "reduce_lr_on_plateau",
    }
    for option, given in asked.items():
        if given:
            raise SparqleError(f"{reason} leaves no validation, and {option} needs one; leave one of the two out")


def settle_direction(cfg: Any) -> None:
    """Keep the best checkpoint and not the worst: where a metric's name says which way is good, that is the way."""
    keep = cfg.checkpoint
    more = more_is_better(keep.best_checkpoint_metric)
    if more is None or more == keep.maximize_best_checkpoint_metric:
        return
    keep.maximize_best_checkpoint_metric = more
    if hasattr(cfg.lr_scheduler, "maximize_best_checkpoint_metric"):  # reduce_lr_on_plateau has a copy
        cfg.lr_scheduler.maximize_best_checkpoint_metric = more
    logger.warning(
        "--best-checkpoint-metric %s: %s of it is better, so --maximize-best-checkpoint-metric is %s",
        keep.best_checkpoint_metric,
        "more" if more else "less",
        "set" if more else "taken back",
    )


def check_best_metric(trainer: Any) -> None:
    """Raise `SparqleError` where a validation set will not have the metric of --best-checkpoint-metric."""
    data, metric = trainer.cfg.dataset, trainer.cfg.checkpoint.best_checkpoint_metric
    if data.disable_validation or metric == "loss":  # which every criterion logs
        return
    subsets = data.valid_subset.split(",")
    found = {subset: validation_metrics(trainer, subset) for subset in subsets}
    lacking = [subset for subset in subsets if metric not in found[subset]]
    if not lacking:
        return
    everywhere = [name for name in found[subsets[0]] if all(name in found[subset] for subset in subsets)]
    remedy = f"give one of {', '.join(everywhere)}"
    if not trainer.task.cfg.eval_generate and all(metric in text_metrics(trainer, subset) for subset in subsets):
        remedy += ", or have text generated in validation with --eval-generate"
    elif len(lacking) < len(subsets):
        remedy += ", or leave it out of --valid-subset"
    raise SparqleError(
        f"--best-checkpoint-metric {metric}: validation on {', '.join(lacking)} will have none; {remedy}"
    )


@torch.no_grad()
def validation_metrics(trainer: Any, subset: str) -> list[str]:
    """Names of what validation on a subset will log of a model's quality.

    They come from the code that logs them: of what the criterion finds in one batch, as if no count of it were 0, and
    of the subset's references as if they had been generated.
    """
    task, criterion, model = trainer.task, trainer.get_criterion(), trainer.model
    trainer.get_valid_iterator(subset)
    sample, _ = trainer._prepare_sample(trainer._dummy_batch)  # its first batch
    training = model.training
    model.eval()
    with metrics.aggregate(new_root=True):
        _, _, log = criterion(model, sample)
    model.train(training)
    absent = tuple(task.absent_counts(_rows(trainer, subset)))
    with metrics.aggregate(new_root=True) as logged:
        criterion.reduce_metrics([{name: 1.0 for name in log if not name.startswith(absent)}])
    names = [name for name in logged if not name.startswith("_") and name not in _BOOKKEEPING]
    return names + (text_metrics(trainer, subset) if task.cfg.eval_generate else [])


def text_metrics(trainer: Any, subset: str) -> list[str]:
    """Names of what is logged of generated text."""
    task = trainer.task
    rows = [task.dataset(subset).text.scored(row) for row in _rows(trainer, subset)]
    batch = {name: [row[name] for row in rows] for name in rows[0]}
    with metrics.aggregate(new_root=True) as logged:
        log_text_scores([task.text_scores([text or "" for text in batch["reference"]], batch).as_log()])
    return [name for name in logged if not name.startswith("_") and name not in _BOOKKEEPING]


def _rows(trainer: Any, subset: str) -> list[Any]:
    """The rows that validation sees of a subset (--max-valid-steps)."""
    batches, most = trainer.get_valid_iterator(subset).frozen_batches, trainer.cfg.dataset.max_valid_steps
    if most is not None:
        batches = batches[: (most + 1) * trainer.data_parallel_world_size]
    dataset = trainer.task.dataset(subset)
    return [dataset.row(int(index)) for batch in batches for index in batch]
