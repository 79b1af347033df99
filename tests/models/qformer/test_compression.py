"""--compress-queries: the LLM is given what CTC reads from the queries; --soft-tokens: as mixtures of its tokens."""

from __future__ import annotations

import pytest
import torch
from tiny_models import batch, build_stage1, build_stage2_from, save_adapter, with_objective

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.qformer.compression import join_repeats
from sparqle_fairseq.models.stage1.objectives.llm_ctc import LLMSpace


def numbered(labels):
    """Points that are their own place, 1 and up, in both channels."""
    places = torch.arange(1, labels.size(1) + 1, dtype=torch.float32)
    return places[None, :, None].expand(labels.size(0), -1, 2)


def test_blanks_go_and_neighbours_that_say_the_same_are_joined():
    labels = torch.tensor([[0, 3, 3, 0, 3, 5], [7, 7, 7, 7, 7, 7], [1, 2, 0, 0, 2, 2]])
    points, padding = join_repeats(numbered(labels), labels, None)
    assert points[..., 0].tolist() == [[2.5, 5, 6], [3.5, 0, 0], [1, 2, 5.5]]
    assert padding.tolist() == [[False, False, False], [False, True, True], [False, False, False]]


def test_speech_that_is_all_blank_keeps_a_query():
    labels = torch.tensor([[0, 0, 0], [0, 4, 0]])
    points, padding = join_repeats(numbered(labels), labels, None)
    assert points[..., 0].tolist() == [[1], [2]]
    assert not padding.any()


def test_queries_that_do_not_count_are_no_run():
    labels = torch.tensor([[3, 4, 4, 4], [3, 3, 3, 0]])
    padding_mask = torch.tensor([[False, False, True, True], [False, False, False, False]])
    points, padding = join_repeats(numbered(labels), labels, padding_mask)
    assert points[..., 0].tolist() == [[1, 2], [2, 0]]
    assert padding.tolist() == [[False, False], [False, True]]


def test_the_gradient_reaches_every_query_of_a_run():
    labels = torch.tensor([[0, 3, 3, 5]])
    points = numbered(labels).clone().requires_grad_()
    join_repeats(points, labels, None)[0].sum().backward()
    assert points.grad[0, :, 0].tolist() == [0, 0.5, 0.5, 1]


def test_labels_are_the_nearest_points():
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(30, 8, generator=generator)
    space = LLMSpace(table)
    points = torch.randn(4, 6, 8, generator=generator)
    everything = torch.cat([space.blank.detach()[None], table])
    nearest = torch.cdist(points.reshape(-1, 8), everything).argmin(dim=1).view(4, 6)
    assert torch.equal(space.labels(points), nearest)


def test_soft_tokens_are_the_tokens_weighted_by_their_softmax():
    torch.manual_seed(0)
    table = torch.randn(20, 8)
    space = LLMSpace(table)
    points = torch.randn(4, 6, 8)
    shares = (-space.scale * torch.cdist(points, table).square()).softmax(dim=-1)
    torch.testing.assert_close(space.soft_tokens(points), shares @ table)
    # A query far beyond a token becomes that token, which the LLM has met in text.
    corners = torch.eye(20)
    torch.testing.assert_close(LLMSpace(corners).soft_tokens(10 * corners[None]), corners[None])


@pytest.fixture(params=[(), ("--soft-tokens",)], ids=["means of queries", "soft tokens"])
def compressed(request, world, tmp_path):
    first = with_objective(world, "llm-ctc")
    path = save_adapter(first, tmp_path / "stage1.pt")
    built = build_stage2_from(world, path, "--compress-queries", *request.param)
    built.model.eval()
    return built


def test_the_llm_sees_as_many_embeddings_as_there_are_runs(compressed):
    sample = batch(compressed, "train2", range(6))["net_input"]
    speech = compressed.model.encode_speech(sample["source"], sample["padding_mask"])
    adapter = compressed.model.adapter
    points, padding = adapter(speech.values, speech.padding_mask)
    queries = adapter.qformer.query(adapter.qformer.read_speech(speech.values, speech.padding_mask))
    labels = adapter.llm_space.labels(adapter.projector(queries.hidden))
    for row, beyond in zip(labels.tolist(), padding, strict=True):
        runs = [a for a, b in zip(row, [None, *row], strict=False) if a != b and a]
        assert int((~beyond).sum()) == max(len(runs), 1)
    assert points.size(1) <= queries.hidden.size(1)


def test_a_batch_changes_nothing(compressed):
    whole = batch(compressed, "train2", range(6))
    logits = compressed.model(**whole["net_input"])
    for i in range(6):
        one = batch(compressed, "train2", [i])
        alone = compressed.model(**one["net_input"])[0]
        torch.testing.assert_close(logits[i, : alone.size(0)], alone, atol=1e-4, rtol=1e-4)


def test_the_blank_is_kept_and_learns_no_more(compressed):
    assert "adapter.llm_space.blank" in compressed.model.state_dict()
    compressed.model.train()
    loss, _, _ = compressed.criterion(compressed.model, batch(compressed, "train2", range(4)))
    loss.backward()
    assert compressed.model.adapter.llm_space.blank.grad is None
    assert compressed.model.adapter.projector.weight.grad.abs().sum() > 0


def test_an_adapter_without_llm_ctc_is_refused(world, tmp_path):
    path = save_adapter(build_stage1(world), tmp_path / "stage1.pt")
    with pytest.raises(SparqleError, match="needs an adapter of --objective llm-ctc"):
        build_stage2_from(world, path, "--compress-queries")


def test_the_llm_is_given_mixtures_of_its_tokens(world, tmp_path):
    path = save_adapter(with_objective(world, "llm-ctc"), tmp_path / "stage1.pt")
    joined = build_stage2_from(world, path, "--compress-queries").model.eval()
    soft = build_stage2_from(world, path, "--compress-queries", "--soft-tokens")
    sample = batch(soft, "train2", range(4))["net_input"]
    speech = joined.encode_speech(sample["source"], sample["padding_mask"])
    points, beyond = joined.adapter(speech.values, speech.padding_mask)
    found, also_beyond = soft.model.eval().adapter(speech.values, speech.padding_mask)
    assert torch.equal(beyond, also_beyond)
    torch.testing.assert_close(found, joined.adapter.llm_space.soft_tokens(points))
    assert not torch.allclose(found[~beyond], points[~beyond], atol=0.1)


def test_soft_tokens_without_joined_queries_are_refused(world, tmp_path):
    path = save_adapter(with_objective(world, "llm-ctc"), tmp_path / "stage1.pt")
    with pytest.raises(SparqleError, match="give both"):
        build_stage2_from(world, path, "--soft-tokens")
