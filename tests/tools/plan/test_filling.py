"""The largest batch within a limit is found for any shape of growth, in few looks, and told as --max-tokens."""

from __future__ import annotations

import pytest

from sparqle_fairseq.tools.plan.filling import largest, samples_of

SHAPES = {
    "a line": lambda n: 100 + 7.0 * n,
    "flat, then a line": lambda n: max(400.0, 100 + 7 * n),
    "a line and a square": lambda n: 100 + 7 * n + 0.01 * n * n,
    "stairs": lambda n: 100 + 7.0 * (n // 10 * 10),
    "one step": lambda n: 100.0 if n < 57 else 5000.0,
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("begin", [1, 8, 5000])
@pytest.mark.parametrize("limit", [90, 108, 401, 800, 1e9])
def test_the_largest_is_that_of_trying_all_and_takes_few_looks(name, begin, limit):
    memory, asked, most = SHAPES[name], [], 1000

    def look(size):
        asked.append(size)
        return memory(size)

    found = largest(look, limit, begin, most, empty=100)
    assert found == max((size for size in range(1, most + 1) if memory(size) <= limit), default=0)
    assert len(asked) == len(set(asked))
    assert set(asked) <= set(range(1, most + 1))
    assert len(asked) <= (5 if name == "a line" else 16)


def test_samples_are_those_between_two_sizes_rounded_down():
    def memory(size):
        return 10.0 * size

    assert samples_of(memory, 25, batch=2, most=9, utterance=10_000) == 25_000  # half of a third utterance
    assert samples_of(memory, 1234.9, batch=123, most=999, utterance=10_000) == 1_230_000  # 1,234,900, three digits
    assert samples_of(memory, 1239.9, batch=123, most=999, utterance=10_007) == 1_240_000
    # Rounded to 1,230,000 it would hold one utterance less.
    assert samples_of(memory, 1230, batch=123, most=999, utterance=10_007) == 123 * 10_007
    assert samples_of(memory, 1e9, batch=9, most=9, utterance=10_000) == 90_000  # there are no more


@pytest.mark.parametrize("seconds", [12.3, 0.1, 6.7, 33.3])
def test_samples_hold_the_batch_as_fairseq_divides(seconds):
    for batch in range(1, 300):
        samples = samples_of(lambda size: float(size), batch, batch, 999, seconds * 16000)
        assert int(samples // (seconds * 16000)) == batch
