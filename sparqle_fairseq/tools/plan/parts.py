"""The parts of a planned run, built without their weights: encoder, Q-Former, LLM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from sparqle_fairseq.data.instructions import SPEECH_PLACE
from sparqle_fairseq.errors import SparqleError, reason
from sparqle_fairseq.models.encoders.base import EncoderNetwork, Layer
from sparqle_fairseq.models.encoders.fairseq_checkpoint import FairseqEncoder, read_checkpoint
from sparqle_fairseq.models.frozen import Frozen
from sparqle_fairseq.models.llm.files import LLMFiles
from sparqle_fairseq.models.llm.llm import BareLLM, attention_option
from sparqle_fairseq.models.llm.recompute import recompute_layers
from sparqle_fairseq.models.stage2.adapter import Stage2Adapter
from sparqle_fairseq.models.stage2.batch import Lessons
from sparqle_fairseq.models.stage2.candidates import Candidates
from sparqle_fairseq.models.stage2.model import SpeechLLM
from sparqle_fairseq.models.stage2.objectives import kind_of, reads_candidates, reads_transcripts

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


def encode(network: EncoderNetwork, source: Tensor, layer: Layer = "last") -> Tensor:
    """Features (B, T, W) of waveforms (B, S) of equal length, without what a backward pass would need.

    (B, T, L, W) where all layers are wanted.
    """
    with torch.no_grad():
        return network(source, [source.size(1)] * source.size(0), layer)[0]


def llm_config(given: str | LLMSize) -> Any:
    """The configuration of a folder or hub id, or of a Llama of such a size. Raises `SparqleError`."""
    if isinstance(given, str):
        return LLMFiles.find(given).read_config()
    from transformers import LlamaConfig

    if min(given.width, given.layers, given.vocabulary) < 1:
        raise SparqleError(
            f"--llm-width {given.width}, --llm-layers {given.layers} and --vocab {given.vocabulary} must be 1 or more"
        )
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


def build_llm(config: Any, dtype: torch.dtype, attention: str | None = None, recompute: bool = False) -> BareLLM:
    """A frozen causal LM of a configuration; `recompute`: with gradient checkpointing. Raises `SparqleError`."""
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, **attention_option(attention))
    except (ValueError, ImportError) as error:
        raise SparqleError(
            f"transformers cannot build this LLM ({reason(error)}); check --llm and --attn-implementation"
        ) from error
    if recompute:
        recompute_layers(model, "the LLM")
    return BareLLM(model)


class Unheard(nn.Module):
    """Stands where the speech encoder does in a model whose batches hold what an encoder gave."""

    def __init__(self, mixed_layers: int = 0) -> None:
        super().__init__()
        self.identity: dict[str, Any] = {}
        self.mixed_layers = mixed_layers  # of which a learned sum is taken; 0: it gives one


class Unjoined(Stage2Adapter):
    """Reads outputs as tokens where stage 2 does, and joins none: which are alike is not known beforehand."""

    def forward(
        self, values: Tensor, padding_mask: Tensor, utterance: Tensor | None = None, update: int = 0
    ) -> tuple[Tensor, Tensor | None]:
        queries = self.reader(values, padding_mask)
        points = self.projector(queries.hidden)
        if self.llm_space is not None:
            self.llm_space.labels(points)
            points = self.llm_space.soft_tokens(points) if self.soft_tokens else points
        return points, queries.padding_mask


def speech_llm(
    adapter: Stage2Adapter,
    llm: BareLLM,
    objective: Mapping[str, float] | None = None,
    mixed_layers: int = 0,
    start: Stage2Adapter | None = None,
) -> SpeechLLM:
    """Stage 2's model around an adapter and an LLM, without an encoder and a tokenizer.

    `start` is the adapter that training begins with, for objectives that compare with it.
    """
    model = SpeechLLM(cast(Any, Unheard(mixed_layers)), adapter, cast(Any, llm))
    if objective is not None:
        model.objective = dict(objective)
        model.objectives = {name: kind_of(name)() for name in objective}
    if start is not None:
        model.start = Frozen(start)
    return model


def stage2_loss(model: SpeechLLM, values: Tensor, prompt: Tensor, answer: Tensor, reading: Tensor) -> Tensor:
    """The loss of what was heard (B, T, W), prompts (B, P) and answers (B, L), none of them padded.

    `reading` (B, R) are the transcripts that a teacher reads. As many answers are compared as the options say, each as
    long as the right one.
    """
    rows, length = answer.shape
    place = prompt.new_full((rows, 1), SPEECH_PLACE)
    prompt = torch.cat([place, prompt], dim=1)
    candidates = None
    if reads_candidates(model.objective):
        options = next(own.loss_options for own in model.objectives.values() if type(own).reads_candidates)
        tokens = answer[:, None].repeat(1, options.candidates, 1)
        real = torch.zeros_like(tokens, dtype=torch.bool)
        risks = torch.zeros(tokens.shape[:2], device=tokens.device)
        candidates = Candidates(tokens, real, risks, tokens.numel())
    read = torch.cat([place, reading], dim=1) if reads_transcripts(model.objective) else None
    lessons = Lessons(read, None if read is None else _none(read), candidates, learned_lengths=[length] * rows)
    padding_mask = torch.zeros(values.shape[:2], dtype=torch.bool, device=values.device)
    sums = model(values, padding_mask, prompt, _none(prompt), answer, _none(answer), lessons=lessons)
    return sum((weight * sums[name]["sum"] for name, weight in model.objective.items()), answer.new_zeros(()).float())


def _none(tokens: Tensor) -> Tensor:
    """A padding mask of tokens that are all real."""
    return torch.zeros_like(tokens, dtype=torch.bool)
