"""What a token costs the search: one wait for the device, no copy where no beam moved, no sorting of the vocabulary."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from generation import generate
from hypothesis import given
from hypothesis import strategies as st
from test_search import Table
from tiny_models import batch
from torch.utils._python_dispatch import TorchDispatchMode

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.generate.candidates import Candidates, largest
from sparqle_fairseq.generate.limits import Limits
from sparqle_fairseq.generate.rules import forbid_repeats
from sparqle_fairseq.generate.search import EnsembleDecoder, SearchSettings, search
from sparqle_fairseq.models.stage1.decoder import Transcriber
from sparqle_fairseq.models.stage2.decoder import PromptedLLM

WAITS = ("aten._local_scalar_dense", "aten.nonzero", "aten.masked_select", "aten.is_nonzero", "aten.equal")


class Waits(TorchDispatchMode):
    """Counts what would wait for a device: a number, a place or a shape that the host has to know."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.seen = Counter()
        copy = torch.Tensor.cpu

        def counted(tensor):
            self.seen["cpu"] += 1
            return copy(tensor)

        monkeypatch.setattr(torch.Tensor, "cpu", counted)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function)
        if name.startswith(WAITS):
            self.seen[name] += 1
        if name.startswith("aten.index") and isinstance(args[1], (list, tuple)):
            self.seen["mask"] += sum(isinstance(at, torch.Tensor) and at.dtype == torch.bool for at in args[1])
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
@pytest.mark.parametrize("options", [{"beam": 1}, {"beam": 4, "no_repeat_ngram_size": 2}, {"sampling": True}])
def test_a_token_waits_once_for_the_device(stage, options, request, monkeypatch):
    built = request.getfixturevalue(stage)
    decoder = Transcriber if stage == "stage1" else PromptedLLM
    steps, step = [], decoder.step

    def counted(*args):
        steps.append(waits.seen.total())
        return step(*args)

    sample = batch(built, "test", range(6))
    monkeypatch.setattr(decoder, "step", counted)
    with Waits(monkeypatch) as waits:
        generate(built, sample, min_len=24, max_len_b=24, **options)
    assert len(steps) >= 24
    assert steps[-1] - steps[0] <= 1.1 * (len(steps) - 1), waits.seen
    # What a batch waits for besides, whatever its answers' length: limits, room, prompts.
    assert waits.seen.total() <= 1.5 * 25, waits.seen


@given(
    rows=st.integers(1, 3), size=st.integers(1, 700), count=st.integers(1, 12), seed=st.integers(0, 99),
    levels=st.sampled_from([3, 10**6]),
)  # fmt: skip
def test_the_largest_are_those_of_the_whole_vocabulary(rows, size, count, seed, levels):
    """Whole blocks and what is left of one; with three levels, many are equal, and none may come twice."""
    values = torch.randint(levels, (rows, 2, size), generator=torch.Generator().manual_seed(seed)).float()
    best, places = largest(values, count)
    assert torch.equal(best, values.sort(dim=-1, descending=True).values[..., :count])
    assert torch.equal(values.gather(-1, places), best)
    assert all(len(set(row)) == len(row) for row in places.flatten(0, 1).tolist())


@pytest.mark.parametrize(
    ("size", "forbidden"), [(1, {1, 2, 3}), (2, {1, 3}), (3, {3}), (4, {3}), (5, set()), (9, set())]
)  # fmt: skip
def test_what_would_repeat_an_ngram_is_forbidden(size, forbidden):
    """After 2 1 2 3 2 1 2: a 2 was followed by 1 and 3, 1 2 and 2 1 2 by 3."""
    values = torch.zeros(2, 1, 5)
    forbid_repeats(values, torch.tensor([[[2, 1, 2, 3, 2, 1, 2]], [[0, 4, 4, 0, 0, 0, 4]]]), size)
    assert set(values[0, 0].isinf().nonzero()[:, 0].tolist()) == forbidden
    assert values[1, 0, 1:4].eq(0).all(), "another utterance's beams hold none of these"


class Recorded(Table):
    def __init__(self, table):
        super().__init__(table)
        self.orders = []

    def reorder(self, state, rows):
        self.orders.append(rows.tolist())
        return super().reorder(state, rows)


def test_beams_that_stay_are_not_moved():
    decoder = Recorded({(): (0, 0.6, 0.4), (1,): (0.1, 0.5, 0.4), (2,): (0, 1, 0), (2, 1): (0.8, 0.1, 0.1)})
    limits = Limits.at_most(torch.tensor([4, 2]))
    search(decoder, 2, SearchSettings(beam=1), limits, pad=3, end=0, keys=torch.arange(2))
    assert decoder.orders == [], "one beam is always itself, and both end at once"
    search(decoder, 1, SearchSettings(beam=2), Limits.at_most(torch.tensor([4])), pad=3, end=0, keys=torch.arange(1))
    assert decoder.orders[0] == [0, 0]
    assert [0, 1] not in decoder.orders


def test_numbers_that_are_not_finite_end_the_search_at_any_token():
    class Overflowing(Table):
        def step(self, tokens, state):
            logits, state = super().step(tokens, state)
            return logits.masked_fill(torch.tensor([False, True, False, False]), torch.inf), state

        def not_finite(self):
            return SparqleError("too large")

    table = {(): (0.1, 0.5, 0.4)}
    for decoder in (Overflowing(table), EnsembleDecoder([Table(table), Overflowing(table)])):
        for settings in (SearchSettings(beam=2), SearchSettings(beam=2, sampling=True)):
            with pytest.raises(SparqleError, match="too large"):
                search(
                    decoder, 1, settings, Limits(torch.tensor([2]), torch.tensor([3]), ["length"]), pad=3, end=0,
                    keys=torch.arange(1),
                )  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scores_are_log_probabilities_whatever_the_precision_and_size_of_the_logits(dtype):
    """A vocabulary of many blocks and a temperature, against log_softmax of the whole in float64."""

    class Wide:
        vocab_size = 5_000
        logits = (torch.randn(1, 5_000, generator=torch.Generator().manual_seed(0)) * 3).to(dtype)

        def start(self, net_input):
            return self.logits, None

        def step(self, tokens, state):
            return self.logits.expand(len(tokens), -1), None

        def reorder(self, state, rows):
            return None

    limits = Limits.at_most(torch.tensor([0]))
    ((found,),) = search(
        Wide(), None, SearchSettings(beam=1, temperature=0.7), limits, pad=9_999, end=17, keys=torch.arange(1)
    )
    expected = (Wide.logits.double() / 0.7).log_softmax(dim=-1)[0, 17]
    assert found.positional_scores[0] == pytest.approx(float(expected), abs=1e-4)
    limits = Limits(torch.tensor([1]), torch.tensor([1]), ["length"])
    found = search(Wide(), None, SearchSettings(beam=3), limits, pad=9_999, end=17, keys=torch.arange(1))[0]
    best = Wide.logits[0].float().index_fill(0, torch.tensor([17]), -math.inf).topk(3).indices.tolist()
    assert [hypothesis.tokens for hypothesis in found] == [[token, 17] for token in best]


@given(st.integers(0, 999), st.booleans(), st.sets(st.integers(0, 5)))
def test_the_host_goes_on_with_the_columns_that_the_device_chooses(seed, sampling, ending):
    """So that a stop text costs no second wait."""
    draw = torch.Generator().manual_seed(seed)
    beam, count, end = 3, 3 if sampling else 6, 9
    token = torch.randint(7, 10, (1, count), generator=draw)
    total = torch.randn(1, count, generator=draw).sort(descending=True).values
    total[torch.rand(1, count, generator=draw) < 0.2] = -torch.inf
    columns = torch.arange(count)[None]
    cut, norm = torch.zeros(1, beam, dtype=torch.bool), torch.zeros(1, beam)
    found = Candidates(columns % beam, token, total, total, columns[:, :beam], cut, norm, end)
    where = torch.tensor([[column in ending for column in range(count)]])
    (expected,) = found.ended(where, sampling).read()
    (row,) = found.read()
    assert row.ended(ending, end, sampling) == expected
