"""Task `sparqle_finetune`, stage 2: the adapter learns to prompt the LLM."""

from __future__ import annotations

import logging
from typing import Any

from fairseq.tasks import register_task

from sparqle_fairseq.data.instructions import InstructionSide
from sparqle_fairseq.data.mixture import Mixture
from sparqle_fairseq.data.options import fairseq_dataclass
from sparqle_fairseq.data.wordings import PromptTemplates
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.generate.asking import PromptRoom, bind_dictionary, instruction_side, prompt_room
from sparqle_fairseq.models.config import SpeechLLMConfig
from sparqle_fairseq.models.llm.llm import TextCodec, text_codec
from sparqle_fairseq.models.stage2.candidates import Candidates
from sparqle_fairseq.models.stage2.objectives import reads_candidates, reads_transcripts
from sparqle_fairseq.models.stage2.start import take_adapter_options
from sparqle_fairseq.models.stage2.weighted import mixed
from sparqle_fairseq.tasks.base import SpeechTask
from sparqle_fairseq.tasks.candidates import find_candidates
from sparqle_fairseq.tasks.config import FinetuneTaskConfig

logger = logging.getLogger(__name__)


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
        bind_dictionary(self.dictionary, model)

    def text_side(self, training: bool, saved: Any) -> InstructionSide:
        path = self.cfg.prompt_templates or getattr(saved, "prompt_templates", None)
        templates = PromptTemplates.load(path)
        self.stops_of_templates = templates.stop
        side = instruction_side(self.model, templates, int(self.cfg.seed) if training else None)
        if training and (self.cfg.answer_mix or self.cfg.transcript_errors):
            side.mixture = self._mixture()
        if saved is None and reads_transcripts(self.model.objective):
            side.reading_room = self.model.llm.context
        if templates.file not in self._looked_at:
            self._looked_at.add(templates.file)
            for sentence in templates.partings(side.builder):
                logger.warning("%s", sentence)
        return side

    def _mixture(self) -> Mixture:
        """Raises `SparqleError` where there is nothing to mix."""
        mixture = Mixture(int(self.cfg.seed), self.cfg.answer_mix, self.cfg.transcript_errors)
        if mixture.errors and self.model.answer == "direct" and not mixture.other_share:
            raise SparqleError(
                "--transcript-errors is for answers with the transcript first; give --answer transcript-first or "
                "--answer-mix"
            )
        if reads_candidates(self.model.objective):
            raise SparqleError(
                f"--objective {'+'.join(self.model.objective)} compares answers of one style; leave --answer-mix and "
                "--transcript-errors out"
            )
        return mixture

    def text_codec(self, model: Any) -> TextCodec:
        return text_codec(model.llm.tokenizer)

    def steps_alone(self) -> bool:
        return self.model.llm.sharding == "none" and not mixed(self.model.objective)

    def candidates(self, sample: dict[str, Any]) -> Candidates:
        """Answers that the model finds for a batch, for the criterion's objectives that compare some."""
        model = self.model
        options = next(each.loss_options for each in model.objectives.values() if each.reads_candidates)
        stop = self.stopping(model, self.cfg.stop)
        return find_candidates(model, sample, options, self.dictionary.text, int(self.cfg.seed), stop)

    def stand_in(self, sample: dict[str, Any]) -> dict[str, Any]:
        """Nothing of it is to be counted where counts of all processes are added up."""
        return {**sample, "active": False}

    def room_check(self) -> PromptRoom | None:
        return prompt_room(self.model)
