"""Reads features that were computed before: an .npy file, a zip member that is one, an entry of a feature store."""

from __future__ import annotations

import io

import numpy as np

from sparqle_fairseq.data.audio.errors import AudioError
from sparqle_fairseq.data.audio.place import audio_place, member_bytes, require_file, source_of
from sparqle_fairseq.data.audio.waveform import finite
from sparqle_fairseq.data.feature_store import StoreError, parse_entry, read_entry
from sparqle_fairseq.errors import reason

NPY_MAGIC = b"\x93NUMPY"


def read_features(audio: str) -> np.ndarray:
    """The features at ``audio`` (``x.npy``, a zip member of that form, a store's entry): float32 (frames, width).

    Raises:
        AudioError: missing or unreadable file, other than two dimensions of numbers, no frames, NaN or infinite values;
            a store's entry whose checksum is another.
    """
    values = np.array(mapped_features(audio), dtype=np.float32)
    # What is in a store was looked at when it was written, and has kept its checksum.
    return values if parse_entry(audio) else finite(audio, values, "values")


def is_features(audio: str) -> bool:
    """True for ``x.npy``, a zip member that holds one and a store's entry; False for what ``read_audio`` is for."""
    if parse_entry(audio):
        return True
    place = audio_place(audio)
    if place.in_zip:
        return source_of(audio, place).head(len(NPY_MAGIC)) == NPY_MAGIC
    return place.path.lower().endswith(".npy")


def mapped_features(audio: str) -> np.ndarray:
    """Features as they lie in the file, mapped rather than read unless they are in a zip file."""
    entry = parse_entry(audio)
    if entry:
        try:
            return read_entry(entry)
        except StoreError as error:
            raise AudioError(str(error)) from error
    place = audio_place(audio)
    if not place.in_zip:
        if place.start is not None:
            raise AudioError(f"{audio}: features cannot be sliced; give the .npy file without START:LENGTH")
        require_file(audio, place.path)
    try:
        if place.in_zip:
            array = np.load(io.BytesIO(member_bytes(audio, place)), allow_pickle=False)
        else:
            array = np.load(place.path, allow_pickle=False, mmap_mode="r")
    except AudioError:
        raise
    except Exception as error:  # a damaged header makes numpy's parser fail in many ways
        raise AudioError(f"{audio}: cannot be read as features ({reason(error)}); write the .npy file again") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "fiu" or not array.size:
        found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "several arrays"
        raise AudioError(f"{audio}: found {found} where features are numbers (frames, width); write the file again")
    return array
