"""Stage 2: the answer alone bears loss, training and generation meet the same prompt, the LLM stays as it is."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from tiny_models import batch, build_stage2

from sparqle_fairseq.data.instructions import SPEECH_PLACE
from sparqle_fairseq.models.stage2.prompted import splice

CLOSE = {"atol": 1e-5, "rtol": 1e-4}


def test_splice_puts_the_speech_in_its_place():
    words = torch.arange(8.0).reshape(2, 4, 1)
    prompt = torch.tensor([[9, SPEECH_PLACE, 9, 9], [0, 0, SPEECH_PLACE, 9]])
    padding = torch.tensor([[False] * 4, [True, True, False, False]])
    joined, seen = splice(words, prompt, padding, torch.full((2, 2, 1), -5.0))
    assert joined[..., 0].tolist() == [[0, -5, -5, 2, 3], [4, 5, -5, -5, 7]]
    assert seen.tolist() == [[True] * 5, [False, False, True, True, True]]


def test_the_loss_is_that_of_the_answer_alone(stage2):
    sample = batch(stage2, "train2", range(4))
    logits = stage2.model(**sample["net_input"])
    assert logits.shape[:2] == sample["target"].shape, "logits only where there is loss"
    loss, size, _ = stage2.criterion(stage2.model, sample)
    real = ~sample["net_input"]["answer_padding_mask"]
    expected = torch.nn.functional.cross_entropy(logits[real], sample["target"][real], reduction="sum")
    torch.testing.assert_close(loss, expected, **CLOSE)
    assert size == int(real.sum()) == sample["ntokens"]


def test_the_end_of_turn_is_learned(stage2):
    sample = batch(stage2, "train2", range(4))
    real = ~sample["net_input"]["answer_padding_mask"]
    for row, mask in zip(sample["target"], real, strict=True):
        assert int(row[mask][-1]) == stage2.model.llm.end


def test_a_target_keeps_its_case(stage2):
    dataset = (
        stage2.task.datasets.get("train2")
        or (
            stage2.task.load_dataset("train2"),
            stage2.task.dataset("train2"),
        )[-1]
    )
    index = next(i for i in range(len(dataset)) if dataset.row(i).tgt_lang == "fr")
    answer = dataset[index]["answer"]
    assert stage2.model.llm.decode(answer) == dataset.row(index).tgt_text
    assert dataset.row(index).tgt_text != dataset.row(index).tgt_text.lower()


def test_the_prompt_is_the_same_in_training_and_generation(stage2):
    """Up to the wording: with training's draw switched off, every id of the prompt is equal."""
    stage2.task.load_dataset("dev2")
    evaluated = stage2.task.dataset("dev2")
    training = copy.copy(evaluated)
    training.text = stage2.task.text_side(training=True, saved=None)
    wordings = stage2.task.text_side(training=True, saved=None).templates.wordings
    only_first = {task: {code: lines[:1] for code, lines in languages.items()} for task, languages in wordings.items()}
    training.text.templates = dataclasses.replace(training.text.templates, wordings=only_first)
    for i in range(len(evaluated)):
        assert training[i]["prompt"] == evaluated[i]["prompt"]


def test_wordings_are_drawn_by_seed_epoch_and_utterance(stage2):
    stage2.task.load_dataset("train2")
    dataset = stage2.task.dataset("train2")
    dataset.set_epoch(1)
    first = [dataset[i]["prompt"] for i in range(len(dataset))]
    assert first == [dataset[i]["prompt"] for i in range(len(dataset))]
    utterances = {tuple(prompt) for prompt in first}
    assert len(utterances) > 2 * len({dataset.row(i).tgt_lang for i in range(len(dataset))}), "by utterance"
    dataset.set_epoch(2)
    assert first != [dataset[i]["prompt"] for i in range(len(dataset))], "by epoch"
    dataset.set_epoch(1)
    dataset.text.sample_seed += 1
    assert first != [dataset[i]["prompt"] for i in range(len(dataset))], "by seed"
    stage2.task.datasets.pop("train2")


@pytest.mark.parametrize("rows", [[0, 5], [3, 4, 9, 1]])
def test_batch_mates_change_no_logit(stage2, rows):
    together = stage2.model(**batch(stage2, "train2", rows)["net_input"])
    for i, row in enumerate(rows):
        alone = stage2.model(**batch(stage2, "train2", [row])["net_input"])[0]
        torch.testing.assert_close(together[i, : len(alone)], alone, atol=1e-4, rtol=1e-4)


def test_a_training_step_changes_neither_llm_nor_encoder(world):
    built = build_stage2(world)
    frozen = [*built.model.llm.model.parameters(), *built.model.speech_encoder.frozen.module.parameters()]
    before = [parameter.clone() for parameter in frozen]
    optimizer = torch.optim.SGD(built.model.parameters(), lr=0.1)
    built.model.train()
    loss, _, _ = built.criterion(built.model, batch(built, "train2", range(4)))
    loss.backward()
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, frozen, strict=True))
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in frozen)
    assert not any(module.training for module in built.model.llm.model.modules())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in built.model.parameters())


def test_the_llm_keeps_its_own_precision(world):
    built = build_stage2(world, "--llm-dtype", "bf16")
    built.model.half()
    assert built.model.llm.frozen.dtype == torch.bfloat16
    assert built.model.adapter.projector.weight.dtype == torch.float16


def test_every_token_that_ends_an_answer_counts_as_its_end(stage2):
    llm = copy.copy(stage2.model.llm)
    llm.ends = sorted({llm.end, 7, 9})
    logits = torch.randn(3, llm.vocab_size)
    joined = llm.join_ends(logits).softmax(dim=-1)
    plain = logits.softmax(dim=-1)
    torch.testing.assert_close(joined[:, llm.end], plain[:, llm.ends].sum(dim=1))
    assert joined[:, [7, 9]].sum() == 0
