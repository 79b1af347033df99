"""What learns in a speech encoder that is otherwise frozen: its upper layers, or LoRA in its linear layers.

LoRA is that of Hu et al. 2021 (arXiv 2106.09685), by `peft`. The encoder is in a box that no trainer reaches
(`Frozen`); what learns belongs to two modules: to the encoder, and to the adapter, which the trainer trains, casts and
saves. The encoder's dropout stays off, and its positions, convolutions and lower layers stay as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.encoders.base import EncoderNetwork, SpeechEncoder
from sparqle_fairseq.models.encoders.tuning_options import TUNING_SHAPE
from sparqle_fairseq.models.llm.lora import MISSING, LoRA, is_linear


class LearningLayer(nn.Module):
    """A layer that learns among others that do not: the trainer may cast it, and what passes between them stays."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, *given: Any, **named: Any) -> Any:
        dtype = next(self.layer.parameters()).dtype
        output = self.layer(
            x.to(dtype), *(_cast(one, dtype) for one in given), **{key: _cast(one, dtype) for key, one in named.items()}
        )
        return tuple(_cast(one, x.dtype) for one in output) if isinstance(output, tuple) else output.to(x.dtype)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


class EncoderTuning(nn.Module):
    """The trained part of an encoder. Its modules are always in eval mode: their dropout is off, as in the whole.

    Attributes:
        layers: the upper layers, where they learn, under their numbers from 0; else empty.
        lora: the matrices of LoRA, or None.
    """

    def __init__(self, layers: Sequence[tuple[int, nn.Module]], lora: LoRA | None) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({str(number): layer for number, layer in layers})
        self.lora = lora
        self.requires_grad_(True)
        super().train(False)

    def train(self, mode: bool = True) -> EncoderTuning:
        return self

    def install(self, network: EncoderNetwork) -> None:
        """Make `network` run with these modules and no others: a copy of this module has its own."""
        for number, layer in self.layers.items():
            network.transformer_layers()[int(number)] = layer
        if self.lora is not None:
            self.lora.install(network)


def check_tuning_options(options: Any) -> None:
    """Raise `SparqleError` for values that cannot be."""
    if options.encoder_lora < 0 or options.unfreeze_encoder_layers < 0:
        raise SparqleError(
            f"--encoder-lora {options.encoder_lora} and --unfreeze-encoder-layers {options.unfreeze_encoder_layers} "
            "must be 0 or more"
        )
    if options.encoder_lora and options.unfreeze_encoder_layers:
        raise SparqleError("--encoder-lora and --unfreeze-encoder-layers are two ways to train an encoder; give one")
    if options.encoder_lora and options.encoder_lora_alpha <= 0:
        raise SparqleError(f"--encoder-lora-alpha {options.encoder_lora_alpha:g} must be above 0")
    if options.encoder_lr is not None:
        if not tunes(options):
            raise SparqleError(
                "--encoder-lr is the rate of an encoder that learns; give --encoder-lora or --unfreeze-encoder-layers"
            )
        if not options.encoder_lr > 0:
            raise SparqleError(f"--encoder-lr {options.encoder_lr:g} must be above 0")


def tunes(options: Any) -> bool:
    """Whether an encoder learns with these options."""
    return bool(options.encoder_lora or options.unfreeze_encoder_layers)


def add_encoder_tuning(adapter: nn.Module, encoder: Any, options: Any) -> None:
    """Let the adapter hold what learns in the encoder, as `encoder_tuning`; nothing where the options ask for nothing.

    Raises:
        SparqleError: the options cannot be, nothing of the encoder runs here, or it has no such layers.
    """
    check_tuning_options(options)
    if not tunes(options):
        return
    if not isinstance(encoder, SpeechEncoder):
        raise SparqleError(
            "an encoder that learns changes its features at every step, and here stored features or units stand in its "
            "place; train from audio, or leave --encoder-lora and --unfreeze-encoder-layers out"
        )
    network: Any = encoder.frozen.module
    path = str(encoder.identity["path"])
    if options.encoder_lora:
        tuning = EncoderTuning((), _add_lora(network, encoder, options, path))
    else:
        tuning = EncoderTuning(_upper_layers(network, options.unfreeze_encoder_layers, path), None)
    adapter.encoder_tuning = tuning
    encoder.learns = True


def _upper_layers(network: EncoderNetwork, count: int, path: str) -> list[tuple[int, nn.Module]]:
    layers = network.transformer_layers()
    if count > len(layers):
        raise SparqleError(
            f"--unfreeze-encoder-layers {count}: {path} has {len(layers)} layers that can learn here; give that or less"
        )
    return [(number, LearningLayer(layers[number])) for number in range(len(layers) - count, len(layers))]


def _add_lora(network: EncoderNetwork, encoder: SpeechEncoder, options: Any, path: str) -> LoRA:
    """Put LoRA into the network, in place."""
    from sparqle_fairseq.data.torchaudio_import import ensure_torchaudio

    ensure_torchaudio()
    try:
        from peft import LoraConfig, inject_adapter_in_model
        from peft.tuners.lora import LoraLayer
    except ImportError as error:
        raise SparqleError(MISSING) from error
    names = [name.strip() for name in options.encoder_lora_target.split(",") if name.strip()]
    linear = {at.rsplit(".", 1)[-1] for at, module in network.named_modules() if is_linear(module)}
    config = LoraConfig(r=options.encoder_lora, lora_alpha=options.encoder_lora_alpha, target_modules=names)
    try:
        inject_adapter_in_model(config, network)
    except ValueError as error:  # no layer has such a name, or is of a kind that peft does not know
        raise _no_such_layers(options, path, linear) from error
    layers: dict[str, Any] = {at: layer for at, layer in network.named_modules() if isinstance(layer, LoraLayer)}
    if not all(layer.lora_A for layer in layers.values()):
        raise _no_such_layers(options, path, linear)
    for module in network.modules():
        if hasattr(module, "skip_embed_dim_check"):  # fairseq's attention then calls its layers
            setattr(module, "skip_embed_dim_check", True)  # noqa: B010
    _check_called(layers, encoder, path)
    return LoRA(layers, config)


def _no_such_layers(options: Any, path: str, linear: set[str]) -> SparqleError:
    return SparqleError(
        f"--encoder-lora-target {options.encoder_lora_target}: {path} has no such linear layers; name some of "
        f"{', '.join(sorted(linear))}"
    )


@torch.no_grad()
def _check_called(layers: Mapping[str, nn.Module], encoder: SpeechEncoder, path: str) -> None:
    """Some attention takes the weights of a layer and does not call it: what is put around it would never run."""
    called: set[str] = set()
    hooks = [layer.register_forward_pre_hook(lambda *_, at=at: called.add(at)) for at, layer in layers.items()]
    noise = torch.randn(1, encoder.sample_rate, generator=torch.Generator().manual_seed(0)) / 10
    encoder(noise.to(encoder.frozen.device))
    for hook in hooks:
        hook.remove()
    if idle := [at for at in layers if at not in called]:
        raise SparqleError(
            f"--encoder-lora-target names {idle[0]} of {path}, which this encoder never calls; name layers that it "
            "does, such as those of its feed-forward blocks, or train whole layers with --unfreeze-encoder-layers"
        )


@torch.no_grad()
def tuned_network(encoder: SpeechEncoder, tuning: EncoderTuning) -> EncoderNetwork:
    """A copy of the encoder's network with what was trained in its weights, as one that never learned has them."""
    network: Any = encoder.frozen.module
    tuning.install(network)
    network = copy.deepcopy(network)
    layers = network.transformer_layers()
    for number in tuning.layers:
        layers[int(number)] = layers[int(number)].layer
    for at in [] if tuning.lora is None else tuning.lora.layer_names:
        layer = network.get_submodule(at)
        layer.merge()
        parent, _, name = at.rpartition(".")
        setattr(network.get_submodule(parent), name, layer.get_base_layer())
    return network.to(encoder.frozen.dtype)


def fill_tuning(state: dict[str, Any], tuning: EncoderTuning | None, frozen: bool) -> None:
    """In the tensors of an adapter to start from, those of an encoder that begins to learn now are its own.

    `frozen` (`--freeze-qformer`) lets none of it learn on. Raises `SparqleError` where it then never would.
    """
    if tuning is None:
        return
    tuning.requires_grad_(not frozen)
    if not any(name.startswith("encoder_tuning.") for name in state):
        if frozen:
            raise SparqleError(
                "--freeze-qformer trains the projector alone, and an encoder is to learn; give one of both"
            )
        state |= {f"encoder_tuning.{name}": value for name, value in tuning.state_dict().items()}


def take_tuning_options(options: Any, trained: Mapping[str, Any]) -> None:
    """Take over what learns in the encoder of `--pretrained-adapter`, whose options are `trained`.

    Raises:
        SparqleError: the command line asks for something else to learn.
    """
    if not (trained.get("encoder_lora") or trained.get("unfreeze_encoder_layers")):
        return
    there = {name: trained[name] for name in TUNING_SHAPE}
    for name in ("encoder_lora", "unfreeze_encoder_layers"):
        if getattr(options, name) not in (0, there[name]):
            raise SparqleError(
                f"--{name.replace('_', '-')} {getattr(options, name)}, but in --pretrained-adapter "
                f"{options.pretrained_adapter} the encoder has learned with {there[name]}; leave the option out"
            )
    for name, value in there.items():
        setattr(options, name, value)
