"""The demo's language model: what it is trained to answer."""

from __future__ import annotations

import sys

import pytest
from commands import ROOT

sys.path += [str(ROOT / "examples"), str(ROOT / "examples" / "demo")]

import lm
from lexicon import Phrase

from sparqle_fairseq.data.answers import final_text

ROWS = [
    Phrase("a red cat", "un chat rouge", "eine rote Katze", "un gato rojo", "赤い猫"),
    Phrase("the blue house", "la maison bleue", "das Haus", "la casa azul", "青い家"),
]


@pytest.fixture(scope="module")
def tokenizer():
    return lm.build_tokenizer([text for row in ROWS for text in row] * 5, 400)


def answers(examples, count=200):
    """Texts that are to be answered, without the token that ends a turn."""
    batch = examples.draw(count)
    return {examples.builder.tokenizer.decode(row[row != -100][:-1], skip_special_tokens=False) for row in batch.target}


def test_an_ordinary_model_also_learns_to_write_the_sentence_before_its_translation(tokenizer):
    found = answers(lm.Examples(ROWS, tokenizer, seed=1, plain=True))
    both = {text for text in found if "\n" in text}
    assert both == {f"{row.en}\n{other}" for row in ROWS for other in row[1:]}
    assert {final_text(text, "transcript-first") for text in both} == {other for row in ROWS for other in row[1:]}
    assert found - both == {text for row in ROWS for text in row}


def test_the_demos_model_learns_single_answers(tokenizer):
    assert answers(lm.Examples(ROWS, tokenizer, seed=1)) == {text for row in ROWS for text in row}


def test_text_without_translations_is_repeated_only(tokenizer):
    bare = [Phrase(row.en, *[""] * 4) for row in ROWS]
    assert answers(lm.Examples(bare, tokenizer, seed=1, plain=True)) == {row.en for row in ROWS}


def test_asking_for_both_is_another_instruction_than_asking_for_the_translation(tokenizer):
    examples = lm.Examples(ROWS, tokenizer, seed=1, plain=True)
    assert examples.prompt("fr", None, both=True) != examples.prompt("fr", None)
