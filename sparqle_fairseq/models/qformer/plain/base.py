"""What every plain adapter is: speech in, fewer outputs out. No queries, no text branch.

Plain PyTorch. B utterances, T frames, W width of the speech, Q outputs of an utterance, H hidden size.
Padding masks are True at padding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.qformer.precision import LayerNorm

SPEECH_NORM_EPS = 1e-5


class Outputs(NamedTuple):
    """What an adapter made of speech; a Q-Former's `QueryOutput` has both under the same names."""

    hidden: Tensor  # (B, Q, H), fp32 where the weights are half precision
    padding_mask: Tensor  # (B, Q)


@dataclass(frozen=True)
class PlainConfig:
    """Sizes of a plain adapter; `PlainAdapter.reads` says which of `layers` and `ffn_size` it has."""

    adapter: str  # its name, as in --adapter
    vocab_size: int  # of the transcripts: heads of objectives ask for it
    speech_width: int
    hidden_size: int = 768
    layers: int = 12
    heads: int = 12  # of attention, in the adapter or in an objective's head
    ffn_size: int = 3072
    speech_stride: int = 1  # encoder frames in an output
    max_text_positions: int = 512
    dropout: float = 0.1

    # As many outputs as a Q-Former gives with one query in windows of one step.
    queries: ClassVar[int] = 1
    window_frames: ClassVar[int] = 1

    def __post_init__(self) -> None:
        for option in ("hidden_size", "layers", "heads", "ffn_size", "speech_stride", "max_text_positions"):
            if getattr(self, option) < 1:
                raise SparqleError(f"--{option.replace('_', '-')} {getattr(self, option)} must be 1 or more")
        if self.hidden_size % self.heads:
            raise SparqleError(f"--hidden-size {self.hidden_size} does not divide into --heads {self.heads}")
        if not 0 <= self.dropout < 1:
            raise SparqleError(f"--dropout {self.dropout:g} must be at least 0 and below 1")

    def query_count(self, frames: Tensor) -> Tensor:
        """How many outputs speak for utterances of `frames` encoder frames (B,); before any compression."""
        return (-(frames // -self.speech_stride)).clamp(min=1)


class PlainAdapter(nn.Module, ABC):
    """Features of a frozen encoder -> outputs at the Q-Former's place: a subclass, in a file of its own.

    Each output is made of its own utterance's frames alone, whatever stands in the padding and in the batch.
    """

    name: ClassVar[str]  # in --adapter
    # Options of the shape that it reads beside --hidden-size, --heads, --speech-stride and --dropout.
    reads: ClassVar[tuple[str, ...]] = ()
    # Whether stage 2 gives the LLM only what CTC reads from the outputs, as with --compress-queries.
    compresses: ClassVar[bool] = False

    def __init__(self, config: PlainConfig) -> None:
        super().__init__()
        self.config = config
        self.speech_norm = LayerNorm(config.speech_width, eps=SPEECH_NORM_EPS)
        self.dropout = nn.Dropout(config.dropout)

    @abstractmethod
    def forward(self, values: Tensor, padding_mask: Tensor) -> Outputs:
        """Speech (B, T, W) with its padding mask (B, T) -> `Outputs`, `config.query_count` of each utterance."""


def at_least_one(padding_mask: Tensor) -> Tensor:
    """The mask (B, Q) with the first output of every utterance counted: one without a frame has an output too."""
    return padding_mask & (torch.arange(padding_mask.size(1), device=padding_mask.device) > 0)
