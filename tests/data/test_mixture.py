"""Two styles of answers in one training, and transcripts with errors that nobody learns to make."""

from __future__ import annotations

import pytest
import torch
from tiny_models import batch, build_stage2

from sparqle_fairseq.data.mixture import Mixture
from sparqle_fairseq.errors import SparqleError

WORDS = "the red fox runs to the blue dog and sleeps there all day"


def test_styles_are_drawn_by_seed_epoch_and_row_in_their_share():
    mixture = Mixture(seed=1, other_share=0.3)
    rows = [f"u{i}" for i in range(2000)]
    found = [mixture.style("direct", row, 1) for row in rows]
    assert found.count("transcript-first") / len(rows) == pytest.approx(0.3, abs=0.04)
    assert found == [mixture.style("direct", row, 1) for row in rows]
    assert found != [mixture.style("direct", row, 2) for row in rows]
    assert found != [Mixture(2, 0.3).style("direct", row, 1) for row in rows]
    assert {Mixture(1, 1.0).style("transcript-first", row, 1) for row in rows} == {"direct"}


def test_half_of_the_transcripts_have_errors_in_their_share_of_words():
    mixture = Mixture(seed=1, errors=0.2)
    found = [mixture.with_errors(WORDS, f"u{i}", 1) for i in range(2000)]
    wrong = [text for text in found if text is not None]
    assert len(wrong) / len(found) == pytest.approx(0.5, abs=0.04)
    lengths = [len(text.split()) for text in wrong]
    # A word in five is changed: of these one in three is missing, and one in three stands twice.
    assert sum(lengths) / len(lengths) == pytest.approx(13, abs=0.3)
    assert {10, 16} & set(lengths)
    assert all(set(text.split()) <= set(WORDS.split()) for text in wrong)
    assert any(len(text.split()) == 13 and text != WORDS for text in wrong), "some stand in place of others"
    assert Mixture(1, errors=0.0).with_errors(WORDS, "u1", 1) is None


def test_a_script_without_spaces_has_errors_in_its_characters_and_something_stays():
    found = [Mixture(1, errors=1.0).with_errors("赤い狐が走る", f"u{i}", 1) for i in range(200)]
    wrong = {text for text in found if text is not None}
    assert len(wrong) > 50
    assert all(text and " " not in text for text in wrong)


def test_training_has_both_styles_and_validation_one(world):
    built = build_stage2(world, "--answer-mix", "0.5")
    llm = built.model.llm
    for split, both in (("train2", True), ("dev2", False)):
        built.task.load_dataset(split)
        dataset = built.task.dataset(split)
        rows = [i for i in range(len(dataset)) if dataset.row(i).task == "translation"]
        answers = [llm.decode(dataset[i]["answer"]) for i in rows]
        assert {"\n" in answer for answer in answers} == ({False, True} if both else {False})
        for i, answer in zip(rows, answers, strict=True):
            prompt = llm.decode([token for token in dataset[i]["prompt"] if token >= 0])
            asked = "ranscri" in prompt or "Write down" in prompt or "First write" in prompt
            assert asked == ("\n" in answer), "asked as it is answered"
        built.task.datasets.pop(split)


def test_the_loss_is_that_of_the_translation_behind_a_transcript_with_errors(world):
    built = build_stage2(world, "--answer", "transcript-first", "--transcript-errors", "0.5")
    sample = batch(built, "train2", range(16))
    given = sample["given"]
    model, llm = built.model, built.model.llm
    rows = given.any(dim=1).nonzero()[:, 0].tolist()
    assert rows
    assert len(rows) < 16
    for row in rows:
        real = ~sample["net_input"]["answer_padding_mask"][row]
        assert llm.decode(sample["target"][row][given[row]].tolist()).endswith("\n")
        assert llm.decode(sample["target"][row][real & ~given[row]].tolist()) == sample["reference"][row]
    logits = model(**sample["net_input"])
    learned = ~sample["net_input"]["answer_padding_mask"] & ~given
    loss, size, _ = built.criterion(model, sample)
    expected = torch.nn.functional.cross_entropy(logits[learned], sample["target"][learned], reduction="sum")
    torch.testing.assert_close(loss, expected, atol=1e-4, rtol=1e-4)
    assert size == int(learned.sum())


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--answer-mix", "1.5"], "--answer-mix 1.5 is a share"),
        (["--transcript-errors", "-1", "--answer", "transcript-first"], "--transcript-errors -1 is a share"),
        (["--transcript-errors", "0.1"], "is for answers with the transcript first"),
        (["--answer-mix", "0.5", "--objective", "minimum-risk"], "compares answers of one style"),
    ],
)
def test_what_cannot_be_is_one_sentence(world, more, complaint):
    built = build_stage2(world, *more)
    with pytest.raises(SparqleError, match=complaint):
        built.task.load_dataset("train2")
