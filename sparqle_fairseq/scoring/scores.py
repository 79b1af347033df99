"""Scores of a corpus with 95 % bootstrap confidence intervals (Koehn, 2004: utterances are resampled).

`score` is the whole of it. Who compares systems takes `measure` and `draws`: the counts of every utterance and the
same resamples for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.scoring.languages import Tokenizers, choose_tokenizers
from sparqle_fairseq.scoring.metrics import Metric, metric_named
from sparqle_fairseq.scoring.normalise import normalised

DEFAULT_METRICS = ("bleu", "chrf", "wer", "cer")
SEED = 12345  # of the resampling; sacrebleu's own default
FEWEST_RESAMPLES = 40


@dataclass(frozen=True)
class Score:
    """A corpus score in percent, its 95 % interval, and the signature that says how it was made."""

    metric: str
    value: float
    low: float
    high: float
    n: int  # utterances that were scored
    signature: str
    without_reference: int = 0  # utterances that could not be

    def __str__(self) -> str:
        return f"{self.value:.1f} [{self.low:.1f}, {self.high:.1f}]"


@dataclass(frozen=True)
class Measured:
    """The counts of every utterance of one system by one metric."""

    metric: Metric
    table: np.ndarray  # (N, K)
    signature: str

    @property
    def value(self) -> float:
        """The score of the corpus."""
        return self.metric.value(self.table.sum(0))

    def resampled(self, drawn: np.ndarray) -> np.ndarray:
        """(draws,) scores of the resamples `drawn` (draws, N), which hold row numbers."""
        return np.array([self.metric.value(self.table[sample].sum(0)) for sample in drawn])


def measure(
    references: Sequence[str],
    hypotheses: Sequence[str],
    metric: str,
    tokenizers: Tokenizers | None = None,
) -> Measured:
    """The counts of every utterance; all have a reference. Raises `SparqleError` for a metric that there is not, and
    for error rates where the references hold no word."""
    tokenizers = tokenizers or choose_tokenizers(references)
    kind = metric_named(metric)
    measured = Measured(kind, kind.statistics(references, hypotheses, tokenizers), kind.signature(tokenizers))
    if metric in ("wer", "cer") and not measured.table[:, 1].sum():
        raise SparqleError(f"the references hold no word, so there is no {metric}; look at the texts")
    return measured


def draws(utterances: int, n_bootstrap: int = 1000, seed: int = SEED) -> np.ndarray:
    """(n_bootstrap, utterances) row numbers, each row a resample. Raises `SparqleError` for too few resamples."""
    if n_bootstrap < FEWEST_RESAMPLES:
        raise SparqleError(
            f"{n_bootstrap} resamples are too few for a 95 % interval; at least {FEWEST_RESAMPLES} are needed"
        )
    return np.random.default_rng(seed).integers(utterances, size=(n_bootstrap, utterances))


def rows_with_reference(references: Sequence[str | None]) -> list[int]:
    """Numbers of the rows that can be scored: those whose reference holds something that can be seen."""
    return [i for i, reference in enumerate(references) if normalised(reference)]


def score(
    references: Sequence[str | None],
    hypotheses: Sequence[str],
    metrics: Sequence[str] = DEFAULT_METRICS,
    n_bootstrap: int = 1000,
    seed: int = SEED,
    *,
    languages: Sequence[str | None] | str | None = None,
    tokenizer: str | None = None,
) -> dict[str, Score]:
    """Metric name -> corpus score in percent, over equally many references and hypotheses.

    A row without a reference (None, or nothing but spaces) is left out and counted in `without_reference`; an empty
    hypothesis is scored. `low` and `high` are the 2.5 and 97.5 percentiles of the scores of `n_bootstrap` resamples of
    the utterances, the same resamples for every metric.

    Args:
        languages, tokenizer: see `languages.choose_tokenizers`.

    Raises:
        SparqleError: no utterance, sequences of different length, no reference at all, an unknown metric or tokenizer,
            or fewer than 40 resamples (too few for a 95 % interval).
    """
    if len(references) != len(hypotheses) or not references:
        raise SparqleError(f"{len(references)} references and {len(hypotheses)} hypotheses cannot be compared")
    rows = rows_with_reference(references)
    if not rows:
        raise SparqleError(f"none of the {len(references)} utterances has a reference, so nothing can be scored")
    if languages is not None and not isinstance(languages, str):
        languages = [languages[i] for i in rows]
    kept = [references[i] or "" for i in rows]
    written = [hypotheses[i] for i in rows]
    tokenizers = choose_tokenizers(kept, languages, tokenizer)
    drawn = draws(len(rows), n_bootstrap, seed)
    result = {}
    for name in metrics:
        measured = measure(kept, written, name, tokenizers)
        low, high = map(float, np.percentile(measured.resampled(drawn), [2.5, 97.5]))
        signature = f"{measured.signature}|bs:{n_bootstrap}|rs:{seed}|ci:percentile"
        result[name] = Score(name, measured.value, low, high, len(rows), signature, len(references) - len(rows))
    return result
