"""A speech recogniser in front of the LLM: what a cascade reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from sparqle_fairseq.data.audio import SAMPLE_RATE
from sparqle_fairseq.data.torchaudio_import import ensure_torchaudio
from sparqle_fairseq.errors import SparqleError, reason
from sparqle_fairseq.models.llm.files import without_progress_bar
from sparqle_fairseq.tools.report.ctranslate2_whisper import WINDOW, CTranslate2Whisper, is_ctranslate2


class Recogniser(Protocol):
    def __call__(self, samples: np.ndarray, language: str | None) -> str:
        """The transcript of 16 kHz samples (S,), spoken in the language of a code, or in one that is not known."""
        ...


def open_recogniser(folder: str, cpu: bool = False) -> Recogniser:
    """The recogniser in a folder of CTranslate2 or of transformers. Raises `SparqleError` where there is none."""
    if is_ctranslate2(Path(folder)):
        return CTranslate2Whisper(folder, cpu)
    return HuggingFaceRecogniser(folder, cpu)


class HuggingFaceRecogniser:
    """Any folder that transformers' recognition pipeline reads: Whisper, wav2vec 2.0 and HuBERT with CTC, Moonshine, ….

    Code that comes with a model is never run. Raises `SparqleError` where there is no recogniser.
    """

    def __init__(self, folder: str, cpu: bool = False) -> None:
        ensure_torchaudio()
        from transformers import pipeline

        self.folder = folder
        device = 0 if torch.cuda.is_available() and not cpu else -1
        try:
            with without_progress_bar():
                self.pipeline: Any = pipeline(
                    "automatic-speech-recognition", model=folder, device=device, trust_remote_code=False
                )
        except Exception as error:  # transformers raises many kinds on a folder that holds no recogniser
            raise SparqleError(
                f"{folder} holds no speech recogniser of transformers and no Whisper of CTranslate2 ({reason(error)})"
            ) from error
        # Whisper has a language and a task; a recogniser by CTC has neither.
        self.asks = self.pipeline.type == "seq2seq_whisper" and self._is_multilingual()

    def __call__(self, samples: np.ndarray, language: str | None) -> str:
        """The transcript of 16 kHz samples (S,). Longer than 30 seconds is cut and joined by the pipeline."""
        options: dict[str, Any] = {}
        if self.asks and language is not None:
            options["generate_kwargs"] = {"language": language.split("-")[0], "task": "transcribe"}
        if len(samples) > WINDOW * SAMPLE_RATE:
            options["chunk_length_s"] = WINDOW
        try:
            found = self.pipeline({"raw": samples, "sampling_rate": SAMPLE_RATE}, **options)
        except Exception as error:
            raise SparqleError(f"{self.folder} could not recognise a recording ({reason(error)})") from error
        return str(found["text"]).strip()

    def _is_multilingual(self) -> bool:
        return bool(getattr(self.pipeline.model.generation_config, "is_multilingual", False))
