"""`llm-ctc`: the transcript in order over the projected query outputs, among the token embeddings of the LLM.

What stage 2 takes over of it: the projector, and where queries are read as tokens, the space with its blank.
B utterances, Q queries, L tokens of the LLM, V vocabulary, M width of the LLM's embeddings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.frozen import Frozen
from sparqle_fairseq.models.qformer.projector import ROWS_AT_ONCE, build_projector, centre, start_among
from sparqle_fairseq.models.stage1.batch import Stage1Batch
from sparqle_fairseq.models.stage1.losses import best_symbols, ctc_emissions, sample_vocabulary
from sparqle_fairseq.models.stage1.objectives.base import Given, Objective, Reach, Sums
from sparqle_fairseq.models.stage1.objectives.ctc import Alignment
from sparqle_fairseq.models.stage1.objectives.registry import register_objective

# Two tokens that are as far apart as tokens are on average differ by so many times ln(vocabulary) nats: then a query on
# a token is that token rather than any of all the others.
SPREAD = 2.0


class LLMSpace(nn.Module):
    """The token embeddings of a frozen LLM, in which projected queries are to lie where the LLM already reads.

    A query's logit for a token is the negative squared distance to the token's embedding, times `scale`, which follows
    from the embeddings and their number; the blank is a learned point, which starts in the middle of the tokens.
    """

    def __init__(self, embeddings: Tensor, sample: int = 0) -> None:
        """`embeddings` (V, M): what the LLM's layers see of each token.

        In training mode the softmax runs over the batch's tokens and `sample` others drawn at random; 0 takes all.
        """
        super().__init__()
        self.sample = sample
        table = embeddings.detach()
        middle, distance = centre(table)
        self.spread = max(2 * distance, 1e-12)  # mean squared distance between two tokens
        self.scale = SPREAD * math.log(len(table)) / self.spread
        self.blank = nn.Parameter(middle)
        self._table = Frozen(nn.Embedding.from_pretrained(table))
        squares = [rows.float().square().sum(dim=1, keepdim=True) for rows in table.split(ROWS_AT_ONCE)]
        lengths = -self.scale * torch.cat(squares)  # (V, 1)
        self._bias = Frozen(nn.Embedding.from_pretrained(lengths))

    def forward(self, points: Tensor, tokens: Tensor) -> Tensor:
        """Log-probabilities (B, Q, 1 + L) of the blank and of `tokens` (B, L) at the projected queries (B, Q, M)."""
        x, weight, bias, blank = self._linear(points)
        if self.training and self.sample:
            weight, bias, tokens = sample_vocabulary(weight, bias, tokens, self.sample)
        return ctc_emissions(x, weight, bias, blank, tokens)

    def embed(self, tokens: Tensor) -> Tensor:
        """Embeddings (..., M) of token ids (...)."""
        return self._table(tokens)

    @torch.no_grad()
    def labels(self, points: Tensor) -> Tensor:
        """What is nearest to each of the projected queries (B, Q, M): (B, Q), 0 for the blank or 1 + a token's id."""
        return best_symbols(*self._linear(points))

    def soft_tokens(self, points: Tensor) -> Tensor:
        """The mean token embedding (..., M) at each of the projected queries (..., M).

        Weighted by the softmax over tokens, the blank left out, which takes queries times tokens numbers.
        """
        x, weight, bias, _ = self._linear(points)
        shares = ((x @ weight.T).float() + bias.float()).softmax(dim=-1)
        return (shares.to(weight.dtype) @ weight).to(points.dtype)

    def _linear(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Input, weight, bias and blank logit: -|p - e|^2 without |p|^2, which is the same for every token."""
        table: Any = self._table.module
        bias: Any = self._bias.module
        points = 2 * self.scale * points
        blank = self.blank.to(points)
        blank_logit = (points @ blank).float() - self.scale * blank.float().square().sum()
        return points.to(table.weight.dtype), table.weight, bias.weight[:, 0], blank_logit


@dataclass(frozen=True)
class LLMCtcOptions:
    llm_ctc_sample: int = field(
        default=0,
        metadata={
            "help": "for --objective llm-ctc: in training, sum the softmax over the batch's tokens and so many others "
            "of the LLM's vocabulary, drawn anew in each step: much cheaper; 0 = over all"
        },
    )


@register_objective
class LLMCtc(Objective):
    name = "llm-ctc"
    parts = ("llm_space", "projector")
    carried = ("llm_space", "projector")
    reach = Reach.QUERIES
    reads_llm = True
    rates = {"llm_ctc_skipped": ("skipped", "rows")}
    Options = LLMCtcOptions

    def build(self, given: Given) -> dict[str, nn.Module | nn.Parameter]:
        embeddings = given.llm_embeddings
        if embeddings is None:
            raise SparqleError("--objective llm-ctc reads the LLM's token embeddings; name the LLM with --llm")
        projector = build_projector(given.projector, given.config.hidden_size, embeddings.size(1))
        start_among(projector, embeddings)
        return {"llm_space": LLMSpace(embeddings, self.options.llm_ctc_sample), "projector": projector}

    def sums(self, adapter: Any, batch: Stage1Batch) -> Sums:
        return self.alignment(adapter, batch).sums()

    def alignment(self, adapter: Any, batch: Stage1Batch) -> Alignment:
        """CTC of the transcript in the LLM's tokens over the projected query outputs, among the LLM's embeddings."""
        return align(adapter, batch)


def project(adapter: Any, batch: Stage1Batch) -> Tensor:
    """The query outputs of a batch in the LLM's space: (B, Q, M)."""
    return batch.once("llm-ctc: points", lambda: adapter.projector(batch.queries.hidden))


def align(adapter: Any, batch: Stage1Batch) -> Alignment:
    """What `llm-ctc` aligns of a batch; other objectives may follow it."""
    tokens = batch.text.llm_tokens
    assert tokens is not None

    def made() -> Alignment:
        log_probs = adapter.llm_space(project(adapter, batch), tokens)
        return Alignment(log_probs, batch.query_counts, tokens, batch.text.llm_lengths)

    return batch.once("llm-ctc: alignment", made)
