"""Step decoder of stage 2: the LLM answers the prompt with the speech in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.llm.llm import LanguageModel


class AnswerState(NamedTuple):
    cache: Any  # a Hugging Face key-value cache
    positions: int  # so far
    seen: Tensor | None  # (N, positions), True at real ones; None: all are


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
        # Not before an LLM is there: it loads more of transformers than all commands together need to start.
        from sparqle_fairseq.models.llm.cache import give_room

        embeddings, seen = self.embed(
            net_input["source"], net_input["padding_mask"], net_input["prompt"], net_input["prompt_padding_mask"]
        )
        logits, cache = self.llm(embeddings, seen, logits_to_keep=1, use_cache=True)
        self.llm.check_finite(logits)
        padded = not bool(seen.all())
        give_room(cache, padded)
        state = AnswerState(cache, seen.size(1), seen if padded else None)
        return self.llm.join_ends(logits[:, -1]), state

    def step(self, tokens: Tensor, state: AnswerState) -> tuple[Tensor, AnswerState]:
        seen = state.seen
        if seen is not None:
            seen = torch.cat([seen, seen.new_ones(tokens.size(0), 1)], dim=1)
        logits, cache = self.llm(
            self.llm.embed(tokens[:, None]), seen, logits_to_keep=1, cache=state.cache, use_cache=True,
            past=state.positions,
        )  # fmt: skip
        return self.llm.join_ends(logits[:, -1]), AnswerState(cache, state.positions + 1, seen)

    def reorder(self, state: AnswerState, rows: Tensor) -> AnswerState:
        state.cache.reorder_cache(rows)
        seen = state.seen
        # Beams of one utterance have the same prompt.
        if seen is not None and rows.numel() != seen.size(0):
            seen = seen.index_select(0, rows)
        return state._replace(seen=seen)

    def not_finite(self) -> SparqleError:
        return self.llm.not_finite()
