"""Lengths are ordered as NumPy's stable sort orders them, whatever they are."""

from __future__ import annotations

import numpy as np
import pytest

from sparqle_fairseq.data.order import stable_order

DRAW = np.random.default_rng(0)
JITTERED = DRAW.integers(24000, 480000, 50_000) * DRAW.uniform(0.95, 1.05, 50_000)
LENGTHS = {
    "whole numbers, many of them equal": DRAW.integers(80, 400, 50_000),
    "changed at random": JITTERED,
    "a few": np.array([3.0, 1.0, 2.0, 1.0]),
    "one": np.array([5]),
    "none": np.array([]),
    "all equal": np.full(1000, 7),
    "zeros of both signs": np.array([0.0, -0.0, 1.0, -0.0, 0.0]),
    "of all magnitudes": np.exp(DRAW.uniform(-700, 700, 20_000)),
    # They share the 32 highest bits in which the longest and the shortest differ.
    "different in the lowest bits alone": np.concatenate([[1e300], 1 + DRAW.integers(0, 99, 5000) * 2.0**-52]),
}


@pytest.mark.parametrize("name", LENGTHS)
def test_the_order_is_numpys_stable_one(name):
    assert np.array_equal(stable_order(LENGTHS[name]), np.argsort(LENGTHS[name], kind="stable"))


@pytest.mark.parametrize("wrong", [[1.0, -1.0], [1.0, np.nan], [np.inf]])
def test_what_is_no_length_is_refused(wrong):
    with pytest.raises(ValueError, match="finite and not negative"):
        stable_order(np.array(wrong))
