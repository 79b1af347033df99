"""`stg-outputs`: the transcript from the last layer's query outputs alone, by a small decoder that is thrown away.

B utterances, Q queries, H hidden size, L text tokens, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sparqle_fairseq.models.stage1.batch import Stage1Batch
from sparqle_fairseq.models.stage1.objectives.base import Given, Reach
from sparqle_fairseq.models.stage1.objectives.registry import register_objective
from sparqle_fairseq.models.stage1.objectives.stg import Generation, Writing

DECODER_LAYERS = 2


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


@register_objective
class StgOutputs(Writing):
    name = "stg-outputs"
    parts = ("output_decoder",)
    reach = Reach.QUERIES
    rates = {"stg_outputs_accuracy": ("hits", "count")}

    def build(self, given: Given) -> dict[str, nn.Module | nn.Parameter]:
        config = given.config
        decoder = OutputDecoder(
            config.vocab_size, config.hidden_size, config.heads, config.max_text_positions, config.dropout
        )
        return {"output_decoder": decoder}

    def generation(self, adapter: Any, batch: Stage1Batch) -> Generation:
        queries, decoder = batch.queries, adapter.output_decoder
        hidden = decoder(batch.shifted_tokens, batch.text.padding_mask, queries.hidden, queries.padding_mask)
        return Generation(decoder.predict(batch.with_target(hidden)), batch.targets)
