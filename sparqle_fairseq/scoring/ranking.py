"""Recall of a ranking: how often what belongs to a query is among the k most similar candidates. Plain numpy.

Q queries, C candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

RESAMPLES, SEED = 1000, 12345  # of the bootstrap; the seed is sacrebleu's


@dataclass(frozen=True)
class Recall:
    """Recall@k in percent, its 95 % interval over the queries, and what guessing reaches."""

    k: int
    value: float
    low: float
    high: float
    chance: float


@dataclass(frozen=True)
class Retrieval:
    """One direction of retrieval."""

    queries: int
    candidates: int
    median_rank: float
    recall: list[Recall]


def best_ranks(similarities: np.ndarray, belongs: np.ndarray) -> np.ndarray:
    """Rank (Q,), from 1, of the first candidate that belongs to its query.

    `similarities` and bool `belongs` (Q, C); every query has a candidate that belongs to it. A candidate that does not
    belong and is equally similar comes first: a model that tells nothing apart finds nothing.
    """
    own = np.where(belongs, similarities, -np.inf).max(axis=1, keepdims=True)
    return 1 + ((similarities >= own) & ~belongs).sum(axis=1)


def chance_of(belongs: np.ndarray, k: int) -> float:
    """Expected recall@k, in percent, of candidates in random order."""
    candidates = belongs.shape[1]
    if k >= candidates:
        return 100.0
    misses = [comb(candidates - int(count), k) / comb(candidates, k) for count in belongs.sum(axis=1)]
    return 100 * (1 - float(np.mean(misses)))


def retrieval_scores(
    similarities: np.ndarray, belongs: np.ndarray, ks: Sequence[int], resamples: int = RESAMPLES, seed: int = SEED
) -> Retrieval:
    """Recall at each of `ks`; the interval is that of `resamples` draws of the queries, the candidates as they are."""
    ranks = best_ranks(similarities, belongs)
    drawn = np.random.default_rng(seed).integers(len(ranks), size=(resamples, len(ranks)))
    recall = []
    for k in ks:
        hits = 100.0 * (ranks <= k)
        low, high = np.percentile(hits[drawn].mean(axis=1), [2.5, 97.5])
        recall.append(Recall(k, float(hits.mean()), float(low), float(high), chance_of(belongs, k)))
    return Retrieval(len(ranks), similarities.shape[1], float(np.median(ranks)), recall)
