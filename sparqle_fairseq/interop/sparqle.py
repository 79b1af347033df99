"""Names of the published SparQLe checkpoints, turned into this package's names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_LAYER = {
    "attention.self.query": "self_attention.query",
    "attention.self.key": "self_attention.key",
    "attention.self.value": "self_attention.value",
    "attention.output.dense": "self_attention.output",
    "attention.output.LayerNorm": "self_attention.norm",
    "crossattention.self.query": "cross_attention.query",
    "crossattention.self.key": "cross_attention.key",
    "crossattention.self.value": "cross_attention.value",
    "crossattention.output.dense": "cross_attention.output",
    "crossattention.output.LayerNorm": "cross_attention.norm",
    "intermediate.dense": "text_ffn.expand",
    "output.dense": "text_ffn.contract",
    "output.LayerNorm": "text_ffn.norm",
    "intermediate_query.dense": "query_ffn.expand",
    "output_query.dense": "query_ffn.contract",
    "output_query.LayerNorm": "query_ffn.norm",
}
_OTHER = {
    "Qformer.bert.embeddings.word_embeddings": "qformer.text.words",
    "Qformer.bert.embeddings.position_embeddings": "qformer.text.positions",
    "Qformer.bert.embeddings.LayerNorm": "qformer.embedding_norm",
    "Qformer.cls.predictions.transform.dense": "qformer.text.head.transform",
    "Qformer.cls.predictions.transform.LayerNorm": "qformer.text.head.norm",
    "ln_speech": "qformer.speech_norm",
    "speech_proj": "speech_projection",
    "text_proj": "text_projection",
    "itm_head": "matching_head",
    "stm_head": "matching_head",
    "llama_proj": "projector",
    "llm_proj": "projector",
}
_WHOLE = {
    "query_tokens": "qformer.query_tokens",
    "temp": "temperature",
    "Qformer.cls.predictions.bias": "qformer.text.head.bias",
}
# Buffers, and parameters that are another one's second name.
_LEFT_OUT = {
    "Qformer.bert.embeddings.position_ids",
    "Qformer.cls.predictions.decoder.weight",
    "Qformer.cls.predictions.decoder.bias",
}


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published adapter's tensors under this package's names. Raises `KeyError` listing every unknown name."""
    renamed, unknown = {}, []
    for name, tensor in state.items():
        if name in _LEFT_OUT:
            continue
        new = _WHOLE.get(name) or _rename(name)
        if new is None:
            unknown.append(name)
        else:
            renamed[new] = tensor
    if unknown:
        raise KeyError(f"not names of a published SparQLe adapter: {', '.join(sorted(unknown))}")
    return renamed


def _rename(name: str) -> str | None:
    stem, _, leaf = name.rpartition(".")
    layer = re.fullmatch(r"Qformer\.bert\.encoder\.layer\.(\d+)\.(.+)", stem)
    if layer:
        part = _LAYER.get(layer[2])
        return f"qformer.layers.{layer[1]}.{part}.{leaf}" if part else None
    part = _OTHER.get(stem)
    return f"{part}.{leaf}" if part else None
