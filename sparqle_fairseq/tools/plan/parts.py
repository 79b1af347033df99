"""The parts of a planned run, built without their weights: encoder, Q-Former, LLM."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.encoders.base import EncoderNetwork
from sparqle_fairseq.models.encoders.fairseq_checkpoint import FairseqEncoder, read_checkpoint
from sparqle_fairseq.models.llm.files import LLMFiles
from sparqle_fairseq.models.stage1.losses import generation_loss

# fairseq's HuBERT by the names of its papers; wav2vec 2.0 and data2vec of the same name have the same shape.
ENCODERS: dict[str, dict[str, Any]] = {
    "base": {},
    "large": {
        "extractor_mode": "layer_norm",
        "encoder_layers": 24,
        "encoder_embed_dim": 1024,
        "encoder_ffn_embed_dim": 4096,
        "encoder_attention_heads": 16,
        "layer_norm_first": True,
    },
    "xlarge": {
        "extractor_mode": "layer_norm",
        "encoder_layers": 48,
        "encoder_embed_dim": 1280,
        "encoder_ffn_embed_dim": 5120,
        "encoder_attention_heads": 16,
        "layer_norm_first": True,
    },
}


@dataclass(frozen=True)
class LLMSize:
    """An LLM by numbers, where there is no folder: a Llama of that many parameters."""

    params: float
    width: int
    layers: int
    vocabulary: int


def build_encoder(place: str) -> EncoderNetwork:
    """The network of a size's name or of a fairseq checkpoint. Inside `without_bytes`. Raises `SparqleError`."""
    if place in ENCODERS:
        return FairseqEncoder._build(Path(place), "hubert", ENCODERS[place])
    if not Path(place).is_file():
        raise SparqleError(
            f"--encoder {place} is neither {', '.join(ENCODERS)} nor a fairseq checkpoint that is here; name the size "
            "that is nearest"
        )
    with torch.utils._python_dispatch._disable_current_modes():
        stored = read_checkpoint(Path(place))
    return FairseqEncoder._build(Path(place), stored.kind, stored.model)


def encode(network: EncoderNetwork, source: Tensor) -> Tensor:
    """Features (B, T, W) of waveforms (B, S) of equal length, without what a backward pass would need."""
    with torch.no_grad():
        return network(source, [source.size(1)] * source.size(0), "last")[0]


def llm_config(given: str | LLMSize) -> Any:
    """The configuration of a folder or hub id, or of a Llama of such a size. Raises `SparqleError`."""
    if isinstance(given, str):
        return LLMFiles.find(given).read_config()
    from transformers import LlamaConfig

    heads = max(given.width // 128, 1)
    shared = max(heads // 4, 1)
    per_layer = given.width**2 * (2 + 2 * shared / heads)
    left = given.params - 2 * given.vocabulary * given.width - given.layers * per_layer
    inner = round(left / (3 * given.width * given.layers))
    if inner < 1:
        raise SparqleError(
            f"--llm-params {given.params:g} are too few for --llm-width {given.width}, --llm-layers {given.layers} and "
            f"--vocab {given.vocabulary}; check the four numbers"
        )
    return LlamaConfig(
        vocab_size=given.vocabulary,
        hidden_size=given.width,
        intermediate_size=inner,
        num_hidden_layers=given.layers,
        num_attention_heads=heads,
        num_key_value_heads=shared,
        max_position_embeddings=8192,
    )


def build_llm(config: Any, dtype: torch.dtype) -> nn.Module:
    """A frozen causal LM of a configuration. Inside `without_bytes`."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return model.requires_grad_(False).eval()


def answer_loss(adapter: Any, llm: Any, values: Tensor, prompt: Tensor, answer: Tensor) -> Tensor:
    """Stage 2's loss of speech (B, T, W), prompts (B, P) and answers (B, L), as `SpeechLLM` computes it."""
    padding_mask = torch.zeros(values.shape[:2], dtype=torch.bool)
    spoken = adapter(values, padding_mask)[0]  # (B, Q, M)
    words = llm.get_input_embeddings()
    whole = torch.cat([words(prompt), spoken.to(llm.dtype), words(answer[:, :-1])], dim=1)
    columns = torch.arange(whole.size(1) - answer.size(1), whole.size(1))
    seen = torch.ones(whole.shape[:2], dtype=torch.long)
    output = llm(inputs_embeds=whole, attention_mask=seen, logits_to_keep=columns, use_cache=False)
    return generation_loss(output.logits.flatten(0, 1), answer.flatten(), 0.0).sum()
