"""torch's own DDP, without its search for unused parameters, and what it does not get to see."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from processes import in_processes

OBJECTIVES = (
    "sparqle",
    "stm+stg",
    "stc+stg",
    "stc+stm",
    "stc",
    "stm",
    "stg",
    "stg-outputs",
    "ctc+stg",
    "stg+adversarial",
)


def two_steps(built, split, rank):
    """Two steps under DDP as fairseq sets it up; DDP complains in the second of what had no gradient in the first."""
    from fairseq.distributed import utils as distributed
    from fairseq.models import DistributedFairseqModel

    options = built.cfg.distributed_training
    options.ddp_backend = "pytorch_ddp"
    options.find_unused_parameters = False
    options.tpu = False
    built.model.train()
    wrapped = DistributedFairseqModel(options, built.model, distributed.get_global_group(), torch.device("cpu"))
    seen = sum(tensor.numel() for tensor in (*wrapped.module.parameters(), *wrapped.module.buffers()))
    adapter = built.model.adapter
    inside = sum(tensor.numel() for tensor in (*adapter.parameters(), *adapter.buffers()))
    from tiny_models import batch

    for first in (0, 4):
        loss, size, _ = built.criterion(wrapped, batch(built, split, range(first + rank, first + 4)))
        (loss / size).backward()
    gradients = [p.grad for p in built.model.parameters() if p.requires_grad]
    total = torch.stack([gradient.float().sum() for gradient in gradients]).sum()
    everywhere = [torch.zeros(()) for _ in range(dist.get_world_size())]
    dist.all_gather(everywhere, total)
    return seen == inside, all(g is not None for g in gradients), bool((everywhere[0] == everywhere[1]).all())


def work(rank, _, paths):
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import sparqle_fairseq

    sparqle_fairseq.register()
    from tiny_models import build, stage1_arguments, stage2_arguments

    found = {}
    for name in OBJECTIVES:
        more = ["--adversarial-input", "hidden", "--max-update", "9"] if "adversarial" in name else []
        built = build([*stage1_arguments(paths), "--objective", name, *more])
        found[name] = two_steps(built, "train2" if more else "train", rank)
    found["stage 2"] = two_steps(build(stage2_arguments(paths)), "train2", rank)
    return found


def test_default_ddp_needs_no_search_for_unused_parameters_and_holds_nothing_frozen(world):
    """Batches of four on one process and of three on the other, for every part of the published sum and others."""
    found = in_processes(work, 2, world)
    assert found.keys() == {*OBJECTIVES, "stage 2"}
    for name, (only_trained, all_reached, same) in found.items():
        assert only_trained, f"{name}: DDP holds more than the adapter"
        assert all_reached, f"{name}: a parameter that asks for a gradient got none"
        assert same, f"{name}: the processes have different gradients"
