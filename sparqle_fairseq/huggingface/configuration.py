"""`SparqleConfig`: what a SparQLe model is made of, for transformers."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.qformer.plain import QFORMER, PlainConfig, ReadingConfig
from sparqle_fairseq.models.qformer.qformer import QFormerConfig

# What `from_pretrained` says of a hub's repository.
HUB_OPTIONS = ("revision", "cache_dir", "token", "local_files_only", "force_download")


class SparqleAdapterConfig(PreTrainedConfig):
    """Sizes of what is trained; the fields of `QFormerConfig` or `PlainConfig`, and what stands around it.

    Args:
        adapter: what reads the speech: "qformer", or the name of a plain adapter, to which the fields that it does not
            have mean nothing.
        hidden_size: H, width of the Q-Former.
        layers, heads, ffn_size, cross_attention_freq, queries, query_start, dropout, speech_entry, speech_downsample,
            speech_stride, window_frames, query_windows, frame_vocabulary: as in `QFormerConfig`.
        projector: what turns query outputs into embeddings of the LLM; one of `projector.PROJECTORS`.
        compress_queries: leave out what CTC reads as blank, join what it reads as one token.
        soft_tokens: give the LLM the mean token embedding of each run.
        lora_rank, lora_alpha, lora_dropout, lora_target: updates of the LLM's linear layers; rank 0 for none.
        answer: style of the answers it was trained to give, one of `data.answers.ANSWERS`.
    """

    model_type = "sparqle_adapter"

    adapter: str = QFORMER
    hidden_size: int = 768
    layers: int = 12
    heads: int = 12
    ffn_size: int = 3072
    cross_attention_freq: int = 2
    queries: int = 100
    query_start: str = "learned"
    dropout: float = 0.1
    speech_entry: str = "norm"
    speech_downsample: str = "none"
    speech_stride: int = 1
    window_frames: int = 0
    query_windows: str = "equal"
    frame_vocabulary: int = 0
    projector: str = "linear"
    compress_queries: bool = False
    soft_tokens: bool = False
    lora_rank: int = 0
    lora_alpha: float = 16.0
    lora_dropout: float = 0.0
    lora_target: str = "default"
    answer: str = "direct"
    without_lora: bool = False
    initializer_range: float = 0.02

    def reader(self, speech_width: int) -> ReadingConfig:
        """The plain configuration of what reads the speech, without a text branch. Raises `SparqleError`."""
        kind: Any = QFormerConfig if self.adapter == QFORMER else PlainConfig
        shape = {
            part.name: getattr(self, part.name)
            for part in fields(kind)
            if part.name not in ("vocab_size", "speech_width", "max_text_positions")
        }
        return kind(vocab_size=1, speech_width=speech_width, **shape)


class SparqleConfig(PreTrainedConfig):
    """Configuration of `SparqleForConditionalGeneration`.

    Args:
        audio_config: of the frozen speech encoder: HuBERT, wav2vec 2.0, WavLM, data2vec audio or Whisper.
        text_config: of the frozen causal language model.
        adapter_config: of what is trained between them.
        audio_token_id: stands in `input_ids` for one query of the speech.
        encoder_layer: "last", "weighted", or a number from 1 as text; see `SpeechEncoder`.
        normalize: whether the encoder expects each waveform normalised to zero mean and unit variance.
        front_end: of Whisper: what its preprocessor_config.json says beyond the defaults.
        speech_encoder, llm: where encoder and LLM lie (folder or hub id) if the weights here are the adapter's alone;
            None where all weights are in the folder.
        identity: of encoder and LLM that the adapter was trained with; see `models.identity`.
    """

    model_type = "sparqle"
    attribute_map = {"audio_token_index": "audio_token_id"}
    sub_configs_defaults = {
        "audio_config": SubConfigSpec(config_class=AutoConfig, model_type="hubert"),
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="llama"),
        "adapter_config": SubConfigSpec(config_class=SparqleAdapterConfig),
    }

    audio_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    adapter_config: dict | PreTrainedConfig | None = None
    audio_token_id: int = 0
    encoder_layer: str = "last"
    normalize: bool = False
    sampling_rate: int = 16000
    front_end: dict | None = None
    speech_encoder: str | None = None
    llm: str | None = None
    identity: dict | None = None
    tie_word_embeddings: bool = False

    @property
    def adapter_only(self) -> bool:
        """Whether encoder and LLM lie elsewhere."""
        if (self.speech_encoder is None) != (self.llm is None):
            raise SparqleError(
                "a SparQLe configuration names its speech_encoder and its llm, or neither; this one names one of them"
            )
        return self.llm is not None

    def without_places(self) -> SparqleConfig:
        """The configuration of a folder that holds encoder and LLM, too."""
        settings = self.to_dict()
        return type(self).from_dict(settings | {"speech_encoder": None, "llm": None})
