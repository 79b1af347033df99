"""Step decoder of stage 2: the LLM answers the prompt with the speech in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from sparqle_fairseq.models.speech_llm import SpeechLLM


class AnswerState(NamedTuple):
    cache: Any  # a Hugging Face key-value cache
    seen: Tensor  # (N, positions so far), True at real ones


class PromptedLLM:
    def __init__(self, model: SpeechLLM) -> None:
        self.model = model
        self.llm = model.llm
        self.vocab_size = model.llm.vocab_size

    def start(self, net_input: dict[str, Any]) -> tuple[Tensor, AnswerState]:
        names = ("source", "padding_mask", "prompt", "prompt_padding_mask")
        embeddings, seen = self.model.prompt_embeddings(*(net_input[name] for name in names))
        return self._run(embeddings, seen, None)

    def step(self, tokens: Tensor, state: AnswerState) -> tuple[Tensor, AnswerState]:
        seen = torch.cat([state.seen, state.seen.new_ones(tokens.size(0), 1)], dim=1)
        return self._run(self.llm.embed(tokens[:, None]), seen, state.cache)

    def reorder(self, state: AnswerState, rows: Tensor) -> AnswerState:
        state.cache.reorder_cache(rows)
        return AnswerState(state.cache, state.seen.index_select(0, rows))

    def _run(self, embeddings: Tensor, seen: Tensor, cache: Any) -> tuple[Tensor, AnswerState]:
        logits, cache = self.llm(embeddings, seen, logits_to_keep=1, cache=cache, use_cache=True)
        return self.llm.join_ends(logits[:, -1]), AnswerState(cache, seen)
