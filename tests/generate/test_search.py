"""Search: fairseq's own beam search agrees, batch-mates change nothing, limits hold, scores add up."""

from __future__ import annotations

import math
from argparse import Namespace

import pytest
import torch
from fairseq.models import FairseqEncoder, FairseqEncoderDecoderModel, FairseqIncrementalDecoder
from fairseq.sequence_generator import SequenceGenerator
from generation import OPTIONS, answers, generate
from tiny_models import batch

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.generate.limits import Limits
from sparqle_fairseq.generate.options import settings_of
from sparqle_fairseq.generate.search import EnsembleDecoder, SearchSettings, search


class PeerEncoder(FairseqEncoder):
    def __init__(self, decoder):
        super().__init__(None)
        self.decoder = decoder

    def forward(self, source, padding_mask, **_):
        model = self.decoder[0]
        speech = model.encode_speech(source, padding_mask)
        return model.adapter.qformer.query(model.adapter.qformer.read_speech(speech.values, speech.padding_mask)).cache

    def forward_torchscript(self, net_input):
        return self.forward(net_input["source"], net_input["padding_mask"])

    def reorder_encoder_out(self, encoder_out, new_order):
        return [(k.index_select(0, new_order), v.index_select(0, new_order)) for k, v in encoder_out]


class PeerDecoder(FairseqIncrementalDecoder):
    """The whole prefix again at every step, without any cache of the text."""

    def __init__(self, dictionary, model):
        super().__init__(dictionary)
        self.held = [model]

    def forward(self, prev_output_tokens, encoder_out=None, incremental_state=None, **_):
        qformer = self.held[0].adapter.qformer
        tokens = prev_output_tokens.clone()
        tokens[:, 0] = self.held[0].tokenizer.decode_token
        # fairseq's search asks for attention, and there is none to show.
        return qformer.predict(qformer.decode_text(tokens, None, encoder_out).hidden), {"attn": [None]}

    def reorder_incremental_state(self, incremental_state, new_order):
        """Nothing is kept."""

    def max_positions(self):
        return 100


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"beam": 1},
        {"beam": 5, "lenpen": 0.3},
        {"beam": 3, "min_len": 4},
        {"beam": 3, "max_len_b": 3},
        {"beam": 4, "unnormalized": True, "temperature": 1.7},
    ],
)
def test_beam_search_agrees_with_fairseqs(stage1, options):
    sample = batch(stage1, "test", range(6))
    chosen = {**OPTIONS, **options}
    dictionary = stage1.task.target_dictionary
    model = stage1.model
    peer = FairseqEncoderDecoderModel(PeerEncoder([model]), PeerDecoder(dictionary, model))
    fairseqs = SequenceGenerator(
        [peer], dictionary, beam_size=chosen["beam"], max_len_b=chosen["max_len_b"], min_len=chosen["min_len"],
        normalize_scores=not chosen["unnormalized"], len_penalty=chosen["lenpen"], temperature=chosen["temperature"],
    )  # fmt: skip
    with torch.no_grad():
        expected = fairseqs.generate([peer], sample)
    found = generate(stage1, sample, **options)
    assert answers(found) == answers(expected)
    for ours, theirs in zip(found, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a["positional_scores"], b["positional_scores"], atol=1e-4, rtol=1e-4)
            assert float(a["score"]) == pytest.approx(float(b["score"]), abs=1e-4)


def test_no_ngram_is_repeated(stage2):
    """(fairseq's own blocking compares with its buffer's padding on the CPU, so it is no peer here.)"""

    def pairs(row):
        return [list(zip(h["tokens"].tolist(), h["tokens"].tolist()[1:], strict=False)) for h in row]

    sample = batch(stage2, "test", range(4))
    free = [p for row in generate(stage2, sample, min_len=25, max_len_b=25) for p in pairs(row)]
    assert any(len(set(p)) < len(p) for p in free), "without the option something must repeat"
    for row in generate(stage2, sample, min_len=25, max_len_b=25, no_repeat_ngram_size=2):
        assert all(len(set(p)) == len(p) for p in pairs(row))


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
@pytest.mark.parametrize("options", [{}, {"beam": 1}, {"sampling": True, "beam": 2, "temperature": 0.8}])
def test_a_hypothesis_does_not_depend_on_its_batch(stage, options, request):
    built = request.getfixturevalue(stage)
    together = generate(built, batch(built, "test", range(16)), **options)
    for i in range(16):
        alone = generate(built, batch(built, "test", [i]), **options)
        assert answers(alone) == answers(together[i : i + 1])
        torch.testing.assert_close(alone[0][0]["score"], together[i][0]["score"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("lenpen", [0.0, 0.5, 1.0, 2.0])
def test_the_score_is_the_sum_of_log_probabilities_over_the_length_penalty(stage2, lenpen):
    for row in generate(stage2, batch(stage2, "test", range(3)), lenpen=lenpen):
        for hypothesis in row:
            total = float(hypothesis["positional_scores"].sum())
            assert float(hypothesis["score"]) == pytest.approx(total / len(hypothesis["tokens"]) ** lenpen, rel=1e-4)
        scores = [float(hypothesis["score"]) for hypothesis in row]
        assert scores == sorted(scores, reverse=True)


def test_positional_scores_are_the_models_log_probabilities(stage2):
    """Feeding a hypothesis back as the answer gives its scores again: generation meets the prompt of training."""
    sample = batch(stage2, "test", range(3))
    for i, row in enumerate(generate(stage2, sample)):
        tokens = row[0]["tokens"][None]
        net_input = {name: value[i : i + 1] for name, value in sample["net_input"].items()}
        net_input |= {"answer": tokens, "answer_padding_mask": torch.zeros_like(tokens, dtype=torch.bool)}
        with torch.no_grad():
            log_probs = stage2.model(**net_input).log_softmax(dim=-1)[0]
        expected = log_probs.gather(1, tokens[0][:, None])[:, 0]
        torch.testing.assert_close(row[0]["positional_scores"], expected, atol=1e-4, rtol=1e-4)


def test_shortest_and_longest_lengths_hold(stage2):
    sample = batch(stage2, "test", range(4))
    for hypotheses in generate(stage2, sample, min_len=5, max_len_b=7):
        assert all(6 <= len(hypothesis["tokens"]) <= 8 for hypothesis in hypotheses)  # the end token counts
    exact = generate(stage2, sample, min_len=3, max_len_b=3)
    assert {len(hypothesis["tokens"]) for row in exact for hypothesis in row} == {4}


def test_max_len_a_counts_the_utterances_own_frames(stage1):
    """A hypothesis may be as long as its own speech allows, however long its batch-mates speak."""
    sample = batch(stage1, "test", range(8))
    frames = (~sample["net_input"]["padding_mask"]).sum(dim=1) / 320
    for length, row in zip(frames, generate(stage1, sample, min_len=100, max_len_a=0.5, max_len_b=1), strict=True):
        assert {len(hypothesis["tokens"]) for hypothesis in row} == {int(0.5 * length) + 2}


def test_sampling_repeats_with_its_seed_and_differs_without(stage2):
    sample = batch(stage2, "test", range(4))
    first = generate(stage2, sample, sampling=True, beam=3)
    assert answers(first) == answers(generate(stage2, sample, sampling=True, beam=3))
    stage2.task.cfg.seed = 2
    try:
        assert answers(first) != answers(generate(stage2, sample, sampling=True, beam=3))
    finally:
        stage2.task.cfg.seed = 1


class Table:
    """Says what a table of probabilities has for what was said so far; 0 ends, and 3 is padding."""

    vocab_size = 4

    def __init__(self, table):
        self.table = table

    def start(self, net_input):
        return self._row(()).expand(net_input, -1), [()] * net_input

    def step(self, tokens, state):
        state = [(*said, token) for said, token in zip(state, tokens.tolist(), strict=True)]
        return torch.stack([self._row(said) for said in state]), state

    def reorder(self, state, rows):
        return [state[row] for row in rows.tolist()]

    def _row(self, said):
        return torch.tensor([*self.table.get(said, (1, 0, 0)), 0.0]).log()


def found_in(table, beam, **settings):
    limits = Limits.at_most(torch.tensor([5]))
    return search(Table(table), 1, SearchSettings(beam, **settings), limits, pad=3, end=0, keys=torch.arange(1))[0]


def test_an_end_beyond_the_beams_best_is_no_hypothesis():
    """One beam: the end is the second best, so the text goes on, though it would then be the first to be finished."""
    (hypothesis,) = found_in({(): (0.4, 0.6, 0)}, beam=1)
    assert hypothesis.tokens == [1, 0]
    # Two beams: after 1 and 2, the two ends are third and fourth (0.18 and 0.12 against 0.42 and 0.28).
    table = {(): (0, 0.6, 0.4), (1,): (0.3, 0.7, 0), (2,): (0.3, 0, 0.7)}
    assert [h.tokens for h in found_in(table, beam=2)] == [[1, 1, 0], [2, 2, 0]]


def test_a_search_by_hand():
    """Greedy takes 1 and pays for it; two beams find 2, which is likelier in the end."""
    table = {(): (0, 0.6, 0.4), (1,): (0.4, 0.35, 0.25), (2,): (0.9, 0.1, 0)}
    (greedy,) = found_in(table, beam=1)
    assert greedy.tokens == [1, 0]
    best, second = found_in(table, beam=2, lenpen=0.0)
    assert (best.tokens, second.tokens) == ([2, 0], [1, 0])
    assert best.score == pytest.approx(math.log(0.4 * 0.9))
    assert best.positional_scores == pytest.approx([math.log(0.4), math.log(0.9)])


def test_the_temperature_of_a_sample_is_that_of_its_scores():
    """At 2 a probability is its root, and all are made to sum to 1."""
    roots = [math.sqrt(p) for p in (0.1, 0.6, 0.3)]
    for hypothesis in found_in({(): (0.1, 0.6, 0.3)}, beam=3, sampling=True, temperature=2.0):
        first = hypothesis.tokens[0]
        assert hypothesis.positional_scores[0] == pytest.approx(math.log(roots[first] / sum(roots)))


def test_the_penalty_counts_for_what_a_beam_itself_has_said():
    """After 1 a second 1 has 0.6 squared, 0.36, and 2 its 0.39; after 2 nothing of 1 changes."""
    table = {(): (0, 0.5, 0.5), (1,): (0.01, 0.6, 0.39), (2,): (0.01, 0.6, 0.39)}
    found = {tuple(h.tokens): h.positional_scores[1] for h in found_in(table, beam=2, repetition_penalty=2.0)}
    assert found == pytest.approx({(1, 2, 0): math.log(0.39), (2, 1, 0): math.log(0.6)})


def test_an_ensemble_takes_the_mean_probability_of_different_models():
    """(0.8 + 0.2) / 2, and not the root of 0.8 * 0.2: with logarithms in the place of probabilities 2 would win."""
    one = {(): (0, 0.8, 0.2), (1,): (0.5, 0.5, 0)}
    other = {(): (0, 0.1, 0.9), (1,): (0.1, 0.1, 0.8)}
    joined = EnsembleDecoder([Table(one), Table(other)])
    logits, state = joined.start(2)
    assert logits.softmax(dim=-1)[0].tolist() == pytest.approx([0, 0.45, 0.55, 0])
    logits, _ = joined.step(torch.tensor([2, 1]), joined.reorder(state, torch.tensor([1, 0])))
    assert logits.softmax(dim=-1)[0].tolist() == pytest.approx([1, 0, 0, 0])
    assert logits.softmax(dim=-1)[1].tolist() == pytest.approx([0.3, 0.3, 0.4, 0])


@pytest.mark.parametrize(("name", "value"), [("diverse_beam_groups", 2), ("match_source_len", True), ("nbest", 9)])
def test_an_option_without_effect_is_refused(name, value):
    with pytest.raises(SparqleError, match=f"--{name.replace('_', '-')}"):
        settings_of(Namespace(**{**OPTIONS, name: value}), seed=1)
