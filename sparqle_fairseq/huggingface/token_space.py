"""The LLM's embeddings as the space that --compress-queries and --soft-tokens look into."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from sparqle_fairseq.models.stage1.objectives.llm_ctc import LLMSpace


class TokenSpace(nn.Module):
    """`LLMSpace` over the embeddings that the LLM has now; only the blank is a parameter of its own."""

    def __init__(self, llm: PreTrainedModel, width: int) -> None:
        super().__init__()
        self.blank = nn.Parameter(torch.zeros(width), requires_grad=False)
        self._llm: list[Any] = [llm]  # in a list: the LLM is not a part of the adapter
        self._made: tuple[Any, LLMSpace] | None = None

    def _space(self) -> LLMSpace:
        embeddings = self._llm[0].get_input_embeddings()
        table = embeddings.weight
        version = (table.data_ptr(), table._version, self.blank.data_ptr(), self.blank._version, table.dtype)
        if self._made is None or self._made[0] != version:
            with torch.no_grad():
                space = LLMSpace(embeddings(torch.arange(embeddings.num_embeddings, device=table.device)))
                space.blank = self.blank
            self._made = (version, space)
        return self._made[1]

    def labels(self, points: Tensor) -> Tensor:
        return self._space().labels(points)

    def soft_tokens(self, points: Tensor) -> Tensor:
        return self._space().soft_tokens(points)
