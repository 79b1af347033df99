"""The metrics, each as counts that add up over utterances and a value that is made of their sum.

BLEU (Papineni et al., 2002), chrF and chrF++ (Popović, 2015 and 2017) and TER (Snover et al., 2006) are sacrebleu's;
word and character error rate are edit distances over the length of the reference. Because counts add up, one table
(utterances, counts) gives the score of a corpus, of every resample of it and, subtracted from another system's on the
same utterances, a paired test; batches and processes add theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from sacrebleu.metrics import BLEU, CHRF, TER

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.scoring import normalise
from sparqle_fairseq.scoring.error_rates import CER_SIGNATURE, WER_SIGNATURE, character_errors, word_errors
from sparqle_fairseq.scoring.languages import WORDS, Tokenizers, load_tokenizer
from sparqle_fairseq.scoring.normalise import normalised


class Metric(Protocol):
    """A corpus score in percent."""

    @property
    def name(self) -> str: ...

    @property
    def higher_is_better(self) -> bool: ...

    def statistics(self, references: Sequence[str], hypotheses: Sequence[str], tokenizers: Tokenizers) -> np.ndarray:
        """Counts (N, K) of N utterances, int64. Texts are normalised here."""
        ...

    def value(self, sums: np.ndarray) -> float:
        """The score of counts (K,) that were added up."""
        ...

    def signature(self, tokenizers: Tokenizers) -> str:
        """How the score was made."""
        ...


class Bleu:
    """BLEU; rows may have different tokenizers. Counts: lengths of hypothesis and reference, matches and totals."""

    name, higher_is_better, width = "bleu", True, 10

    def statistics(self, references: Sequence[str], hypotheses: Sequence[str], tokenizers: Tokenizers) -> np.ndarray:
        table = np.zeros((len(references), self.width), dtype=np.int64)
        for name in set(tokenizers.rows):
            rows = [i for i, own in enumerate(tokenizers.rows) if own == name]
            texts = [references[i] for i in rows], [hypotheses[i] for i in rows]
            table[rows] = _sacrebleus_statistics(load_tokenizer(name), *texts)
        return table

    def value(self, sums: np.ndarray) -> float:
        return float(self.details(sums).score)

    def details(self, sums: np.ndarray) -> Any:
        """sacrebleu's `BLEUScore`, with precisions, brevity penalty and lengths."""
        return load_tokenizer(WORDS)._compute_score_from_stats([int(count) for count in sums])

    def signature(self, tokenizers: Tokenizers) -> str:
        names = tokenizers.signature or WORDS
        metric = load_tokenizer(names.split("+")[0])
        # The name that was chosen, and not the analyser's version alone, where several were.
        made = _sacrebleus_signature(metric)
        return made if "+" not in names else made.replace(f"tok:{metric.tokenizer_signature}", f"tok:{names}")


@dataclass(frozen=True)
class Characters:
    """chrF, or with `word_order` 2 chrF++."""

    name: str
    word_order: int
    higher_is_better: bool = True

    def statistics(self, references: Sequence[str], hypotheses: Sequence[str], tokenizers: Tokenizers) -> np.ndarray:
        return _sacrebleus_statistics(self._metric(), references, hypotheses)

    def value(self, sums: np.ndarray) -> float:
        return float(self._metric()._compute_score_from_stats([int(count) for count in sums]).score)

    def signature(self, tokenizers: Tokenizers) -> str:
        return _sacrebleus_signature(self._metric())

    def _metric(self) -> CHRF:
        return CHRF(word_order=self.word_order)


class Ter:
    """Translation edit rate; where words are not parted by spaces, over the tokens that BLEU counts."""

    name, higher_is_better = "ter", False

    def statistics(self, references: Sequence[str], hypotheses: Sequence[str], tokenizers: Tokenizers) -> np.ndarray:
        def tokens(texts: Sequence[str]) -> list[str]:
            return [
                text if name == WORDS else load_tokenizer(name).tokenizer(normalised(text))
                for text, name in zip(texts, tokenizers.rows, strict=True)
            ]

        return _sacrebleus_statistics(TER(), tokens(references), tokens(hypotheses), dtype=float)

    def value(self, sums: np.ndarray) -> float:
        return float(TER()._compute_score_from_stats(list(sums)).score)

    def signature(self, tokenizers: Tokenizers) -> str:
        names = tokenizers.signature
        return _sacrebleus_signature(TER()) + (f"|cut:{names}" if names not in ("", WORDS) else "")


@dataclass(frozen=True)
class ErrorRate:
    """Edit distance over the reference's length. Counts: errors, length."""

    name: str
    errors: Callable[[str, str], tuple[int, int]]
    made: str
    higher_is_better: bool = False

    def statistics(self, references: Sequence[str], hypotheses: Sequence[str], tokenizers: Tokenizers) -> np.ndarray:
        pairs = zip(references, hypotheses, strict=True)
        return np.array([self.errors(*pair) for pair in pairs], dtype=np.int64).reshape(-1, 2)

    def value(self, sums: np.ndarray) -> float:
        return float(100 * sums[0] / max(sums[1], 1))

    def signature(self, tokenizers: Tokenizers) -> str:
        return self.made


BLEU_METRIC = Bleu()
WER_METRIC = ErrorRate("wer", word_errors, WER_SIGNATURE)
CER_METRIC = ErrorRate("cer", character_errors, CER_SIGNATURE)
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        BLEU_METRIC, Characters("chrf", 0), Characters("chrf++", 2), Ter(), WER_METRIC, CER_METRIC,
    )
}  # fmt: skip


def metric_named(name: str) -> Metric:
    """A metric by its name. Raises `SparqleError` where there is none."""
    if name not in METRICS:
        raise SparqleError(f"the metric {name!r} is not known; choose of {', '.join(METRICS)}")
    return METRICS[name]


def _sacrebleus_statistics(
    metric: BLEU | CHRF | TER, references: Sequence[str], hypotheses: Sequence[str], dtype: type = np.int64
) -> np.ndarray:
    """What sacrebleu collects of each utterance.

    `corpus_score(..., n_bootstrap=N)` of sacrebleu 2.6 stops with a TypeError as soon as one resample scores 0, which
    is what a weak output does; all scores are therefore made from these statistics.
    """
    texts = [[normalised(text) for text in side] for side in (hypotheses, references)]
    return np.array(metric._extract_corpus_statistics(texts[0], [texts[1]]), dtype=dtype)


def _sacrebleus_signature(metric: BLEU | CHRF | TER) -> str:
    metric.num_refs = 1  # sacrebleu counts them in corpus_score, which is not called here
    return f"{metric.get_signature()}|{normalise.SIGNATURE}"
