"""Model `sparqle_qformer` of stage 1: frozen speech encoder and Q-Former with its three heads."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

from fairseq.models import register_model, register_model_architecture
from fairseq.utils import split_paths
from torch import Tensor

from sparqle_fairseq.data.text import TranscriptTokenizer, vocabulary_hash
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.adapted import AdaptedModel
from sparqle_fairseq.models.config import (
    DTYPES,
    SIZES,
    AdapterConfig,
    PretrainModelConfig,
    architecture,
    feature_masks,
    qformer_config,
)
from sparqle_fairseq.models.encoders import SpeechEncoder, load_speech_encoder, parse_layer
from sparqle_fairseq.models.encoders.stored_features import open_feature_reader
from sparqle_fairseq.models.encoders.units import unit_embedding
from sparqle_fairseq.models.llm.llm import LanguageModel, LLMOptions, load_llm
from sparqle_fairseq.models.qformer.bert import load_bert
from sparqle_fairseq.models.stage1.adapter import Foreign, Stage1Adapter, Stage1Output, Stage1Text
from sparqle_fairseq.models.stage1.decoder import Transcriber
from sparqle_fairseq.models.stage1.objectives import ADVERSARIAL, PUBLISHED, WITH_TEXT_BRANCH, parse_objective


def open_speech_encoder(config: AdapterConfig, task: Any) -> SpeechEncoder:
    """The encoder that the options name, or what stands in for it where the task's data is units or features."""
    if str(config.source) == "units":
        return unit_embedding(config)
    reader = open_feature_reader(split_paths(task.cfg.data))
    if reader is not None:
        return cast(SpeechEncoder, reader)
    if not config.speech_encoder:
        raise SparqleError("no speech encoder was named; give a checkpoint with --speech-encoder")
    layer = parse_layer(str(config.encoder_layer))
    return load_speech_encoder(config.speech_encoder, layer=layer, dtype=DTYPES[str(config.encoder_dtype)])


@register_model("sparqle_qformer", dataclass=PretrainModelConfig)
class PretrainModel(AdaptedModel):
    """Speech and transcripts in, what the stage-1 losses need out."""

    def __init__(
        self,
        encoder: SpeechEncoder,
        adapter: Stage1Adapter,
        tokenizer: TranscriptTokenizer,
        path: str,
        objective: dict[str, float],
        llm: LanguageModel | None = None,
    ) -> None:
        identity: dict[str, dict[str, Any]] = {
            "speech encoder": encoder.identity,
            "text vocabulary": {"path": path, "hash": vocabulary_hash(tokenizer.tokenizer)},
        }
        if llm is not None:
            identity["LLM"] = llm.identity
        super().__init__(encoder, adapter, identity)
        self.tokenizer = tokenizer
        # Objectives with their weights, and what the LLM's tokens are for llm-ctc. Of the LLM nothing else is kept.
        self.objective = objective
        self.llm_tokenizer = None if llm is None else llm.tokenizer

    @classmethod
    def build_model(cls, cfg: PretrainModelConfig, task: Any) -> PretrainModel:
        path = cfg.text_tokenizer or cfg.bert
        if not path:
            raise SparqleError("no tokenizer was named for the transcripts; give one with --text-tokenizer or --bert")
        objective = parse_objective(cfg.objective)
        _add_adversary(objective, cfg)
        llm = None
        if "llm-ctc" in objective and cfg.llm:
            llm = load_llm(cfg.llm, LLMOptions(DTYPES[str(cfg.llm_dtype)]))
        elif cfg.llm:
            raise SparqleError(f"--objective {cfg.objective} does not read the LLM; leave --llm out until stage 2")
        encoder = open_speech_encoder(cfg, task)
        tokenizer = TranscriptTokenizer.load(path)
        adapter = Stage1Adapter(
            qformer_config(cfg, encoder.width, tokenizer.vocab_size, encoder.frame_rate),
            tokenizer.decode_token,
            tokenizer.pad,
            cfg.contrastive_width,
            cfg.temperature,
            feature_masks(cfg, int(task.cfg.seed)),
            objective,
            None if llm is None else llm.all_embeddings(),
            str(cfg.projector),
            str(cfg.stm_negatives),
            cfg.llm_ctc_sample,
            str(cfg.adversarial_input),
            str(cfg.adversarial_norm),
        )
        if cfg.bert:
            load_bert(adapter.qformer, cfg.bert)
        return cls(encoder, adapter, tokenizer, path, objective, llm)

    def forward(
        self,
        source: Tensor,
        padding_mask: Tensor,
        text: Tensor,
        text_padding_mask: Tensor,
        identity: Tensor,
        utterance: Tensor,
        llm_text: Tensor | None = None,
        foreign_text: Tensor | None = None,
        foreign_padding_mask: Tensor | None = None,
        foreign_rows: Tensor | None = None,
        objectives: Collection[str] = PUBLISHED,
        active: bool = True,
    ) -> Stage1Output:
        """`source` (B, S) or (B, T, W), or units (B, T), `text` (B, L), keys (B,); see `Stage1Adapter.forward`."""
        speech = self.encode_speech(source, padding_mask)
        foreign = None
        if foreign_text is not None and foreign_padding_mask is not None and foreign_rows is not None:
            foreign = Foreign(foreign_text, foreign_padding_mask, foreign_rows)
        batch = Stage1Text(text, text_padding_mask, identity, utterance, llm_text, foreign)
        return self.adapter(speech.values, speech.padding_mask, batch, self.num_updates, objectives, active)

    def train_only(self, objectives: Collection[str]) -> None:
        """See `Stage1Adapter.train_only`."""
        self.adapter.train_only(objectives)

    def ramp_over(self, updates: int) -> None:
        """Let the adversary's gradient grow over so many updates."""
        self.adapter.ramp_updates = updates

    def step_decoder(self) -> Transcriber:
        if "stg" not in self.objective:
            raise SparqleError(
                f"this checkpoint was trained with --objective {'+'.join(self.objective)}, and only stg teaches the "
                "Q-Former to write text; go on with stage 2"
            )
        return Transcriber(self)

    def max_answer_tokens(self, net_input: dict[str, Any]) -> int:
        # [DEC] takes the first position.
        return self.adapter.qformer.config.max_text_positions - 1

    def temperature(self) -> Tensor:
        return self.adapter.clamped_temperature()


def _add_adversary(objective: dict[str, float], cfg: PretrainModelConfig) -> None:
    """`--adversarial-weight` as one more loss. Raises `SparqleError`."""
    weight = float(cfg.adversarial_weight)
    if weight < 0:
        raise SparqleError(f"--adversarial-weight {weight:g} must be 0 (off) or above")
    if not weight:
        return
    if not objective.keys() & WITH_TEXT_BRANCH:
        raise SparqleError(
            f"--adversarial-weight aligns text, and --objective {cfg.objective} reads none in the Q-Former; add stc, "
            "stm or stg"
        )
    if str(cfg.adversarial_input) == "features" and "stc" not in objective:
        raise SparqleError(
            f"--adversarial-input features is the space that stc learns, and --objective {cfg.objective} has none; "
            "give --adversarial-input hidden"
        )
    objective[ADVERSARIAL] = weight


for _name, _size in SIZES.items():
    register_model_architecture("sparqle_qformer", f"sparqle_qformer_{_name}")(architecture(_size))
