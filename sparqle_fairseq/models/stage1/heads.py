"""Heads of the stage-1 objectives that the published SparQLe does not have.

B utterances, Q queries, H hidden size, L text tokens, V vocabulary, M width of the LLM's embeddings. All of them read
the outputs of the Q-Former's last layer, which is what stage 2 hands to the LLM. None is carried into stage 2 but the
projector.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sparqle_fairseq.models.frozen import Frozen
from sparqle_fairseq.models.stage1.losses import best_symbols, ctc_emissions, sample_vocabulary

DECODER_LAYERS = 2
# The blank among the labels of queries, where a token is 1 + its id.
BLANK = 0
# Two tokens that are as far apart as tokens are on average differ by so many times ln(vocabulary) nats: then a query on
# a token is that token rather than any of all the others.
SPREAD = 2.0


class Alignment(NamedTuple):
    """What the CTC loss needs of a batch."""

    log_probs: Tensor  # (B, Q, 1 + L): of the blank, and of each of the transcript's tokens
    lengths: Tensor  # (B,) queries that count
    tokens: Tensor  # (B, L) token ids, negative at padding


class OutputDecoder(nn.Module):
    """A small decoder that sees nothing of the speech but the query outputs."""

    def __init__(self, vocab_size: int, width: int, heads: int, positions: int, dropout: float) -> None:
        super().__init__()
        self.words = nn.Embedding(vocab_size, width)
        self.places = nn.Embedding(positions, width)
        layer = nn.TransformerDecoderLayer(
            width, heads, 4 * width, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerDecoder(layer, DECODER_LAYERS, norm=nn.LayerNorm(width))
        for table in (self.words, self.places):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, tokens: Tensor, padding_mask: Tensor, queries: Tensor, query_padding: Tensor | None) -> Tensor:
        """Causal hidden states (B, L, H) of `tokens` (B, L), after query outputs (B, Q, H)."""
        length = tokens.size(1)
        text = self.words(tokens) + self.places.weight[:length]
        ahead = torch.ones(length, length, dtype=torch.bool, device=tokens.device).triu(1)
        return self.layers(
            text,
            queries.to(text.dtype),
            tgt_mask=ahead,
            tgt_key_padding_mask=padding_mask,
            memory_key_padding_mask=query_padding,
            tgt_is_causal=True,
        )

    def predict(self, hidden: Tensor) -> Tensor:
        """Vocabulary logits (..., V)."""
        return hidden @ self.words.weight.T


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
        middle = table.float().mean(dim=0)
        spread = 2 * (table.float() - middle).square().sum(dim=1).mean()
        self.scale = SPREAD * math.log(len(table)) / float(spread.clamp(min=1e-12))
        self.blank = nn.Parameter(middle)
        self._table = Frozen(nn.Embedding.from_pretrained(table))
        lengths = -self.scale * table.float().square().sum(dim=1, keepdim=True)  # (V, 1)
        self._bias = Frozen(nn.Embedding.from_pretrained(lengths))

    def forward(self, points: Tensor, tokens: Tensor) -> Tensor:
        """Log-probabilities (B, Q, 1 + L) of the blank and of `tokens` (B, L) at the projected queries (B, Q, M)."""
        x, weight, bias, blank = self._linear(points)
        if self.training and self.sample:
            weight, bias, tokens = sample_vocabulary(weight, bias, tokens, self.sample)
        return ctc_emissions(x, weight, bias, blank, tokens)

    @torch.no_grad()
    def labels(self, points: Tensor) -> Tensor:
        """What is nearest to each of the projected queries (B, Q, M): (B, Q), `BLANK` or 1 + a token's id."""
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
