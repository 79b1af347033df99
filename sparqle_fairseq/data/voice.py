"""Voice activity: the probability that a frame of 32 ms holds speech, by silero-vad, offline on the CPU."""

from __future__ import annotations

import numpy as np
import torch

from sparqle_fairseq.data.audio import SAMPLE_RATE
from sparqle_fairseq.errors import SparqleError


class VoiceDetector:
    """Call it with one frame (512,) after the other of one recording; `reset` before the next recording."""

    def __init__(self) -> None:
        threads = torch.get_num_threads()
        try:
            from silero_vad import load_silero_vad
        except ImportError as error:
            raise SparqleError(
                "cutting at pauses needs the package silero-vad; install it with 'pip install silero-vad', or choose "
                "--segment fixed"
            ) from error
        finally:
            torch.set_num_threads(threads)  # silero-vad sets one thread for the whole process when it is imported
        self.model = load_silero_vad()

    def reset(self) -> None:
        self.model.reset_states()

    @torch.no_grad()
    def __call__(self, frame: np.ndarray) -> float:
        return float(self.model(torch.from_numpy(frame), SAMPLE_RATE))
