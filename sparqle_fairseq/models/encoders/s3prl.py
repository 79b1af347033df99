"""Upstreams of the s3prl toolkit: `s3prl:NAME`, or `s3prl:NAME:CHECKPOINT` where the upstream takes one.

s3prl pads a batch in its own ways, so utterances are heard one at a time. Its layers are its `hidden_states`, numbered
from 1: for a transformer the first is what goes into it. An upstream without a checkpoint may download one.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sparqle_fairseq.data.torchaudio_import import ensure_torchaudio
from sparqle_fairseq.errors import reason
from sparqle_fairseq.models.encoders.base import EncoderNetwork
from sparqle_fairseq.models.encoders.errors import EncoderError
from sparqle_fairseq.models.encoders.place import EncoderPlace
from sparqle_fairseq.models.encoders.registry import register_encoder
from sparqle_fairseq.models.encoders.weights import fingerprint

SCHEME = "s3prl:"
_TENSORS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


@register_encoder
class S3prlEncoder(EncoderNetwork):
    """An upstream of s3prl.

    Args:
        upstream: `s3prl.nn.S3PRLUpstream`.
        name: its name there.
    """

    FOUND_IN = f"{SCHEME}NAME of an s3prl upstream"

    def __init__(self, upstream: Any, name: str) -> None:
        super().__init__()
        widths, steps = set(upstream.hidden_sizes), set(upstream.downsample_rates)
        if len(widths) > 1 or len(steps) > 1:
            raise EncoderError(f"s3prl's {name} has layers of different widths or rates: give another upstream.")
        self.kind = f"s3prl_{name}"
        self.width, self.samples_per_frame, self.depth = widths.pop(), steps.pop(), upstream.num_layers
        self.min_samples = 800  # s3prl lengthens what is shorter than 50 ms with silence
        self.upstream = upstream
        self.fingerprint = fingerprint(upstream.state_dict())

    @classmethod
    def recognises(cls, place: EncoderPlace) -> bool:
        return place.is_scheme and place.text.startswith(SCHEME)

    @classmethod
    def read(cls, place: EncoderPlace) -> Self:
        name, _, checkpoint = place.text.removeprefix(SCHEME).partition(":")
        ensure_torchaudio()
        try:
            from s3prl.nn import S3PRLUpstream
        except ImportError as error:
            raise EncoderError(
                f"Speech encoder {place} needs s3prl, which cannot be imported here ({error}): pip install "
                "'sparqle-fairseq[s3prl]'."
            ) from error
        if name not in S3PRLUpstream.available_names():
            raise EncoderError(f"s3prl has no upstream {name!r}: give one of its names after {SCHEME}.")
        before = os.environ.get(_TENSORS_ONLY)
        os.environ[_TENSORS_ONLY] = "1"  # some of s3prl's readers would run code from a checkpoint
        try:
            with torch.random.fork_rng(devices=[]):
                return cls(S3PRLUpstream(name, checkpoint or None), name)
        except EncoderError:
            raise
        except Exception as error:  # every upstream raises its own
            raise EncoderError(
                f"s3prl's {name} cannot be read ({type(error).__name__}: {reason(error)}): give "
                f"{SCHEME}{name}:CHECKPOINT if it takes one, and see that it can be reached."
            ) from error
        finally:
            os.environ.pop(_TENSORS_ONLY)
            if before is not None:
                os.environ[_TENSORS_ONLY] = before

    def frames(self, samples: int) -> int:
        return (samples - 1) // self.samples_per_frame + 1

    def layers(self, source: Tensor, lengths: Sequence[int]) -> Iterator[Tensor]:
        heard = [
            self.upstream(source[row : row + 1, :length].float(), torch.tensor([length], device=source.device))[0]
            for row, length in enumerate(lengths)
        ]
        for layer in zip(*heard, strict=True):
            yield pad_sequence([values[0] for values in layer], batch_first=True)
