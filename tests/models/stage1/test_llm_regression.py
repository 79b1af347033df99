"""`llm-regression`: the path that CTC takes, and how far queries lie from the tokens on it."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch
from small_qformers import STILL
from tiny_models import batch, build_stage1, with_objective
from torch import nn

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.stage1.batch import Stage1Batch
from sparqle_fairseq.models.stage1.forced import NOTHING, forced_path
from sparqle_fairseq.models.stage1.objectives import Given
from sparqle_fairseq.models.stage1.objectives.llm_ctc import LLMSpace
from sparqle_fairseq.models.stage1.objectives.llm_regression import LLMRegression

# Rows: two different tokens; two equal ones, which need a blank between them; one; more than fit; none.
TOKENS = torch.tensor([[4, 9, -1], [7, 7, -1], [3, -1, -1], [5, 5, 5], [-1, -1, -1]])
LENGTHS = torch.tensor([5, 4, 1, 4, 3])


def emissions():
    logits = torch.randn(5, 5, 4, generator=torch.Generator().manual_seed(2))
    same = TOKENS[:, 1:] == TOKENS[:, :-1]
    logits[:, :, 2][same[:, 0]] = logits[:, :, 1][same[:, 0]]  # equal tokens are equally likely
    logits[:, :, 3][same[:, 1]] = logits[:, :, 2][same[:, 1]]
    return logits.log_softmax(dim=-1)


def best_of_all(log_probs, length, tokens):
    """The likeliest of all paths, tried one after the other, as places of tokens."""
    best, found = -float("inf"), None
    for path in itertools.product(range(len(tokens) + 1), repeat=length):  # 0: blank, j: the j-th token
        collapsed = [place for place, _ in itertools.groupby(path) if place]
        neighbours = itertools.pairwise(path)
        alone = all(not a or not b or a == b or tokens[a - 1] != tokens[b - 1] for a, b in neighbours)
        score = float(sum(log_probs[query, place] for query, place in enumerate(path)))
        if collapsed == list(range(1, len(tokens) + 1)) and alone and score > best:
            best, found = score, [place - 1 for place in path]
    return found


def test_the_path_is_the_likeliest_of_all():
    log_probs = emissions()
    paths = forced_path(log_probs, LENGTHS, TOKENS)
    for row in (0, 1, 2, 4):
        length, tokens = int(LENGTHS[row]), [token for token in TOKENS[row].tolist() if token >= 0]
        assert paths[row, :length].tolist() == best_of_all(log_probs[row], length, tokens)
        assert (paths[row, length:] == NOTHING).all()
    assert (paths[3] == NOTHING).all()  # 5 5 5 needs five queries


def test_padding_changes_no_path():
    log_probs = emissions()
    together = forced_path(log_probs, LENGTHS, TOKENS)
    for row in range(3):
        length, count = int(LENGTHS[row]), int((TOKENS[row] >= 0).sum())
        alone = forced_path(
            log_probs[row : row + 1, :length, : 1 + count], LENGTHS[row : row + 1], TOKENS[row : row + 1, :count]
        )
        assert alone[0].tolist() == together[row, :length].tolist()


def by_hand(distance="squared", margin=0.0):
    """Four tokens at the corners of a square of side 2; queries on the blank, near a corner, and exactly on one."""
    space = LLMSpace(torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]))
    points = torch.tensor([[[0.0, 0.0], [1.0, 2.0], [-1.0, -1.0], [9.0, 9.0]]])
    adapter = SimpleNamespace(projector=nn.Identity(), llm_space=space, qformer=None)
    adapter.plain = lambda *_: SimpleNamespace(hidden=points, padding_mask=torch.tensor([[False, False, False, True]]))
    text = SimpleNamespace(llm_tokens=torch.tensor([[0, 3, -1]]), llm_lengths=None)
    objective = LLMRegression(Given(STILL, ("llm-ctc", "llm-regression")))
    objective.settle(SimpleNamespace(llm_regression_distance=distance, llm_regression_margin=margin))
    speech = Stage1Batch(adapter, torch.zeros(1, 4, 1), torch.zeros(1, 4, dtype=torch.bool), text, 0)
    return {name: value.item() for name, value in objective.sums(adapter, speech).items()}


def test_the_distance_is_that_to_the_tokens_of_the_path():
    # Two tokens are 4 apart on average, squared: each is sqrt(2) from the middle. The second query is 1 from token 0,
    # the third 0 from token 3; the first is a blank and the fourth is padding.
    assert by_hand() == pytest.approx({"sum": 0.25, "count": 2, "distance": 0.25})
    assert by_hand(margin=0.1) == pytest.approx({"sum": 0.15, "count": 2, "distance": 0.25})
    assert by_hand(margin=0.3) == pytest.approx({"sum": 0.0, "count": 2, "distance": 0.25})
    apart = 1 - 3 / 10**0.5  # of (1, 2) and (1, 1)
    assert by_hand("cosine") == pytest.approx({"sum": apart, "count": 2, "distance": apart}, abs=1e-6)


def test_the_batch_changes_no_distance(world):
    built = with_objective(world, "llm-ctc+0.1*llm-regression")
    model = built.model
    together = model(**batch(built, "train", [0, 5, 9, 2])["net_input"])["llm-regression"]
    alone = [model(**batch(built, "train", [row])["net_input"])["llm-regression"] for row in (0, 5, 9, 2)]
    for name in together:
        assert sum(one[name].item() for one in alone) == pytest.approx(together[name].item(), rel=1e-4)
    assert together["count"] > 0


def test_the_alignment_is_made_once_and_the_embeddings_stay(world, monkeypatch):
    built = with_objective(world, "llm-ctc+0.1*llm-regression")
    calls = []
    whole = LLMSpace.forward
    monkeypatch.setattr(LLMSpace, "forward", lambda *given: calls.append(1) or whole(*given))
    loss, _, log = built.criterion(built.model, batch(built, "train", range(4)))
    loss.backward()
    assert len(calls) == 1
    assert log["llm_regression_distance"] > 0
    assert all(value.grad is not None for _, value in built.model.named_parameters() if value.requires_grad)


def test_it_goes_with_llm_ctc_alone(world):
    with pytest.raises(SparqleError, match=r"follows the path of llm-ctc; add that, as in llm-ctc\+0.1"):
        build_stage1(world, "--objective", "ctc+llm-regression", "--llm", str(world.llm))
    with pytest.raises(SparqleError, match="--llm-regression-margin -1 must be 0 or more"):
        build_stage1(
            world, "--objective", "llm-ctc+llm-regression", "--llm", str(world.llm), "--llm-regression-margin", "-1"
        )
