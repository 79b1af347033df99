"""Scores of generated text as sums that add up over batches and processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sparqle_fairseq.scoring.error_rates import character_errors, word_errors
from sparqle_fairseq.scoring.languages import choose_tokenizers
from sparqle_fairseq.scoring.metrics import BLEU_METRIC
from sparqle_fairseq.scoring.scores import rows_with_reference

# Metric of transcriptions -> its counts of a reference and a hypothesis: errors, length.
RATES = {"wer": word_errors, "cer": character_errors}


@dataclass(frozen=True)
class TextScores:
    """Word and character errors of transcriptions, the counts that BLEU of translations is made from, and how many
    rows have no reference and count in none of them."""

    errors: dict[str, tuple[int, int]]  # of `RATES`
    bleu: tuple[int, ...]  # those of `metrics.Bleu`
    without_reference: int

    @classmethod
    def of(
        cls,
        hypotheses: Sequence[str],
        references: Sequence[str | None],
        tasks: Sequence[str],
        languages: Sequence[str | None] | None = None,
        tokenizer: str | None = None,
    ) -> TextScores:
        """Of a batch. `languages` and `tokenizer`: see `choose_tokenizers`. Raises `SparqleError`."""
        rows = rows_with_reference(references)
        spoken = [(references[i] or "", hypotheses[i]) for i in rows if tasks[i] == "transcription"]
        translated = [i for i in rows if tasks[i] == "translation"]
        targets, outputs = [references[i] or "" for i in translated], [hypotheses[i] for i in translated]
        codes = None if languages is None else [languages[i] for i in translated]
        counts = BLEU_METRIC.statistics(targets, outputs, choose_tokenizers(targets, codes, tokenizer))
        return cls(
            {name: _added([errors(*pair) for pair in spoken]) for name, errors in RATES.items()},
            tuple(counts.sum(0).tolist()),
            len(references) - len(rows),
        )

    @classmethod
    def added(cls, logs: Sequence[Mapping[str, float]]) -> TextScores:
        """What several `as_log` say together; other entries, and logs without these, are passed over."""

        def total(key: str) -> int:
            return int(sum(log.get(key, 0) for log in logs))

        return cls(
            {name: (total(f"_{name}_errors"), total(f"_{name}_length")) for name in RATES},
            tuple(total(f"_bleu_{i}") for i in range(BLEU_METRIC.width)),
            total("_without_reference"),
        )

    def as_log(self) -> dict[str, int]:
        """Entries of a logging output, to be added up."""
        entries = {f"_bleu_{i}": count for i, count in enumerate(self.bleu)}
        for name, (wrong, length) in self.errors.items():
            entries |= {f"_{name}_errors": wrong, f"_{name}_length": length}
        return {**entries, "_without_reference": self.without_reference}

    @property
    def translated_tokens(self) -> int:
        """Tokens of the references of translations; 0 where there is nothing to make BLEU of."""
        return self.bleu[1]


def _added(counts: Sequence[tuple[int, int]]) -> tuple[int, int]:
    return sum(wrong for wrong, _ in counts), sum(length for _, length in counts)
