"""Audio in: whoever reads sound, or features that were computed before, does it through these functions.

`read_audio` gives the waveform of an utterance, `stream_audio` the same block by block, `open_sound` the samples as
they lie in the file. `measure` and `audio_length` tell a length that was decoded or is certain, `is_audio` knows the
names of recordings, `read_features` reads features. docs/audio.md says what is read, and what happens to what is not
whole.
"""

from sparqle_fairseq.data.audio.account import Account
from sparqle_fairseq.data.audio.channels import Downmix, check_range
from sparqle_fairseq.data.audio.errors import (
    AudioError,
    DamagedAudioError,
    FloatRangeError,
    MissingAudioError,
    NotFiniteError,
)
from sparqle_fairseq.data.audio.features import is_features, read_features
from sparqle_fairseq.data.audio.place import AUDIO_SUFFIXES, Place, audio_place, is_audio
from sparqle_fairseq.data.audio.read import read_audio, recording_seconds, stream_audio
from sparqle_fairseq.data.audio.sound import Measured, Sound, audio_length, measure, open_sound
from sparqle_fairseq.data.audio.waveform import (
    FEATURE_SLACK,
    SAMPLE_RATE,
    check_length,
    finite,
    normalize_waveform,
    rate_ratio,
    resample_waveform,
)

__all__ = [
    "AUDIO_SUFFIXES",
    "FEATURE_SLACK",
    "SAMPLE_RATE",
    "Account",
    "AudioError",
    "DamagedAudioError",
    "Downmix",
    "FloatRangeError",
    "Measured",
    "MissingAudioError",
    "NotFiniteError",
    "Place",
    "Sound",
    "audio_length",
    "audio_place",
    "check_length",
    "check_range",
    "finite",
    "is_audio",
    "is_features",
    "measure",
    "normalize_waveform",
    "open_sound",
    "rate_ratio",
    "read_audio",
    "read_features",
    "recording_seconds",
    "resample_waveform",
    "stream_audio",
]
