"""What may stand in the speech encoder's place: an encoder, features that one made, or discrete units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from sparqle_fairseq.models.encoders.base import SpeechFeatures


class SpeechSource(Protocol):
    """A module from a batch's source to features, with what the rest asks of it.

    Attributes:
        width: W, size of a feature vector.
        sample_rate: source samples (or units) a second.
        frame_rate: feature frames a second.
        normalize: whether it expects each waveform normalised to zero mean and unit variance.
        min_samples: fewest samples that give a frame.
        mixed_layers: L where it gives all layers, (B, T, L, W), for a learned sum; else 0.
        identity: what makes it itself, for checkpoints made with it.
    """

    width: int
    sample_rate: Any
    frame_rate: float
    normalize: bool
    min_samples: int
    mixed_layers: int
    identity: Any

    def __call__(self, source: Tensor, padding_mask: Tensor | None = None) -> SpeechFeatures:
        """Features of a right-padded batch (B, S) with its padding mask, True at padding. Raises `SparqleError`."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What of it learns: nothing of an encoder, the embeddings of units."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any: ...
