"""`stg`: the transcript, word by word, from what the queries keep in every layer (speech-to-text generation).

K tokens that are to be written, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.stage1.batch import Stage1Batch
from sparqle_fairseq.models.stage1.losses import generation_loss
from sparqle_fairseq.models.stage1.objectives.base import Objective, Reach, Sums, count_of
from sparqle_fairseq.models.stage1.objectives.registry import register_objective


class Generation(NamedTuple):
    logits: Tensor  # (K, V), at the positions that have a target
    targets: Tensor  # (K,)

    def sums(self, label_smoothing: float) -> Sums:
        losses = generation_loss(self.logits, self.targets, label_smoothing)
        hits = (self.logits.argmax(dim=1) == self.targets).sum()
        return {"sum": losses.sum(), "count": count_of(losses), "hits": hits}


@dataclass(frozen=True)
class GenerationLossOptions:
    stg_label_smoothing: float = field(
        default=0.1, metadata={"help": "label smoothing of the generation losses (stg, stg-outputs)"}
    )


class Writing(Objective):
    """What objectives have in common that write the transcript."""

    LossOptions = GenerationLossOptions

    def settle(self, options: Any) -> None:
        super().settle(options)
        smoothing = self.loss_options.stg_label_smoothing
        if not 0 <= smoothing < 1:
            raise SparqleError(f"--stg-label-smoothing {smoothing:g} must be at least 0 and below 1")

    def sums(self, adapter: Any, batch: Stage1Batch) -> Sums:
        return self.generation(adapter, batch).sums(self.loss_options.stg_label_smoothing)

    def generation(self, adapter: Any, batch: Stage1Batch) -> Generation:
        """Next-token logits where there is a target; the first token becomes [DEC]."""
        raise NotImplementedError


@register_objective
class Stg(Writing):
    name = "stg"
    reach = Reach.TEXT | Reach.WORDS
    rates = {"stg_accuracy": ("hits", "count")}

    def generation(self, adapter: Any, batch: Stage1Batch) -> Generation:
        queries = batch.queries
        output = adapter.qformer.decode_text(
            batch.shifted_tokens,
            batch.text.padding_mask,
            queries.cache,
            query_padding=queries.padding_mask,
            skip_padding=True,
            words=batch.shifted_words,
        )
        return Generation(adapter.qformer.predict(batch.with_target(output.hidden)), batch.targets)
