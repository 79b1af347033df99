"""How long an answer may be, and what limits it.

B utterances. Lengths are tokens before the end token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparqle_fairseq.generate.remarks import Ended


@dataclass(frozen=True)
class Limits:
    """Those of the utterances of a batch."""

    fewest: Tensor  # (B,)
    most: Tensor  # (B,)
    causes: Sequence[Ended]  # what sets the most

    @classmethod
    def at_most(cls, most: Tensor) -> Limits:
        """Up to `most` (B,) tokens, and any number below."""
        return cls(torch.zeros_like(most), most, ["length"] * most.numel())


@dataclass(frozen=True)
class LengthRule:
    """How the options of generation limit answers; an utterance's limits depend on nothing else in its batch.

    Args:
        max_len_a, max_len_b: most tokens = a * encoder frames of the utterance + b.
        min_len: fewest tokens.
        min_per_second, max_per_second: fewest and most tokens for each second of speech; 0 for no such limit.
        frame_rate: encoder frames per second.
        samples_per_frame: source samples in an encoder frame.
    """

    max_len_a: float
    max_len_b: int
    frame_rate: float
    samples_per_frame: float
    min_len: int = 1
    min_per_second: float = 0.0
    max_per_second: float = 0.0

    def limits(self, models: Sequence[Any], net_input: dict[str, Any]) -> Limits:
        """The limits of a batch; of those that set the most, the strictest counts."""
        frames = self._frames(net_input)
        most: dict[Ended, Tensor] = {"length": (self.max_len_a * frames).long() + self.max_len_b}
        if self.max_per_second:
            most["seconds"] = (self.max_per_second * frames / self.frame_rate).ceil().long().clamp(min=1)
        most["room"] = room(models, net_input)
        strictest = torch.stack(list(most.values())).amin(dim=0).clamp(min=0)
        fewest = (self.min_per_second * frames / self.frame_rate).long().clamp(min=self.min_len)
        rows = zip(*map(Tensor.tolist, most.values()), strict=True)
        causes = [list(most)[row.index(min(row))] for row in rows]  # of equals the first
        return Limits(fewest.minimum(strictest), strictest, causes)

    def _frames(self, net_input: dict[str, Any]) -> Tensor:
        """(B,) encoder frames of each utterance, without padding."""
        real = (~net_input["padding_mask"]).sum(dim=1)  # (B,) samples or frames
        return real / self.samples_per_frame if net_input["source"].dim() == 2 else real.float()


def room(models: Sequence[Any], net_input: dict[str, Any]) -> Tensor:
    """(B,) most tokens that every one of the models has room for behind an utterance's prompt."""
    count, device = net_input["source"].size(0), net_input["source"].device
    rooms = [torch.as_tensor(model.max_answer_tokens(net_input), device=device).expand(count) for model in models]
    return torch.stack(rooms).amin(dim=0).long()
