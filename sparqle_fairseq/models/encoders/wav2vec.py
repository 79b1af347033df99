"""The shape that HuBERT, wav2vec 2.0, WavLM and data2vec audio share: convolutions, projection, transformer.

The usual implementations let an utterance's features depend on the batch it is in: the group norm of the first
convolution takes its statistics over the padding too, the number of valid frames is rounded, and stacked positional
convolutions read what earlier ones wrote into the padding. Here features depend on the utterance alone.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from sparqle_fairseq.models.encoders.base import EncoderNetwork
from sparqle_fairseq.models.encoders.lengths import conv_length, mask_of_lengths, receptive_field

Part = Callable[[Tensor], Tensor]


class ConvTransformer(EncoderNetwork):
    """Convolutions, projection, convolutional positions and transformer; a subclass says where its parts are.

    Args:
        conv_layers: ``(channels, kernel, stride)`` of each convolution.
    """

    def __init__(self, conv_layers: Sequence[tuple[int, int, int]]) -> None:
        super().__init__()
        self.conv_spec = list(conv_layers)
        self.samples_per_frame = reduce(lambda hop, layer: hop * layer[2], self.conv_spec, 1)
        self.min_samples = receptive_field(self.conv_spec)

    @abstractmethod
    def convolutions(self) -> Iterable[Iterable[Part]]:
        """The parts of each convolution, to be run on (B, C, T), with its `nn.GroupNorm` as a part of its own."""

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, W)."""

    @abstractmethod
    def positions(self) -> Iterable[Part]:
        """The parts of the position embedding, to be run on (B, W, T), with each `nn.Conv1d` as a part of its own."""

    @abstractmethod
    def transform(self, x: Tensor, padded: Tensor | None) -> Iterator[Tensor]:
        """The outputs (B, T, W) of the transformer's layers; `padded` (B, T) is None where nothing is."""

    def frames(self, samples: int) -> int:
        return conv_length(samples, self.conv_spec)

    def layers(self, source: Tensor, lengths: Sequence[int]) -> Iterator[Tensor]:
        frames = [self.frames(length) for length in lengths]
        x = self.project(self._convolve(source, lengths).transpose(1, 2))  # (B, T, W)
        padded = mask_of_lengths(frames, x.size(1), x.device)  # (B, T)
        x = x.masked_fill(padded.unsqueeze(-1), 0)
        x = x + self._embed_positions(x, padded)
        yield from self.transform(x, padded if min(frames) < x.size(1) else None)

    def _convolve(self, source: Tensor, lengths: Sequence[int]) -> Tensor:
        """(B, S) waveform -> (B, C, T); frames within an utterance's length depend on its own samples."""
        x = source.to(next(self.parameters()).dtype).unsqueeze(1)
        for index, block in enumerate(self.convolutions()):
            for part in block:
                if isinstance(part, nn.GroupNorm):
                    # Its statistics run over time: each utterance is normed over its own frames. Later
                    # convolutions and norms see no further than a frame's own samples.
                    for item, length in enumerate(lengths):
                        end = conv_length(length, self.conv_spec[: index + 1])
                        x[item, :, :end] = part(x[item : item + 1, :, :end])[0]
                else:
                    x = part(x)
        return x

    def _embed_positions(self, x: Tensor, padded: Tensor) -> Tensor:
        """Convolutional position embedding (B, T, W), with zeros at padding before every convolution."""
        x = x.transpose(1, 2)  # (B, W, T)
        for part in self.positions():
            if isinstance(part, nn.Conv1d):
                x = x.masked_fill(padded.unsqueeze(1), 0)
            x = part(x)
        return x.transpose(1, 2)


def attention_bias(padded: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """What Hugging Face's attention adds to its scores, (B, 1, 1, T): nothing, and minus infinity at padding."""
    if padded is None:
        return None
    return torch.zeros(padded.shape, dtype=dtype, device=padded.device).masked_fill(padded, -torch.inf)[:, None, None]
