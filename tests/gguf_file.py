"""A language model written as a GGUF file, from the Hugging Face folder of a Llama with a byte-level tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


def _paired(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a rotary projection in GGUF's order: the two halves of a head interleaved."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write_gguf(folder: Path, file: Path, model: Any, quantise: str | None = None) -> None:
    """`folder` holds the tokenizer, `model` is the Llama; `quantise` names a type such as Q8_0, else float32."""
    import gguf

    config = model.config
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    roles = json.loads((folder / "tokenizer_config.json").read_text())
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    vocabulary = tokenizer["model"]["vocab"]
    added = {token["id"]: token["content"] for token in tokenizer["added_tokens"]}
    tokens = {**{number: token for token, number in vocabulary.items()}, **added}
    texts = [tokens.get(number, f"[unused{number}]") for number in range(config.vocab_size)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(texts)
    writer.add_token_types([3 if number in added else 1 for number in range(len(texts))])
    writer.add_token_merges([" ".join(merge) for merge in tokenizer["model"]["merges"]])
    numbers = {token: number for number, token in enumerate(texts)}
    writer.add_bos_token_id(numbers[roles["bos_token"]])
    writer.add_eos_token_id(numbers[roles["eos_token"]])
    if (folder / "chat_template.jinja").exists():
        writer.add_chat_template((folder / "chat_template.jinja").read_text())
    names = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    for layer in range(config.num_hidden_layers):
        for theirs, ours in (
            ("self_attn.q_proj", "attn_q"), ("self_attn.k_proj", "attn_k"), ("self_attn.v_proj", "attn_v"),
            ("self_attn.o_proj", "attn_output"), ("mlp.gate_proj", "ffn_gate"), ("mlp.up_proj", "ffn_up"),
            ("mlp.down_proj", "ffn_down"), ("input_layernorm", "attn_norm"), ("post_attention_layernorm", "ffn_norm"),
        ):  # fmt: skip
            names[f"model.layers.{layer}.{theirs}.weight"] = f"blk.{layer}.{ours}.weight"
    for name, tensor in model.state_dict().items():
        values = tensor.float().numpy()
        if "q_proj" in name:
            values = _paired(values, config.num_attention_heads)
        if "k_proj" in name:
            values = _paired(values, config.num_key_value_heads)
        kind = None
        if quantise and values.ndim == 2:
            kind = gguf.GGMLQuantizationType[quantise]
            values = gguf.quants.quantize(values, kind)
        writer.add_tensor(names[name], np.ascontiguousarray(values), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
