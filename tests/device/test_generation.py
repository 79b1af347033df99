"""Generation on a device: the answers of the CPU, with few waits for each token."""

from __future__ import annotations

import pytest
from generation import answers, generate
from on_device import moved
from pretend import device_watch, pretend_device
from tiny_models import batch, build_stage1, build_stage2

WAITS_A_TOKEN = 1.5
# Beside those of tokens: lengths of the audio, limits, prompts, and whether anything overflowed.
WAITS_AT_START = 12
SEARCHES = {
    "greedy": {"beam": 1},
    "beam": {"beam": 4},
    "sampling": {"beam": 2, "sampling": True, "sampling_topk": 5},
    "n-grams blocked": {"beam": 3, "no_repeat_ngram_size": 2},
}


@pytest.fixture(scope="module")
def built(world):
    """A model of the module's own, for it is moved."""
    return build_stage2(world)


@pytest.fixture(scope="module")
def first(world):
    return build_stage1(world)


def steps_of(found):
    """How many tokens the longest hypothesis has, which is how many steps were taken at least."""
    return max(len(tokens) for row in found for tokens in row)


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("stage", ["built", "first"])
def test_a_search_finds_the_same_and_waits_little(stage, name, request):
    own = request.getfixturevalue(stage)
    sample = batch(own, "test_fr" if stage == "built" else "test", range(4))
    here = answers(generate(own, sample, **SEARCHES[name]))
    with pretend_device() as device:
        own.model.to(device)
        try:
            there = moved(sample, device)
            with device_watch() as seen:
                found = answers(generate(own, there, **SEARCHES[name]))
        finally:
            own.model.to("cpu")
    assert found == here
    assert len(seen.waits) <= WAITS_AT_START + WAITS_A_TOKEN * steps_of(found), seen
