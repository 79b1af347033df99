"""`frame-ctc`: the transcript in order over the frames, so that windows end where tokens do (`--query-windows ctc`).

The CTC layer of AlignFormer (Fan et al. 2024, arXiv 2412.01145). B utterances, T frames, L text tokens.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.stage1.batch import Stage1Batch
from sparqle_fairseq.models.stage1.objectives.base import Given, Objective, Reach, Sums
from sparqle_fairseq.models.stage1.objectives.ctc import Alignment, inner_lengths, inner_tokens
from sparqle_fairseq.models.stage1.objectives.registry import register_objective


@register_objective
class FrameCtcObjective(Objective):
    name = "frame-ctc"
    reach = Reach.NOTHING
    rates = {"frame_ctc_skipped": ("skipped", "rows")}

    def build(self, given: Given) -> dict[str, nn.Module | nn.Parameter]:
        if getattr(given.config, "query_windows", "equal") != "ctc":
            raise SparqleError("the objective frame-ctc teaches where windows end; it goes with --query-windows ctc")
        if set(given.asked) == {self.name}:
            raise SparqleError("the objective frame-ctc teaches no query; add another, as in llm-ctc+frame-ctc")
        return {}

    def sums(self, adapter: Any, batch: Stage1Batch) -> Sums:
        """Over the frames as the queries read them, which are many: every transcript fits that can be spoken."""
        speech, padding_mask = adapter.qformer.enter(batch.values, batch.padding_mask)
        tokens = inner_tokens(batch.text)
        log_probs = adapter.qformer.frame_ctc(speech, tokens)
        return Alignment(log_probs, (~padding_mask).sum(dim=1), tokens, inner_lengths(batch.text)).sums()
