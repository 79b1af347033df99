"""The kinds of speech encoder, and the one that a path or hub id names."""

from pathlib import Path
from typing import TypeVar

import torch

from sparqle_fairseq.models.encoders.base import EncoderNetwork, Layer, SpeechEncoder
from sparqle_fairseq.models.encoders.errors import EncoderError
from sparqle_fairseq.models.encoders.place import CONFIG, EncoderPlace

_KINDS: list[type[EncoderNetwork]] = []
_Kind = TypeVar("_Kind", bound=type[EncoderNetwork])


def register_encoder(kind: _Kind) -> _Kind:
    """Class decorator: `--speech-encoder` knows this kind from now on. The last registered is asked first."""
    _KINDS.append(kind)
    return kind


def load_speech_encoder(
    path: str | Path, *, layer: Layer = "last", dtype: torch.dtype = torch.float32
) -> SpeechEncoder:
    """Read a speech encoder of whatever kind.

    Args:
        path: a file, folder or hub id; a registered kind recognises what is there. Paths stored in a file are not
            looked at, and no code in it is run.
        layer: "last", 1 to n, or "weighted" for all; see `SpeechEncoder`.
        dtype: precision to run in; the trainer's does not change it.

    Raises:
        EncoderError: it is missing, damaged, of no known kind or not what it says it is, or has no such layer.
    """
    return SpeechEncoder(read_network(path), path=str(path), layer=layer, dtype=dtype)


def read_network(path: str | Path) -> EncoderNetwork:
    """The network of a speech encoder, as it was trained: every layer, nothing frozen. Raises `EncoderError`."""
    place = EncoderPlace(path)
    for kind in reversed(_KINDS):
        if kind.recognises(place):
            return kind.read(place)
    readable = f"give {'; '.join(kind.FOUND_IN for kind in _KINDS)}"
    if place.is_scheme:
        raise EncoderError(f"Speech encoder {place} is of no known kind: {readable}.")
    if not place.config:
        raise EncoderError(f"Speech encoder {place} is a folder without {CONFIG}: {readable}.")
    raise EncoderError(
        f"{place} holds a model of type {place.model_type or 'unknown'!r}, which is no speech encoder that is read "
        f"here: {readable}."
    )
