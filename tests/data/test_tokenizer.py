"""A tokenizer trained on transcripts: the same from the same texts, and its words come back."""

from __future__ import annotations

import random

import pytest

from sparqle_fairseq.data.text import TranscriptTokenizer, train_wordpiece


def texts_with_ties():
    """Words without sense: many merges are as frequent as others."""
    draw = random.Random(0)
    return [" ".join("".join(draw.choices("abcdefgh", k=4)) for _ in range(4)) for _ in range(40)]


@pytest.mark.parametrize("size", [30, 60, 400], ids=["hardly a merge", "some merges", "all merges"])
def test_the_same_transcripts_give_the_same_tokenizer(tmp_path, size):
    """A resumed or repeated experiment that trains its tokenizer again must meet the ids it knows."""
    files = []
    for turn in range(4):  # each from hash tables of its own
        train_wordpiece(iter(texts_with_ties()), tmp_path / str(turn), vocab_size=size)
        files.append((tmp_path / str(turn) / "tokenizer.json").read_bytes())
    assert len(set(files)) == 1


def test_characters_within_words_are_ordinary_tokens(tmp_path):
    train_wordpiece(["Fuchs und Hund", "l'été"] * 3, tmp_path, vocab_size=60)
    tokenizer = TranscriptTokenizer.load(str(tmp_path))
    assert len(tokenizer.tokenizer) <= 60
    assert tokenizer.tokenizer.all_special_tokens == ["[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"]
    assert tokenizer.decode(tokenizer.encode("Hund l'été")) == "Hund l ' été"
    assert tokenizer.tokenizer.tokenize("Funds")[1].startswith("##"), "read as text, not as a word of its own"
    assert tokenizer.tokenizer.tokenize("##u") == ["[UNK]", "[UNK]", "u"], "as text it means nothing"
