"""Whisper as CTranslate2 stores it, by the package faster-whisper: a cascade's recogniser without transformers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparqle_fairseq.data.audio import SAMPLE_RATE
from sparqle_fairseq.errors import SparqleError, reason

WEIGHTS, TOKENIZER = "model.bin", "tokenizer.json"
WINDOW = 30  # seconds that Whisper hears at a time
BEAM = 5


def is_ctranslate2(folder: Path) -> bool:
    """Whether the folder is one of CTranslate2: transformers calls its weights otherwise."""
    return (folder / WEIGHTS).is_file()


class CTranslate2Whisper:
    """A folder with `model.bin`, a vocabulary, `tokenizer.json`, and `preprocessor_config.json` unless its mels are 80.

    It searches with a beam of 5, as transformers' pipeline does; there is no second try at a higher temperature, and
    nothing is left out as no speech. Raises `SparqleError` where the package or a file is missing, or the model is no
    Whisper.
    """

    def __init__(self, folder: str, cpu: bool = False, beam: int = BEAM) -> None:
        try:
            from faster_whisper import WhisperModel
        except ImportError as error:
            raise SparqleError(
                f"{folder} is a model of CTranslate2, which the package faster-whisper reads; install it with pip "
                "install 'sparqle-fairseq[cascade]'"
            ) from error
        # Without it the package would ask the hub for a tokenizer that may be another one.
        if not (Path(folder) / TOKENIZER).is_file():
            raise SparqleError(f"{folder} has no {TOKENIZER}; copy that of the Whisper that was converted into it")
        logging.getLogger("faster_whisper").setLevel(logging.WARNING)  # it says the length of every recording
        self.folder, self.beam = folder, beam
        try:
            self.whisper: Any = WhisperModel(
                folder,
                device="cuda" if torch.cuda.is_available() and not cpu else "cpu",
                cpu_threads=torch.get_num_threads(),
                local_files_only=True,
            )
        except Exception as error:  # of CTranslate2, tokenizers and json
            raise SparqleError(f"{folder} holds no Whisper that CTranslate2 can read ({reason(error)})") from error
        wanted, made = self.whisper.model.n_mels, len(self.whisper.feature_extractor.mel_filters)
        if wanted != made:
            raise SparqleError(
                f"{folder}: the model hears {wanted} mel bands, and {made} would be made for it; copy the "
                "preprocessor_config.json of the Whisper that was converted into it"
            )

    def __call__(self, samples: np.ndarray, language: str | None) -> str:
        """The transcript of 16 kHz samples (S,). What is longer than 30 seconds is heard in windows."""
        code = None if language is None else language.split("-")[0]
        if code not in (None, "en") and not self.whisper.model.is_multilingual:
            raise SparqleError(
                f"{self.folder} hears English only, and a recording is in {language}; give another model"
            )
        short = WINDOW * SAMPLE_RATE - len(samples)
        if short > 0:
            # With silence, as Whisper was trained; faster-whisper would fill the window with mels of value 0.
            samples = np.pad(samples, (0, short))
        try:
            segments, _ = self.whisper.transcribe(
                samples,
                language=code,
                task="transcribe",
                beam_size=self.beam,
                temperature=0.0,
                compression_ratio_threshold=None,
                log_prob_threshold=None,
                no_speech_threshold=None,
                condition_on_previous_text=False,
                # A long recording goes on where the last whole segment ended, which its time tells.
                without_timestamps=short >= 0,
            )
            texts = [segment.text.strip() for segment in segments]  # they are made while they are asked for
        except Exception as error:
            raise SparqleError(f"{self.folder} could not recognise a recording ({reason(error)})") from error
        return " ".join(filter(None, texts))
