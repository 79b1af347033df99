"""A frozen LLM that is larger than one device: its layers divided among the training processes.

Each process holds its share of every layer and gathers a layer's weights for the moment in which it runs, forward and
backward (FSDP2, `torch.distributed.fsdp.fully_shard`). Embeddings and the output layer stay whole: they are a few
percent of a large LLM, are used outside its forward pass, and are one tensor where they are tied. What the processes
compute is bit for bit what each would have computed with the whole LLM.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch.distributed as dist
from torch import nn

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.gather import world_size

SHARDINGS = ("none", "machine", "all")


def shard_llm(model: Any, sharding: str, prepare: Callable[[Collection[nn.Parameter]], None], name: str) -> None:
    """Divide the layers of a Hugging Face causal LM, in place, among processes that all run it in step.

    Args:
        model: the LLM; nothing of it is to learn.
        sharding: "machine" divides among the processes of one machine, "all" among all; "none" does nothing.
        prepare: what is to be done to weights (a cast) before they are divided. It is given those of one layer after
            the other, so that no process ever holds a prepared copy of the whole.
        name: of the model, for messages.

    Raises:
        SparqleError: there is one process only, or nothing that can be divided.
    """
    if sharding == "none":
        prepare(set(model.parameters()))
        return
    if world_size() == 1:
        raise SparqleError(
            f"--llm-sharding {sharding} divides the LLM among training processes, and there is one; start more with "
            "sparqle launch, or leave the option out"
        )
    from torch.distributed.fsdp import fully_shard

    mesh = _mesh(sharding)
    layers = _layers(model, name)
    model.requires_grad_(False)
    # By number: what holds the parameters themselves would keep them whole.
    inside = {id(parameter) for layer in layers for parameter in layer.parameters()}
    outside = {parameter for parameter in model.parameters() if id(parameter) not in inside}
    prepare(outside)
    for layer in layers:
        prepare(set(layer.parameters()))
        fully_shard(layer, mesh=mesh)
    # The root has no weights of its own. It makes the layers know each other: the next is fetched while one computes.
    fully_shard(model, mesh=mesh, ignored_params=outside)


def _layers(model: Any, name: str) -> list[nn.Module]:
    """The LLM's layers, which transformers marks as what may be computed again."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers: list[nn.Module] = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise SparqleError(
            f"{name}: transformers does not say what the layers of this model are; leave --llm-sharding out"
        )
    return layers


def _mesh(sharding: str) -> Any:
    """The processes that share one LLM."""
    from torch.distributed.device_mesh import init_device_mesh

    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    world = dist.get_world_size()
    share = processes_of_machine(os.environ, world) if sharding == "machine" else world
    return init_device_mesh(device, (world // share, share), mesh_dim_names=("copy", "share"))["share"]


def processes_of_machine(environment: Mapping[str, str], world: int) -> int:
    """How many processes run on this machine. Raises `SparqleError` where nothing says so, or it cannot be."""
    for variable in ("LOCAL_WORLD_SIZE", "SLURM_NTASKS_PER_NODE"):
        found = environment.get(variable, "")
        if found.isdigit():
            if int(found) < 1 or world % int(found):
                raise SparqleError(
                    f"--llm-sharding machine: {variable} is {found} and there are {world} processes; start the same "
                    "number on every machine"
                )
            return int(found)
    raise SparqleError(
        "--llm-sharding machine needs to know how many processes a machine runs; start them with torchrun or sparqle "
        "launch -n, or give sbatch --ntasks-per-node"
    )


def check_sharding(options: Any, training: bool, eval_generate: bool) -> str:
    """The sharding of a run's options. A trained model is read whole. Raises `SparqleError` for what cannot go with it.

    Generation is no training in step: answers differ in length, and processes would wait for each other for ever.
    """
    sharding = options.llm_sharding
    if sharding == "none" or not training:
        return "none"
    if eval_generate:
        raise SparqleError(
            "--llm-sharding needs all processes to run the LLM in step, and --eval-generate does not; leave "
            "--eval-generate out and choose the checkpoint by its loss, or generate afterwards with fairseq-generate"
        )
    if options.llm_quantization != "none":
        raise SparqleError("--llm-sharding cannot divide the weights of --llm-quantization; leave one of them out")
    if options.lora_rank:
        # peft gives its matrices the size of one process's share of a divided layer.
        raise SparqleError("--llm-sharding divides a frozen LLM, and --lora-rank trains it; leave one of them out")
    return sharding
