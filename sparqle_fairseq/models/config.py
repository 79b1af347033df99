"""Options of the speech encoder and the Q-Former, shared by the models of both stages, and each stage's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from sparqle_fairseq.data.answers import ANSWERS
from sparqle_fairseq.data.options import choice, with_options
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.encoders.tuning_options import EncoderTuningOptions
from sparqle_fairseq.models.llm.lora_options import LoRAOptions
from sparqle_fairseq.models.llm.quantized import QUANTIZATIONS
from sparqle_fairseq.models.llm.sharding import SHARDINGS
from sparqle_fairseq.models.qformer.front_end import DOWNSAMPLING
from sparqle_fairseq.models.qformer.masking import FeatureMasks
from sparqle_fairseq.models.qformer.plain import QFORMER, PlainConfig, ReadingConfig, adapter_names, plain_kind
from sparqle_fairseq.models.qformer.projector import PROJECTORS
from sparqle_fairseq.models.qformer.qformer import QUERY_STARTS, QUERY_WINDOWS, SPEECH_ENTRIES, QFormerConfig
from sparqle_fairseq.models.stage1.objectives import SUMS, kinds
from sparqle_fairseq.models.stage2.objectives import DEFAULT as STAGE2_DEFAULT
from sparqle_fairseq.models.stage2.objectives import kinds as stage2_kinds

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
SOURCES = ("audio", "units")


@dataclass
class AdapterConfig(EncoderTuningOptions):
    speech_encoder: str | None = field(
        default=None,
        metadata={
            "help": "the frozen speech encoder: a fairseq checkpoint (HuBERT, wav2vec 2.0, data2vec), a Hugging Face "
            "folder or hub id (those, WavLM, Whisper), or s3prl:NAME"
        },
    )
    encoder_layer: str = field(
        default="last",
        metadata={
            "help": "layer whose output the Q-Former reads: last, 1 for the first and so on, or weighted for a learned "
            "sum of all"
        },
    )
    encoder_dtype: str = choice("fp32", DTYPES, "precision of the frozen encoder, apart from the trainer's")
    # The task has this option too; here it goes into the checkpoint.
    source: str = choice("audio", SOURCES, "audio (or features of it), or units: <split>.km beside <split>.tsv")
    unit_vocabulary: int = field(default=0, metadata={"help": "number of different units, for --source units"})
    unit_rate: float = field(default=50.0, metadata={"help": "units per second (before --collapse-units)"})
    collapse_units: bool = field(default=False, metadata={"help": "read consecutive equal units as one"})
    adapter: str = field(
        default=QFORMER,
        metadata={
            "help": f"what reads the speech: {', '.join(adapter_names())}; all but the Q-Former have no queries, and "
            "give an output for every --speech-stride encoder frames"
        },
    )
    hidden_size: int = field(default=768, metadata={"help": "width of the Q-Former, or of the adapter in its place"})
    layers: int = field(default=12, metadata={"help": "layers of the Q-Former, or of --adapter ctc"})
    heads: int = field(
        default=12, metadata={"help": "attention heads of the Q-Former, or of --adapter ctc; of stg-outputs too"}
    )
    ffn_size: int = field(
        default=3072, metadata={"help": "feed-forward width of the Q-Former, or of --adapter stack or ctc"}
    )
    cross_attention_freq: int = field(default=2, metadata={"help": "every n-th layer reads the speech"})
    queries: int = field(default=100, metadata={"help": "number of learned queries"})
    query_start: str = choice(
        "learned",
        QUERY_STARTS,
        "learned: random queries, as published; monotonic: queries start as evenly spaced positions and "
        "the speech carries positions",
    )
    query_window_seconds: float | None = field(
        default=None,
        metadata={
            "help": "cut the speech into windows of so many seconds, each read by --queries-per-window queries; by "
            "default --queries read the whole utterance"
        },
    )
    query_windows: str = choice(
        "equal",
        QUERY_WINDOWS,
        "equal: windows are all as long; ctc: a window ends where the frames' CTC, which the objective frame-ctc "
        "teaches, hears a token end, and --query-window-seconds is the shortest",
    )
    frame_vocabulary: int = field(
        default=0, metadata={"help": "for --query-windows ctc: tokens of that CTC; stage 1 fills it in"}
    )
    queries_per_window: int | None = field(
        default=None, metadata={"help": "number of learned queries, the same ones in every window"}
    )
    speech_downsample: str = choice(
        "none",
        DOWNSAMPLING,
        "before the Q-Former, join --speech-stride frames: stack (side by side), conv (learned) or none",
    )
    speech_stride: int = field(
        default=1,
        metadata={"help": "encoder frames in a frame that the Q-Former reads, or in an output of another adapter"},
    )
    speech_entry: str = choice(
        "norm",
        SPEECH_ENTRIES,
        "what the speech passes before it is read: norm (a LayerNorm, as published), linear (to the "
        "Q-Former's width, as in the authors' Hugging Face trainer) or none",
    )
    max_text_positions: int = field(default=512, metadata={"help": "longest transcript, in tokens"})
    dropout: float = field(default=0.1, metadata={"help": "dropout in the adapter"})
    qformer_gradient_checkpointing: bool = field(
        default=False,
        metadata={
            "help": "compute the Q-Former's layers again in the backward pass: less memory, about a third slower"
        },
    )
    time_masks: int = field(
        default=0, metadata={"help": "stretches of each training utterance's features to hide (SpecAugment)"}
    )
    time_mask_frames: int = field(
        default=25, metadata={"help": "longest such stretch, in encoder frames; never above a fifth of the utterance"}
    )
    channel_masks: int = field(
        default=0, metadata={"help": "ranges of each training utterance's feature channels to hide (SpecAugment)"}
    )
    channel_mask_width: int = field(default=64, metadata={"help": "widest such range, in channels"})
    projector: str = choice(
        "linear",
        PROJECTORS,
        "what turns query outputs into embeddings of the LLM (in stage 1 for llm-ctc alone): linear (as "
        "published), mlp, linear-norm, or scaled: linear in units of the LLM's embeddings, which learns fastest",
    )


@dataclass
@with_options(kind.Options for kind in kinds())
class PretrainModelConfig(AdapterConfig):
    objective: str = field(
        default="sparqle",
        metadata={
            "help": f"what stage 1 learns from: {', '.join([*SUMS, *(kind.name for kind in kinds())])}, or a sum such "
            "as llm-ctc+0.5*stg"
        },
    )
    llm: str | None = field(
        default=None,
        metadata={"help": "for --objective llm-ctc: the LLM of stage 2, Hugging Face folder or hub id"},
    )
    llm_dtype: str = choice("fp32", DTYPES, "for --objective llm-ctc: precision of the LLM's embeddings")
    text_tokenizer: str | None = field(
        default=None,
        metadata={"help": "BERT-like tokenizer of the transcripts, folder or hub id; by default that of --bert"},
    )
    bert: str | None = field(
        default=None, metadata={"help": "start the Q-Former from this BERT, folder or hub id; by default at random"}
    )


@dataclass
class SpeechLLMConfig(LoRAOptions, AdapterConfig):
    objective: str = field(
        default=STAGE2_DEFAULT,
        metadata={
            "help": f"what stage 2 learns from: {', '.join(kind.name for kind in stage2_kinds())}, or a sum such as "
            "answer+0.5*distill"
        },
    )
    llm: str | None = field(default=None, metadata={"help": "causal language model, Hugging Face folder or hub id"})
    llm_dtype: str = choice("bf16", DTYPES, "precision of the frozen LLM, apart from the trainer's")
    llm_quantization: str = choice(
        "none", QUANTIZATIONS, "keep the frozen LLM's linear layers in 8 or 4 bits (bitsandbytes)"
    )
    attn_implementation: str | None = field(
        default=None,
        metadata={
            "help": "how the LLM computes attention: eager, sdpa, or another that transformers knows; by default what "
            "transformers takes for this LLM"
        },
    )
    llm_gradient_checkpointing: bool = field(
        default=False,
        metadata={"help": "compute the LLM's layers again in the backward pass: less memory, about a third slower"},
    )
    llm_sharding: str = choice(
        "none",
        SHARDINGS,
        "in training, divide the LLM's layers among the processes of each machine, or among all; each "
        "process gathers a layer while it runs: less memory, more communication",
    )
    compress_queries: bool = field(
        default=False,
        metadata={
            "help": "give the LLM only what CTC reads: leave out queries nearest to the blank, join neighbours nearest "
            "to the same token; needs an adapter of --objective llm-ctc"
        },
    )
    soft_tokens: bool = field(
        default=False,
        metadata={
            "help": "with --compress-queries: give the LLM, for each run of queries, the mean of its token embeddings "
            "weighted by what CTC reads there, instead of the mean of the queries"
        },
    )
    answer: str = choice(
        "direct",
        ANSWERS,
        "what the LLM answers to a translation: the translation (direct), or the transcript, a line break "
        "and the translation (transcript-first); only the translation is printed and scored",
    )
    freeze_qformer: bool = field(
        default=False,
        metadata={
            "help": "train the projector alone; the Q-Former, or the adapter in its place, stays as "
            "--pretrained-adapter has it"
        },
    )
    pretrained_adapter: str | None = field(
        default=None,
        metadata={"help": "stage-1 (or stage-2) checkpoint to start from; encoder and Q-Former sizes come from it"},
    )


# Fields of QFormerConfig that are options of the same name.
QFORMER_FIELDS = (
    "hidden_size",
    "layers",
    "heads",
    "ffn_size",
    "cross_attention_freq",
    "queries",
    "query_start",
    "max_text_positions",
    "speech_entry",
    "speech_downsample",
    "speech_stride",
    "query_windows",
    "frame_vocabulary",
)
# What makes two adapters the same shape; a stage-2 run takes these from its stage-1 checkpoint.
UNIT_FIELDS = ("source", "unit_vocabulary", "unit_rate", "collapse_units")
SHAPE_FIELDS = ("adapter", *QFORMER_FIELDS, "query_window_seconds", "queries_per_window", *UNIT_FIELDS)
# What no other adapter has; a value that is not the default's is refused there.
QFORMER_ALONE = (
    "query_start",
    "query_window_seconds",
    "queries_per_window",
    "query_windows",
    "speech_entry",
    "speech_downsample",
    "qformer_gradient_checkpointing",
)
ENCODER_FIELDS = ("speech_encoder", "encoder_layer", "encoder_dtype")

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 128, "layers": 2, "heads": 4, "ffn_size": 512, "cross_attention_freq": 1, "queries": 24},
    "base": {"hidden_size": 768, "layers": 12, "heads": 12, "ffn_size": 3072},
    "large": {"hidden_size": 1024, "layers": 24, "heads": 16, "ffn_size": 4096},
}


def adapter_config(
    config: AdapterConfig, speech_width: int, vocab_size: int, frame_rate: float | None = None
) -> ReadingConfig:
    """What reads the speech, as options describe it: a Q-Former, or a plain adapter; arguments as below."""
    if config.adapter == QFORMER:
        return qformer_config(config, speech_width, vocab_size, frame_rate)
    kind = plain_kind(config.adapter)
    for name in QFORMER_ALONE:
        _check_unread(config, name, ())
    # Architectures fill these in, whatever the adapter.
    for name in ("cross_attention_freq", "queries", "layers", "ffn_size"):
        if name not in kind.reads:
            _check_unread(config, name, [size[name] for size in SIZES.values() if name in size])
    sizes = ("hidden_size", "layers", "heads", "ffn_size", "speech_stride", "max_text_positions", "dropout")
    return PlainConfig(config.adapter, vocab_size, speech_width, **{name: getattr(config, name) for name in sizes})


def _check_unread(config: AdapterConfig, name: str, others: Sequence[Any]) -> None:
    value = getattr(config, name)
    if value not in (getattr(AdapterConfig, name), *others):
        raise SparqleError(
            f"--{name.replace('_', '-')} {value} means nothing to --adapter {config.adapter}; leave it out"
        )


def qformer_config(
    config: AdapterConfig, speech_width: int, vocab_size: int, frame_rate: float | None = None
) -> QFormerConfig:
    """The Q-Former that options describe.

    `frame_rate` is that of the speech encoder in Hz; windows need it. Raises `SparqleError`.
    """
    shape = {name: getattr(config, name) for name in QFORMER_FIELDS}
    seconds, count = config.query_window_seconds, config.queries_per_window
    if (seconds is None) != (count is None):
        raise SparqleError("--query-window-seconds and --queries-per-window go together; give both or neither")
    if seconds is not None and count is not None:
        if frame_rate is None:
            raise SparqleError("--query-window-seconds needs a speech encoder with a frame rate")
        exact = seconds * frame_rate / max(config.speech_stride, 1)
        frames = round(exact)
        if frames < 1 or count < 1:
            raise SparqleError(
                f"--query-window-seconds {seconds:g} is {exact:.2g} frames and --queries-per-window is {count}; each "
                "must be 1 or more"
            )
        shape |= {"window_frames": frames, "queries": count}
    return QFormerConfig(vocab_size=vocab_size, speech_width=speech_width, dropout=config.dropout, **shape)


def feature_masks(config: AdapterConfig, seed: int) -> FeatureMasks | None:
    """Masks over training features, or None where none are asked for. Raises `SparqleError`."""
    sizes = (config.time_masks, config.time_mask_frames, config.channel_masks, config.channel_mask_width)
    for count, width, name in ((*sizes[:2], "time"), (*sizes[2:], "channel")):
        if count < 0 or width < 1:
            raise SparqleError(f"--{name}-masks {count} of width {width}; give 0 or more masks of width 1 or more")
    return FeatureMasks(*sizes, seed=seed) if config.time_masks or config.channel_masks else None
