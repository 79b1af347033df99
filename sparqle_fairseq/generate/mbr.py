"""Minimum Bayes risk: of several hypotheses, the one that is most like the others.

Kumar & Byrne, 2004 (N04-1022); with samples and a translation metric: Eikema & Aziz, 2020, arXiv 2005.10283. Likeness
is sacrebleu's chrF.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sacrebleu.metrics import CHRF


def expected_chrf(texts: Sequence[str], weights: Sequence[float]) -> list[float]:
    """chrF of each text against all of them (itself too) as references, by the `weights` of those, which sum to 1."""
    metric = CHRF()
    kinds = list(dict.fromkeys(texts))  # the same text is compared once
    share = dict.fromkeys(kinds, 0.0)
    for text, weight in zip(texts, weights, strict=True):
        share[text] += weight
    found = {text: sum(share[other] * metric.sentence_score(text, [other]).score for other in kinds) for text in kinds}
    return [found[text] for text in texts]


def posterior(log_probs: Sequence[float]) -> list[float]:
    """Probabilities of hypotheses as shares of their sum, from their log-probabilities."""
    values = np.asarray(log_probs, dtype=float)
    shares = np.exp(values - values.max())
    return list(shares / shares.sum())


def mbr_order(texts: Sequence[str], log_probs: Sequence[float], sampled: bool) -> list[int]:
    """Places of the texts, the one with the highest expected chrF first; equals stay in their order.

    Samples stand for the distribution that they were drawn from, each for as much as any other. The hypotheses of a
    beam search do not, and count by their probabilities.
    """
    weights = [1 / len(texts)] * len(texts) if sampled else posterior(log_probs)
    utility = expected_chrf(texts, weights)
    return sorted(range(len(texts)), key=lambda i: -utility[i])
