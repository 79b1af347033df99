"""The thresholds of validation."""

from __future__ import annotations

from dataclasses import dataclass

SAMPLES_OF_A_FRAME = 400  # at 16 kHz: what HuBERT, wav2vec 2.0 and data2vec need for their first frame
FEATURES_A_SECOND = 50  # of the same encoders


@dataclass(frozen=True)
class Settings:
    """What counts as wrong; the defaults are those of `sparqle validate`."""

    audio: bool = True  # open the recordings
    stage: int | None = None  # 1 needs transcripts, 2 target texts
    sample_rate: int | None = None  # Hz; files of another rate are reported
    limit_seconds: float | None = None
    max_source_positions: int | None = None  # samples at 16 kHz, or feature frames
    silence_db: float = -60.0  # dB below full scale; a recording whose peak is lower is silent
    clipped_percent: float = 0.1  # of the samples
    script_share: float = 0.5  # of the letters that must be of the language's script
    min_pace: float = 2.0  # letters per second
    max_pace: float = 30.0
    shared_letters: float = 20.0  # shorter texts may stand in two splits
    splits: bool = False  # there are several: gather what tells equal texts and recordings
