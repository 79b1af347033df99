"""`minimum-risk`: the expected error of the answers that the model finds itself is to be small.

Minimum risk training: Och, 2003 (P03-1021); Shen et al., 2016, arXiv 1512.02433; with scores by length and beam
candidates as Edunov et al., 2018, arXiv 1711.04956. The error is 1 - chrF / 100 of a whole answer.

B utterances, N candidates.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.stage2.batch import Stage2Batch
from sparqle_fairseq.models.stage2.candidates import CandidateOptions, check_candidates
from sparqle_fairseq.models.stage2.objectives.base import Counted, Objective, Sums
from sparqle_fairseq.models.stage2.objectives.registry import register_objective


@dataclass(frozen=True)
class RiskOptions(CandidateOptions):
    risk_sharpness: float = field(
        default=1.0,
        metadata={
            "help": "of --objective minimum-risk: multiplies the mean log-probability of an answer's tokens before the "
            "softmax over the candidates; larger ones look at the likeliest alone"
        },
    )


@register_objective
class MinimumRisk(Objective):
    name = "minimum-risk"
    counted = Counted.UTTERANCES
    reads_candidates = True
    means = {"candidate_risk": ("plain", "count")}  # the mean over the candidates, each counted alike
    LossOptions = RiskOptions

    def settle(self, options: Any) -> None:
        super().settle(options)
        check_candidates(self.loss_options)
        if not self.loss_options.risk_sharpness > 0:
            raise SparqleError(f"--risk-sharpness {self.loss_options.risk_sharpness:g} must be above 0")

    def sums(self, batch: Stage2Batch) -> Sums:
        found = batch.candidates
        lengths = (~found.padding_mask).sum(dim=2).clamp(min=1)
        losses = expected_risk(batch.scores / lengths, found.risks, found.there, self.loss_options.risk_sharpness)
        plain = found.risks.masked_fill(~found.there, 0).sum(dim=1) / found.there.sum(dim=1).clamp(min=1)
        return {"sum": losses.sum(), "count": batch.utterances, "plain": plain.sum()}


def expected_risk(scores: Tensor, risks: Tensor, there: Tensor, sharpness: float = 1.0) -> Tensor:
    """(B,) mean risk of the candidates (B, N) by their shares softmax(sharpness * score); 0 where there is none."""
    shares = (sharpness * scores.float()).masked_fill(~there, -torch.inf).softmax(dim=1)
    shares = shares.masked_fill(~there, 0)  # also those of an utterance without any, which are no numbers
    return (shares * risks.masked_fill(~there, 0)).sum(dim=1)
