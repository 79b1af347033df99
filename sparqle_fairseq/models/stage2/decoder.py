"""Step decoder of stage 2: the LLM answers the prompt with the speech in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from sparqle_fairseq.models.stage2.model import SpeechLLM


class AnswerState(NamedTuple):
    cache: Any  # a Hugging Face key-value cache
    seen: Tensor  # (N, positions so far), True at real ones


class PromptedLLM:
    """`hears` is whether the speech is in the prompt, or left out of it."""

    def __init__(self, model: SpeechLLM, hears: bool = True) -> None:
        self.model = model
        self.hears = hears
        self.llm = model.llm
        self.vocab_size = model.llm.vocab_size

    def start(self, net_input: dict[str, Any]) -> tuple[Tensor, AnswerState]:
        names = ("source", "padding_mask", "prompt", "prompt_padding_mask")
        embed = self.model.prompt_embeddings if self.hears else self.model.prompt_without_speech
        embeddings, seen = embed(*(net_input[name] for name in names))
        return self._run(embeddings, seen, None)

    def step(self, tokens: Tensor, state: AnswerState) -> tuple[Tensor, AnswerState]:
        seen = torch.cat([state.seen, state.seen.new_ones(tokens.size(0), 1)], dim=1)
        return self._run(self.llm.embed(tokens[:, None]), seen, state.cache)

    def reorder(self, state: AnswerState, rows: Tensor) -> AnswerState:
        state.cache.reorder_cache(rows)
        return AnswerState(state.cache, state.seen.index_select(0, rows))

    def _run(self, embeddings: Tensor, seen: Tensor, cache: Any) -> tuple[Tensor, AnswerState]:
        logits, cache = self.llm(embeddings, seen, logits_to_keep=1, cache=cache, use_cache=True)
        self.llm.check_finite(logits)
        return self.llm.join_ends(logits[:, -1]), AnswerState(cache, seen)
