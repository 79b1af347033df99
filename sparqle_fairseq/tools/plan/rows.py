"""The rows of a run: how many manifests hold, how many hours, and what they take in a process that trains on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sparqle_fairseq.data.audio import SAMPLE_RATE, is_features
from sparqle_fairseq.data.manifest import Manifest, read_manifest
from sparqle_fairseq.errors import SparqleError

FRAMES_A_SECOND = 50  # of features, as each encoder gives them that can be planned
# A row's length in the dataset and its place in the order of an epoch, both int64.
ROW_BYTES = 16
# A batch is an array of NumPy with its shape and stride, and stands in three lists of fairseq's iterator.
BATCH_BYTES = 112 + 32 + 3 * 8


@dataclass(frozen=True)
class Rows:
    """What manifests hold together."""

    count: int
    hours: float
    features: bool  # whether the entries are features, and not audio
    manifests: int  # bytes of the manifests in memory

    @property
    def mean_seconds(self) -> float:
        return self.hours * 3600 / self.count

    def memory(self, batch: int) -> float:
        """Bytes that a process holds for them: manifests, lengths, and an epoch's order in batches of `batch` rows.

        Loader processes are forks, and share them. What `--sampling-temperature` draws is not counted.
        """
        return self.manifests + self.count * (ROW_BYTES + BATCH_BYTES / batch)


def seconds_of(manifest: Manifest, i: int) -> float:
    """How long a row's speech is."""
    return float(manifest.n_frames[i]) / (FRAMES_A_SECOND if is_features(manifest.audio(i)) else SAMPLE_RATE)


def rows_of(paths: Sequence[str], manifests: Sequence[Manifest] | None = None) -> Rows:
    """Of at least one manifest, which is read unless it was. Raises `SparqleError`, also for audio beside features."""
    manifests = [read_manifest(path) for path in paths] if manifests is None else manifests
    kinds = [is_features(manifest.audio(0)) for manifest in manifests]
    if len(set(kinds)) > 1:
        raise SparqleError(
            f"{paths[kinds.index(True)]} names features and {paths[kinds.index(False)]} audio; plan each by itself"
        )
    rate = FRAMES_A_SECOND if kinds[0] else SAMPLE_RATE
    frames = sum(int(manifest.n_frames.sum()) for manifest in manifests)
    return Rows(
        count=sum(map(len, manifests)),
        hours=frames / rate / 3600,
        features=kinds[0],
        manifests=sum(manifest.nbytes for manifest in manifests),
    )
