"""Reads a released SpeechTokenizer (arXiv 2308.16692), and gives the units of its first codebook.

The network is that of the package `speechtokenizer`, an optional extra. Its own loader is not used: what it reads a
checkpoint with depends on the version and settings of torch, here it is tensors and nothing else.
"""

from __future__ import annotations

import logging
import math
import warnings
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from sparqle_fairseq.data.torchaudio_import import ensure_torchaudio
from sparqle_fairseq.errors import SparqleError, reason
from sparqle_fairseq.files import read_json
from sparqle_fairseq.models.encoders.weights import matching_tensors

CONFIG, WEIGHTS = "config.json", "SpeechTokenizer.pt"
_REMEDY = f"give the folder of a released SpeechTokenizer, which holds {CONFIG} and {WEIGHTS}"
_NUMBERS = (
    "n_filters", "dimension", "semantic_dimension", "lstm_layers", "dilation_base", "residual_kernel_size",
    "n_residual_layers", "sample_rate", "n_q", "codebook_size",
)  # fmt: skip


class SpeechTokenizer:
    """Waveforms to units of the first codebook, those that were taught by HuBERT.

    Args:
        network: the package's model.
        config: config.json.
    """

    def __init__(self, network: nn.Module, config: dict[str, Any]) -> None:
        self._network: Any = network.eval().requires_grad_(False)
        self.sample_rate = int(config["sample_rate"])
        self.unit_rate = self.sample_rate / math.prod(config["strides"])  # units per second
        self.vocabulary = int(config["codebook_size"])

    @classmethod
    def read(cls, folder: Path, device: str = "cpu") -> Self:
        """The model in a folder. Raises `SparqleError`: no package, no such file, or another model's."""
        config = _read_config(folder)
        stored = _read_tensors(folder)
        network_class = _network_class()
        try:
            # The package still uses torch's first weight norm; the tensors of the released models have its names.
            with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                network: nn.Module = network_class(config)
        except Exception as error:  # numbers that fit no network fail in many ways
            raise SparqleError(
                f"{folder / CONFIG}: no SpeechTokenizer can be built of it ({reason(error)}); {_REMEDY}"
            ) from error
        parts = [name for name, _ in network.named_children()]
        network.load_state_dict(matching_tensors(str(folder / WEIGHTS), _REMEDY, stored, network, parts))
        return cls(network.to(device), config)

    @torch.inference_mode()
    def units(self, waveform: Tensor) -> np.ndarray:
        """Units (T,) of one waveform (S,) at `sample_rate`.

        One at a time: the model has no padding mask, and its two-way LSTM would carry padding into every unit.
        """
        source = waveform.to(next(self._network.parameters()).device)[None, None]  # (1, 1, S)
        return self._network.encode(source, n_q=1)[0, 0].cpu().numpy()


def _network_class() -> Any:
    """The package's model. Raises `SparqleError` where it, or what it imports, is not installed."""
    ensure_torchaudio()
    # The package imports matplotlib, which describes itself to a log that wants details, as fairseq's does.
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    try:
        from speechtokenizer import SpeechTokenizer
    except ImportError as error:
        raise SparqleError(
            f"--speechtokenizer needs the package speechtokenizer, which cannot be imported here ({error}); pip "
            "install 'sparqle-fairseq[speechtokenizer]'"
        ) from error
    return SpeechTokenizer


def _read_config(folder: Path) -> dict[str, Any]:
    """What the network is built of, each value of its type."""
    path = folder / CONFIG
    try:
        config = read_json(path)
    except SparqleError as error:
        raise SparqleError(f"{error}; {_REMEDY}") from error
    config = config if isinstance(config, dict) else {}
    strides = config.get("strides")
    wrong = [name for name in _NUMBERS if not _is_number(config.get(name))]
    wrong += [] if isinstance(config.get("bidirectional"), bool) else ["bidirectional"]
    wrong += [] if isinstance(config.get("activation"), str) else ["activation"]
    wrong += [] if isinstance(strides, list) and strides and all(map(_is_number, strides)) else ["strides"]
    if wrong:
        raise SparqleError(f"{path}: found no SpeechTokenizer, {', '.join(wrong)} missing or wrong; {_REMEDY}")
    return config


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    path = folder / WEIGHTS
    if not path.is_file():
        raise SparqleError(f"{path}: there is no such file; {_REMEDY}")
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds on a damaged or foreign file
        raise SparqleError(f"{path}: is damaged, or holds more than tensors; copy it again") from error
    if not isinstance(stored, dict) or not all(isinstance(value, Tensor) for value in stored.values()):
        raise SparqleError(f"{path}: found something else than the tensors of a SpeechTokenizer; {_REMEDY}")
    return stored
