"""Is the difference of two systems on the same utterances more than chance? Paired tests, and Holm's correction.

Both tests are two-sided and count a resample that is as extreme as what was seen, so that a system does not differ
from itself. The p-values of the randomisation are otherwise those of `sacrebleu.significance`. sacrebleu's bootstrap
takes the absolute value before it centres, which makes its test one-sided: it finds a difference where there is none
twice as often as its level says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparqle_fairseq.scoring.metrics import Formula
from sparqle_fairseq.scoring.resampling import SEED, bootstrap_sums, swapped_sums

TRIALS = 10000  # of the randomisation
LEVEL = 0.05
# Sums of fractions differ in their last digits with the order of what was added.
_EQUAL = 1e-9


@dataclass(frozen=True)
class Paired:
    """A system against a baseline by one metric."""

    difference: float  # system - baseline, in percent
    low: float  # of its 95 % interval, by the bootstrap
    high: float
    p_randomisation: float
    p_bootstrap: float


def paired_tests(
    metrics: Sequence[Formula],
    system: Sequence[np.ndarray],
    baseline: Sequence[np.ndarray],
    draws: int = 1000,
    trials: int = TRIALS,
    seed: int = SEED,
) -> list[Paired]:
    """Both tests by each metric, on the same draws.

    The bootstrap is Koehn's (2004), centred on the difference that was seen; the approximate randomisation that of
    Riezler and Maxwell (2005).

    Args:
        system, baseline: of each metric the counts (N, K) of the same N utterances.
        draws, trials: of the bootstrap and of the randomisation.
    """
    ends = np.cumsum([table.shape[1] for table in system])[:-1]
    both = np.hstack([*system, *baseline])
    drawn = np.split(bootstrap_sums(both, draws, seed), 2, axis=1)
    swapped = swapped_sums(np.hstack(baseline), np.hstack(system), trials, seed)
    columns = [np.split(sums, ends, axis=1) for sums in (*drawn, *swapped)]
    found = []
    for metric, own, other, *sums in zip(metrics, system, baseline, *columns, strict=True):
        seen = metric.value(own.sum(0)) - metric.value(other.sum(0))
        ours, theirs, first, second = (metric.values(part) for part in sums)
        by_draws, by_chance = ours - theirs, second - first
        low, high = map(float, np.percentile(by_draws, [2.5, 97.5]))
        found.append(Paired(seen, low, high, _p_value(by_chance, seen), _p_value(by_draws - by_draws.mean(), seen)))
    return found


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of one family of tests, adjusted so that the level holds for all together (Holm, 1979)."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    least = 0.0
    for place, i in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - place) * p_values[i]))
        adjusted[i] = least
    return adjusted.tolist()


def _p_value(chance: np.ndarray, seen: float) -> float:
    """Share of differences by chance that are as large as the one that was seen, which is counted too."""
    return float((np.count_nonzero(np.abs(chance) >= abs(seen) - _EQUAL) + 1) / (len(chance) + 1))
