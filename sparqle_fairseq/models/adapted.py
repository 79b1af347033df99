"""What the models of both stages share: a frozen speech encoder, a trained adapter, and a strict checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.config import DTYPES, AdapterConfig
from sparqle_fairseq.models.encoders import (
    SpeechEncoder,
    SpeechFeatures,
    SpeechSource,
    load_speech_encoder,
    parse_layer,
)
from sparqle_fairseq.models.encoders.stored_features import open_feature_reader
from sparqle_fairseq.models.encoders.unit_embedding import unit_embedding
from sparqle_fairseq.models.identity import STATE_NAME, check_identity, decode_identity, encode_identity


class LayerMix(nn.Module):
    """A learned sum over the layers of a frozen encoder, with weights from a softmax that starts even."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(layers))

    def forward(self, values: Tensor) -> Tensor:
        """(B, T, L, W) -> (B, T, W)."""
        return torch.einsum("btlw,l->btw", values, self.logits.softmax(dim=0).to(values.dtype))


def add_layer_mix(adapter: nn.Module, encoder: SpeechSource) -> None:
    """Give the adapter a `layer_mix` where the encoder gives all its layers (`--encoder-layer weighted`)."""
    if encoder.mixed_layers and not hasattr(adapter, "layer_mix"):
        adapter.layer_mix = LayerMix(encoder.mixed_layers)


def open_speech_source(options: AdapterConfig, folders: Sequence[str] = ()) -> SpeechSource:
    """The encoder that the options name, or what stands in for it where the data is units or features.

    `folders` are the data's; those of features need no encoder. Raises `SparqleError`.
    """
    if options.source == "units":
        return unit_embedding(options)
    reader = open_feature_reader(folders)
    if reader is not None:
        return reader
    if not options.speech_encoder:
        raise SparqleError("no speech encoder was named; give a checkpoint with --speech-encoder")
    layer = parse_layer(options.encoder_layer)
    return load_speech_encoder(options.speech_encoder, layer=layer, dtype=DTYPES[options.encoder_dtype])


class AdaptedModel(nn.Module):
    """A model whose checkpoint holds the adapter, and the identity of all that is frozen."""

    def __init__(self, encoder: SpeechSource, adapter: nn.Module, identity: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__()
        self.speech_encoder: Any = encoder
        add_layer_mix(adapter, encoder)
        self.adapter: Any = adapter
        self.identity = identity
        self.num_updates = 0

    def hear(self, source: Tensor, padding_mask: Tensor, source_lengths: Sequence[int] | None = None) -> SpeechFeatures:
        """What the encoder gives for waveforms (B, S), all layers where they are wanted; features pass as they are.

        `source_lengths` are those of the waveforms, where the program knows them and need not ask the device.
        """
        if source.dim() != 2:
            return SpeechFeatures(source, padding_mask)
        tuning = getattr(self.adapter, "encoder_tuning", None)
        if tuning is not None:
            tuning.install(self.speech_encoder.frozen.module)
        if source_lengths is None or not isinstance(self.speech_encoder, SpeechEncoder):
            return self.speech_encoder(source, padding_mask)
        return self.speech_encoder(source, padding_mask, source_lengths)

    def encode_speech(self, source: Tensor, padding_mask: Tensor, adapter: Any = None) -> SpeechFeatures:
        """Features of waveforms (B, S); what `hear` gave passes as it is. In an adapter's precision.

        Where the encoder gives all its layers, their learned sum.
        """
        adapter = self.adapter if adapter is None else adapter
        features = self.hear(source, padding_mask)
        values = features.values.to(next(adapter.parameters()).dtype)
        mix = getattr(adapter, "layer_mix", None)
        if mix is not None:
            if values.dim() != 4:
                raise SparqleError(
                    "the model sums all layers of its speech encoder, and features of one came; give it audio"
                )
            values = mix(values)  # (B, T, L, W) -> (B, T, W)
        return SpeechFeatures(values, features.padding_mask)

    def set_num_updates(self, num_updates: int) -> None:
        """Say how many updates there were; masks and samples are drawn anew in each."""
        self.num_updates = num_updates

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """What was trained, and the identity of what was not."""
        state = super().state_dict(*args, **kwargs)
        state[kwargs.get("prefix", "") + STATE_NAME] = encode_identity(self.identity)
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, *_: Any, **__: Any) -> Any:
        """Strict whatever `strict` says. Raises `IdentityError` and `SparqleError`, each with one sentence."""
        state = dict(state_dict)
        if STATE_NAME not in state:
            raise SparqleError(
                "the checkpoint is not one of this model: it has no record of its encoder and vocabulary"
            )
        check_identity(decode_identity(state.pop(STATE_NAME)), self.identity)
        check_names(state, self, "the checkpoint")
        return nn.Module.load_state_dict(self, state, strict=True)


def check_names(state: Mapping[str, Tensor], module: nn.Module | SpeechSource, what: str) -> None:
    """Every tensor of `module` must be in `state` with its shape, and nothing else. Raises `SparqleError`."""
    expected = nn.Module.state_dict(module) if isinstance(module, AdaptedModel) else module.state_dict()
    missing = sorted(expected.keys() - state.keys())
    unexpected = sorted(state.keys() - expected.keys())
    if missing or unexpected:
        found = [
            f"{len(names)} {kind} ({', '.join(names[:5])}{', …' if len(names) > 5 else ''})"
            for kind, names in (("missing", missing), ("unexpected", unexpected))
            if names
        ]
        raise SparqleError(
            f"{what} does not fit this model: {' and '.join(found)}; give the options it was trained with"
        )
    for name, tensor in expected.items():
        if state[name].shape != tensor.shape:
            raise SparqleError(
                f"{what} does not fit this model: {name} is {tuple(state[name].shape)} there and {tuple(tensor.shape)} "
                "here; give the options it was trained with"
            )
