"""Step decoder of stage 1: the Q-Former's text branch writes the transcript after its queries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.encoders import SpeechFeatures
from sparqle_fairseq.models.qformer.qformer import KeyValue, QFormer


class TextState(NamedTuple):
    cache: list[KeyValue]  # keys and values of the queries and of the text so far
    past_tokens: int
    query_padding: Tensor | None = None  # (N, Q), True at queries that do not count; None: all do


class Transcriber:
    """`encode` gives the features of speech and its padding mask; `decode_token` is [DEC], which starts a text."""

    def __init__(
        self,
        qformer: QFormer,
        encode: Callable[[Tensor, Tensor], SpeechFeatures],
        decode_token: int,
    ) -> None:
        self.qformer = qformer
        self.encode = encode
        self.decode_token = decode_token
        self.vocab_size = qformer.config.vocab_size

    def start(self, net_input: dict[str, Any]) -> tuple[Tensor, TextState]:
        speech = self.encode(net_input["source"], net_input["padding_mask"])
        queries = self.qformer.query(self.qformer.read_speech(speech.values, speech.padding_mask))
        first = torch.full((speech.values.size(0),), self.decode_token, device=speech.values.device)
        return self.step(first, TextState(queries.cache, 0, queries.padding_mask))

    def step(self, tokens: Tensor, state: TextState) -> tuple[Tensor, TextState]:
        hidden, cache = self.qformer.decode_text(
            tokens[:, None], None, state.cache, state.past_tokens, state.query_padding
        )
        return self.qformer.predict(hidden[:, 0]), TextState(cache, state.past_tokens + 1, state.query_padding)

    def reorder(self, state: TextState, rows: Tensor) -> TextState:
        cache = [(key.index_select(0, rows), value.index_select(0, rows)) for key, value in state.cache]
        padding = None if state.query_padding is None else state.query_padding.index_select(0, rows)
        return TextState(cache, state.past_tokens, padding)

    def not_finite(self) -> SparqleError:
        return SparqleError(
            "the Q-Former gives numbers that are not finite; its checkpoint is damaged, or --fp16 is too narrow for it"
        )
