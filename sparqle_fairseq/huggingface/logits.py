"""What is done to the logits in `generate`, so that it searches as the plugin does. N rows, L tokens, V vocabulary."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList


class JoinEnds(LogitsProcessor):
    """Every token that ends an answer counts as one candidate, as in the plugin's own search."""

    def __init__(self, ends: list[int]) -> None:
        self.ends = ends

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        joined = scores[:, self.ends].logsumexp(dim=1)
        scores = scores.clone()
        scores[:, self.ends] = -torch.inf
        scores[:, self.ends[0]] = joined
        return scores


class KnownIds(LogitsProcessorList):
    """Processors that see a token of the vocabulary in the speech's places, since many look tokens up by id."""

    def __init__(self, processors: LogitsProcessorList, place: int, stand_in: int) -> None:
        super().__init__(processors)
        self.place, self.stand_in = place, stand_in

    def __call__(self, input_ids: Tensor, scores: Tensor, **named: Any) -> Tensor:
        usual: Any = super().__call__
        return usual(input_ids.masked_fill(input_ids == self.place, self.stand_in), scores, **named)
