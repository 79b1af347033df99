"""Scores of a corpus with 95 % bootstrap confidence intervals (Koehn, 2004: utterances are resampled).

`score` is the whole of it. Who compares systems takes `measure`, the counts of every utterance, and
`significance.paired_test`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.scoring.error_rates import DEFAULT_NORMALISER
from sparqle_fairseq.scoring.languages import Tokenizers, choose_tokenizers
from sparqle_fairseq.scoring.metrics import CHRF_METRIC, CHRF_PLUS_METRIC, ERROR_RATES, Formula, metric_named
from sparqle_fairseq.scoring.normalise import normalised
from sparqle_fairseq.scoring.resampling import SEED, bootstrap_sums

DEFAULT_METRICS = ("bleu", "chrf", "wer", "cer")


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

    metric: Formula
    table: np.ndarray  # (N, K)
    signature: str

    @property
    def value(self) -> float:
        """The score of the corpus."""
        return self.metric.value(self.table.sum(0))

    def of(self, rows: Sequence[int]) -> Measured:
        """The counts of some of the utterances."""
        return replace(self, table=self.table[list(rows)])


def measure(
    references: Sequence[str],
    hypotheses: Sequence[str],
    metric: str,
    tokenizers: Tokenizers | None = None,
    normaliser: str = DEFAULT_NORMALISER,
) -> Measured:
    """The counts of every utterance; all have a reference.

    `normaliser` is that of error rates, see `error_rates`. Raises `SparqleError` for a metric or normaliser that there
    is not, and for error rates where the references hold no word.
    """
    tokenizers = tokenizers or choose_tokenizers(references)
    kind = metric_named(metric, normaliser)
    measured = Measured(kind, kind.statistics(references, hypotheses, tokenizers), kind.signature(tokenizers))
    if metric in ERROR_RATES and not measured.table[:, 1].sum():
        raise SparqleError(f"the references hold no word, so there is no {metric}; look at the texts")
    return measured


def measure_all(
    references: Sequence[str],
    hypotheses: Sequence[str],
    metrics: Sequence[str],
    tokenizers: Tokenizers | None = None,
    normaliser: str = DEFAULT_NORMALISER,
) -> dict[str, Measured]:
    """What `measure` gives for each metric. chrF's counts are the first of chrF++, which are made once for both."""
    tokenizers = tokenizers or choose_tokenizers(references)
    metrics = list(dict.fromkeys(metrics))
    chrf, longer = CHRF_METRIC.name, CHRF_PLUS_METRIC.name
    shared = {chrf, longer} <= set(metrics)
    found = {
        name: measure(references, hypotheses, longer if shared and name == chrf else name, tokenizers, normaliser)
        for name in metrics
        if not (shared and name == longer)
    }
    if shared:
        found[longer] = found[chrf]
        own = found[longer].table[:, : CHRF_METRIC.width]
        found[chrf] = Measured(CHRF_METRIC, own, CHRF_METRIC.signature(tokenizers))
    return {name: found[name] for name in metrics}


def intervals(measured: Sequence[Measured], n_bootstrap: int = 1000, seed: int = SEED) -> list[tuple[float, float]]:
    """The 2.5 and 97.5 percentiles of each, over the same resamples of the utterances. Raises `SparqleError`."""
    sums = bootstrap_sums(np.hstack([one.table for one in measured]), n_bootstrap, seed)
    ends = np.cumsum([one.table.shape[1] for one in measured])[:-1]
    found = []
    for one, own in zip(measured, np.split(sums, ends, axis=1), strict=True):
        low, high = np.percentile(one.metric.values(own), [2.5, 97.5])
        found.append((float(low), float(high)))
    return found


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
    normaliser: str = DEFAULT_NORMALISER,
) -> dict[str, Score]:
    """Metric name -> corpus score in percent, over equally many references and hypotheses.

    A row without a reference (None, or nothing but spaces) is left out and counted in `without_reference`; an empty
    hypothesis is scored. `low` and `high` are the 2.5 and 97.5 percentiles of the scores of `n_bootstrap` resamples of
    the utterances, the same resamples for every metric.

    Args:
        languages, tokenizer: see `languages.choose_tokenizers`.
        normaliser: what error rates compare, see `error_rates`.

    Raises:
        SparqleError: no utterance, sequences of different length, no reference at all, an unknown metric, tokenizer or
            normaliser, or fewer than 40 resamples (too few for a 95 % interval).
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
    found = list(measure_all(kept, written, metrics, tokenizers, normaliser).values())
    result = {}
    for measured, (low, high) in zip(found, intervals(found, n_bootstrap, seed), strict=True):
        name = measured.metric.name
        signature = f"{measured.signature}|bs:{n_bootstrap}|rs:{seed}|ci:percentile"
        result[name] = Score(name, measured.value, low, high, len(rows), signature, len(references) - len(rows))
    return result
