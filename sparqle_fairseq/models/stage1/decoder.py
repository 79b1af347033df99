"""Step decoder of stage 1: the Q-Former's text branch writes the transcript after its queries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from sparqle_fairseq.models.qformer.qformer import KeyValue

if TYPE_CHECKING:
    from sparqle_fairseq.models.stage1.model import PretrainModel


class TextState(NamedTuple):
    cache: list[KeyValue]  # keys and values of the queries and of the text so far
    past_tokens: int
    query_padding: Tensor | None = None  # (N, Q), True at queries that do not count; None: all do


class Transcriber:
    def __init__(self, model: PretrainModel) -> None:
        self.model = model
        self.vocab_size = model.tokenizer.vocab_size

    def start(self, net_input: dict[str, Any]) -> tuple[Tensor, TextState]:
        speech = self.model.encode_speech(net_input["source"], net_input["padding_mask"])
        qformer = self.model.adapter.qformer
        queries = qformer.query(qformer.read_speech(speech.values, speech.padding_mask))
        first = torch.full((speech.values.size(0),), self.model.tokenizer.decode_token, device=speech.values.device)
        return self.step(first, TextState(queries.cache, 0, queries.padding_mask))

    def step(self, tokens: Tensor, state: TextState) -> tuple[Tensor, TextState]:
        qformer = self.model.adapter.qformer
        hidden, cache = qformer.decode_text(tokens[:, None], None, state.cache, state.past_tokens, state.query_padding)
        return qformer.predict(hidden[:, 0]), TextState(cache, state.past_tokens + 1, state.query_padding)

    def reorder(self, state: TextState, rows: Tensor) -> TextState:
        cache = [(key.index_select(0, rows), value.index_select(0, rows)) for key, value in state.cache]
        padding = None if state.query_padding is None else state.query_padding.index_select(0, rows)
        return TextState(cache, state.past_tokens, padding)
