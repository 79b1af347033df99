"""WER and BLEU of generated text as sums that add up over batches and processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import editdistance
import numpy as np
from fairseq.logging import metrics
from sacrebleu.metrics import BLEU

_ORDER = 4


@dataclass
class TextScores:
    """Word errors of transcriptions, and the counts that BLEU of translations is made from."""

    word_errors: int
    words: int
    bleu: list[int]  # matches of order 1-4, totals of order 1-4, hypothesis length, reference length

    @classmethod
    def of(cls, hypotheses: Sequence[str], references: Sequence[str], tasks: Sequence[str]) -> TextScores:
        rows = list(zip(hypotheses, references, tasks, strict=True))
        spoken = [
            (hypothesis.split(), reference.split()) for hypothesis, reference, task in rows if task == "transcription"
        ]
        translated = [(hypothesis, reference) for hypothesis, reference, task in rows if task == "translation"]
        counts = [0] * (2 * _ORDER + 2)
        if translated:
            outputs, references = ([pair[i] for pair in translated] for i in range(2))
            score = BLEU().corpus_score(outputs, [references])
            counts = [*score.counts, *score.totals, score.sys_len, score.ref_len]
        return cls(
            sum(editdistance.eval(hypothesis, reference) for hypothesis, reference in spoken),
            sum(len(reference) for _, reference in spoken),
            counts,
        )

    def as_log(self) -> dict[str, int]:
        """Entries of a logging output, for `log` to sum."""
        bleu = {f"_bleu_{i}": count for i, count in enumerate(self.bleu)}
        return {"_word_errors": self.word_errors, "_words": self.words, **bleu}

    @staticmethod
    def log(logging_outputs: Sequence[dict[str, Any]]) -> None:
        """Log `wer` and `bleu` (both in percent) of all batches so far, where there is text to score."""

        def total(key: str) -> float:
            return sum(float(log.get(key, 0)) for log in logging_outputs)

        if words := total("_words"):
            # Summed meters, weighted by words: the rate of the whole split, not a mean over batches.
            metrics.log_scalar("wer", 100 * total("_word_errors") / words, words, round=2)
        counts = np.array([total(f"_bleu_{i}") for i in range(2 * _ORDER + 2)])
        if counts[-1]:
            metrics.log_scalar_sum("_bleu_counts", counts)
            metrics.log_derived("bleu", lambda meters: _bleu(meters["_bleu_counts"].sum))


def _bleu(counts: np.ndarray) -> float:
    values = [int(count) for count in counts]
    matches, totals = values[:_ORDER], values[_ORDER : 2 * _ORDER]
    score = BLEU.compute_bleu(matches, totals, values[-2], values[-1], smooth_method="exp")
    return round(score.score, 2)
