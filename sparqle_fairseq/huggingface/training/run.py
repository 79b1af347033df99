"""A whole run: from options to a trained model in its folder."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.huggingface.training.arguments import Run
from sparqle_fairseq.huggingface.training.record import checkpoint_to_resume, write_record
from sparqle_fairseq.huggingface.training.stage import Stage
from sparqle_fairseq.huggingface.training.stage1 import Stage1
from sparqle_fairseq.huggingface.training.stage2 import Stage2
from sparqle_fairseq.huggingface.training.trainer import SparqleTrainer
from sparqle_fairseq.models.stage1.objectives import kind_of
from sparqle_fairseq.models.stage1.weighted import logged_name
from sparqle_fairseq.models.stage2.objectives import parse_objective
from sparqle_fairseq.models.stage2.weighted import metric_names
from sparqle_fairseq.scoring.directions import more_is_better

logger = logging.getLogger(__name__)


def build_stage(run: Run) -> Stage:
    """Model, data and loss, with the weights that fairseq-train with this seed starts from. Raises `SparqleError`."""
    if not run.data.data:
        raise SparqleError("no data folder was given; name the folder that holds the manifests with data")
    np.random.seed(run.training.seed)
    torch.manual_seed(run.training.seed)
    stage: Any = Stage1(run) if run.stage == 1 else Stage2(run)
    return stage


def train(run: Run) -> SparqleTrainer:
    """Train, validate, keep the best, and write the result into `output_dir`.

    Raises:
        SparqleError: the options do not go together, the data is not what they need, or the folder holds another run.
    """
    resumed = checkpoint_to_resume(run)
    stage = build_stage(run)
    settle_best(run, stage)
    trainer = SparqleTrainer(stage, run)
    trainer.accelerator.wait_for_everyone()  # each process has looked at the folder before one writes into it
    if trainer.is_world_process_zero():
        write_record(run)
    trainer.train(resume_from_checkpoint=resumed)
    trainer.save_model()
    trainer.save_state()
    if trainer.is_world_process_zero():
        stage.finish(str(run.training.output_dir), _last_scores(trainer))
    # The folder is whole when any process goes on. And gloo's threads are done: they want the interpreter's lock for
    # what they still hold, and a process that ends while they wait for it would wait for them for ever.
    trainer.accelerator.wait_for_everyone()
    return trainer


def settle_best(run: Run, stage: Stage) -> None:
    """Keep the best and not the worst; see that every validation will have the metric. Raises `SparqleError`."""
    args = run.training
    if args.eval_strategy != "no" and not stage.valid_sets:
        raise SparqleError(f"eval_strategy {args.eval_strategy} validates, and no valid_subset is named; name one")
    if args.metric_for_best_model is None:
        return
    metric = args.metric_for_best_model.removeprefix("eval_")
    several = len(stage.valid_sets) > 1
    there = [
        f"{subset}_{name}" if several else name
        for subset in stage.valid_sets
        for name in validation_metrics(run, stage, subset)
    ]
    if metric not in there:
        remedy = "" if run.data.eval_generate else "; eval_generate adds scores of text"
        raise SparqleError(f"metric_for_best_model {metric}: validation has {', '.join(there)}{remedy}")
    more = more_is_better(metric)
    if more is not None and args.greater_is_better != more:
        args.greater_is_better = more
        logger.info("metric_for_best_model %s: %s of it is better", metric, "more" if more else "less")


def validation_metrics(run: Run, stage: Stage, subset: str) -> list[str]:
    """Names of what validation on a subset finds."""
    names = ["loss"]
    rows = stage.valid_sets[subset]
    scored = [rows.text.scored(rows.row(i)) for i in range(len(rows))]
    if run.stage == 2:
        names += metric_names(parse_objective(run.model.objective))
    else:
        pairs = any(rows.row(i).task == "translation" and rows.row(i).tgt_text for i in range(len(rows)))
        for name in stage.model.objective:
            kind = kind_of(name)
            if not kind.reads_translations or pairs:
                names += [f"{logged_name(name)}_loss", *kind.rates, *kind.means]
    if run.data.eval_generate:
        tasks = {row.get("task") or "transcription" for row in scored if (row["reference"] or "").strip()}
        names += ["wer", "cer"] * ("transcription" in tasks) + ["bleu"] * ("translation" in tasks)
    return names


def _last_scores(trainer: SparqleTrainer) -> Mapping[str, float]:
    """Those of the validation that chose the model, or of the last one."""
    found: list[dict[str, Any]] = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
    best = trainer.state.best_global_step
    chosen = next((entry for entry in found if trainer.args.load_best_model_at_end and entry["step"] == best), None)
    entry = chosen or (found[-1] if found else {})
    skipped = ("runtime", "per_second", "epoch")
    return {name: value for name, value in entry.items() if name.startswith("eval_") and not name.endswith(skipped)}
