"""Fewer and wider steps before the Q-Former reads: frame stacking or a strided convolution.

Plain PyTorch. B utterances, T frames, W width, k stride. Padding masks are True at padding.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

DOWNSAMPLING = ("none", "stack", "conv")


def stacked_width(kind: str, speech_width: int, stride: int) -> int:
    """Width of what the Q-Former reads."""
    return speech_width * stride if kind == "stack" else speech_width


class FrontEnd(nn.Module):
    """Speech (B, T, W) -> (B, ceil(T / k), W or k W), each step made of its own utterance's frames alone.

    * ``none``: as it came.
    * ``stack``: k frames side by side, nothing learned; an utterance's last step is filled up with zeros.
    * ``conv``: one convolution of 2 k - 1 frames every k frames, and a GELU; learned.
    """

    def __init__(self, kind: str, stride: int, speech_width: int) -> None:
        super().__init__()
        self.kind = kind
        self.stride = stride
        self.conv: nn.Conv1d | None = None
        if kind == "conv":
            self.conv = nn.Conv1d(speech_width, speech_width, 2 * stride - 1, stride=stride, padding=stride - 1)

    def forward(self, values: Tensor, padding_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Values and padding mask of the steps."""
        if self.kind == "none":
            return values, padding_mask
        # Steps at an utterance's end reach into its padding: whatever stands there must not matter.
        values = values.masked_fill(padding_mask[..., None], 0)
        if self.conv is not None:
            values = F.gelu(self.conv(values.transpose(1, 2))).transpose(1, 2)
        else:
            values = F.pad(values, (0, 0, 0, -values.size(1) % self.stride)).unflatten(1, (-1, self.stride)).flatten(2)
        return values, padding_mask[:, :: self.stride]  # a step is real where its first frame is
