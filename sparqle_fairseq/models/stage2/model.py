"""The model of stage 2: frozen encoder, Q-Former, projector, frozen LLM.

Plain PyTorch. B utterances, P prompt ids (one of them the place of the speech), Q queries, L answer tokens, M width of
the LLM.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

from torch import Tensor

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.adapted import AdaptedModel, add_layer_mix, open_speech_source
from sparqle_fairseq.models.config import DTYPES, SpeechLLMConfig, adapter_config, feature_masks
from sparqle_fairseq.models.encoders import SpeechSource
from sparqle_fairseq.models.encoders.tuning import add_encoder_tuning, tunes
from sparqle_fairseq.models.frozen import Frozen
from sparqle_fairseq.models.llm.llm import LanguageModel, LLMOptions, load_llm
from sparqle_fairseq.models.llm.lora import add_lora, check_lora_options
from sparqle_fairseq.models.llm.quantized import quantize
from sparqle_fairseq.models.llm.sharding import check_sharding
from sparqle_fairseq.models.stage2.adapter import Stage2Adapter
from sparqle_fairseq.models.stage2.batch import Lessons, Stage2Batch
from sparqle_fairseq.models.stage2.decoder import PromptedLLM
from sparqle_fairseq.models.stage2.objectives import (
    DEFAULT,
    Objective,
    kind_of,
    parse_objective,
    reads_candidates,
    reads_start,
)
from sparqle_fairseq.models.stage2.objectives.base import Sums
from sparqle_fairseq.models.stage2.prompted import prompt_of_text, splice
from sparqle_fairseq.models.stage2.start import start_training


class SpeechLLM(AdaptedModel):
    """Speech and instruction in, logits of the answer out."""

    def __init__(self, encoder: SpeechSource, adapter: Stage2Adapter, llm: LanguageModel) -> None:
        super().__init__(encoder, adapter, {"speech encoder": encoder.identity, "LLM": llm.identity})
        self.llm = llm
        self.answer = "direct"  # style of the answers it was trained to give
        self.objective: dict[str, float] = {DEFAULT: 1.0}  # what it learns from, with weights
        self.objectives: dict[str, Objective] = {DEFAULT: kind_of(DEFAULT)()}
        self.start: Frozen | None = None  # the adapter that training began with, where an objective asks for it

    @classmethod
    def build(
        cls,
        options: SpeechLLMConfig,
        *,
        folders: Sequence[str] = (),
        seed: int = 1,
        training: bool = False,
        eval_generate: bool = False,
    ) -> Self:
        """The model that the options describe.

        Args:
            options: plain ones, with their defaults where nothing was chosen.
            folders: of the data; where they hold features, no speech encoder is loaded.
            seed: of the masks over training features.
            training: whether it is to be trained, and so starts from `pretrained_adapter` where one is named; else its
                weights come from a checkpoint.
            eval_generate: whether it generates in the midst of training.

        Raises:
            SparqleError: the options do not go together, or something that they name cannot be read.
        """
        if not options.llm:
            raise SparqleError("no LLM was named; give a folder or hub id with --llm")
        check_lora_options(options, training)
        if options.soft_tokens and not options.compress_queries:
            raise SparqleError("--soft-tokens reads the runs of queries that --compress-queries joins; give both")
        encoder = open_speech_source(options, folders)
        llm = load_llm(
            options.llm,
            LLMOptions(
                dtype=DTYPES[options.llm_dtype],
                attention=options.attn_implementation,
                gradient_checkpointing=options.llm_gradient_checkpointing,
                sharding=check_sharding(options, training, eval_generate),
            ),
        )
        quantize(llm.model, options.llm_quantization, llm.frozen.dtype, options.llm)
        # No text branch, so no vocabulary of its own: one word stands for it while the layers are built.
        adapter = Stage2Adapter(
            adapter_config(options, encoder.width, 1, encoder.frame_rate),
            llm.width,
            feature_masks(options, seed),
            options.projector,
            options.freeze_qformer,
            llm.all_embeddings() if options.compress_queries else None,
            options.soft_tokens,
        )
        if adapter.qformer is not None:
            adapter.qformer.gradient_checkpointing = options.qformer_gradient_checkpointing
        add_layer_mix(adapter, encoder)
        add_encoder_tuning(adapter, encoder, options)
        adapter.lora = add_lora(llm.model, options, options.llm)
        if training:
            start_training(adapter, options, encoder, llm)
        model = cls(encoder, adapter, llm)
        model.answer = options.answer
        model.objective = parse_objective(options.objective, "" if training else "the checkpoint")
        model.objectives = {name: kind_of(name)() for name in model.objective}
        if training:
            model._look_at_objective(options)
        return model

    def _look_at_objective(self, options: SpeechLLMConfig) -> None:
        """Raise `SparqleError` for a training that cannot be; keep the adapter of its start where that is needed."""
        if reads_candidates(self.objective) and options.llm_sharding != "none":
            raise SparqleError(
                f"--objective {options.objective} searches for answers in each step, and with --llm-sharding processes "
                "would wait for each other; leave one of them out"
            )
        if reads_start(self.objective):
            if not options.pretrained_adapter:
                raise SparqleError(
                    f"--objective {options.objective} compares with the adapter that training starts from; name a "
                    "checkpoint of stage 2 with --pretrained-adapter"
                )
            if tunes(options):
                raise SparqleError(
                    f"--objective {options.objective} compares with the adapter that training starts from, and an "
                    "encoder that learns would change under both; leave it as it is"
                )
            self.start = Frozen(copy.deepcopy(self.adapter))

    @contextmanager
    def adapter_of_start(self) -> Iterator[Any]:
        """The adapter that training began with, and the LLM with the LoRA that it had."""
        assert self.start is not None, "the model was not built for such a training"
        try:
            yield self.start.module
        finally:
            if self.adapter.lora is not None:
                self.adapter.lora.install(self.llm.model)

    def forward(
        self,
        source: Tensor,
        padding_mask: Tensor,
        prompt: Tensor,
        prompt_padding_mask: Tensor,
        answer: Tensor,
        answer_padding_mask: Tensor,
        utterance: Tensor | None = None,
        lessons: Lessons | None = None,
        source_lengths: Sequence[int] | None = None,
    ) -> Any:
        """Logits (B, L, V): column j says what follows the prompt and the answer's first j tokens.

        With `lessons`, what each of the objectives makes of the batch, by its name: `Sums`.
        """
        speech = self.hear(source, padding_mask, source_lengths)
        heard: dict[int, tuple[Tensor, Tensor]] = {}

        def prompts(adapter: Any) -> tuple[Tensor, Tensor]:
            if id(adapter) not in heard:
                heard[id(adapter)] = self.prompt_embeddings(*speech, prompt, prompt_padding_mask, utterance, adapter)
            return heard[id(adapter)]

        def logits() -> Tensor:
            return self.llm.forced(*prompts(self.adapter), answer, answer_padding_mask)

        if lessons is None:
            return logits()
        return self.lessons_learned(Stage2Batch(self, answer, answer_padding_mask, lessons, logits, prompts))

    def lessons_learned(self, batch: Stage2Batch) -> dict[str, Sums]:
        """What each of the objectives makes of a batch, by its name."""
        return {name: objective.sums(batch) for name, objective in self.objectives.items()}

    def prompt_embeddings(
        self,
        source: Tensor,
        padding_mask: Tensor,
        prompt: Tensor,
        prompt_padding_mask: Tensor,
        utterance: Tensor | None = None,
        adapter: Stage2Adapter | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The prompt with the speech in its place: (B, P - 1 + Q, M), left-padded, and where it is real.

        By the model's adapter, or by another one.
        """
        adapter = self.adapter if adapter is None else adapter
        if adapter.lora is not None:
            adapter.lora.install(self.llm.model)
        speech = self.encode_speech(source, padding_mask, adapter)
        spoken, beyond = adapter(speech.values, speech.padding_mask, utterance, self.num_updates)  # (B, Q, M)
        words = self.llm.embed(prompt)  # (B, P, M)
        return splice(words, prompt, prompt_padding_mask, spoken.to(words.dtype), beyond)

    def prompt_without_speech(
        self, source: Tensor, padding_mask: Tensor, prompt: Tensor, prompt_padding_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The same with nothing in the speech's place: (B, P - 1, M), and where it is real."""
        if self.adapter.lora is not None:
            self.adapter.lora.install(self.llm.model)
        return prompt_of_text(self.llm, prompt, prompt_padding_mask)

    @contextmanager
    def llm_as_it_came(self) -> Iterator[None]:
        """The LLM without the LoRA that is trained here."""
        if self.adapter.lora is None:
            yield
            return
        with self.adapter.lora.switched_off(self.llm.model):
            yield

    def step_decoder(self) -> PromptedLLM:
        return PromptedLLM(self.llm, self.prompt_embeddings)

    def deaf_decoder(self) -> PromptedLLM:
        """One that answers the prompt without its speech."""
        return PromptedLLM(self.llm, self.prompt_without_speech)

    def max_answer_tokens(self, net_input: dict[str, Any]) -> Tensor:
        """Room (B,) for each answer, its end token included, behind its own prompt and speech."""
        frames = (~net_input["padding_mask"]).sum(dim=1)
        if net_input["source"].dim() == 2:  # samples: no encoder makes more frames of them than its rate says
            frames = (frames * self.speech_encoder.frame_rate / self.speech_encoder.sample_rate).ceil().long()
        prompt = (~net_input["prompt_padding_mask"]).sum(dim=1)
        return self.llm.context - prompt - self.adapter.reader.config.query_count(frames)
