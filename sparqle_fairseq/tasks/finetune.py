"""Task `sparqle_finetune`, stage 2: the adapter learns to prompt the LLM."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from fairseq.tasks import register_task
from torch import Tensor

from sparqle_fairseq.data.answers import final_text
from sparqle_fairseq.data.instructions import InstructionSide
from sparqle_fairseq.data.manifest import ManifestError
from sparqle_fairseq.data.options import fairseq_dataclass
from sparqle_fairseq.data.wordings import PromptTemplates
from sparqle_fairseq.models.config import SpeechLLMConfig
from sparqle_fairseq.models.qformer.qformer import QFormerConfig
from sparqle_fairseq.models.stage2.start import take_adapter_options
from sparqle_fairseq.tasks.base import SpeechTask
from sparqle_fairseq.tasks.config import FinetuneTaskConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PromptRoom:
    """Whether prompt, queries and answer fit into the LLM's context. Numbers only: loader processes get a copy."""

    config: QFormerConfig
    frames_a_sample: float
    context: int

    def __call__(self, item: dict[str, Any], source: Tensor, where: str) -> None:
        frames = math.ceil(len(source) * self.frames_a_sample) if source.dim() == 1 else len(source)
        queries = int(self.config.query_count(torch.tensor([frames])))
        text = len(item["prompt"]) - 1 + len(item["answer"] or [])
        if text + queries > self.context:
            raise ManifestError(
                f"{where}: prompt and answer have {text} tokens and the speech {queries} queries, but the LLM has room "
                f"for {self.context}; split the utterance, or train with longer windows or fewer --queries-per-window"
            )


@register_task("sparqle_finetune", dataclass=fairseq_dataclass(FinetuneTaskConfig))
class FinetuneTask(SpeechTask):
    needed_column = "tgt_text"
    model_options = SpeechLLMConfig

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        self._looked_at: set[Any] = set()  # template files

    def settle(self, options: Any, from_checkpoint: bool) -> None:
        known = from_checkpoint
        if options.pretrained_adapter and not from_checkpoint:
            take_adapter_options(options)
            known = True  # the encoder is compared with the adapter's when it is loaded
        super().settle(options, known)

    def bind_dictionary(self, model: Any) -> None:
        llm = model.llm
        self.dictionary.bind(
            lambda tokens: final_text(llm.decode(tokens), model.answer), llm.vocab_size + 1, llm.pad, llm.end
        )

    def text_side(self, training: bool, saved: Any) -> InstructionSide:
        path = self.cfg.prompt_templates or getattr(saved, "prompt_templates", None)
        templates = PromptTemplates.load(path)
        self.stops_of_templates = templates.stop
        llm = self.model.llm
        builder = templates.builder(llm.tokenizer)
        if templates.file not in self._looked_at:
            self._looked_at.add(templates.file)
            for sentence in templates.partings(builder):
                logger.warning("%s", sentence)
        return InstructionSide(
            builder,
            templates,
            pad=llm.pad,
            max_tokens=llm.context - self.model.adapter.qformer.config.queries,
            sample_seed=int(self.cfg.seed) if training else None,
            style=self.model.answer,
        )

    def text_codec(self, model: Any) -> tuple[Callable[[list[int]], str], Callable[[str], list[int]]]:
        tokenizer = model.llm.tokenizer
        return (
            partial(tokenizer.decode, skip_special_tokens=False, clean_up_tokenization_spaces=False),
            partial(tokenizer.encode, add_special_tokens=False),
        )

    def steps_alone(self) -> bool:
        return self.model.llm.sharding == "none"

    def room_check(self) -> PromptRoom | None:
        """With windows, the speech's share of the LLM's context grows with its length."""
        config, encoder = self.model.adapter.qformer.config, self.model.speech_encoder
        if not config.window_frames:
            return None
        return PromptRoom(config, encoder.frame_rate / encoder.sample_rate, self.model.llm.context)
