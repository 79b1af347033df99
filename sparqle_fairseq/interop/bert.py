"""A Hugging Face BERT as the start of a Q-Former."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.interop.sparqle import from_published
from sparqle_fairseq.models.qformer import QFormer

# Parts of a BERT that a Q-Former has no use for.
_UNUSED = ("bert.pooler.", "cls.seq_relationship.", "bert.embeddings.token_type_embeddings.")


def load_bert(qformer: QFormer, path_or_id: str) -> None:
    """Fill the text branch, the shared self-attention and both feed-forward blocks from a BERT.

    Cross-attention, queries and the embedding of [DEC] stay new. BERT's first token-type embedding, which it adds to
    every word of a single text, goes into the word embeddings. Raises `SparqleError` where sizes differ.
    """
    from transformers import AutoModelForPreTraining

    try:
        bert: nn.Module = AutoModelForPreTraining.from_pretrained(path_or_id, trust_remote_code=False)
    except Exception as error:  # transformers raises many kinds
        reason = " ".join(str(error).split())[:300]
        raise SparqleError(f"{path_or_id}: no BERT could be read ({reason})") from error
    source = {f"Qformer.{name}": value for name, value in bert.state_dict().items() if not name.startswith(_UNUSED)}
    if "Qformer.bert.embeddings.word_embeddings.weight" not in source:
        raise SparqleError(f"{path_or_id} holds a {type(bert).__name__}, not a BERT; give a BERT to --bert")
    tensors = {name.removeprefix("qformer."): value for name, value in from_published(source).items()}
    token_type = bert.state_dict()["bert.embeddings.token_type_embeddings.weight"][0]
    tensors["text.words.weight"] = tensors["text.words.weight"] + token_type
    target = dict(qformer.named_parameters())
    for name, value in tensors.items():
        if name not in target:
            raise SparqleError(
                f"{path_or_id} has {name}, which this Q-Former lacks; give --layers and --arch the BERT's size"
            )
        _copy_rows(target[name], value, f"{path_or_id}: {name}")
    unset = [
        name
        for name in target
        if name not in tensors
        and "cross_attention" not in name
        and "query_ffn" not in name
        and name not in ("query_tokens", "speech_norm.weight", "speech_norm.bias")
    ]
    if unset:
        raise SparqleError(f"{path_or_id} lacks {', '.join(unset[:5])}; give --layers and --arch the BERT's size")
    qformer.copy_text_feed_forward()


def _copy_rows(target: Tensor, value: Tensor, name: str) -> None:
    """Copy `value` over the first rows of `target`: a Q-Former may have more words ([DEC]) than its BERT."""
    if target.shape[1:] != value.shape[1:] or target.size(0) < value.size(0):
        raise SparqleError(
            f"{name} is {tuple(value.shape)} in the BERT and {tuple(target.shape)} in the Q-Former; choose --arch, "
            "--max-text-positions and --text-tokenizer to fit the BERT"
        )
    with torch.no_grad():
        target[: value.size(0)] = value.to(target)
