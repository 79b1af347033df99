"""Random numbers of named keys: SplitMix64's, uniform, and each independent of its neighbours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from sparqle_fairseq.keyed_random import keyed_uniform, text_key

WHOLE = (1 << 64) - 1
LEAST = 1e-4  # probability below which a test of these fixed numbers would fail by chance


def mixed(x: int) -> int:
    """SplitMix64's output function (Steele, Lea & Flood 2014), on whole numbers."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & WHOLE
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & WHOLE
    return x ^ (x >> 31)


def test_the_mixing_is_splitmix64s():
    """Its first outputs from the states 0 and 1234567, as its reference implementation prints them."""
    golden = 0x9E3779B97F4A7C15
    assert mixed(golden) == 0xE220A8397B1DCDAF
    assert mixed((1234567 + golden) & WHOLE) == 6457827717110365317
    for seed, row, column in ((0, 0, 0), (1, -5, 3), (2**31, 7, -(2**62))):
        state = mixed((row + golden * (seed + 1)) & WHOLE)
        expected = (mixed(mixed((state + column * golden) & WHOLE)) >> 11) / 2**53
        found = keyed_uniform(torch.tensor([row]), torch.tensor([column]), seed)
        assert float(found) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("axis", ["rows", "columns", "seeds"])
def test_neighbouring_keys_give_uniform_and_independent_numbers(axis):
    one, many = torch.zeros(1, dtype=torch.long), torch.arange(20_000)
    if axis == "rows":
        numbers = keyed_uniform(many, one, seed=1)[:, 0]
    elif axis == "columns":
        numbers = keyed_uniform(one, many, seed=1)[0]
    else:
        numbers = torch.cat([keyed_uniform(one, one, seed) for seed in range(2000)])[:, 0]
    values = numbers.numpy()
    assert stats.kstest(values, "uniform").pvalue > LEAST
    for lag in (1, 2, 64):
        table = np.histogram2d(values[:-lag], values[lag:], bins=8, range=[[0, 1], [0, 1]])[0]
        assert stats.chi2_contingency(table).pvalue > LEAST


def test_numbers_lie_between_0_and_1():
    """At 1 Gumbel noise would be infinite, at 0 too."""
    numbers = keyed_uniform(torch.arange(1000), torch.arange(1000), seed=3)
    assert 0 < float(numbers.min()) < 1e-5
    assert 1 - 1e-5 < float(numbers.max()) < 1


def test_keys_of_texts_stay_the_same_and_fill_64_bits():
    assert text_key("utt-1") == text_key("utt-1") == -3358429440659870402
    keys = [text_key(f"utt-{i}") for i in range(2000)]
    assert len(set(keys)) == 2000
    assert min(keys) < -(2**61)
    assert max(keys) > 2**61
