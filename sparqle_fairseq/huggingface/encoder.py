"""The speech encoder of a `SparqleConfig`, without weights: the network of the plugin over a transformers model."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.utils import parametrize

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.encoders.base import EncoderNetwork
from sparqle_fairseq.models.encoders.hugging_face import MODELS, HuggingFaceEncoder
from sparqle_fairseq.models.encoders.whisper import MODEL_TYPE, WhisperEncoder
from sparqle_fairseq.models.qformer.precision import convolve_narrow_in_fp32


def build_network(config: Any) -> EncoderNetwork:
    """A network of `config.audio_config`'s shape (`SparqleConfig`), with random weights. Raises `SparqleError`."""
    from transformers import AutoModel, WhisperFeatureExtractor
    from transformers.models.whisper.modeling_whisper import WhisperEncoder as Encoder

    audio = config.audio_config
    if audio.model_type in MODELS:
        network: EncoderNetwork = HuggingFaceEncoder(
            AutoModel.from_config(audio), config.normalize, config.sampling_rate
        )
        for part in network.modules():
            if isinstance(part, nn.Conv1d) and parametrize.is_parametrized(part, "weight"):
                parametrize.remove_parametrizations(part, "weight")
    elif audio.model_type == MODEL_TYPE:
        front_end = WhisperFeatureExtractor(**{"feature_size": audio.num_mel_bins, **(config.front_end or {})})
        network = WhisperEncoder(Encoder(audio), front_end, config.normalize)
    else:
        raise SparqleError(
            f"audio_config is a {audio.model_type}, which is no speech encoder that is read here; take one of "
            f"{', '.join((*MODELS, MODEL_TYPE))}"
        )
    settle_network(network, config)
    return network


def settle_network(network: EncoderNetwork, config: Any) -> None:
    """Leave out the layers that are not asked for, and let nothing learn. Raises `SparqleError`."""
    layer = config.encoder_layer
    if layer not in ("last", "weighted"):
        if not layer.isdigit() or not 1 <= int(layer) <= network.depth:
            raise SparqleError(
                f"encoder_layer {layer!r} is not there; give 'last', 'weighted' or a number from 1 to {network.depth}"
            )
        network.keep_layers(int(layer))
    convolve_narrow_in_fp32(network)
    network.requires_grad_(False)
    network.eval()
