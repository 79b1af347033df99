"""A BERT as the Q-Former's start: its text branch is that BERT, queries begin as text does, sizes must fit."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_models import batch, build, stage1_arguments
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
)

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.qformer.bert import check_sizes, fill_from_bert, load_bert
from sparqle_fairseq.models.qformer.qformer import QFormer, QFormerConfig

SIZE = QFormerConfig(
    vocab_size=41, speech_width=12, hidden_size=16, layers=3, heads=4, ffn_size=32, queries=5, max_text_positions=20
)


SHAPE = {
    "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 32,
    "max_position_embeddings": 20, "initializer_range": 0.3,
}  # fmt: skip


def save_bert(folder, name="bert", **change):
    torch.manual_seed(0)
    BertForPreTraining(BertConfig(**{**SHAPE, **change})).save_pretrained(folder / name)
    return str(folder / name)


@pytest.fixture
def bert(tmp_path):
    path = save_bert(tmp_path)
    return BertForPreTraining.from_pretrained(path).eval(), path


def test_the_text_branch_is_the_bert(bert):
    model, path = bert
    qformer = QFormer(SIZE).eval()
    load_bert(qformer, path)
    tokens = torch.tensor([[1, 7, 8, 9, 2], [1, 9, 2, 0, 0]])
    mask = tokens == 0
    expected = model.bert(tokens, attention_mask=(~mask).long()).last_hidden_state
    found = qformer.encode_text(tokens, mask)
    torch.testing.assert_close(found[~mask], expected[~mask], atol=1e-5, rtol=1e-5)


def test_queries_start_with_the_texts_feed_forward(bert):
    qformer = QFormer(SIZE)
    load_bert(qformer, bert[1])
    for layer, source in zip(qformer.layers, bert[0].bert.encoder.layer, strict=True):
        assert torch.equal(layer.query_ffn.expand.weight, source.intermediate.dense.weight)
        assert torch.equal(layer.query_ffn.norm.bias, source.output.LayerNorm.bias)


@pytest.mark.parametrize(
    ("change", "sizes"),
    [
        ({"layers": 2}, "--layers 3"),
        ({"layers": 4}, "--layers 3"),
        ({"hidden_size": 32, "ffn_size": 64}, "--hidden-size 16, --ffn-size 32"),
        ({"heads": 2}, "--heads 4"),
        ({"max_text_positions": 10}, "--max-text-positions 20"),
    ],
)
def test_another_size_is_refused_with_the_options_that_fit(bert, change, sizes):
    with pytest.raises(SparqleError, match=f"a BERT of {sizes}, .*--arch") as error:
        load_bert(QFormer(replace(SIZE, **change)), bert[1])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("tokens", [41, 400])
def test_more_tokens_than_the_bert_has_words_are_refused(bert, tokens):
    """Word i of the one would not be word i of the other."""
    with pytest.raises(SparqleError, match=f"has 40 words and the tokenizer {tokens}; leave --text-tokenizer out"):
        load_bert(QFormer(replace(SIZE, vocab_size=tokens + 1)), bert[1])


def test_far_fewer_tokens_than_the_bert_has_words_are_refused(tmp_path):
    path = save_bert(tmp_path, vocab_size=400)
    with pytest.raises(SparqleError, match="has 400 words and the tokenizer 40"):
        load_bert(QFormer(SIZE), path)


def test_a_vocabulary_that_is_rounded_up_leaves_dec_new(tmp_path):
    """Some BERTs have a few rows more than tokens; [DEC] takes the number of the first, and not its row."""
    path = save_bert(tmp_path, vocab_size=64)
    qformer = QFormer(SIZE)
    new = qformer.text.words.weight[40].clone()
    load_bert(qformer, path)
    assert torch.equal(qformer.text.words.weight[40], new)
    found, _ = BertForPreTraining.from_pretrained(path, output_loading_info=True)
    embeddings = found.bert.embeddings
    expected = embeddings.word_embeddings.weight[:40] + embeddings.token_type_embeddings.weight[0]
    torch.testing.assert_close(qformer.text.words.weight[:40], expected)


@pytest.mark.parametrize("size", ["base", "large"])
def test_the_published_sizes_fit_name_by_name(size):
    """bert-base-uncased, bert-base-multilingual-cased and bert-large-uncased, without their weights."""
    from sparqle_fairseq.models.config import SIZES

    words = {"base": 119547, "large": 30522}[size]
    shape = SIZES[size]
    with torch.device("meta"):
        config = BertConfig(
            vocab_size=words, hidden_size=shape["hidden_size"], num_hidden_layers=shape["layers"],
            num_attention_heads=shape["heads"], intermediate_size=shape["ffn_size"],
        )  # fmt: skip
        bert = BertForPreTraining(config)
        qformer = QFormer(QFormerConfig(vocab_size=words + 1, speech_width=1024, **shape))
        check_sizes(qformer, config, size)
        fill_from_bert(qformer, bert.state_dict(), size)


def test_a_hub_id_while_offline_is_one_sentence(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # what the variable of that name sets
    with pytest.raises(SparqleError) as error:
        load_bert(QFormer(QFormerConfig(40, 8, 16, 1, 2, 32)), "nobody/no-such-bert")
    sentence = str(error.value)
    assert "\n" not in sentence
    assert sentence.startswith("nobody/no-such-bert: no BERT could be read (")
    assert sentence.endswith(
        "give --bert a folder with config.json and model.safetensors, or a hub id that is reachable"
    )


def test_an_older_file_format_is_read_and_runs_no_code(bert, tmp_path):
    folder = tmp_path / "old"
    folder.mkdir()
    shutil.copy(f"{bert[1]}/config.json", folder)
    torch.save(bert[0].state_dict(), folder / "pytorch_model.bin")
    qformer = QFormer(SIZE)
    load_bert(qformer, str(folder))
    assert torch.equal(qformer.text.positions.weight, bert[0].bert.embeddings.position_embeddings.weight)
    mark = tmp_path / "ran"
    torch.save({"bert.x": _Bad(mark)}, folder / "pytorch_model.bin")
    with pytest.raises(SparqleError, match="no BERT could be read"):
        load_bert(QFormer(SIZE), str(folder))
    assert not mark.exists()


class _Bad:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_a_cased_multilingual_bert_starts_stage_1(world, tmp_path):
    """Its own tokenizer, cased, with [DEC] behind its words; nothing else is to be given."""
    from sparqle_fairseq.data.text import train_wordpiece

    texts = ["Der Hund schläft", "Le renard court", "Кошка спит", "The red fox sleeps"]
    train_wordpiece(texts * 3, tmp_path / "mbert", vocab_size=200)
    words = len(AutoTokenizer.from_pretrained(tmp_path / "mbert"))
    save_bert(tmp_path, "mbert", vocab_size=words, num_hidden_layers=2, hidden_size=32, intermediate_size=64,
              max_position_embeddings=512)  # fmt: skip
    arguments = stage1_arguments(world)
    arguments[arguments.index("--text-tokenizer")] = "--bert"
    arguments[arguments.index("--bert") + 1] = str(tmp_path / "mbert")
    built = build(arguments)
    assert built.model.adapter.decode_token == words
    assert built.model.adapter.qformer.config.vocab_size == words + 1
    for text in texts:
        tokens = built.model.tokenizer.encode(text)
        assert built.model.tokenizer.decode(tokens) == text, "case and script are kept"
    loss, _, _ = built.criterion(built.model, batch(built, "train", range(4)))
    loss.backward()
    assert built.model.adapter.qformer.text.words.weight.grad[words].abs().sum() > 0, "[DEC] learns"


@pytest.mark.parametrize("kind", [BertForMaskedLM, BertModel])
def test_a_bert_without_every_head_will_do(bert, tmp_path, caplog, kind):
    """Hub ids differ in what they kept; a new prediction head is said to be new."""
    kind.from_pretrained(bert[1]).save_pretrained(tmp_path / "part")
    qformer = QFormer(SIZE)
    load_bert(qformer, str(tmp_path / "part"))
    assert torch.equal(qformer.text.positions.weight, bert[0].bert.embeddings.position_embeddings.weight)
    kept = torch.equal(qformer.text.head.transform.weight, bert[0].cls.predictions.transform.dense.weight)
    assert kept == (kind is BertForMaskedLM)
    assert ("has no prediction head" in caplog.text) == (kind is BertModel)


def test_a_bert_starts_every_form_of_qformer(bert):
    """Windows, strides and the conv are new; what is shared is the BERT's."""
    config = replace(SIZE, window_frames=3, queries=2, speech_downsample="conv", speech_stride=2)
    qformer = QFormer(config)
    load_bert(qformer, bert[1])
    assert torch.equal(
        qformer.layers[0].self_attention.key.weight, bert[0].bert.encoder.layer[0].attention.self.key.weight
    )


def test_what_is_no_bert_is_named(tmp_path):
    GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=16, n_layer=1, n_head=2)).save_pretrained(tmp_path / "gpt")
    (tmp_path / "empty").mkdir()
    for name in ("gpt", "nothing", "empty"):
        with pytest.raises(SparqleError, match=str(tmp_path / name)) as error:
            load_bert(QFormer(SIZE), str(tmp_path / name))
        assert "\n" not in str(error.value)
