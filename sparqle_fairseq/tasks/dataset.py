"""The dataset as fairseq's iterators want it."""

from __future__ import annotations

import numpy as np
from fairseq.data import FairseqDataset

from sparqle_fairseq.data.dataset import SpeechDataset
from sparqle_fairseq.fairseq_fixes.batches import batch_by_size_keeping_all


class FairseqSpeechDataset(SpeechDataset, FairseqDataset):
    """`SpeechDataset` in fairseq's batches; every row is in one."""

    def batch_by_size(
        self,
        indices: np.ndarray,
        max_tokens: int | None = None,
        max_sentences: int | None = None,
        required_batch_size_multiple: int = 1,
    ) -> list[np.ndarray]:
        return batch_by_size_keeping_all(
            indices, self.num_tokens_vec(indices), max_tokens, max_sentences, required_batch_size_multiple
        )

    @property
    def can_reuse_epoch_itr_across_epochs(self) -> bool:
        return not self.shuffle
