"""Task `sparqle_pretrain`, stage 1: the Q-Former learns from speech and its transcripts."""

from __future__ import annotations

from typing import Any

from fairseq.tasks import register_task

from sparqle_fairseq.data.transcripts import TranscriptSide
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.stage1.objectives import ADVERSARIAL
from sparqle_fairseq.tasks.base import SpeechTask
from sparqle_fairseq.tasks.config import PretrainTaskConfig


@register_task("sparqle_pretrain", dataclass=PretrainTaskConfig)
class PretrainTask(SpeechTask):
    needed_column = "src_text"

    def bind_dictionary(self, model: Any) -> None:
        tokenizer = model.tokenizer
        self.dictionary.bind(tokenizer.decode, tokenizer.vocab_size, tokenizer.pad, tokenizer.end)

    def text_side(self, training: bool, saved: Any) -> TranscriptSide:
        positions = self.model.adapter.qformer.config.max_text_positions
        pairs = ADVERSARIAL in self.model.objective
        return TranscriptSide(self.model.tokenizer, positions, self.model.llm_tokenizer, pairs)

    def load_dataset(self, split: str, *args: Any, **kwargs: Any) -> None:
        super().load_dataset(split, *args, **kwargs)
        if split == self.cfg.train_subset and kwargs.get("task_cfg") is None and ADVERSARIAL in self.model.objective:
            manifests = self.datasets[split].manifests
            if not any("tgt_text" in manifest.columns and manifest.is_translation().any() for manifest in manifests):
                raise SparqleError(
                    f"--adversarial-weight reads transcripts and their translations, and {split} has no translation "
                    "row with tgt_text; leave the option out or add such rows"
                )

    def train_step(
        self,
        sample: dict[str, Any],
        model: Any,
        criterion: Any,
        optimizer: Any,
        update_num: int,
        ignore_grad: bool = False,
    ) -> Any:
        """A batch whose gradient is ignored stands in for missing data: it must not give negatives to others."""
        if ignore_grad:
            sample = {**sample, "net_input": {**sample["net_input"], "active": False}}
        return super().train_step(sample, model, criterion, optimizer, update_num, ignore_grad)
