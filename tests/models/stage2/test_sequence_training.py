"""Sequence training: hand-made gradients, candidates that are the search's own, and a start that stays what it was."""

from __future__ import annotations

import math

import pytest
import torch
from sacrebleu.metrics import CHRF
from tiny_models import batch, build_stage2, build_stage2_from, save_adapter

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.stage2.batch import Lessons
from sparqle_fairseq.models.stage2.objectives.minimum_risk import expected_risk
from sparqle_fairseq.models.stage2.objectives.preference import best_and_worst, preference_loss

ROWS = [0, 5, 3]


@pytest.fixture(scope="module")
def start(world, tmp_path_factory):
    """A checkpoint of stage 2."""
    return save_adapter(build_stage2(world), tmp_path_factory.mktemp("start") / "stage2.pt")


@pytest.fixture(scope="module")
def risky(world):
    return build_stage2(world, "--objective", "minimum-risk", "--candidates", "3")


def test_the_risk_and_its_gradient_by_hand():
    """Shares 1/4 and 3/4 of risks 0.8 and 0.2: 0.35. A score's gradient is sharpness * share * (risk - expected)."""
    scores = torch.tensor([[0.0, math.log(3) / 2, 9.0]], requires_grad=True)
    risks, there = torch.tensor([[0.8, 0.2, 0.0]]), torch.tensor([[True, True, False]])
    loss = expected_risk(scores, risks, there, sharpness=2.0)
    loss.sum().backward()
    assert loss.tolist() == pytest.approx([0.35])
    assert scores.grad[0].tolist() == pytest.approx([2 * 0.25 * 0.45, 2 * 0.75 * -0.15, 0.0], abs=1e-6)


def test_an_utterance_without_candidates_has_no_risk_and_no_gradient():
    scores = torch.zeros(1, 2, requires_grad=True)
    loss = expected_risk(scores, torch.ones(1, 2), torch.zeros(1, 2, dtype=torch.bool))
    loss.sum().backward()
    assert loss.tolist() == [0.0]
    assert not scores.grad.nan_to_num(nan=9.0).any()


def test_the_preference_and_its_gradient_by_hand():
    """-log sigmoid(0.5 * 2 ln 3) = log(1 + 1/3); its gradient is -beta * sigmoid(-beta * lead)."""
    lead = torch.tensor([2 * math.log(3)], requires_grad=True)
    loss = preference_loss(lead, 0.5)
    loss.sum().backward()
    assert loss.tolist() == pytest.approx([math.log(4 / 3)])
    assert lead.grad.tolist() == pytest.approx([-0.5 * 0.25])


def test_a_pair_is_the_best_and_the_worst_that_are_there():
    risks = torch.tensor([[0.5, 0.1, 0.9, 0.0], [0.5, 0.48, 0.0, 1.0]])
    there = torch.tensor([[True, True, True, False], [True, True, False, False]])
    better, worse, apart = best_and_worst(risks, there, 0.05)
    assert (better.tolist(), worse.tolist(), apart.tolist()) == ([1, 1], [2, 0], [True, False])


def test_candidates_are_those_of_the_search_and_their_risk_is_that_of_sacrebleu(risky):
    sample = batch(risky, "train2", ROWS)
    found = risky.task.candidates(sample)
    assert found.tokens.shape[:2] == (3, 3)
    assert not risky.model.training
    for row in range(3):
        for n in range(3):
            ids = found.tokens[row, n][~found.padding_mask[row, n]]
            assert int(ids[-1]) == risky.model.llm.end
            text = risky.task.target_dictionary.text(ids)
            chrf = CHRF().sentence_score(text, [sample["reference"][row]]).score
            assert float(found.risks[row, n]) == pytest.approx(1 - chrf / 100, abs=1e-6)
    one = risky.task.candidates(batch(risky, "train2", ROWS[1:2]))
    length = one.tokens.size(2)
    assert found.tokens[1, :, :length].equal(one.tokens[0]), "batch-mates change nothing"


def test_scores_are_the_log_probabilities_of_each_candidate_alone(risky, monkeypatch):
    """Each candidate forced as the answer of its own utterance, without padding: the same sum."""
    sample = batch(risky, "train2", ROWS)
    found = risky.task.candidates(sample)
    model = risky.model
    monkeypatch.setattr(model.objectives["minimum-risk"], "sums", lambda seen: {"scores": seen.scores})
    scores = model(**sample["net_input"], lessons=Lessons(candidates=found))["minimum-risk"]["scores"]
    for row in range(3):
        for n in range(3):
            ids = found.tokens[row, n][~found.padding_mask[row, n]]
            single = batch(risky, "train2", [ROWS[row]])["net_input"]
            single |= {"answer": ids[None], "answer_padding_mask": torch.zeros(1, len(ids), dtype=torch.bool)}
            logits = model(**single)[0]
            expected = logits.log_softmax(-1).gather(1, ids[:, None]).sum()
            torch.testing.assert_close(scores[row, n], expected, atol=1e-3, rtol=1e-4)
    monkeypatch.undo()
    shares = (scores / (~found.padding_mask).sum(dim=2)).softmax(dim=1)  # all are there, by mean log-probability
    loss, _, _ = risky.criterion(model, sample)
    torch.testing.assert_close(loss, (shares * found.risks).sum(), atol=1e-4, rtol=1e-4)


def test_a_step_makes_the_expected_risk_smaller(risky):
    """On the same candidates, along the gradient."""
    model, sample = risky.model, batch(risky, "train2", ROWS)
    fixed = risky.task.candidates(sample)
    usual, risky.task.candidates = risky.task.candidates, lambda _: fixed
    state = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        before, size, log = risky.criterion(model, sample)
        model.zero_grad()
        before.backward()
        assert size == 3
        assert 0 < float(before) < 3
        assert float(log["minimum_risk_plain"]) == pytest.approx(float(fixed.risks.mean(dim=1).sum()))
        with torch.no_grad():
            norm = sum(float(p.grad.pow(2).sum()) for p in model.parameters()) ** 0.5
            for parameter in model.parameters():
                parameter -= 1e-3 / norm * parameter.grad
        after, _, _ = risky.criterion(model, sample)
        assert float(after) < float(before)
    finally:
        risky.task.candidates = usual
        model.load_state_dict(state)


def test_preference_begins_level_with_its_start_which_never_learns(world, start):
    built = build_stage2_from(world, start, "--objective", "preference", "--candidates", "3", "--lora-rank", "2")
    model, sample = built.model, batch(built, "train2", ROWS)
    assert not any(name.startswith("start") for name in model.state_dict())
    model.eval()
    loss, size, log = built.criterion(model, sample)
    pairs = int(log["preference_pairs"])
    assert pairs >= 1
    assert size == 3
    assert float(loss) == pytest.approx(pairs * math.log(2), abs=1e-4), "no answer has gained yet"
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    model.zero_grad()
    loss.backward()
    optimizer.step()
    fixed = built.task.candidates(sample)
    assert all(not parameter.requires_grad for parameter in model.start.module.parameters())
    fresh = build_stage2_from(world, start)
    for name, value in fresh.model.adapter.state_dict().items():
        assert value.equal(model.start.module.state_dict()[name]), name
    assert fixed.tokens.numel()


def test_losses_over_tokens_and_over_utterances_are_each_divided_by_their_own_count(world, risky):
    both = build_stage2(world, "--objective", "2*answer+minimum-risk", "--candidates", "3")
    answer = build_stage2(world)
    sample = batch(both, "train2", ROWS)
    loss, size, _ = both.criterion(both.model, sample)
    tokens, count, _ = answer.criterion(answer.model, sample)
    risk, _, _ = risky.criterion(risky.model, sample)
    assert size == 3
    torch.testing.assert_close(loss / size, 2 * tokens / count + risk / 3)
    assert not both.task.steps_alone()
    assert risky.task.steps_alone()


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--objective", "preference"], "name a checkpoint of stage 2 with --pretrained-adapter"),
        (["--objective", "minimum-risk", "--candidates", "1"], "--candidates 1 must be 2 or more"),
        (["--objective", "minimum-risk", "--risk-sharpness", "0"], "--risk-sharpness 0 must be above 0"),
    ],
)
def test_what_cannot_be_is_one_sentence(world, more, complaint):
    with pytest.raises(SparqleError, match=complaint):
        build_stage2(world, *more)
