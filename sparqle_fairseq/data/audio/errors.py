"""What can be wrong with audio, each as an error of one sentence."""

from __future__ import annotations

from sparqle_fairseq.errors import SparqleError


class AudioError(SparqleError):
    """Speech that cannot be used; one sentence with the file, what was found and the remedy."""


class MissingAudioError(AudioError):
    """There is no such file."""


class NotFiniteError(AudioError):
    """Samples or feature values that are NaN or infinite."""


class FloatRangeError(AudioError):
    """Floating-point samples that count like integers, where full scale is 1."""


class DamagedAudioError(AudioError):
    """A recording of which a part is lost; what is left can be read with `strict=False`."""
