"""Stage-1 objectives: each by itself and in sums, what of the model they reach, and what stage 2 takes from them."""

from __future__ import annotations

import itertools
import math

import pytest
import tiny
import torch
import torch.nn.functional as F
from commands import pretrain_arguments, train_here
from tiny_models import batch, build_stage1, build_stage2, build_stage2_from, save_adapter, with_objective

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.identity import IdentityError
from sparqle_fairseq.models.qformer.projector import PROJECTORS, build_projector, start_among
from sparqle_fairseq.models.stage1 import losses
from sparqle_fairseq.models.stage1.batch import Stage1Text
from sparqle_fairseq.models.stage1.losses import ctc_emissions, ctc_loss
from sparqle_fairseq.models.stage1.objectives import kinds, parse_objective
from sparqle_fairseq.models.stage1.objectives.llm_ctc import LLMSpace
from sparqle_fairseq.tasks.loading import load_trained
from sparqle_fairseq.tools.retrieval import evaluate_retrieval

TOKENS = torch.tensor([[3, 3, 7, 3], [5, -1, -1, -1], [1, 2, -1, -1], [9, 9, 9, 9], [-1, -1, -1, -1]])
LENGTHS = torch.tensor([9, 4, 7, 6, 5])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sparqle", {"stc": 1.0, "stm": 1.0, "stg": 1.0}),
        ("llm-ctc", {"llm-ctc": 1.0}),
        ("llm-ctc + 0.5*stg", {"stg": 0.5, "llm-ctc": 1.0}),
        ("2*sparqle+ctc", {"stc": 2.0, "stm": 2.0, "stg": 2.0, "ctc": 1.0}),
        ("1e-2*stg-outputs", {"stg-outputs": 0.01}),
    ],
)
def test_a_sum_of_objectives_is_read(text, expected):
    assert parse_objective(text) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("stx", "'stx' is unknown; choose from sparqle, stc"),
        ("stc+stc", "stc is in it twice"),
        ("sparqle+stg", "stg is in it twice"),
        ("0*stc", "must be above 0"),
        ("1..5*stc", "is not a number"),
        ("", "is not NAME or WEIGHT"),
        ("stc++stg", "is not NAME or WEIGHT"),
        ("-1*stc", "the weight of stc is -1 and must be above 0"),
        ("nan*stc", "must be above 0"),
        ("1e999*stc", "must be above 0"),
        ("much*stc", "'much' is not a number; write the weight of stc as 0.5"),
        ("*stc", "is not NAME or WEIGHT"),
    ],
)
def test_what_is_no_sum_of_objectives_is_named(text, complaint):
    with pytest.raises(SparqleError, match=complaint):
        parse_objective(text)


def alignment(model, net_input):
    """What the CTC objective of a model aligns."""
    speech = model.encode_speech(net_input["source"], net_input["padding_mask"])
    names = ("text", "text_padding_mask", "identity", "utterance", "llm_text")
    text = Stage1Text(*(net_input.get(name) for name in names))
    read = model.adapter.batch(speech.values, speech.padding_mask, text, 0)
    (objective,) = model.adapter.objectives.values()
    return objective.alignment(model.adapter, read)


def emissions():
    torch.manual_seed(0)
    inputs = (torch.randn(5, 9, 5), torch.randn(40, 5), torch.randn(40), torch.randn(5, 9))
    return [tensor.requires_grad_() for tensor in inputs]


@pytest.mark.parametrize("frozen", [False, True], ids=["learning vocabulary", "frozen vocabulary"])
@pytest.mark.parametrize("chunk", [100, 7], ids=["one chunk", "many chunks"])
def test_ctc_over_the_transcript_alone_is_ctc_over_the_whole_vocabulary(chunk, frozen, monkeypatch):
    monkeypatch.setattr(losses, "VOCABULARY_CHUNK", chunk)
    x, weight, bias, blank = inputs = emissions()
    with torch.no_grad():
        bias[3] += 60  # one chunk holds nearly all of the softmax
    if frozen:
        weight, bias = weight.detach(), bias.detach()
        inputs = [x, blank]
    loss, possible = ctc_loss(ctc_emissions(x, weight, bias, blank, TOKENS), LENGTHS, TOKENS)
    gradients = torch.autograd.grad(loss.sum(), inputs)
    whole = torch.cat([blank[..., None], x @ weight.T + bias], dim=-1).log_softmax(dim=-1).transpose(0, 1)
    counts = (TOKENS >= 0).sum(dim=1)
    expected = F.ctc_loss(whole, (TOKENS + 1).clamp(min=0), LENGTHS, counts, reduction="none", zero_infinity=True)
    torch.testing.assert_close(loss, expected)
    known, _ = ctc_loss(ctc_emissions(x, weight, bias, blank, TOKENS), LENGTHS, TOKENS, counts.tolist())
    torch.testing.assert_close(known, expected)
    assert possible.tolist() == [True, True, True, False, True]
    for found, right in zip(gradients, torch.autograd.grad(expected.sum(), inputs), strict=True):
        torch.testing.assert_close(found, right, atol=2e-5, rtol=1e-4)


def test_ctc_sums_over_all_alignments():
    x, weight, bias, blank = (tensor.detach() for tensor in emissions())
    tokens = torch.tensor([[6, 2]])
    log_probs = ctc_emissions(x[:1, :4], weight, bias, blank[:1, :4], tokens)
    loss, _ = ctc_loss(log_probs, torch.tensor([4]), tokens)
    total = 0.0
    for path in itertools.product(range(3), repeat=4):
        collapsed = [symbol for symbol, _ in itertools.groupby(path) if symbol]
        if collapsed == [1, 2]:
            total += float(sum(log_probs[0, i, symbol] for i, symbol in enumerate(path)).exp())
    assert loss.item() == pytest.approx(-torch.tensor(total).log().item(), abs=1e-5)


def test_padding_changes_no_ctc_loss():
    x, weight, bias, blank = emissions()
    whole, _ = ctc_loss(ctc_emissions(x, weight, bias, blank, TOKENS), LENGTHS, TOKENS)
    for i in range(3):
        length, count = int(LENGTHS[i]), int((TOKENS[i] >= 0).sum())
        tokens = TOKENS[i : i + 1, :count]
        log_probs = ctc_emissions(x[i : i + 1, :length], weight, bias, blank[i : i + 1, :length], tokens)
        torch.testing.assert_close(ctc_loss(log_probs, LENGTHS[i : i + 1], tokens)[0][0], whole[i])


def test_a_point_on_a_token_is_that_token_whatever_the_scale_of_the_embeddings():
    table = torch.randn(30, 8, generator=torch.Generator().manual_seed(0))
    for size in (0.02, 1.0, 50.0):
        space = LLMSpace(size * table)
        log_probs = space(size * table[None], torch.arange(30)[None])[0].detach()  # (30 queries, 1 + 30)
        assert log_probs.argmax(dim=1).tolist() == list(range(1, 31))
        differences = log_probs[:, 1:].diagonal()[:, None] - log_probs[:, 1:]
        assert differences.sum() / (30 * 29) == pytest.approx(2 * math.log(30), rel=0.1)
        middle = space(size * table.mean(dim=0)[None, None], torch.zeros(1, 1, dtype=torch.long))[0, 0]
        assert middle[0] > middle[1]  # the blank


@pytest.mark.parametrize("kind", PROJECTORS)
def test_a_new_projector_starts_among_the_embeddings(kind):
    torch.manual_seed(0)
    table = 0.02 * torch.randn(500, 64) + 0.5
    projector = build_projector(kind, 48, 64)
    start_among(projector, table)
    points = projector(F.layer_norm(torch.randn(200, 48), (48,)))
    assert points.mean().item() == pytest.approx(0.5, abs=0.01)
    assert 0.3 < (points - 0.5).std().item() / 0.02 < 1.5


def test_a_step_of_adam_moves_a_scaled_projectors_points_alike_whatever_the_size_of_the_embeddings():
    """In units of how far apart embeddings are. A linear one's fly the farther the smaller the embeddings are."""
    hidden = F.layer_norm(torch.randn(50, 48, generator=torch.Generator().manual_seed(0)), (48,))
    table = torch.randn(500, 64, generator=torch.Generator().manual_seed(1))
    moved = {}
    for kind in ("linear", "scaled"):
        for size in (1.0, 0.01):
            torch.manual_seed(2)
            projector = build_projector(kind, 48, 64)
            start_among(projector, size * table)
            optimizer = torch.optim.Adam(projector.parameters(), lr=2e-3)
            before = projector(hidden)
            (before - size * table[0]).square().sum().backward()
            optimizer.step()
            moved[kind, size] = float((projector(hidden) - before).square().mean().sqrt()) / size
    assert moved["scaled", 0.01] == pytest.approx(moved["scaled", 1.0], rel=0.02)
    assert moved["scaled", 1.0] < 0.1
    assert moved["linear", 0.01] > 50 * moved["scaled", 0.01]


ALONE = [kind.name for kind in kinds() if kind.name not in ("adversarial", "llm-regression", "frame-ctc")]
SUMS = [*ALONE, "sparqle", "stc+stg", "stm+llm-ctc", "sparqle+stg-outputs+ctc+llm-ctc", "llm-ctc+llm-regression"]


@pytest.mark.parametrize("text", SUMS)
def test_what_asks_for_a_gradient_gets_one_and_nothing_else_does(text, world):
    """DDP waits for ever for the gradient of what no loss reaches."""
    built = with_objective(world, text)
    built.model.train()
    loss, size, log = built.criterion(built.model, batch(built, "train", range(4)))
    loss.backward()
    for name, parameter in built.model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    parts = list(parse_objective(text))
    assert size == (4 if len(parts) > 1 else log[f"{parts[0].replace('-', '_')}_count"])
    assert torch.isfinite(loss)
    for part in parts:
        assert log[f"{part.replace('-', '_')}_sum"] > 0


def test_what_is_not_in_the_sum_asks_for_no_gradient(world):
    built = build_stage1(world, "--objective", "stc+stg")
    assert set(built.criterion.weights) == {"stc", "stg"}
    assert not built.model.adapter.matching_head.weight.requires_grad


@pytest.mark.parametrize("text", ["stg-outputs", "ctc", "llm-ctc"])
def test_a_batch_changes_no_loss_of_the_new_objectives(text, world):
    built = with_objective(world, text)
    key = text.replace("-", "_")
    _, _, together = built.criterion(built.model, batch(built, "train", range(6)))
    alone = [built.criterion(built.model, batch(built, "train", [i]))[2] for i in range(6)]
    for what in ("sum", "count"):
        total = sum(float(log[f"{key}_{what}"]) for log in alone)
        assert float(together[f"{key}_{what}"]) == pytest.approx(total, rel=1e-5)


def test_ctc_reads_the_transcript_without_cls_and_sep(world):
    built = with_objective(world, "ctc")
    sample = batch(built, "train", range(6))
    for tokens, text, padding in zip(
        alignment(built.model, sample["net_input"]).tokens,
        sample["net_input"]["text"],
        sample["net_input"]["text_padding_mask"],
        strict=True,
    ):
        assert tokens[tokens >= 0].tolist() == text[~padding][1:-1].tolist()


def test_llm_ctc_reads_the_transcript_in_the_tokens_of_an_answer(world):
    built = with_objective(world, "llm-ctc")
    stage2 = build_stage2(world)
    stage2.task.load_dataset("train2")
    sample = batch(built, "train", range(2))
    builder = stage2.task.dataset("train2").text.builder
    for tokens, reference in zip(sample["net_input"]["llm_text"], sample["reference"], strict=True):
        assert [*tokens[tokens >= 0].tolist(), builder.end_of_turn] == builder.encode_answer(reference)


def test_transcripts_without_room_are_counted(world):
    built = build_stage1(world, "--objective", "ctc", "--queries", "1")
    _, _, log = built.criterion(built.model, batch(built, "train", range(8)))
    tokens = (alignment(built.model, batch(built, "train", range(8))["net_input"]).tokens >= 0).sum(dim=1)
    assert log["ctc_skipped"] == (tokens > 1).sum() > 0
    assert log["ctc_rows"] == 8


@pytest.mark.parametrize("kind", ["mlp", "scaled"])
def test_stage2_takes_the_projector_along(world, tmp_path, kind):
    first = build_stage1(world, "--objective", "llm-ctc", "--llm", str(world.llm), "--projector", kind)
    path = save_adapter(first, tmp_path / "stage1.pt")
    second = build_stage2_from(world, path)
    for name, value in first.model.adapter.projector.state_dict().items():
        assert torch.equal(second.model.adapter.projector.state_dict()[name], value)
    assert str(second.cfg.model.projector) == kind


@pytest.mark.parametrize("first", ["sparqle", None])
def test_a_scaled_projector_that_is_new_in_stage2_knows_the_llms_embeddings(world, tmp_path, first):
    more = ["--projector", "scaled"]
    if first:
        path = save_adapter(build_stage1(world, "--objective", first), tmp_path / "stage1.pt")
        built = build_stage2_from(world, path, *more)
    else:
        built = build_stage2(world, *more)
    table = built.model.llm.all_embeddings().float()
    projector = built.model.adapter.projector
    torch.testing.assert_close(projector.mean, table.mean(dim=0))
    assert float(projector.spread) == pytest.approx(float((table - table.mean(dim=0)).square().mean().sqrt()), rel=1e-4)


def test_the_projector_of_another_llm_is_refused(world, tmp_path):
    first = with_objective(world, "llm-ctc")
    path = save_adapter(first, tmp_path / "stage1.pt")
    other = tiny.save_llm(tmp_path / "llm", seed=3)
    with pytest.raises(IdentityError, match="trained with another LLM"):
        build_stage2_from(world, path, "--llm", str(other))


def test_llm_ctc_without_an_llm_and_an_llm_without_llm_ctc_are_refused(world):
    with pytest.raises(SparqleError, match="name the LLM with --llm"):
        build_stage1(world, "--objective", "llm-ctc")
    with pytest.raises(SparqleError, match="leave --llm out until stage 2"):
        build_stage1(world, "--llm", str(world.llm))


def test_text_is_written_by_stg_alone(world):
    with pytest.raises(SparqleError, match="only stg teaches"):
        with_objective(world, "llm-ctc").model.step_decoder()


def test_what_an_objective_cannot_do_is_said_at_once(world, tmp_path):
    llm_ctc = ("--objective", "llm-ctc", "--llm", str(world.llm))
    with pytest.raises(SparqleError, match="only stg teaches"):
        build_stage1(world, *llm_ctc, "--eval-generate")
    with pytest.raises(SparqleError, match="only stg teaches"):
        build_stage1(world, *llm_ctc, "--visualize-interval", "5", "--tensorboard-logdir", str(tmp_path))
    first = save_adapter(with_objective(world, "llm-ctc"), tmp_path / "stage1.pt")
    board = ("--visualize-interval", "5", "--tensorboard-logdir", str(tmp_path))
    with pytest.raises(SparqleError, match="cannot be aligned"):
        build_stage2_from(world, first, "--compress-queries", *board)


def test_retrieval_needs_the_contrastive_objective(world, tmp_path):
    train_here([*pretrain_arguments(world, tmp_path, "--objective", "stg", updates=1), "--disable-validation"])
    with pytest.raises(SparqleError, match="--objective stg, and only stc compares"):
        evaluate_retrieval(world.data / "train.tsv", tmp_path / "checkpoint_last.pt", cpu=True)


def test_the_llm_is_in_no_checkpoint(world):
    built = with_objective(world, "llm-ctc")
    embeddings = built.model.adapter.llm_space._table.module.weight
    assert not embeddings.requires_grad
    assert all(value.shape != embeddings.shape for value in built.model.state_dict().values())


def test_smoothing_of_the_contrastive_target_is_an_option(world):
    for smoothing, largest in (("0", 1.0), ("0.4", 0.6 + 0.4 / 3)):
        built = build_stage1(world, "--stc-smoothing", smoothing)
        smoothing = built.model.adapter.objectives["stc"].loss_options.stc_smoothing
        targets = losses.contrastive_targets(torch.arange(3), torch.arange(3), smoothing)
        assert targets.max().item() == pytest.approx(largest)
    with pytest.raises(SparqleError, match="must be 0 to 1"):
        build_stage1(world, "--stc-smoothing", "1.5")


def test_uniform_negatives_ignore_the_similarity(world, monkeypatch):
    from sparqle_fairseq.models.stage1.objectives import stm as module

    seen = []
    real = module.draw_negatives
    monkeypatch.setattr(module, "draw_negatives", lambda s, *rest: seen.append(s) or real(s, *rest))
    for kind, flat in (("hard", False), ("uniform", True)):
        seen.clear()
        built = build_stage1(world, "--stm-negatives", kind)
        built.criterion(built.model, batch(built, "train", range(4)))
        assert len(seen) == 2
        assert all(bool((s == s[0, 0]).all()) == flat for s in seen)


def test_a_frozen_qformer_neither_learns_nor_drops_out(world, tmp_path):
    path = save_adapter(build_stage1(world), tmp_path / "stage1.pt")
    built = build_stage2_from(world, path, "--freeze-qformer")
    trained = {name for name, parameter in built.model.named_parameters() if parameter.requires_grad}
    assert trained == {"adapter.projector.weight", "adapter.projector.bias"}
    assert "adapter.qformer.query_tokens" in built.model.state_dict()
    built.model.train()
    assert not built.model.adapter.qformer.training
    sample = batch(built, "train2", range(3))
    first, second = (built.criterion(built.model, sample)[0] for _ in range(2))
    assert torch.equal(first, second)
    with pytest.raises(SparqleError, match="give it with --pretrained-adapter"):
        build_stage2(world, "--freeze-qformer")


def test_llm_ctc_learns_through_the_command(world, tmp_path):
    arguments = pretrain_arguments(world, tmp_path, "--objective", "llm-ctc", "--llm", world.llm, updates=60)
    train_here([*arguments, "--disable-validation", "--dropout", "0"])
    model = load_trained(tmp_path / "checkpoint_last.pt", cpu=True).model
    built = with_objective(world, "llm-ctc")
    sample = batch(built, "train", range(8))["net_input"]
    before, after = (float(ctc_loss(*alignment(one, sample))[0].sum()) for one in (built.model, model))
    assert after < 0.5 * before
