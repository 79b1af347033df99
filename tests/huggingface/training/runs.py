"""The same run with fairseq-train and with transformers' Trainer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
from commands import finetune_arguments, pretrain_arguments, train_here

# Of `tests/commands.py`, as options of transformers.
SHAPE = {"hidden_size": 64, "layers": 2, "heads": 4, "ffn_size": 128, "queries": 8, "cross_attention_freq": 1}
SEED = 3


def options(world: Any, output: Path, stage: int, **more: Any) -> list[str]:
    """A command line; a value of None leaves an option out."""
    found: dict[str, Any] = {
        "stage": stage, "data": world.data, "train_subset": "train2", "valid_subset": "dev2", **SHAPE,
        "speech_encoder": world.encoder, "output_dir": output, "seed": SEED, "learning_rate": 3e-3,
        "lr_scheduler_type": "constant", "max_grad_norm": 1, "per_device_train_batch_size": 6,
        "per_device_eval_batch_size": 6, "logging_steps": 1, "use_cpu": "true", "disable_tqdm": "true",
        "save_strategy": "no", "max_steps": 4,
    }  # fmt: skip
    found |= {"text_tokenizer": world.tokenizer} if stage == 1 else {"llm": world.llm, "llm_dtype": "fp32"}
    found |= more
    return [word for name, value in found.items() if value is not None for word in (f"--{name}", str(value))]


def trainer_run(world: Any, output: Path, stage: int, **more: Any) -> Any:
    from sparqle_fairseq.huggingface.training import parse_run, train

    return train(parse_run(options(world, output, stage, **more)))


def losses_of(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


class FairseqRun(NamedTuple):
    losses: list[float]  # of each update
    tensors: dict[str, Any]  # of the last checkpoint
    validations: list[dict[str, Any]]  # what each of them logged, rounded


def fairseq_run(
    world: Any, output: Path, stage: int, *more: Any, updates: int, accumulated: int = 1, batch: int = 6
) -> FairseqRun:
    import fairseq_cli.train as train_module
    from fairseq.trainer import Trainer

    from sparqle_fairseq.criterions.finetune import FinetuneCriterion
    from sparqle_fairseq.criterions.pretrain import PretrainCriterion

    kind = PretrainCriterion if stage == 1 else FinetuneCriterion
    usual: Callable[..., Any] = kind.forward
    updates_of: list[list[tuple[float, float]]] = []  # summed loss and size of each batch of an update
    step: Callable[..., Any] = Trainer.train_step

    def noted(self: Any, model: Any, sample: Any, reduce: bool = True) -> Any:
        loss, size, log = usual(self, model, sample, reduce)
        if model.training:
            updates_of[-1].append((float(loss.detach()), float(size)))
        return loss, size, log

    def begun(self: Any, samples: Any, raise_oom: bool = False) -> Any:
        updates_of.append([])
        return step(self, samples, raise_oom)

    arguments = [
        "--train-subset", "train2", "--valid-subset", "dev2", "--seed", SEED, "--speech-encoder", world.encoder,
        "--batch-size", batch, "--required-batch-size-multiple", 1, "--update-freq", accumulated,
    ]  # fmt: skip
    shape = [word for name, value in SHAPE.items() for word in (f"--{name.replace('_', '-')}", value)]
    command = pretrain_arguments if stage == 1 else finetune_arguments
    validations: list[dict[str, Any]] = []
    stats = train_module.get_valid_stats

    def noted_stats(*arguments: Any) -> dict[str, Any]:
        found: dict[str, Any] = stats(*arguments)
        validations.append(dict(found))
        return found

    with (
        mock.patch.object(kind, "forward", noted),
        mock.patch.object(Trainer, "train_step", begun),
        mock.patch.object(train_module, "get_valid_stats", noted_stats),
    ):
        train_here(command(world, output, *arguments, *shape, *more, updates=updates))
    losses = [sum(loss for loss, _ in batches) / sum(size for _, size in batches) for batches in updates_of]
    tensors = torch.load(output / "checkpoint_last.pt", weights_only=True)["model"]
    return FairseqRun(losses, tensors, validations)


def largest_difference(one: dict[str, Any], other: dict[str, Any], but: tuple[str, ...] = ()) -> tuple[float, str]:
    """Of the adapter's tensors; names that contain one of `but` are passed over."""
    names = [name for name in one if name.startswith("adapter.") and not any(part in name for part in but)]
    assert len(names) > 20
    return max((float((one[name].float() - other[name].float()).abs().max()), name) for name in names)
