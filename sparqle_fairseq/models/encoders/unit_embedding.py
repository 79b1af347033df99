"""Discrete units in the speech encoder's place: a learned embedding instead of a frozen network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.encoders.base import SpeechFeatures


class UnitEmbedding(nn.Module):
    """What the rest asks of a speech encoder, for unit ids (B, T); its one tensor learns and is in checkpoints.

    Args:
        vocabulary: number of units.
        width: W, size of a unit's vector.
        frame_rate: units per second; after collapsing, before which it is counted.
        collapsed: whether consecutive equal units are read as one.
    """

    normalize = False
    min_samples = 1
    mixed_layers = 0

    def __init__(self, vocabulary: int, width: int, frame_rate: float = 50.0, collapsed: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.vocabulary = vocabulary
        self.width = width
        self.frame_rate = self.sample_rate = frame_rate  # one unit is one frame
        self.collapsed = collapsed
        self.identity: dict[str, Any] = {
            "path": "units",
            "kind": "units",
            "vocabulary": vocabulary,
            "width": width,
            "collapsed": collapsed,
        }

    def forward(self, source: Tensor, padding_mask: Tensor | None = None) -> SpeechFeatures:
        """Embeddings (B, T, W) of units (B, T), zero at padding."""
        if source.is_floating_point():
            raise SparqleError(
                "this model reads discrete units, not audio; make units of the audio with the k-means it was trained "
                "with, as <split>.km beside the manifest"
            )
        if padding_mask is None:
            padding_mask = torch.zeros_like(source, dtype=torch.bool)
        return SpeechFeatures(self.embedding(source).masked_fill(padding_mask[..., None], 0), padding_mask)


def unit_embedding(config: Any) -> UnitEmbedding:
    """The embedding that the options name. Raises `SparqleError`."""
    if config.unit_vocabulary < 1:
        raise SparqleError("--source units needs --unit-vocabulary, the number of k-means clusters")
    if config.unit_rate <= 0:
        raise SparqleError(f"--unit-rate {config.unit_rate:g} must be above 0, in units per second")
    if config.speech_encoder:
        raise SparqleError("--source units reads no audio; leave --speech-encoder out, or --source units")
    return UnitEmbedding(config.unit_vocabulary, config.hidden_size, config.unit_rate, config.collapse_units)
