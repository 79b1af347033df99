"""How long an answer may be, to the token, and why one ended."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tiny_models import batch, build_stage1, build_stage2_from, save_adapter

from sparqle_fairseq.generate.limits import LengthRule, Limits, room
from sparqle_fairseq.generate.search import SearchSettings, search


def roomy(tokens=1000):
    return SimpleNamespace(max_answer_tokens=lambda _: tokens)


def features(*frames):
    """A batch of features with so many frames."""
    longest = max(frames)
    padding_mask = torch.arange(longest)[None] >= torch.tensor(frames)[:, None]
    return {"source": torch.zeros(len(frames), longest, 3), "padding_mask": padding_mask}


@pytest.mark.parametrize(
    ("options", "fewest", "most", "causes"),
    [
        ({}, [1, 1, 1], [9, 30, 30], ["length"] * 3),  # half the frames, rounded down, and 5
        ({"max_per_second": 10.0}, [1, 1, 1], [2, 10, 11], ["seconds"] * 3),  # 1.6, 10 and 10.2 tokens
        ({"max_per_second": 0.01}, [1, 1, 1], [1, 1, 1], ["seconds"] * 3),
        ({"min_per_second": 5.0}, [1, 5, 5], [9, 30, 30], ["length"] * 3),  # 0.8, 5 and 5.1 tokens
        ({"min_per_second": 100.0, "max_per_second": 20.0}, [4, 20, 21], [4, 20, 21], ["seconds"] * 3),
        ({"min_len": 12}, [9, 12, 12], [9, 30, 30], ["length"] * 3),
    ],
)
def test_limits_are_those_worked_out_by_hand(options, fewest, most, causes):
    rule = LengthRule(max_len_a=0.5, max_len_b=5, frame_rate=50.0, samples_per_frame=320.0, **options)
    found = rule.limits([roomy()], features(8, 50, 51))
    assert (found.fewest.tolist(), found.most.tolist(), found.causes) == (fewest, most, causes)


def test_the_strictest_limit_is_named_and_of_equals_the_first():
    rule = LengthRule(0, 10, frame_rate=50.0, samples_per_frame=320.0, max_per_second=10.0)
    batch_ = features(25, 50, 100)  # 5, 10 and 20 tokens by their seconds
    assert rule.limits([roomy()], batch_).causes == ["seconds", "length", "length"]
    assert rule.limits([roomy(), roomy(torch.tensor([4, 10, 9]))], batch_).causes == ["room", "length", "room"]
    assert rule.limits([roomy(-3)], batch_).most.tolist() == [0, 0, 0]


@pytest.mark.parametrize("samples", [3199, 3200, 3201, 3520, 9601])
def test_room_for_an_answer_counts_every_window_that_the_speech_begins(windowed, samples):
    """A frame that is begun may begin a window of queries: with it left out, an answer would run out of its context."""
    net_input = batch(windowed, "dev2", [0])["net_input"]
    net_input |= {"source": torch.zeros(1, samples), "padding_mask": torch.zeros(1, samples, dtype=torch.bool)}
    config = windowed.model.adapter.qformer.config
    prompt = int((~net_input["prompt_padding_mask"]).sum())
    windows = -(-samples // (320 * config.window_frames))  # by hand, rounded up
    expected = windowed.model.llm.context - prompt - windows * config.queries
    assert room([windowed.model], net_input).tolist() == [expected]


@pytest.fixture(scope="module")
def windowed(world, tmp_path_factory):
    """Stage 2 with two queries for each 0.2 seconds: 10 frames of 320 samples."""
    shape = ["--query-window-seconds", "0.2", "--queries-per-window", "2"]
    path = save_adapter(build_stage1(world, *shape), tmp_path_factory.mktemp("windowed") / "s.pt")
    return build_stage2_from(world, path)


class Talker:
    """Says 1 until it has said `words`, and then would end (0); from there on what it says is the end alone."""

    vocab_size = 3

    def __init__(self, words):
        self.words = words

    def start(self, net_input):
        return self._next(net_input, 0), 0

    def step(self, tokens, said):
        return self._next(tokens.numel(), said + 1), said + 1

    def reorder(self, state, rows):
        return state

    def _next(self, rows, said):
        # The other token is possible, and the end never impossible: a search must not end by necessity.
        return torch.tensor([0.05, 0.9, 0.05] if said < self.words else [0.9, 0.08, 0.02]).log().expand(rows, -1)


@pytest.mark.parametrize("sampling", [False, True])
@pytest.mark.parametrize(("words", "ended"), [(2, "end"), (3, "end"), (4, "room")])
def test_a_text_is_cut_where_it_would_have_gone_on(words, ended, sampling):
    """At exactly the limit of three tokens it ends by itself; with one word more it is cut."""
    settings = SearchSettings(beam=1, sampling=sampling, sampling_topk=1 if sampling else -1)
    limits = Limits(torch.zeros(2, dtype=torch.long), torch.tensor([3, 9]), ["room", "length"])
    first, second = search(Talker(words), 2, settings, limits, pad=9, end=0, keys=torch.arange(2))
    assert first[0].tokens == [1] * min(words, 3) + [0]
    assert (first[0].ended, second[0].ended) == (ended, "end"), "each by its own limit"


def test_each_utterance_is_cut_by_its_own_limit_whoever_has_ended_before_it():
    limits = Limits(torch.zeros(3, dtype=torch.long), torch.tensor([1, 3, 2]), ["seconds", "room", "length"])
    found = search(Talker(9), 3, SearchSettings(beam=1), limits, pad=9, end=0, keys=torch.arange(3))
    assert [(len(row[0].tokens) - 1, row[0].ended) for row in found] == [(1, "seconds"), (3, "room"), (2, "length")]


def test_a_prefix_beyond_the_limit_is_cut_behind_it_and_one_with_its_end_is_not():
    limits = Limits(torch.zeros(2, dtype=torch.long), torch.tensor([1, 1]), ["seconds", "seconds"])
    prefixes = [[1, 1, 1], [1, 1, 0]]
    cut, closed = search(
        Talker(9), 2, SearchSettings(beam=1), limits, pad=9, end=0, keys=torch.arange(2), prefixes=prefixes
    )
    assert (cut[0].tokens, cut[0].ended) == ([1, 1, 1, 0], "seconds")
    assert (closed[0].tokens, closed[0].ended) == ([1, 1, 0], "end")
