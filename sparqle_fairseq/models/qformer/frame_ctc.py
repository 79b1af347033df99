"""CTC over the frames that queries will read: it says where a token ends, and so where a window ends. Plain PyTorch.

B utterances, T frames, W width, L tokens, V vocabulary. Padding masks are True at padding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparqle_fairseq.models.stage1.losses import best_symbols, ctc_emissions

BLANK = 0
# The blank's advantage at the start: no token is heard before some were learned.
HEAD_START = 2.0


class FrameCtc(nn.Module):
    """A linear layer onto the transcript's vocabulary and the blank, at each frame."""

    def __init__(self, width: int, vocab_size: int) -> None:
        super().__init__()
        self.tokens = nn.Linear(width, vocab_size)
        self.blank = nn.Linear(width, 1)

    def reset_blank(self) -> None:
        nn.init.constant_(self.blank.bias, HEAD_START)

    def forward(self, frames: Tensor, tokens: Tensor) -> Tensor:
        """Log-probabilities (B, T, 1 + L) of the blank and of `tokens` (B, L) at frames (B, T, W)."""
        frames = frames.to(self.tokens.weight.dtype)
        return ctc_emissions(frames, self.tokens.weight, self.tokens.bias, self.blank(frames)[..., 0], tokens)

    @torch.no_grad()
    def ends(self, frames: Tensor, padding_mask: Tensor) -> Tensor:
        """Where a token that is heard ends: (B, T), False at padding."""
        frames = frames.to(self.tokens.weight.dtype)
        labels = best_symbols(frames, self.tokens.weight, self.tokens.bias, self.blank(frames)[..., 0])
        labels = labels.masked_fill(padding_mask, BLANK)
        after = torch.cat([labels[:, 1:], torch.full_like(labels[:, :1], BLANK)], dim=1)
        return (labels != BLANK) & (labels != after)
