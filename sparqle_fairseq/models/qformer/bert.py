"""A Hugging Face BERT as the start of a Q-Former: English or multilingual, cased or not, of the Q-Former's size."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sparqle_fairseq.errors import SparqleError, reason
from sparqle_fairseq.models.qformer.published_names import from_published
from sparqle_fairseq.models.qformer.qformer import QFormer

logger = logging.getLogger(__name__)

# Parts of a BERT that a Q-Former has no use for.
_UNUSED = ("bert.pooler.", "cls.seq_relationship.", "bert.embeddings.token_type_embeddings.")
_TOKEN_TYPES = "bert.embeddings.token_type_embeddings.weight"
# A BERT's name for a size -> the Q-Former's.
_SIZES = {
    "num_hidden_layers": "layers",
    "hidden_size": "hidden_size",
    "num_attention_heads": "heads",
    "intermediate_size": "ffn_size",
    "max_position_embeddings": "max_text_positions",
}
# Rows with one for each token; only these may be more in the BERT, whose vocabulary some round up.
_WORD_ROWS = ("text.words.weight", "text.head.bias")
_ROUNDED_UP = 128


def load_bert(qformer: QFormer, path_or_id: str) -> None:
    """Fill the text branch, the shared self-attention and both feed-forward blocks from a BERT.

    Cross-attention, queries and the embedding of [DEC] stay new. BERT's first token-type embedding, which it adds to
    every word of a single text, goes into the word embeddings. Raises `SparqleError` where it is no BERT, cannot be
    read, or has other sizes.
    """
    from transformers import AutoConfig, BertForPreTraining

    try:
        config = AutoConfig.from_pretrained(path_or_id, trust_remote_code=False)
        if config.model_type != "bert":
            raise SparqleError(f"{path_or_id} is a {config.model_type} model, not a BERT; give a BERT to --bert")
        check_sizes(qformer, config, path_or_id)
        # Safetensors, or a pytorch_model.bin that transformers reads with weights_only: no code of the file is run.
        loaded: Any = BertForPreTraining.from_pretrained(path_or_id, output_loading_info=True)
        bert, info = loaded
    except SparqleError:
        raise
    except Exception as error:  # transformers raises many kinds
        raise SparqleError(
            f"{path_or_id}: no BERT could be read ({reason(error)}); give --bert a folder with config.json and "
            "model.safetensors, or a hub id that is reachable"
        ) from error
    missing = sorted(name for name in info["missing_keys"] if not name.startswith(_UNUSED))
    if any(name.startswith("bert.") for name in missing):
        raise SparqleError(f"{path_or_id} lacks {', '.join(missing[:5])}; its files are not whole, copy them again")
    if missing:
        logger.warning("%s has no prediction head: text generation starts from a new one", path_or_id)
    fill_from_bert(qformer, bert.state_dict(), path_or_id)


def check_sizes(qformer: QFormer, config: Any, name: str) -> None:
    """Raise `SparqleError` where a BERT's configuration is not one that the Q-Former can start from."""
    own = qformer.config
    found = {option: getattr(config, key) for key, option in _SIZES.items()}
    other = {option: size for option, size in found.items() if getattr(own, option) != size}
    if other:
        theirs = ", ".join(f"--{option.replace('_', '-')} {size}" for option, size in other.items())
        ours = ", ".join(str(getattr(own, option)) for option in other)
        raise SparqleError(
            f"{name} is a BERT of {theirs}, and the Q-Former has {ours}; give these options, or the --arch of its size "
            "(sparqle_qformer_base, sparqle_qformer_large)"
        )
    tokens = own.vocab_size - 1  # [DEC] is no word of a BERT
    if not 0 <= config.vocab_size - tokens < _ROUNDED_UP:
        raise SparqleError(
            f"{name} has {config.vocab_size} words and the tokenizer {tokens}; leave --text-tokenizer out, or give the "
            "one that this BERT was trained with"
        )
    if config.hidden_act != "gelu" or getattr(config, "position_embedding_type", None) not in (None, "absolute"):
        raise SparqleError(
            f"{name} is no BERT with GELU and absolute positions, which a Q-Former has; give another one"
        )


def fill_from_bert(qformer: QFormer, bert: Mapping[str, Tensor], name: str) -> None:
    """Copy the tensors of a `BertForPreTraining` into a Q-Former of its size. Raises `SparqleError`."""
    source = {f"Qformer.{key}": value for key, value in bert.items() if not key.startswith(_UNUSED)}
    tensors = {key.removeprefix("qformer."): value for key, value in from_published(source).items()}
    tensors["text.words.weight"] = tensors["text.words.weight"] + bert[_TOKEN_TYPES][0]
    target = {key: value for key, value in qformer.named_parameters() if _starts_from_bert(key)}
    odd = sorted(target.keys() ^ tensors.keys())
    if odd:
        raise SparqleError(
            f"{name} and the Q-Former do not have the same parts: {', '.join(odd[:5])}; give another --bert"
        )
    with torch.no_grad():
        for key, value in tensors.items():
            rows = min(len(value), len(target[key]) - 1) if key in _WORD_ROWS else len(value)
            if target[key].shape[1:] != value.shape[1:] or (key not in _WORD_ROWS and len(target[key]) != rows):
                raise SparqleError(
                    f"{name}: {key} is {tuple(value.shape)} there and {tuple(target[key].shape)} in the Q-Former; "
                    "its files do not fit its config.json"
                )
            target[key][:rows] = value[:rows].to(target[key])
    qformer.copy_text_feed_forward()


def _starts_from_bert(name: str) -> bool:
    new = ("query_tokens", "window_place", "speech_norm.", "speech_linear.", "front_end.")
    return not name.startswith(new) and "cross_attention" not in name and "query_ffn" not in name
