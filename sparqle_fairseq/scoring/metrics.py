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
from sparqle_fairseq.scoring.error_rates import DEFAULT_NORMALISER, normaliser_named
from sparqle_fairseq.scoring.languages import WORDS, Tokenizers, load_tokenizer
from sparqle_fairseq.scoring.normalise import normalised


class Formula(Protocol):
    """What sums of counts are worth: a corpus score in percent."""

    @property
    def name(self) -> str: ...

    @property
    def higher_is_better(self) -> bool: ...

    def value(self, sums: np.ndarray) -> float:
        """The score of counts (K,) that were added up."""
        ...

    def values(self, sums: np.ndarray) -> np.ndarray:
        """(D,) scores of many sums (D, K): what `value` gives, at once."""
        ...


class Metric(Formula, Protocol):
    """A formula, and the counts that it is made of."""

    def statistics(self, references: Sequence[str], hypotheses: Sequence[str], tokenizers: Tokenizers) -> np.ndarray:
        """Counts (N, K) of N utterances. Texts are normalised here."""
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

    def values(self, sums: np.ndarray) -> np.ndarray:
        produced, wanted = sums[:, 0], sums[:, 1]
        matches, totals = sums[:, 2:6], sums[:, 6:]
        # Smoothing of sacrebleu's "exp": the n-th order without a match counts as one match of 2 ** n.
        empty = matches == 0
        halved = 0.5 ** np.cumsum(empty, axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            precisions = np.where(empty, halved, matches) / totals
            brevity = np.where(produced < wanted, np.exp(1 - wanted / produced), 1.0)
            scores = 100 * brevity * np.exp(np.log(precisions).mean(axis=1))
        return np.where((totals > 0).all(axis=1) & matches.any(axis=1), scores, 0.0)

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
    """chrF, or with `word_order` 2 chrF++. Counts: of each order, characters' first, n-grams of the hypothesis, of the
    reference, and of both."""

    name: str
    word_order: int
    higher_is_better: bool = True

    def statistics(self, references: Sequence[str], hypotheses: Sequence[str], tokenizers: Tokenizers) -> np.ndarray:
        return _sacrebleus_statistics(self._metric(), references, hypotheses)

    def value(self, sums: np.ndarray) -> float:
        return float(self._metric()._compute_score_from_stats([int(count) for count in sums]).score)

    def values(self, sums: np.ndarray) -> np.ndarray:
        produced, wanted, matches = sums[:, 0::3], sums[:, 1::3], sums[:, 2::3]  # (D, orders)
        both = (produced > 0) & (wanted > 0)  # an order that one side has nothing of does not count
        orders = np.maximum(both.sum(axis=1), 1)
        precision = (both * matches / np.maximum(produced, 1)).sum(axis=1) / orders
        recall = (both * matches / np.maximum(wanted, 1)).sum(axis=1) / orders
        weight = CHRF.BETA**2
        return (
            100 * (1 + weight) * precision * recall / np.where(precision + recall > 0, weight * precision + recall, 1)
        )

    def signature(self, tokenizers: Tokenizers) -> str:
        return _sacrebleus_signature(self._metric())

    @property
    def width(self) -> int:
        return 3 * (CHRF.CHAR_ORDER + self.word_order)

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

    def values(self, sums: np.ndarray) -> np.ndarray:
        edits, lengths = sums.T
        return 100 * np.where(lengths > 0, edits / np.where(lengths > 0, lengths, 1), edits > 0)

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

    def values(self, sums: np.ndarray) -> np.ndarray:
        return 100 * sums[:, 0] / np.maximum(sums[:, 1], 1)

    def signature(self, tokenizers: Tokenizers) -> str:
        return self.made


def error_rate(name: str, normaliser: str = DEFAULT_NORMALISER) -> ErrorRate:
    """`wer` or `cer` of texts as a normaliser leaves them. Raises `SparqleError` where there is no such normaliser."""
    made = normaliser_named(normaliser)
    if name == "wer":
        return ErrorRate(name, made.word_errors, made.word_signature)
    return ErrorRate(name, made.character_errors, made.character_signature)


BLEU_METRIC = Bleu()
CHRF_METRIC, CHRF_PLUS_METRIC = Characters("chrf", 0), Characters("chrf++", 2)
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        BLEU_METRIC, CHRF_METRIC, CHRF_PLUS_METRIC, Ter(), error_rate("wer"), error_rate("cer"),
    )
}  # fmt: skip
ERROR_RATES = ("wer", "cer")


def metric_named(name: str, normaliser: str = DEFAULT_NORMALISER) -> Metric:
    """A metric by its name; `normaliser` is that of error rates. Raises `SparqleError` where there is none."""
    if name not in METRICS:
        raise SparqleError(f"the metric {name!r} is not known; choose of {', '.join(METRICS)}")
    return error_rate(name, normaliser) if name in ERROR_RATES else METRICS[name]


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
