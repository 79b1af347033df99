"""`llm-regression`: a projected query lies on the embedding of the token that it speaks for. It goes with `llm-ctc`.

CTC is content where a query is nearer to its token than to all others, however far it lies; the LLM then meets points
that no token has. Regression on the LLM's embeddings without the LLM is the idea of SpeechMapper (arXiv 2601.20417);
here the path of `llm-ctc` says which query is held against which token.

B utterances, Q queries, L tokens of the LLM, M width of the LLM's embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.stage1.batch import Stage1Batch
from sparqle_fairseq.models.stage1.forced import NOTHING, forced_path
from sparqle_fairseq.models.stage1.objectives.base import Given, Objective, Reach, Sums
from sparqle_fairseq.models.stage1.objectives.llm_ctc import align, project
from sparqle_fairseq.models.stage1.objectives.registry import register_objective

DISTANCES = ("squared", "cosine")


@dataclass(frozen=True)
class RegressionLossOptions:
    llm_regression_distance: str = field(
        default="squared",
        metadata={
            "help": "for --objective llm-ctc+0.1*llm-regression, how far a query lies from its token: squared, in "
            "units of the mean squared distance between two tokens of the LLM, or cosine (1 less the cosine)",
            "choices": DISTANCES,
        },
    )
    llm_regression_margin: float = field(
        default=0.0,
        metadata={"help": "for llm-regression: distance up to which a query is near enough, and costs nothing"},
    )


@register_objective
class LLMRegression(Objective):
    name = "llm-regression"
    reach = Reach.QUERIES
    reads_llm = True
    means = {"llm_regression_distance": ("distance", "count")}
    LossOptions = RegressionLossOptions

    def build(self, given: Given) -> dict[str, Any]:
        if "llm-ctc" not in given.asked:
            raise SparqleError(
                "the objective llm-regression follows the path of llm-ctc; add that, as in llm-ctc+0.1*llm-regression"
            )
        return {}

    def settle(self, options: Any) -> None:
        super().settle(options)
        margin = self.loss_options.llm_regression_margin
        if not 0 <= margin < float("inf"):
            raise SparqleError(f"--llm-regression-margin {margin:g} must be 0 or more")

    def sums(self, adapter: Any, batch: Stage1Batch) -> Sums:
        """Counted in queries that speak for a token; the mean distance is logged as it is, without the margin."""
        alignment = align(adapter, batch)
        path = forced_path(alignment.log_probs.detach(), alignment.lengths, alignment.tokens)  # (B, Q)
        spoken = path != NOTHING
        tokens = alignment.tokens.gather(1, path.clamp(min=0)).clamp(min=0)
        distance = self.distance(adapter, project(adapter, batch), adapter.llm_space.embed(tokens))
        losses = F.relu(distance - self.loss_options.llm_regression_margin)
        return {
            "sum": (losses * spoken).sum(),
            "count": spoken.sum().to(losses),
            "distance": (distance.detach() * spoken).sum(),
        }

    def distance(self, adapter: Any, points: Tensor, targets: Tensor) -> Tensor:
        """Of points (B, Q, M) from embeddings (B, Q, M): (B, Q), in fp32."""
        points, targets = points.float(), targets.float()
        if self.loss_options.llm_regression_distance == "cosine":
            return 1 - F.cosine_similarity(points, targets, dim=-1)
        return (points - targets).square().sum(dim=-1) / adapter.llm_space.spread
