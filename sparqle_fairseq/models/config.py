"""Options of the speech encoder and the Q-Former, shared by the models of both stages, and each stage's own."""

# fairseq reads the types of these fields at run time: no postponed annotations and no `X | None` in this file.

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Optional

import torch
from fairseq.dataclass import ChoiceEnum, FairseqDataclass

from sparqle_fairseq.models.qformer import QUERY_STARTS, QFormerConfig

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass
class AdapterConfig(FairseqDataclass):
    speech_encoder: Optional[str] = field(
        default=None, metadata={"help": "fairseq checkpoint of the speech encoder (HuBERT, wav2vec 2.0, data2vec)"}
    )
    encoder_layer: str = field(
        default="last", metadata={"help": "layer whose output the Q-Former reads: last, or 1 for the first, and so on"}
    )
    encoder_dtype: ChoiceEnum(list(DTYPES)) = field(  # type: ignore[valid-type]
        default="fp32", metadata={"help": "precision of the frozen encoder, apart from the trainer's"}
    )
    hidden_size: int = field(default=768, metadata={"help": "Q-Former width"})
    layers: int = field(default=12, metadata={"help": "Q-Former layers"})
    heads: int = field(default=12, metadata={"help": "Q-Former attention heads"})
    ffn_size: int = field(default=3072, metadata={"help": "Q-Former feed-forward width"})
    cross_attention_freq: int = field(default=2, metadata={"help": "every n-th layer reads the speech"})
    queries: int = field(default=100, metadata={"help": "number of learned queries"})
    query_start: ChoiceEnum(list(QUERY_STARTS)) = field(  # type: ignore[valid-type]
        default="learned",
        metadata={
            "help": "learned: random queries, as published; monotonic: queries start as evenly spaced positions and "
            "the speech carries positions"
        },
    )
    max_text_positions: int = field(default=512, metadata={"help": "longest transcript, in tokens"})
    dropout: float = field(default=0.1, metadata={"help": "dropout in the Q-Former"})


@dataclass
class PretrainModelConfig(AdapterConfig):
    text_tokenizer: Optional[str] = field(
        default=None,
        metadata={"help": "BERT-like tokenizer of the transcripts, folder or hub id; by default that of --bert"},
    )
    bert: Optional[str] = field(
        default=None, metadata={"help": "start the Q-Former from this BERT, folder or hub id; by default at random"}
    )
    contrastive_width: int = field(default=256, metadata={"help": "width of the space of the contrastive loss"})
    temperature: float = field(default=0.07, metadata={"help": "temperature that the contrastive loss starts from"})


@dataclass
class SpeechLLMConfig(AdapterConfig):
    llm: Optional[str] = field(default=None, metadata={"help": "causal language model, Hugging Face folder or hub id"})
    llm_dtype: ChoiceEnum(list(DTYPES)) = field(  # type: ignore[valid-type]
        default="bf16", metadata={"help": "precision of the frozen LLM, apart from the trainer's"}
    )
    pretrained_adapter: Optional[str] = field(
        default=None,
        metadata={"help": "stage-1 (or stage-2) checkpoint to start from; encoder and Q-Former sizes come from it"},
    )


# What makes two adapters the same shape; a stage-2 run takes these from its stage-1 checkpoint.
SHAPE_FIELDS = (
    "hidden_size",
    "layers",
    "heads",
    "ffn_size",
    "cross_attention_freq",
    "queries",
    "query_start",
    "max_text_positions",
)
ENCODER_FIELDS = ("speech_encoder", "encoder_layer", "encoder_dtype")

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 128, "layers": 2, "heads": 4, "ffn_size": 512, "cross_attention_freq": 1, "queries": 24},
    "base": {"hidden_size": 768, "layers": 12, "heads": 12, "ffn_size": 3072},
    "large": {"hidden_size": 1024, "layers": 24, "heads": 16, "ffn_size": 4096},
}


def architecture(size: dict[str, Any]) -> Callable[[Any], None]:
    """fairseq's architecture function of a size: it fills in what the command line leaves open."""

    def fill(args: Any) -> None:
        for name, value in size.items():
            setattr(args, name, getattr(args, name, value))

    return fill


def qformer_config(config: AdapterConfig, speech_width: int, vocab_size: int) -> QFormerConfig:
    """The plain Q-Former configuration of fairseq's options."""
    shape = {name: getattr(config, name) for name in SHAPE_FIELDS}
    shape["query_start"] = str(shape["query_start"])
    return QFormerConfig(vocab_size=vocab_size, speech_width=speech_width, dropout=config.dropout, **shape)
