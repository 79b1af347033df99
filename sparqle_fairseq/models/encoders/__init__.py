"""Frozen speech encoders and what may stand in their place: the names that the rest of the package uses.

Whatever module is in this folder is imported, and so registered: an encoder is a file here and no other edit.
"""

import importlib
import pkgutil

from sparqle_fairseq.models.encoders.base import (
    EncoderNetwork,
    Layer,
    SpeechEncoder,
    SpeechFeatures,
    parse_layer,
)
from sparqle_fairseq.models.encoders.errors import EncoderError
from sparqle_fairseq.models.encoders.lengths import conv_length, mask_of_lengths, receptive_field
from sparqle_fairseq.models.encoders.place import EncoderPlace
from sparqle_fairseq.models.encoders.registry import load_speech_encoder, register_encoder
from sparqle_fairseq.models.encoders.source import SpeechSource
from sparqle_fairseq.models.encoders.weights import fingerprint

__all__ = [
    "EncoderError",
    "EncoderNetwork",
    "EncoderPlace",
    "Layer",
    "SpeechEncoder",
    "SpeechFeatures",
    "SpeechSource",
    "conv_length",
    "fingerprint",
    "load_speech_encoder",
    "mask_of_lengths",
    "parse_layer",
    "receptive_field",
    "register_encoder",
]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
