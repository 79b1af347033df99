"""The model of stage 1: frozen speech encoder, and the Q-Former with the heads of its objectives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from torch import Tensor

from sparqle_fairseq.data.text import TranscriptTokenizer, vocabulary_hash
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.adapted import AdaptedModel, open_speech_source
from sparqle_fairseq.models.config import DTYPES, PretrainModelConfig, adapter_config, feature_masks
from sparqle_fairseq.models.encoders import SpeechSource
from sparqle_fairseq.models.encoders.tuning import add_encoder_tuning
from sparqle_fairseq.models.llm.llm import LanguageModel, LLMOptions, load_llm
from sparqle_fairseq.models.qformer.bert import load_bert
from sparqle_fairseq.models.stage1.adapter import Stage1Adapter
from sparqle_fairseq.models.stage1.batch import Foreign, Stage1Text
from sparqle_fairseq.models.stage1.decoder import Transcriber
from sparqle_fairseq.models.stage1.objectives import Reach, Sums, kind_of, parse_objective


def fill_frame_vocabulary(options: PretrainModelConfig) -> None:
    """Complete options of windows by CTC, in place: stage 2 has no tokenizer of transcripts to ask."""
    path = options.text_tokenizer or options.bert
    if options.query_windows == "ctc" and path:
        options.frame_vocabulary = TranscriptTokenizer.load(path).vocab_size


class PretrainModel(AdaptedModel):
    """Speech and transcripts in, what the stage-1 losses need out."""

    def __init__(
        self,
        encoder: SpeechSource,
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
        # Objectives with their weights, and what the LLM's tokens are where one reads it. Of the LLM no more is kept.
        self.objective = objective
        self.llm_tokenizer = None if llm is None else llm.tokenizer

    @classmethod
    def build(
        cls, options: PretrainModelConfig, *, folders: Sequence[str] = (), seed: int = 1, trained: str = ""
    ) -> Self:
        """The model that the options describe.

        Args:
            options: plain ones, with their defaults where nothing was chosen.
            folders: of the data; where they hold features, no speech encoder is loaded.
            seed: of the masks over training features.
            trained: names the checkpoint whose options they are, for messages; "" in training.

        Raises:
            SparqleError: the options do not go together, or something that they name cannot be read.
        """
        path = options.text_tokenizer or options.bert
        if not path:
            raise SparqleError("no tokenizer was named for the transcripts; give one with --text-tokenizer or --bert")
        objective = parse_objective(options.objective, trained)
        fill_frame_vocabulary(options)
        llm = None
        if options.llm and any(kind_of(name).reads_llm for name in objective):
            llm = load_llm(options.llm, LLMOptions(DTYPES[options.llm_dtype]))
        elif options.llm:
            raise SparqleError(f"--objective {options.objective} does not read the LLM; leave --llm out until stage 2")
        encoder = open_speech_source(options, folders)
        tokenizer = TranscriptTokenizer.load(path)
        adapter = Stage1Adapter(
            adapter_config(options, encoder.width, tokenizer.vocab_size, encoder.frame_rate),
            decode_token=tokenizer.decode_token,
            pad_token=tokenizer.pad,
            objectives=objective,
            options=options,
            llm_embeddings=None if llm is None else llm.all_embeddings(),
            projector=options.projector,
            masks=feature_masks(options, seed),
        )
        add_encoder_tuning(adapter, encoder, options)
        if options.bert and adapter.qformer is None:
            raise SparqleError(
                f"--bert starts a Q-Former, and --adapter {options.adapter} is none; give its tokenizer alone, with "
                "--text-tokenizer"
            )
        if adapter.qformer is not None:
            adapter.qformer.gradient_checkpointing = options.qformer_gradient_checkpointing
        if options.bert:
            load_bert(adapter.qformer, options.bert)
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
        active: bool = True,
        source_lengths: Sequence[int] | None = None,
        text_lengths: Sequence[int] | None = None,
        llm_text_lengths: Sequence[int] | None = None,
    ) -> dict[str, Sums]:
        """`source` (B, S) or (B, T, W), or units (B, T), `text` (B, L), keys (B,); see `Stage1Adapter.forward`."""
        speech = self.encode_speech(*self.hear(source, padding_mask, source_lengths))
        foreign = None
        if foreign_text is not None and foreign_padding_mask is not None and foreign_rows is not None:
            foreign = Foreign(foreign_text, foreign_padding_mask, foreign_rows)
        batch = Stage1Text(
            text, text_padding_mask, identity, utterance, llm_text, foreign, text_lengths, llm_text_lengths
        )
        return self.adapter(speech.values, speech.padding_mask, batch, self.num_updates, active)

    def step_decoder(self) -> Transcriber:
        if not any(Reach.WORDS in kind_of(name).reach for name in self.objective):
            raise SparqleError(
                f"this checkpoint was trained with --objective {'+'.join(self.objective)}, and only stg teaches the "
                "Q-Former to write text; go on with stage 2"
            )
        return Transcriber(self.adapter.qformer, self.encode_speech, self.tokenizer.decode_token)

    def max_answer_tokens(self, net_input: dict[str, Any]) -> int:
        # [DEC] takes the first position.
        return self.adapter.reader.config.max_text_positions - 1
