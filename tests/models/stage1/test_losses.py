"""Stage-1 losses: negatives, identities, counts."""

from __future__ import annotations

import pytest
import torch
from tiny_models import batch

from sparqle_fairseq.keyed_random import keyed_uniform, text_key
from sparqle_fairseq.models.stage1.losses import contrastive_targets, draw_negatives, generation_loss, similarity


def test_a_matched_pair_is_never_a_negative():
    identity = torch.tensor([3, 7, 3, 5, 7, 3])
    keys = torch.arange(6)
    favours_the_matched = 50.0 * (identity[:, None] == identity[None, :])
    for seed in range(50):
        drawn, exists = draw_negatives(favours_the_matched, identity, identity, keyed_uniform(keys, keys, seed))
        assert exists.all()
        assert (identity[drawn] != identity).all()


def test_without_another_identity_there_is_no_negative():
    identity = torch.tensor([4, 4])
    _, exists = draw_negatives(torch.zeros(2, 2), identity, identity, torch.full((2, 2), 0.5))
    assert not exists.any()


def test_negatives_follow_the_similarity():
    identity, keys = torch.arange(3), torch.arange(3)
    similarities = torch.tensor([[0.0, 2.0, 0.0]] * 3)
    draws = [
        int(draw_negatives(similarities, identity, identity, keyed_uniform(keys, keys, seed))[0][0])
        for seed in range(4000)
    ]
    share = draws.count(1) / len(draws)
    assert share == pytest.approx(0.881, abs=0.02)  # e^2 / (e^2 + 1)


def test_keyed_numbers_depend_on_their_keys_alone():
    rows, columns = torch.tensor([text_key("a"), text_key("b")]), torch.tensor([5, -9, 2**62])
    whole = keyed_uniform(rows, columns, 3)
    assert torch.equal(whole[1:, [2, 0]], keyed_uniform(rows[1:], columns[[2, 0]], 3))
    assert not torch.equal(whole, keyed_uniform(rows, columns, 4))
    many = keyed_uniform(torch.arange(300), torch.arange(300), 0)
    assert many.mean() == pytest.approx(0.5, abs=0.01)
    assert many.std() == pytest.approx(0.2887, abs=0.005)


def test_float_identities_are_refused():
    large = torch.tensor([2**24, 2**24 + 1])
    assert contrastive_targets(large, large).argmax(dim=1).tolist() == [0, 1]
    with pytest.raises(TypeError, match="integers"):
        contrastive_targets(large.float(), large.float())


def test_soft_targets_are_shared_by_equal_identities():
    targets = contrastive_targets(torch.tensor([7]), torch.tensor([7, 3, 7, 5]))
    torch.testing.assert_close(targets, torch.tensor([[0.475, 0.025, 0.475, 0.025]]))


def test_similarity_is_that_of_the_best_query():
    speech = torch.nn.functional.normalize(torch.randn(2, 3, 4), dim=-1)
    text = torch.nn.functional.normalize(torch.randn(5, 4), dim=-1)
    best = torch.stack([torch.stack([max(q @ t for q in s) for t in text]) for s in speech])
    torch.testing.assert_close(similarity(speech, text, torch.tensor(0.5)), best / 0.5)


def test_generation_loss_in_half_precision_is_computed_in_full():
    logits = torch.randn(6, 9)
    targets = torch.arange(6)
    torch.testing.assert_close(
        generation_loss(logits.bfloat16(), targets), generation_loss(logits.bfloat16().float(), targets)
    )


@pytest.mark.parametrize("rows", [range(1), range(2), range(5)])
def test_any_batch_size_gives_a_finite_loss_and_gradient(stage1, rows):
    stage1.model.zero_grad()
    loss, size, log = stage1.criterion(stage1.model, batch(stage1, "train", rows))
    loss.backward()
    assert loss.isfinite()
    assert size == len(rows)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in stage1.model.parameters())
    # Each pair, and a negative of either kind where another transcript is there.
    identity = batch(stage1, "train", rows)["net_input"]["identity"].tolist()
    assert log["stm_count"] == len(rows) + 2 * sum(len({own, *identity}) > 1 for own in identity)
    stage1.model.zero_grad()


def test_sample_size_counts_what_the_loss_was_scaled_by(stage1):
    """loss / sample_size is the sum of the three means: fairseq's division leaves it so."""
    loss, size, log = stage1.criterion(stage1.model, batch(stage1, "train", range(6)))
    means = sum(log[f"{name}_sum"] / log[f"{name}_count"] for name in ("stc", "stm", "stg"))
    assert float(loss) / size == pytest.approx(float(means), rel=1e-5)
    assert log["stc_count"] == 6
    assert log["stm_count"] <= 18


def test_one_loss_alone_is_its_mean(world):
    from tiny_models import build_stage1

    built = build_stage1(world, "--objective", "stc")
    loss, size, log = built.criterion(built.model, batch(built, "train", range(4)))
    assert float(loss) / size == pytest.approx(float(log["stc_sum"]) / 4, rel=1e-5)
    assert "stm_sum" not in log


def test_a_dummy_batch_weighs_nothing(stage1):
    sample = batch(stage1, "train", range(4))
    sample["net_input"]["active"] = False
    loss, size, log = stage1.criterion(stage1.model, sample)
    assert float(loss) == 0
    assert size == 0
    assert log["nsentences"] == 0
