"""LoRA: low-rank updates of the LLM's linear layers, which are trained while the LLM stays as it is.

Hu et al., 2021, arXiv 2106.09685, by `peft`. The LLM is in a box that no trainer reaches (`Frozen`). The matrices of
LoRA belong to two modules: to the layers of the LLM, which `peft` has put in the place of the linear ones, and to
`LoRA`, which the adapter holds and the trainer trains, casts and saves.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.llm.lora_options import LORA_SHAPE

ADAPTER = "default"  # peft's name of the one adapter that there is
MISSING = "LoRA needs the package peft, which is not installed; run: pip install 'sparqle-fairseq[lora]'"


class LoRALayer(nn.Module):
    """What LoRA adds to one linear layer: B(A(dropout(x))), times alpha / rank."""

    def __init__(self, A: nn.Module, B: nn.Module, dropout: nn.Module) -> None:
        super().__init__()
        self.A, self.B, self.dropout = A, B, dropout


class LoRA(nn.Module):
    """The trained matrices, under the names of the LLM's layers: `model.layers.0.self_attn.q_proj.A.weight`.

    Args:
        layers: peft's layers by their names in the LLM.
        config: peft's own configuration of them.
        enabled: whether the LLM runs with them.
    """

    def __init__(self, layers: Mapping[str, Any], config: Any, enabled: bool = True) -> None:
        super().__init__()
        self.config = config
        self.enabled = enabled
        self.layer_names = list(layers)
        for name, layer in layers.items():
            *parents, last = name.split(".")
            place: nn.Module = self
            for part in parents:
                if part not in place._modules:
                    place.add_module(part, nn.Module())
                place = place.get_submodule(part)
            own = LoRALayer(layer.lora_A[ADAPTER], layer.lora_B[ADAPTER], layer.lora_dropout[ADAPTER])
            place.add_module(last, own)

    def install(self, model: nn.Module) -> None:
        """Make `model` run with these matrices and no others: a copy of this module has its own."""
        for name in self.layer_names:
            layer: Any = model.get_submodule(name)
            own: Any = self.get_submodule(name)
            if layer.lora_A[ADAPTER] is not own.A:
                layer.lora_A[ADAPTER], layer.lora_B[ADAPTER] = own.A, own.B
                layer.lora_dropout[ADAPTER] = own.dropout
            if layer.disable_adapters == self.enabled:
                layer.enable_adapters(self.enabled)

    @contextmanager
    def switched_off(self, model: nn.Module) -> Iterator[None]:
        """Let `model` run without these matrices; what asks for a gradient goes on asking for it."""
        layers: list[Any] = [model.get_submodule(name) for name in self.layer_names]
        before = [layer._disable_adapters for layer in layers]
        try:
            for layer in layers:
                layer._disable_adapters = True  # peft's own switch would also freeze the matrices
            yield
        finally:
            for layer, value in zip(layers, before, strict=True):
                layer._disable_adapters = value

    @property
    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())


def check_lora_options(options: Any, training: bool) -> None:
    """Raise `SparqleError` for values that make no LoRA, and for a training that would not run with its own."""
    if options.lora_rank < 0:
        raise SparqleError(f"--lora-rank {options.lora_rank} must be 1 or more, or 0 for no LoRA")
    if options.lora_rank and options.lora_alpha <= 0:
        raise SparqleError(f"--lora-alpha {options.lora_alpha:g} must be above 0")
    if not 0 <= options.lora_dropout < 1:
        raise SparqleError(f"--lora-dropout {options.lora_dropout:g} must be from 0 to below 1")
    if training and options.without_lora:
        raise SparqleError(
            "--without-lora runs a trained checkpoint without its LoRA, or leaves that of --pretrained-adapter out; "
            "leave it out of other training"
        )


def add_lora(model: Any, options: Any, name: str) -> LoRA | None:
    """Put LoRA into a frozen LLM, in place; None where `options` ask for none.

    Args:
        model: a Hugging Face causal LM; none of its own parameters is to learn.
        options: `LoRAOptions`.
        name: of the LLM, for messages.

    Raises:
        SparqleError: the LLM has no layer of these names, or peft is missing.
    """
    if not options.lora_rank:
        return None
    peft_model = with_peft(model, peft_config(options), name)
    from peft.tuners.lora import LoraLayer

    layers = {at: layer for at, layer in model.named_modules() if isinstance(layer, LoraLayer)}
    tied = bool(getattr(model.config, "tie_word_embeddings", False))
    for at, layer in layers.items():
        if not layer.lora_A or (tied and layer.get_base_layer() is model.get_output_embeddings()):
            raise SparqleError(
                f"--lora-target {options.lora_target} names {at} of {name}, which is no linear layer of its own (an "
                "embedding, or tied to it); name linear layers"
            )
    return LoRA(layers, peft_model.peft_config[ADAPTER], enabled=not options.without_lora)


def peft_config(options: Any) -> Any:
    """peft's configuration of `LoRAOptions`."""
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise SparqleError(MISSING) from error
    target = options.lora_target
    names: Any = [part.strip() for part in target.split(",") if part.strip()]
    chosen = {"default": None, "all-linear": "all-linear"}.get(target, names)
    return LoraConfig(
        r=options.lora_rank,
        lora_alpha=options.lora_alpha,
        lora_dropout=options.lora_dropout,
        target_modules=chosen,
        task_type="CAUSAL_LM",
    )


def with_peft(model: Any, config: Any, name: str) -> Any:
    """peft's model around `model`, whose layers are replaced in place. Raises `SparqleError`."""
    from peft import get_peft_model

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft tells what it does to GPT-2's transposed layers
            return get_peft_model(model, config)
    except ValueError as error:
        linear = {at.rsplit(".", 1)[-1] for at, module in model.named_modules() if is_linear(module)}
        target = config.target_modules
        asked = "default" if target is None else target if isinstance(target, str) else ",".join(sorted(target))
        raise SparqleError(
            f"--lora-target {asked}: {name} has no such layers, or peft has no choice of its own for it; name some of "
            f"{', '.join(sorted(linear))}, or all-linear"
        ) from error


def is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def take_lora_options(options: Any, trained: Mapping[str, Any]) -> None:
    """Take over the LoRA of `--pretrained-adapter`, whose options are `trained`.

    Raises:
        SparqleError: the command line asks for another LoRA than the checkpoint has.
    """
    rank = int(trained.get("lora_rank") or 0)
    if options.without_lora:
        if options.lora_rank:
            raise SparqleError("--without-lora leaves LoRA out and --lora-rank asks for one; leave one of them out")
        # A checkpoint of this run has no LoRA to run without.
        options.without_lora = False
    elif rank and options.lora_rank not in (0, rank):
        raise SparqleError(
            f"--lora-rank {options.lora_rank}, but the LoRA of --pretrained-adapter {options.pretrained_adapter} has "
            f"rank {rank}; leave the option out to go on with it, or give --without-lora to leave it out"
        )
    elif rank:
        for name in LORA_SHAPE:
            setattr(options, name, trained[name])


def fill_lora(state: dict[str, Any], lora: LoRA | None) -> None:
    """In the tensors of an adapter to start from, settle those of LoRA.

    A LoRA that the checkpoint lacks is new; one that the run has none of is left out (`--without-lora`).
    """
    if lora is None:
        for name in [name for name in state if name.startswith("lora.")]:
            del state[name]
    elif not any(name.startswith("lora.") for name in state):
        state |= {f"lora.{name}": value for name, value in lora.state_dict().items()}
