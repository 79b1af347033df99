"""Task `sparqle_pretrain`, stage 1: the Q-Former learns from speech and its transcripts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fairseq.tasks import register_task

from sparqle_fairseq.data.manifest import ManifestRow
from sparqle_fairseq.data.options import fairseq_dataclass
from sparqle_fairseq.data.transcripts import TranscriptSide
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.config import PretrainModelConfig
from sparqle_fairseq.models.stage1.model import fill_frame_vocabulary
from sparqle_fairseq.models.stage1.objectives import kind_of
from sparqle_fairseq.models.stage1.weighted import logged_name
from sparqle_fairseq.tasks.base import SpeechTask
from sparqle_fairseq.tasks.config import PretrainTaskConfig
from sparqle_fairseq.tasks.old_options import take_loss_weights


@register_task("sparqle_pretrain", dataclass=fairseq_dataclass(PretrainTaskConfig))
class PretrainTask(SpeechTask):
    needed_column = "src_text"
    model_options = PretrainModelConfig

    def settle(self, options: Any, from_checkpoint: bool) -> None:
        super().settle(options, from_checkpoint)
        fill_frame_vocabulary(options)

    def bind_dictionary(self, model: Any) -> None:
        tokenizer = model.tokenizer
        self.dictionary.bind(tokenizer.decode, tokenizer.vocab_size, tokenizer.pad, tokenizer.end)

    def text_side(self, training: bool, saved: Any) -> TranscriptSide:
        positions = self.model.adapter.reader.config.max_text_positions
        return TranscriptSide(
            self.model.tokenizer, positions, self.model.llm_tokenizer, pairs=bool(self._readers_of_translations())
        )

    def text_codec(self, model: Any) -> tuple[Callable[[list[int]], str], Callable[[str], list[int]]]:
        tokenizer = model.tokenizer
        return tokenizer.decode, lambda text: tokenizer.encode(text)[1:-1]

    def _readers_of_translations(self) -> list[str]:
        return [name for name in self.model.objective if kind_of(name).reads_translations]

    def load_dataset(self, split: str, *args: Any, **kwargs: Any) -> None:
        super().load_dataset(split, *args, **kwargs)
        readers = self._readers_of_translations()
        if readers and split == self.cfg.train_subset and kwargs.get("task_cfg") is None:
            manifests = self.datasets[split].manifests
            if not any("tgt_text" in manifest.columns and manifest.is_translation().any() for manifest in manifests):
                raise SparqleError(
                    f"--objective {'+'.join(readers)} reads transcripts and their translations, and {split} has no "
                    "translation row with tgt_text; leave it out or add such rows"
                )

    def absent_counts(self, rows: Sequence[ManifestRow]) -> list[str]:
        if any(row.task == "translation" and row.tgt_text for row in rows):
            return []
        return [f"{logged_name(name)}_" for name in self._readers_of_translations()]

    def build_criterion(self, cfg: Any, from_checkpoint: bool = False) -> Any:
        """fairseq's; the options may be those of a checkpoint, which may be older."""
        take_loss_weights(cfg, self.model)
        return super().build_criterion(cfg, from_checkpoint)

    def stand_in(self, sample: dict[str, Any]) -> dict[str, Any]:
        """It must not give negatives to the others."""
        return {**sample, "net_input": {**sample["net_input"], "active": False}}
