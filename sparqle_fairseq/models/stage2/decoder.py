"""Step decoder of stage 2: the LLM answers the prompt with the speech in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sparqle_fairseq.models.llm.llm import LanguageModel


class AnswerState(NamedTuple):
    cache: Any  # a Hugging Face key-value cache
    seen: Tensor  # (N, positions so far), True at real ones


class PromptedLLM:
    """`embed` makes a batch's source, padding mask, prompts and their padding mask the embeddings of the prompts.

    These are (B, N, M), left-padded, with the bool (B, N) that is True at real positions.
    """

    def __init__(
        self, llm: LanguageModel, embed: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
    ) -> None:
        self.llm = llm
        self.embed = embed
        self.vocab_size = llm.vocab_size

    def start(self, net_input: dict[str, Any]) -> tuple[Tensor, AnswerState]:
        embeddings, seen = self.embed(
            net_input["source"], net_input["padding_mask"], net_input["prompt"], net_input["prompt_padding_mask"]
        )
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
