"""Tokens are drawn with their probabilities: many draws against probabilities worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from sparqle_fairseq.generate.sampling import draw

LEAST = 1e-4  # probability below which these fixed draws would fail by chance
COUNT = 20_000


def drawn(probabilities, *, beams=1, step=0, seed=1, **options) -> np.ndarray:
    """(COUNT, beams) tokens, each utterance's by its own key."""
    log_probs = torch.tensor(probabilities).log().expand(COUNT, beams, -1)
    return draw(log_probs, seed, torch.arange(COUNT), step, **options).numpy()


def check(tokens: np.ndarray, expected) -> None:
    counts = np.bincount(tokens.ravel(), minlength=len(expected))
    wanted = np.array(expected) * tokens.size
    assert not counts[wanted == 0].any(), "what has no probability is never drawn"
    some = wanted > 0
    if some.sum() > 1:
        assert stats.chisquare(counts[some], wanted[some]).pvalue > LEAST


@pytest.mark.parametrize("probabilities", [(0.8, 0.1, 0.1), (0.5, 0.3, 0.2, 0.0), (0.25, 0.25, 0.25, 0.25)])
def test_three_or_more_candidates_come_with_their_probabilities(probabilities):
    """Two would not do: with the noise's sign turned round, they come as they should."""
    check(drawn(probabilities), probabilities)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"topk": 1}, (1, 0, 0, 0)),
        ({"topk": 2}, (0.4 / 0.7, 0.3 / 0.7, 0, 0)),
        ({"topk": 9}, (0.4, 0.3, 0.2, 0.1)),
        ({"topp": 0.3}, (1, 0, 0, 0)),
        ({"topp": 0.5}, (0.4 / 0.7, 0.3 / 0.7, 0, 0)),  # the one that reaches it is in
        ({"topp": 0.75}, (0.4 / 0.9, 0.3 / 0.9, 0.2 / 0.9, 0)),
        ({"topp": 1.0}, (0.4, 0.3, 0.2, 0.1)),
        ({"topk": 2, "topp": 0.3}, (0.4 / 0.7, 0.3 / 0.7, 0, 0)),
    ],
)
def test_topk_and_topp_keep_the_likeliest_and_share_the_rest_out(options, expected):
    check(drawn((0.4, 0.3, 0.2, 0.1), **options), expected)
    order = [2, 0, 3, 1]  # and wherever they stand in the vocabulary
    check(drawn([(0.4, 0.3, 0.2, 0.1)[i] for i in order], **options), [expected[i] for i in order])


def independent(one: np.ndarray, other: np.ndarray) -> bool:
    table = np.histogram2d(one, other, bins=[np.arange(5) - 0.5] * 2)[0]
    return stats.chi2_contingency(table).pvalue > LEAST


def test_steps_beams_seeds_and_utterances_draw_independently():
    even = (0.25, 0.25, 0.25, 0.25)
    first, second = drawn(even, beams=2).T
    assert independent(first, second), "beams"
    assert independent(first, drawn(even, beams=2, step=1)[:, 0]), "steps"
    assert independent(second, drawn(even, beams=2, step=1)[:, 0]), "a beam and the step after it"
    assert independent(first, drawn(even, beams=2, seed=2)[:, 0]), "seeds"
    assert independent(first[:-1], first[1:]), "utterances"


def test_an_utterance_draws_the_same_beside_any_others():
    log_probs = torch.full((5, 2, 4), math.log(0.25))
    keys = torch.tensor([3, 1, 4, 15, 9])
    together = draw(log_probs, 1, keys, 7)
    for i in range(5):
        assert torch.equal(draw(log_probs[i : i + 1], 1, keys[i : i + 1], 7)[0], together[i])
