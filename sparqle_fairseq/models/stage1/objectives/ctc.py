"""`ctc`: the transcript in order over the query outputs, by a linear layer that is thrown away.

B utterances, Q queries, H hidden size, L text tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from sparqle_fairseq.data.transcripts import NO_TOKEN
from sparqle_fairseq.models.stage1.batch import Stage1Batch, Stage1Text
from sparqle_fairseq.models.stage1.losses import ctc_emissions, ctc_loss
from sparqle_fairseq.models.stage1.objectives.base import Given, Objective, Reach, Sums, count_of
from sparqle_fairseq.models.stage1.objectives.registry import register_objective


class Alignment(NamedTuple):
    """What the CTC loss needs of a batch."""

    log_probs: Tensor  # (B, Q, 1 + L): of the blank, and of each of the transcript's tokens
    lengths: Tensor  # (B,) queries that count
    tokens: Tensor  # (B, L) token ids, negative at padding
    known: Sequence[int] | None = None  # B numbers of tokens, where the program need not ask the device for them

    def sums(self) -> Sums:
        """Counted in tokens of the transcripts that the queries have room for; `skipped` have more than that."""
        losses, possible = ctc_loss(self.log_probs, self.lengths, self.tokens, self.known)
        tokens = (self.tokens >= 0).sum(dim=1)
        count = (tokens * possible).sum().to(losses)
        return {"sum": losses.sum(), "count": count, "skipped": (~possible).sum(), "rows": count_of(losses)}


class CtcHead(nn.Module):
    """A linear layer onto the transcript's vocabulary and the blank."""

    def __init__(self, width: int, vocab_size: int) -> None:
        super().__init__()
        self.tokens = nn.Linear(width, vocab_size)
        self.blank = nn.Linear(width, 1)

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """Log-probabilities (B, Q, 1 + L) of the blank and of `tokens` (B, L) at each of the queries (B, Q, H)."""
        queries = queries.to(self.tokens.weight.dtype)
        return ctc_emissions(queries, self.tokens.weight, self.tokens.bias, self.blank(queries)[..., 0], tokens)


def inner_tokens(text: Stage1Text) -> Tensor:
    """The transcripts without [CLS] and [SEP]: (B, L - 1), `NO_TOKEN` behind them."""
    # A row's [SEP] is its last real token: where the next one is padding, or there is none.
    inner = F.pad(~text.padding_mask[:, 2:], (0, 1))  # (B, L - 1)
    return text.tokens[:, 1:].masked_fill(~inner, NO_TOKEN)


def inner_lengths(text: Stage1Text) -> list[int] | None:
    """How many of them each transcript has, where the program knows it."""
    return None if text.lengths is None else [max(length - 2, 0) for length in text.lengths]


@register_objective
class Ctc(Objective):
    name = "ctc"
    parts = ("ctc_head",)
    reach = Reach.QUERIES
    rates = {"ctc_skipped": ("skipped", "rows")}

    def build(self, given: Given) -> dict[str, nn.Module | nn.Parameter]:
        return {"ctc_head": CtcHead(given.config.hidden_size, given.config.vocab_size)}

    def sums(self, adapter: Any, batch: Stage1Batch) -> Sums:
        return self.alignment(adapter, batch).sums()

    def alignment(self, adapter: Any, batch: Stage1Batch) -> Alignment:
        """CTC of the transcript, without [CLS] and [SEP], over the query outputs."""
        text = batch.text
        tokens = inner_tokens(text)
        log_probs = adapter.ctc_head(batch.queries.hidden, tokens)
        return Alignment(log_probs, batch.query_counts, tokens, inner_lengths(text))
