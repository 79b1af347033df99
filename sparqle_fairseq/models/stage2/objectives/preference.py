"""`preference`: of the answers that the model finds, the one nearest to the reference before the one farthest from it.

Direct preference optimisation: Rafailov et al., 2023, arXiv 2305.18290. What both are compared with are the
probabilities that the adapter gave when training began. The pair of an utterance is its best and its worst candidate
by chrF, as the n-best lists of minimum Bayes risk are used in arXiv 2311.08380.

B utterances, N candidates.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.stage2.batch import Stage2Batch
from sparqle_fairseq.models.stage2.candidates import CandidateOptions, check_candidates
from sparqle_fairseq.models.stage2.objectives.base import Counted, Objective, Sums
from sparqle_fairseq.models.stage2.objectives.registry import register_objective


@dataclass(frozen=True)
class PreferenceOptions(CandidateOptions):
    preference_beta: float = field(
        default=0.1,
        metadata={"help": "of --objective preference: how dear it is to leave what the adapter gave at the start"},
    )
    preference_margin: float = field(
        default=5.0, metadata={"help": "of --objective preference: chrF that the two of a pair are apart at least"}
    )


@register_objective
class Preference(Objective):
    name = "preference"
    counted = Counted.UTTERANCES
    reads_candidates = True
    reads_start = True
    rates = {"pairs": ("pairs", "count"), "preferred": ("right", "pairs")}  # pairs whose better one has gained
    LossOptions = PreferenceOptions

    def settle(self, options: Any) -> None:
        super().settle(options)
        check_candidates(self.loss_options)
        for name in ("preference_beta", "preference_margin"):
            if not getattr(self.loss_options, name) > 0:
                raise SparqleError(f"--{name.replace('_', '-')} {getattr(self.loss_options, name):g} must be above 0")

    def sums(self, batch: Stage2Batch) -> Sums:
        found = batch.candidates
        better, worse, apart = best_and_worst(found.risks, found.there, self.loss_options.preference_margin / 100)
        gained = (batch.scores - batch.scores_at_start).float()  # (B, N)
        lead = (gained.gather(1, better[:, None]) - gained.gather(1, worse[:, None]))[:, 0]  # (B,)
        losses = preference_loss(lead, self.loss_options.preference_beta)
        return {
            "sum": losses.masked_fill(~apart, 0).sum(),
            "count": batch.utterances,
            "pairs": apart.sum(),
            "right": ((lead > 0) & apart).sum(),
        }


def preference_loss(lead: Tensor, beta: float) -> Tensor:
    """(B,) -log sigmoid(beta * lead), of how much more the better answer has gained in log-probability (B,)."""
    return -F.logsigmoid(beta * lead)


def best_and_worst(risks: Tensor, there: Tensor, margin: float) -> tuple[Tensor, Tensor, Tensor]:
    """(B,) places of the candidates with the least and the largest risk, and whether these are `margin` apart."""
    least, better = risks.masked_fill(~there, torch.inf).min(dim=1)
    most, worse = risks.masked_fill(~there, -torch.inf).max(dim=1)
    return better, worse, most - least >= margin
