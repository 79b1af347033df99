"""Transcripts of llm-ctc in an LLM's shorter tokens: its own ids, its own text, and sentences for what cannot be."""

from __future__ import annotations

import pytest
from llm_families import FAMILIES, byte_bpe, sentence_piece, word_piece
from models import batch, build_stage1, build_stage2_from, save_adapter

from sparqle_fairseq.data.spelling import Spelling
from sparqle_fairseq.data.text import TokenizerError

TEXT = "Say the same in Spanish, in a zigzag way."


def tokenizer_of(kind, folder):
    if kind is sentence_piece:
        return sentence_piece(folder, None, (), "LlamaTokenizer", bos_token="<s>", eos_token="</s>")
    return kind(folder, None, FAMILIES["llama"].special, **FAMILIES["llama"].roles)


@pytest.mark.parametrize("kind", [byte_bpe, sentence_piece])
def test_fewer_merges_spell_the_same_text_in_more_and_fewer_kinds_of_the_llms_tokens(kind, tmp_path):
    tokenizer = tokenizer_of(kind, tmp_path)
    whole = Spelling(tokenizer)(TEXT)
    assert whole == tokenizer.encode(TEXT, add_special_tokens=False)
    lengths = []
    for merges in (5, 40, 80):
        short = Spelling(tokenizer, merges)(TEXT)
        assert tokenizer.decode(short, skip_special_tokens=True).strip() == TEXT
        lengths.append(len(short))
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > 1.5 * len(whole)


def test_all_merges_are_the_llms_own_spelling(tmp_path):
    tokenizer = tokenizer_of(byte_bpe, tmp_path)
    with pytest.raises(TokenizerError, match=r"--llm-ctc-merges 100000 must be 1 to (\d+)") as error:
        Spelling(tokenizer, 100000)
    most = int(str(error.value).split(" to ")[1].split(",")[0])
    assert Spelling(tokenizer, most)(TEXT) == Spelling(tokenizer)(TEXT)


def test_whole_words_are_not_looked_up_where_the_tokenizer_would(tmp_path):
    """Llama 3 takes a word that its vocabulary has before it looks at any merge."""
    import json

    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    backend = tokenizer_of(byte_bpe, tmp_path).backend_tokenizer
    content = json.loads(backend.to_str())
    content["model"]["ignore_merges"] = True
    eager = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(content)))
    assert len(Spelling(eager, 5)(TEXT)) > 1.5 * len(Spelling(eager)(TEXT))


def test_a_tokenizer_without_merges_is_refused_with_the_remedy(tmp_path):
    tokenizer = word_piece(tmp_path, None, (), eos_token="[SEP]", pad_token="[PAD]")
    with pytest.raises(TokenizerError, match=r"the tokenizer of \./llm is WordPiece .* leave the option out"):
        Spelling(tokenizer, 10, "./llm")


def test_stage1_learns_the_shorter_tokens_and_stage2_goes_on_from_it(world, tmp_path):
    options = ["--objective", "llm-ctc", "--llm", str(world.llm)]
    whole = batch(build_stage1(world, *options), "train", range(4))["net_input"]["llm_text"]
    built = build_stage1(world, *options, "--llm-ctc-merges", "20")
    sample = batch(built, "train", range(4))
    short = sample["net_input"]["llm_text"]
    assert (short >= 0).sum() > 1.5 * (whole >= 0).sum()
    loss, _, log = built.criterion(built.model.train(), sample)
    loss.backward()
    assert log["llm_ctc_rows"] == 4
    build_stage2_from(world, save_adapter(built, tmp_path / "stage1.pt"), "--compress-queries")
