"""What every speech encoder promises, and what a kind of encoder brings to keep it."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn

from sparqle_fairseq.models.encoders.errors import EncoderError
from sparqle_fairseq.models.encoders.lengths import mask_of_lengths, utterance_lengths
from sparqle_fairseq.models.encoders.place import EncoderPlace
from sparqle_fairseq.models.frozen import Frozen
from sparqle_fairseq.models.qformer.precision import convolve_narrow_in_fp32

Layer = Literal["last", "weighted"] | int


class SpeechFeatures(NamedTuple):
    """What a speech encoder hears in a batch."""

    values: Tensor
    """(B, T, W) features, zero at padding; (B, T, L, W) where all L layers are wanted."""
    padding_mask: Tensor
    """(B, T) bool, True at padding."""


def parse_layer(text: str) -> Layer:
    """The layer that an option names: "last", "weighted", or a number from 1. Raises `EncoderError`."""
    if text == "last":
        return "last"
    if text == "weighted":
        return "weighted"
    if not text.isdigit():
        raise EncoderError(f"--encoder-layer {text} is neither 'last' nor 'weighted' nor a number from 1")
    return int(text)


class EncoderNetwork(nn.Module, ABC):
    """One kind of speech encoder: where it is found, how it is read, and what its layers give.

    A subclass is registered with `register_encoder`; `docs/encoders.md` shows one. It sets these attributes:

    Attributes:
        kind: name of the kind, part of the encoder's identity.
        width: W, size of a feature vector.
        depth: number of layers.
        samples_per_frame: samples from one frame to the next.
        min_samples: fewest samples that give a frame.
        sample_rate: Hz of the waveform that it expects.
        normalize: whether it expects each waveform normalised to zero mean and unit variance.
        fingerprint: hash of its tensors; see `weights.fingerprint`.
    """

    FOUND_IN: ClassVar[str]
    """Where such encoders are found, for messages."""

    kind: str
    width: int
    depth: int
    samples_per_frame: int
    min_samples: int
    sample_rate: int = 16000
    normalize: bool = False
    fingerprint: str

    @classmethod
    @abstractmethod
    def recognises(cls, place: EncoderPlace) -> bool:
        """Whether what lies at `place` is of this kind; a cheap look."""

    @classmethod
    @abstractmethod
    def read(cls, place: EncoderPlace) -> Self:
        """The encoder at `place`. Raises `EncoderError`."""

    @abstractmethod
    def frames(self, samples: int) -> int:
        """Number of frames of an utterance of `samples` samples."""

    @abstractmethod
    def layers(self, source: Tensor, lengths: Sequence[int]) -> Iterator[Tensor]:
        """The outputs (B, T, W) of layer 1, 2, … of a right-padded batch (B, S) of float waveforms.

        T is the number of frames of the longest. What is behind an utterance's own frames does not matter; its own
        frames must not depend on what is behind its own samples, nor on its batch-mates.
        """

    def finish(self, x: Tensor) -> Tensor:
        """What leaves the encoder, made of the last layer's output."""
        return x

    def keep_layers(self, count: int) -> None:
        """Free the layers after the first `count`: they are not asked for."""

    def transformer_layers(self) -> Any:
        """The layers one after the other, as an `nn.ModuleList` that runs what is put into it.

        None, where they cannot learn (`--unfreeze-encoder-layers`).
        """
        return nn.ModuleList()

    def forward(self, source: Tensor, lengths: Sequence[int], layer: Layer) -> tuple[Tensor, Tensor]:
        """Features of the wanted layer (B, T, W), or of all (B, T, L, W), zero at padding; padding mask (B, T)."""
        outputs = self.layers(source, lengths)
        if layer == "weighted":
            values = torch.stack(list(outputs), dim=2)
        elif layer == "last":
            for x in outputs:
                values = x
            values = self.finish(values)
        else:
            values = next(islice(outputs, layer - 1, None))
        padded = mask_of_lengths([self.frames(length) for length in lengths], values.size(1), values.device)
        return values.masked_fill(padded[(..., *[None] * (values.dim() - 2))], 0), padded


class SpeechEncoder(nn.Module):
    """A frozen speech encoder: waveform in, features out, nothing to learn and nothing to save.

    Its network is in a :class:`Frozen` box: always in eval mode, never in a checkpoint, in its own precision.

    Args:
        network: how it listens.
        path: where it came from.
        layer: "last" for what leaves the encoder; 1 to n for what leaves that layer, without the norm that pre-norm
            models put after the last; "weighted" for what leaves each of them, to be summed with learned weights.
        dtype: precision to run in; the trainer's does not change it.

    Attributes:
        width: W, size of a feature vector.
        sample_rate: Hz of the waveform that it expects.
        frame_rate: feature frames per second.
        normalize: whether it expects each waveform normalised to zero mean and unit variance; not done here.
        min_samples: fewest samples that give a frame.
        mixed_layers: L where it gives all layers, (B, T, L, W), for a learned sum; else 0.
        identity: what makes it itself (kind, width, layer, rate, normalisation, dtype, fingerprint), for checkpoints
            made with it.

    Raises:
        EncoderError: the encoder has no such layer.
    """

    def __init__(self, network: EncoderNetwork, *, path: str, layer: Layer, dtype: torch.dtype) -> None:
        super().__init__()
        if layer not in ("last", "weighted"):
            if isinstance(layer, bool) or not isinstance(layer, int) or not 1 <= layer <= network.depth:
                raise EncoderError(
                    f"{path} has no layer {layer!r}: give 'last', 'weighted' or a number from 1 to {network.depth}."
                )
            network.keep_layers(layer)
        convolve_narrow_in_fp32(network)
        self.frozen = Frozen(network, dtype)
        self.layer = layer
        self.width = network.width
        self.sample_rate = network.sample_rate
        self.frame_rate = network.sample_rate / network.samples_per_frame
        self.normalize = network.normalize
        self.min_samples = network.min_samples
        self.learns = False  # whether some of it does; see `encoders.tuning`
        self.mixed_layers = network.depth if layer == "weighted" else 0
        self.identity: dict[str, str | int] = {
            "path": path,
            "kind": network.kind,
            "width": network.width,
            "layer": layer,
            "sample_rate": network.sample_rate,
            "normalize": network.normalize,
            "dtype": str(dtype).removeprefix("torch."),
            "fingerprint": network.fingerprint,
        }

    def forward(
        self, source: Tensor, padding_mask: Tensor | None = None, lengths: Sequence[int] | None = None
    ) -> SpeechFeatures:
        """Features of a right-padded batch.

        Args:
            source: (B, S) waveform at ``sample_rate``, normalised where ``normalize`` says so; any float
                dtype.
            padding_mask: (B, S) bool, True at padding; None where nothing is padded.
            lengths: B numbers of samples that are no padding, where they are known; else a device is asked.

        Returns:
            Features in the encoder's own dtype, whatever autocast says. T is that of the longest utterance.

        Raises:
            EncoderError: an utterance is too short for a single frame, or is not padded on the right.
        """
        if lengths is None:
            lengths = utterance_lengths(source, padding_mask)
        for item, length in enumerate(lengths):
            if length < self.min_samples:
                raise EncoderError(
                    f"Utterance {item + 1} of a batch of {len(lengths)} has {length} samples, and the speech "
                    f"encoder needs at least {self.min_samples} (at {self.sample_rate} Hz): leave such short "
                    "audio out of the manifest."
                )
        gradient = self.learns and torch.is_grad_enabled()
        with torch.set_grad_enabled(gradient), torch.autocast(source.device.type, enabled=False):
            # A collater may pad beyond the longest utterance; that padding is not worth a computation.
            return SpeechFeatures(*self.frozen(source[:, : max(lengths)], lengths, self.layer))
