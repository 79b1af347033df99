"""Speech encoders of Hugging Face: HuBERT, wav2vec 2.0, WavLM and data2vec audio, by folder or hub id.

The layers are those of `transformers`; the way through them is ours, because theirs lets padding change features.
"""

import logging
from collections.abc import Iterable, Iterator
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sparqle_fairseq.errors import reason
from sparqle_fairseq.models.encoders.errors import EncoderError
from sparqle_fairseq.models.encoders.place import PREPROCESSOR, EncoderPlace
from sparqle_fairseq.models.encoders.registry import register_encoder
from sparqle_fairseq.models.encoders.wav2vec import ConvTransformer, Part, attention_bias
from sparqle_fairseq.models.encoders.weights import fingerprint, in_float32, matching_tensors

logger = logging.getLogger(__name__)

# model_type of config.json -> name of the model in transformers, and the prefix of its tensors in models made from it
MODELS = {
    "hubert": ("Hubert", "hubert."),
    "wav2vec2": ("Wav2Vec2", "wav2vec2."),
    "wavlm": ("WavLM", "wavlm."),
    "data2vec-audio": ("Data2VecAudio", "data2vec_audio."),
}
PARTS = ("feature_extractor", "feature_projection", "encoder")
_WEIGHT_NORM = {"conv.weight_g": "conv.parametrizations.weight.original0"} | {
    "conv.weight_v": "conv.parametrizations.weight.original1"
}


@register_encoder
class HuggingFaceEncoder(ConvTransformer):
    """The convolutions, projection and transformer of one of `MODELS`.

    Args:
        model: the model of `transformers`; its three parts are taken as they are.
        normalize: whether it expects normalised waveforms.
        sample_rate: Hz that it expects.
    """

    FOUND_IN = f"a folder or hub id of a Hugging Face model of type {', '.join(MODELS)}"

    def __init__(self, model: Any, normalize: bool, sample_rate: int) -> None:
        config = model.config
        super().__init__(list(zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True)))
        self.kind = f"hf_{config.model_type}"
        self.width, self.depth = config.hidden_size, config.num_hidden_layers
        self.normalize, self.sample_rate = normalize, sample_rate
        self.pre_norm = bool(getattr(config, "do_stable_layer_norm", False))
        self.relative_positions = config.model_type == "wavlm"
        self.feature_extractor = model.feature_extractor
        self.feature_projection = model.feature_projection
        self.encoder = model.encoder

    @classmethod
    def recognises(cls, place: EncoderPlace) -> bool:
        return place.model_type in MODELS

    @classmethod
    def read(cls, place: EncoderPlace) -> Self:
        settings = place.preprocessor()
        if settings is None:
            # What the authors of these models did: normalised waveforms for layer norms, plain ones for group norm.
            normalize = place.config.get("feat_extract_norm", "group") == "layer"
            logger.info(
                "%s has no %s: taking waveforms %s, as its feat_extract_norm suggests",
                place,
                PREPROCESSOR,
                "normalised" if normalize else "as they are",
            )
            settings = {"do_normalize": normalize}
        normalize, rate = bool(settings.get("do_normalize", True)), int(settings.get("sampling_rate") or 16000)
        network = cls(build_model(place), normalize, rate)
        prefix = MODELS[place.model_type][1]
        stored = {
            modern_name(name.removeprefix(prefix)): tensor
            for name, tensor in place.tensors(lambda name: name.removeprefix(prefix).startswith(PARTS)).items()
        }
        tensors = matching_tensors(
            f"{place} says that it is a {place.model_type} model",
            "give the folder as it was saved",
            stored,
            network,
            inside=PARTS,
        )
        network.fingerprint = fingerprint(tensors)
        network.load_state_dict(in_float32(tensors), assign=True)
        for part in network.modules():
            if isinstance(part, nn.Conv1d) and parametrize.is_parametrized(part, "weight"):
                # Fused while in float32: a norm taken in half precision at every step would be worse and slower.
                parametrize.remove_parametrizations(part, "weight")
        return network

    def convolutions(self) -> Iterable[Iterable[Part]]:
        for layer in self.feature_extractor.conv_layers:
            norm = getattr(layer, "layer_norm", None)
            norms: list[Part] = [] if norm is None else [_over_channels(norm)]
            yield [layer.conv, *norms, layer.activation]

    def project(self, x: Tensor) -> Tensor:
        projected = self.feature_projection(x)
        return projected[0] if isinstance(projected, tuple) else projected  # HuBERT's is alone

    def positions(self) -> Iterable[Part]:
        embedding = self.encoder.pos_conv_embed
        for layer in getattr(embedding, "layers", [embedding]):  # data2vec stacks several
            if getattr(layer, "batch_norm", None) is not None:
                yield layer.batch_norm
            yield from (layer.conv, layer.padding)
            if getattr(layer, "layer_norm", None) is not None:
                yield _over_channels(layer.layer_norm)
            yield layer.activation

    def transform(self, x: Tensor, padded: Tensor | None) -> Iterator[Tensor]:
        if not self.pre_norm:
            x = self.encoder.layer_norm(x)
        if self.relative_positions:
            seen, bias = None if padded is None else ~padded, None
            for layer in self.encoder.layers:
                x, bias = layer(x, attention_mask=seen, position_bias=bias)
                yield x
            return
        mask = attention_bias(padded, x.dtype)
        for layer in self.encoder.layers:
            x = layer(x, attention_mask=mask)
            yield x

    def finish(self, x: Tensor) -> Tensor:
        return self.encoder.layer_norm(x) if self.pre_norm else x

    def transformer_layers(self) -> Any:
        return self.encoder.layers

    def keep_layers(self, count: int) -> None:
        self.encoder.layers = self.encoder.layers[:count]


def build_model(place: EncoderPlace) -> Any:
    """The model of a folder's or hub id's configuration, without memory for its tensors. Raises `EncoderError`."""
    import transformers

    name = MODELS[place.model_type][0]
    try:
        config = getattr(transformers, f"{name}Config").from_dict(place.config)
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            model = getattr(transformers, f"{name}Model")(config)
    except Exception as error:  # transformers validates in many ways
        raise EncoderError(
            f"{place} describes a {place.model_type} encoder that cannot be built ({reason(error)}): check its "
            "config.json."
        ) from error
    if getattr(config, "add_adapter", False):
        raise EncoderError(
            f"{place} has convolutions behind its encoder (add_adapter), which are not read here: give the model that "
            "it was made from."
        )
    return model.eval()


def modern_name(name: str) -> str:
    """A tensor's name as torch's parametrisations have it: older files keep weight norm as weight_g and weight_v."""
    for old, new in _WEIGHT_NORM.items():
        name = name.removesuffix(old) + new if name.endswith(f".{old}") else name
    return name


def _over_channels(norm: nn.Module) -> Part:
    """A norm to be run on (B, C, T)."""
    if isinstance(norm, nn.LayerNorm):
        return lambda x: norm(x.transpose(1, 2)).transpose(1, 2)
    return norm
