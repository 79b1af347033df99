"""Task `sparqle_finetune`, stage 2: the adapter learns to prompt the LLM."""

from __future__ import annotations

from typing import Any

from fairseq.tasks import register_task

from sparqle_fairseq.data.instructions import InstructionSide
from sparqle_fairseq.data.prompts import PromptBuilder, PromptTemplates
from sparqle_fairseq.models.speech_llm import take_adapter_options
from sparqle_fairseq.tasks.base import SpeechTask
from sparqle_fairseq.tasks.config import FinetuneTaskConfig


@register_task("sparqle_finetune", dataclass=FinetuneTaskConfig)
class FinetuneTask(SpeechTask):
    needed_column = "tgt_text"

    def build_model(self, cfg: Any, from_checkpoint: bool = False) -> Any:
        if cfg.pretrained_adapter and not from_checkpoint:
            # Here, and not in the model: fairseq gives the model a copy, and saves these options in the checkpoint.
            take_adapter_options(cfg)
        return super().build_model(cfg, from_checkpoint)

    def bind_dictionary(self, model: Any) -> None:
        llm = model.llm
        self.dictionary.bind(llm.decode, llm.vocab_size + 1, llm.pad, llm.end)

    def text_side(self, training: bool, saved: Any) -> InstructionSide:
        path = self.cfg.prompt_templates or getattr(saved, "prompt_templates", None)
        templates = PromptTemplates.load(path)
        llm = self.model.llm
        return InstructionSide(
            PromptBuilder(llm.tokenizer, templates.system),
            templates,
            pad=llm.pad,
            max_tokens=llm.context - self.model.adapter.qformer.config.queries,
            sample_seed=int(self.cfg.seed) if training else None,
        )
