"""Words have the times of the queries that hold them on CTC's likeliest path."""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import batch, build_stage1

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.generate import word_times as module
from sparqle_fairseq.generate.word_times import centre, held_by, word_times, words_of


def best_by_hand(log_probs, tokens):
    """Every way to write a token or a blank at each query, tried one after the other."""
    columns = {token: 1 + tokens.index(token) for token in tokens}
    best, score = None, -float("inf")
    for path in itertools.product([None, *columns], repeat=len(log_probs)):
        written = [key for key, _ in itertools.groupby(path) if key is not None]
        own = sum(float(log_probs[q, 0 if sign is None else columns[sign]]) for q, sign in enumerate(path))
        if written == tokens and own > score:
            best, score = path, own
    if best is None:
        return None
    runs, query = [], 0
    for sign, run in itertools.groupby(best):
        length = len(list(run))
        if sign is not None:
            runs.append(list(range(query, query + length)))
        query += length
    return runs


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.lists(st.sampled_from([7, 8, 9]), min_size=1, max_size=3), st.integers(0, 99))
def test_the_path_is_the_likeliest_of_all(queries, tokens, seed):
    generator = torch.Generator().manual_seed(seed)
    log_probs = torch.randn(queries, 1 + len(tokens), generator=generator)
    for i, token in enumerate(tokens):
        log_probs[:, 1 + i] = log_probs[:, 1 + tokens.index(token)]  # equal tokens have one probability
    assert held_by(log_probs, torch.tensor(tokens)) == best_by_hand(log_probs, tokens)


def test_words_own_the_tokens_inside_them():
    #      0123456789
    text = "ab, c  dé."
    words, tokens = words_of(text, [(0, 1), (1, 2), (2, 3), (3, 5), (5, 7), (7, 9), (9, 10)])
    assert words == ["ab,", "c", "dé."]
    assert tokens == [[0, 1, 2], [3], [5, 6]]  # the one of two spaces belongs to none


def test_the_middle_has_as_much_before_it_as_behind_it():
    assert centre(torch.tensor([[0, 0, 1.0, 1.0, 1.0, 0]])) == pytest.approx(3.5)
    assert centre(torch.tensor([[0.0, 3, 1, 0]])) == pytest.approx(1 + 2 / 3)
    assert centre(torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 1.0]])) == pytest.approx(1)
    assert centre(torch.tensor([[0.0, 0, 0, 1]])) == pytest.approx(3.5)


@pytest.fixture(scope="module", params=["ctc", "llm-ctc"])
def built(request, world):
    llm = ["--llm", str(world.llm)] if request.param == "llm-ctc" else []
    return build_stage1(world, "--objective", request.param, *llm, "--queries", "40")


def rows_of(built):
    batch(built, "test", [0])  # reads the split
    return [built.task.datasets["test"].row(i) for i in range(16)]


def test_words_are_in_their_recording_whatever_the_batch(built):
    rows = rows_of(built)[:3]
    found = word_times(built.model, batch(built, "test", range(3))["net_input"], [row.src_text for row in rows])
    for i, (row, words) in enumerate(zip(rows, found, strict=True)):
        assert [word.text for word in words] == row.src_text.split()
        assert all(0 < word.seconds < row.n_frames / 16000 for word in words)
        (alone,) = word_times(built.model, batch(built, "test", [i])["net_input"], [row.src_text])
        assert [word.seconds for word in alone] == pytest.approx([word.seconds for word in words], abs=1e-3)


def test_a_word_has_the_frames_of_its_own_tokens(built, monkeypatch):
    """Query q looks at frame 2 q alone and holds token q: a word is in the middle of its tokens' frames."""
    rows = rows_of(built)
    index = max(range(16), key=lambda i: len(rows[i].src_text.split()))
    text = rows[index].src_text
    monkeypatch.setattr(module, "held_by", lambda _, tokens: [[i] for i in range(len(tokens))])
    attention = torch.zeros(1, 40, 200)
    attention[0, torch.arange(40), 2 * torch.arange(40)] = 1

    @contextmanager
    def reading(_):
        yield lambda: SimpleNamespace(mean=attention)

    monkeypatch.setattr(module, "reading", reading)
    (words,) = word_times(built.model, batch(built, "test", [index])["net_input"], [text])
    spelled = "llm-ctc" in built.model.objective
    tokenizer = built.model.llm_tokenizer if spelled else built.model.tokenizer.tokenizer
    coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    _, members = words_of(text, coded["offset_mapping"])
    assert len(words) == len(members) > 1
    for word, own in zip(words, members, strict=True):
        size = len(own)
        # Of an odd number of frames the middle one's middle, of an even one the end of the first half.
        expected = 2 * (own[0] + size // 2) + (0.5 if size % 2 else -1)
        assert word.seconds * module.reading_rate(built.model) == pytest.approx(expected, abs=1e-3)


def test_too_few_queries_give_no_times(world):
    built = build_stage1(world, "--objective", "ctc", "--queries", "1")
    texts = [row.src_text for row in rows_of(built)]
    found = word_times(built.model, batch(built, "test", range(16))["net_input"], texts)
    counts = [len(built.model.tokenizer.tokenizer.tokenize(text)) for text in texts]
    assert [words is None for words in found] == [count > 1 for count in counts]
    assert any(count > 1 for count in counts)


def test_a_model_whose_queries_do_not_spell_is_refused(stage1, stage2):
    for built in (stage1, stage2):
        with pytest.raises(SparqleError, match="learned --objective ctc or llm-ctc in stage 1"):
            word_times(built.model, {}, [])
