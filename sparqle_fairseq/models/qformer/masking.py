"""Masks over the features of a training batch, after SpecAugment (Park et al. 2019, arXiv 1904.08779).

Plain PyTorch. B utterances, T frames, W width. Padding masks are True at padding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparqle_fairseq.keyed_random import keyed_uniform, text_key

# A time mask hides no more than this share of its utterance (the paper's p), so that short ones stay readable.
LONGEST_SHARE = 0.2


@dataclass(frozen=True)
class FeatureMasks:
    """How many masks, and how wide they are at most; where they lie depends on (seed, update, utterance) alone."""

    time_masks: int = 0
    time_frames: int = 0
    channel_masks: int = 0
    channels: int = 0
    seed: int = 1

    def __call__(self, values: Tensor, padding_mask: Tensor, utterance: Tensor, update: int) -> Tensor:
        """Features (B, T, W) in which what is hidden holds the utterance's mean.

        `utterance` (B,) are int64 keys: an utterance is masked in the same way whatever its batch.
        """
        real = ~padding_mask
        frames = real.sum(dim=1)  # (B,)
        draws = keyed_uniform(
            utterance,
            torch.arange(2 * (self.time_masks + self.channel_masks), device=utterance.device),
            text_key(f"feature masks {self.seed} {update}"),
        )  # (B, draws)
        times, channels = draws.split([2 * self.time_masks, 2 * self.channel_masks], dim=1)
        most = (frames * LONGEST_SHARE).long().clamp(max=self.time_frames)
        width = torch.full_like(frames, values.size(2))
        hidden = _covered(times, most, frames, values.size(1))[:, :, None]  # (B, T, 1)
        hidden = hidden | _covered(channels, width.clamp(max=self.channels), width, values.size(2))[:, None, :]
        total = (values * real[..., None]).sum(dim=1, dtype=torch.float32)
        mean = (total / frames.clamp(min=1)[:, None]).to(values)[:, None]  # (B, 1, W)
        return torch.where(hidden, mean, values)


def _covered(draws: Tensor, most: Tensor, size: Tensor, places: int) -> Tensor:
    """(B, places) bool: what the masks of `draws` (B, 2 masks) cover.

    Each mask is 0 to `most` (B,) wide and lies within the first `size` (B,) places.
    """
    widths, starts = draws.chunk(2, dim=1)  # (B, masks)
    width = (widths * (most[:, None] + 1)).long()
    start = (starts * (size[:, None] - width + 1)).long()
    place = torch.arange(places, device=draws.device)
    return ((place >= start[..., None]) & (place < (start + width)[..., None])).any(dim=1)
