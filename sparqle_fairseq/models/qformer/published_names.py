"""Names of the published SparQLe checkpoints, turned into this package's names and back.

The layouts are those of the authors' fairseq code and of their Hugging Face trainer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

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
_LAYER_BACK = {new: name for name, new in _LAYER.items()}
_OTHER = {
    "Qformer.bert.embeddings.word_embeddings": "qformer.text.words",
    "Qformer.bert.embeddings.position_embeddings": "qformer.text.positions",
    "Qformer.bert.embeddings.LayerNorm": "qformer.embedding_norm",
    "Qformer.cls.predictions.transform.dense": "qformer.text.head.transform",
    "Qformer.cls.predictions.transform.LayerNorm": "qformer.text.head.norm",
    "ln_speech": "qformer.speech_norm",
    "speech_proj_adapter": "qformer.speech_linear",
    "speech_proj": "speech_projection",
    "text_proj": "text_projection",
    "domain_classifier.d_fc1": "domain_classifier.hidden",
    "domain_classifier.d_bn1": "domain_classifier.norm",
    "domain_classifier.d_fc2": "domain_classifier.output",
}
# Spellings of two parts: that of the authors' fairseq code, and the other one.
SPELLINGS = {
    "llama": {"itm_head": "matching_head", "llama_proj": "projector"},
    "llm": {"stm_head": "matching_head", "llm_proj": "projector"},
}
# A projector that ends in a LayerNorm.
_NORMED = {"llm_proj": "projector.0", "llm_proj_layer_norm": "projector.1"}
_WHOLE = {
    "query_tokens": "qformer.query_tokens",
    "temp": "temperature",
    "Qformer.cls.predictions.bias": "qformer.text.head.bias",
}
# A buffer, and parameters that are another one's second name.
POSITION_IDS = "Qformer.bert.embeddings.position_ids"
SECOND_NAMES = {
    "Qformer.cls.predictions.decoder.weight": "Qformer.bert.embeddings.word_embeddings.weight",
    "Qformer.cls.predictions.decoder.bias": "Qformer.cls.predictions.bias",
}
_LEFT_OUT = {POSITION_IDS, *SECOND_NAMES}


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published adapter's tensors under this package's names.

    Raises `KeyError` listing every unknown name, and those that two spellings give the same meaning.
    """
    renamed: dict[str, Tensor] = {}
    for name, new in own_names(state).items():
        if new in renamed:
            raise KeyError(f"{new} (this plugin's name) is in it under two names, one of them {name}")
        renamed[new] = state[name]
    return renamed


def own_names(published: Iterable[str]) -> dict[str, str]:
    """{published name: this package's}, without buffers and second names. Raises `KeyError`."""
    names = list(published)
    parts = {**_OTHER, **SPELLINGS["llama"], **SPELLINGS["llm"]}
    if any(name.startswith("llm_proj_layer_norm.") for name in names):
        parts |= _NORMED
    found = {name: _WHOLE.get(name) or _rename(name, parts) for name in names if name not in _LEFT_OUT}
    unknown = sorted(name for name, new in found.items() if new is None)
    if unknown:
        raise KeyError(f"not names of a published SparQLe adapter: {', '.join(unknown)}")
    return {name: new for name, new in found.items() if new is not None}


def published_names(own: Iterable[str], spelling: str) -> dict[str, str]:
    """{this package's name: published name}. Raises `KeyError` listing the names that the published layout lacks."""
    names = list(own)
    # `llm_proj` has two meanings, so these are not to be one dictionary before they are turned round.
    parts = {new: name for table in (_OTHER, SPELLINGS[spelling], _NORMED) for name, new in table.items()}
    whole = {new: name for name, new in _WHOLE.items()}
    found = {name: whole.get(name) or _rename_back(name, parts) for name in names}
    unknown = sorted(name for name, new in found.items() if new is None)
    if unknown:
        raise KeyError(", ".join(unknown))
    return {name: new for name, new in found.items() if new is not None}


def _rename(name: str, parts: Mapping[str, str]) -> str | None:
    stem, _, leaf = name.rpartition(".")
    layer = re.fullmatch(r"Qformer\.bert\.encoder\.layer\.(\d+)\.(.+)", stem)
    if layer:
        part = _LAYER.get(layer[2])
        return f"qformer.layers.{layer[1]}.{part}.{leaf}" if part else None
    part = parts.get(stem)
    return f"{part}.{leaf}" if part else None


def _rename_back(name: str, parts: Mapping[str, str]) -> str | None:
    stem, _, leaf = name.rpartition(".")
    layer = re.fullmatch(r"qformer\.layers\.(\d+)\.(.+)", stem)
    if layer:
        part = _LAYER_BACK.get(layer[2])
        return f"Qformer.bert.encoder.layer.{layer[1]}.{part}.{leaf}" if part else None
    part = parts.get(stem)
    return f"{part}.{leaf}" if part else None
