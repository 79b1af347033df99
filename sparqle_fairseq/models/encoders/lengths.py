"""Lengths of utterances in a padded batch, in samples and in frames."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sparqle_fairseq.models.encoders.errors import EncoderError


def conv_length(length: int, layers: Sequence[tuple[int, int, int]]) -> int:
    """Frames that unpadded convolutions ``(channels, kernel, stride)`` make of ``length`` samples, 0 at least."""
    for _, kernel, stride in layers:
        length = max(0, (length - kernel) // stride + 1)
    return length


def receptive_field(layers: Sequence[tuple[int, int, int]]) -> int:
    """Samples that one frame sees, the fewest that give a frame."""
    field, hop = 1, 1
    for _, kernel, stride in layers:
        field += (kernel - 1) * hop
        hop *= stride
    return field


def utterance_lengths(source: Tensor, padding_mask: Tensor | None) -> list[int]:
    """Valid samples of each utterance of a right-padded batch."""
    batch, samples = source.shape
    if padding_mask is None:
        return [samples] * batch
    valid = samples - padding_mask.sum(dim=1)
    first_padded = torch.where(padding_mask.any(dim=1), padding_mask.int().argmax(dim=1), samples)
    lengths, ends = torch.stack([valid, first_padded]).tolist()  # one transfer from the device, not two
    if lengths != ends:
        raise EncoderError(
            "padding_mask has padding before the end of an utterance; speech is to be padded on the right."
        )
    return lengths


def mask_of_lengths(lengths: Sequence[int], size: int, device: torch.device) -> Tensor:
    """(B, size) bool, True from each length on."""
    ends = torch.tensor(lengths, device=device).unsqueeze(1)
    return torch.arange(size, device=device).unsqueeze(0) >= ends
