"""`--adapter conv`: convolutions over 3 frames that each halve the number of frames, with gated linear units.

The length adaptor of Li et al. 2021 (arXiv 2010.12829), with a LayerNorm before and behind.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.qformer.plain.base import Outputs, PlainAdapter, PlainConfig, at_least_one
from sparqle_fairseq.models.qformer.precision import LayerNorm


class ConvAdapter(PlainAdapter):
    """`--speech-stride` is a power of two: 8 for three convolutions, so that an output has seen 15 frames."""

    name = "conv"

    def __init__(self, config: PlainConfig) -> None:
        super().__init__(config)
        stride, width = config.speech_stride, config.hidden_size
        count = stride.bit_length() - 1
        if stride < 2 or stride != 2**count:
            raise SparqleError(
                f"--adapter conv halves the frames again and again; --speech-stride {stride} must be 2, 4, 8 or so on"
            )
        widths = [config.speech_width, *[width] * (count - 1)]
        self.convolutions = nn.ModuleList(nn.Conv1d(w, 2 * width, 3, stride=2, padding=1) for w in widths)
        self.norm = LayerNorm(width)

    def forward(self, values: Tensor, padding_mask: Tensor) -> Outputs:
        hidden = self.speech_norm(values)
        for convolution in self.convolutions:
            # The last of an utterance reaches into its padding: whatever stands there must not matter.
            hidden = hidden.masked_fill(padding_mask[..., None], 0).to(convolution.weight.dtype)
            hidden = self.dropout(F.glu(convolution(hidden.transpose(1, 2)), dim=1)).transpose(1, 2)
            padding_mask = padding_mask[:, ::2]  # an output is real where the middle one of its frames is
        return Outputs(self.norm(hidden), at_least_one(padding_mask))
