"""Speed perturbation of training audio (Ko et al. 2015, Audio augmentation for speech recognition)."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from sparqle_fairseq.data.audio import SAMPLE_RATE, resample_waveform
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.keyed_random import text_key

_FACTORS = (0.5, 2.0)


@dataclass(frozen=True)
class SpeedPerturbation:
    """Speeds, one of which is drawn for an utterance by (seed, epoch, utterance)."""

    factors: tuple[float, ...]
    seed: int

    @classmethod
    def parse(cls, text: str, seed: int) -> SpeedPerturbation:
        """Speeds such as `0.9,1.0,1.1`. Raises `SparqleError`."""
        try:
            factors = tuple(float(part) for part in text.split(","))
        except ValueError:
            factors = ()
        if not factors or not all(_FACTORS[0] <= factor <= _FACTORS[1] for factor in factors):
            raise SparqleError(
                f"--speed-perturb {text} is no list of speeds from {_FACTORS[0]} to {_FACTORS[1]}; write for example "
                "0.9,1.0,1.1"
            )
        return cls(factors, seed)

    @property
    def slowest(self) -> float:
        """The longest that a second of speech can become is 1 / this."""
        return min(self.factors)

    def draw(self, utterance: str, epoch: int) -> float:
        return random.Random(f"speed {self.seed} {epoch} {text_key(utterance)}").choice(self.factors)


def change_speed(waveform: np.ndarray, factor: float) -> np.ndarray:
    """(S,) -> (ceil(S / factor),): as if it had been spoken and recorded `factor` times as fast, pitch included."""
    return resample_waveform(waveform, round(SAMPLE_RATE * factor), SAMPLE_RATE)
