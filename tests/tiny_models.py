"""Tasks and models of both stages, built as the fairseq commands build them."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from fairseq import options, tasks
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import OmegaConf

# What takes the Q-Former's sizes out of the words below: a plain adapter refuses those that it does not have.
NO_QUERIES = ["--queries", "100"]
NO_LAYERS = [*NO_QUERIES, "--layers", "12"]
PLAIN = {
    "stack": ["--adapter", "stack", "--speech-stride", "4", *NO_LAYERS],
    "conv": ["--adapter", "conv", "--speech-stride", "4", *NO_LAYERS, "--ffn-size", "3072"],
    "ctc": ["--adapter", "ctc", "--speech-stride", "2", *NO_QUERIES],
}
TINY = ["--hidden-size", "32", "--layers", "2", "--heads", "4", "--ffn-size", "64", "--queries", "6"]


_parsed: dict[tuple[str, ...], Any] = {}


def parse(arguments: list[str]) -> Any:
    """fairseq-train's configuration of command-line arguments: read once, and a copy each time."""
    words = tuple(map(str, arguments))
    if words not in _parsed:
        _parsed[words] = _read(list(words))
    return copy.deepcopy(_parsed[words])


def _read(arguments: list[str]) -> Any:
    parser = options.get_training_parser()
    return convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, arguments))


def stage1_arguments(world: Any) -> list[str]:
    return [
        str(world.data), "--task", "sparqle_pretrain", "--arch", "sparqle_qformer_tiny",
        "--criterion", "sparqle_pretrain", "--speech-encoder", str(world.encoder),
        "--text-tokenizer", str(world.tokenizer), *TINY, "--cpu",
    ]  # fmt: skip


def stage2_arguments(world: Any) -> list[str]:
    return [
        str(world.data), "--task", "sparqle_finetune", "--arch", "sparqle_llm", "--criterion", "sparqle_finetune",
        "--speech-encoder", str(world.encoder), "--llm", str(world.llm), "--llm-dtype", "fp32", *TINY, "--cpu",
        "--train-subset", "train2", "--valid-subset", "dev2",
    ]  # fmt: skip


def build(arguments: list[str]) -> SimpleNamespace:
    """Configuration, task, model and criterion of command-line arguments."""
    cfg = parse(arguments)
    torch.manual_seed(0)
    task = tasks.setup_task(cfg.task)
    model = task.build_model(cfg.model)
    return SimpleNamespace(cfg=cfg, task=task, model=model, criterion=task.build_criterion(cfg.criterion))


def stir(model: torch.nn.Module, by: float = 8.0) -> None:
    """Weights at BERT's start are so small that every output looks alike: enlarge them."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "query_tokens" not in name:
                parameter.mul_(by)
            elif "query_tokens" in name:
                parameter.normal_()


def build_stage1(world: Any, *more: str) -> SimpleNamespace:
    built = build([*stage1_arguments(world), *more])
    stir(built.model)
    built.model.eval()
    return built


def build_stage2(world: Any, *more: str) -> SimpleNamespace:
    built = build([*stage2_arguments(world), *more])
    stir(built.model)
    built.model.eval()
    return built


def with_objective(world: Any, text: str) -> SimpleNamespace:
    """Stage 1 with an objective; the LLM comes with those that read it."""
    return build_stage1(world, "--objective", text, *(["--llm", str(world.llm)] if "llm-ctc" in text else []))


def save_adapter(built: SimpleNamespace, path: Path) -> str:
    """What fairseq's trainer writes, as far as `--pretrained-adapter` reads it."""
    options = OmegaConf.to_container(built.cfg.model, resolve=True, enum_to_str=True)
    torch.save({"model": built.model.state_dict(), "cfg": {"model": options}}, path)
    return str(path)


def build_stage2_from(world: Any, path: str, *more: str) -> SimpleNamespace:
    """Stage 2 as it begins from a checkpoint, its weights as they are."""
    return build([*stage2_arguments(world), "--pretrained-adapter", path, *more])


def batch(built: SimpleNamespace, split: str, rows: range | list[int]) -> dict[str, Any]:
    """A collated batch of the rows of a split."""
    if split not in built.task.datasets:
        built.task.load_dataset(split)
    dataset = built.task.dataset(split)
    return dataset.collater([dataset[i] for i in rows])
