"""A BERT as the Q-Former's start: its text branch is that BERT, queries begin as text does, sizes must fit."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig, BertForPreTraining, GPT2Config, GPT2LMHeadModel

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.interop.bert import load_bert
from sparqle_fairseq.models.qformer import QFormer, QFormerConfig

SIZE = QFormerConfig(
    vocab_size=41, speech_width=12, hidden_size=16, layers=3, heads=4, ffn_size=32, queries=5, max_text_positions=20
)


@pytest.fixture
def bert(tmp_path):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=3, num_attention_heads=4, intermediate_size=32,
        max_position_embeddings=20, initializer_range=0.3,
    )  # fmt: skip
    model = BertForPreTraining(config).eval()
    model.save_pretrained(tmp_path / "bert")
    return model, str(tmp_path / "bert")


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


@pytest.mark.parametrize("change", [{"layers": 2}, {"layers": 4}, {"hidden_size": 32}, {"max_text_positions": 10}])
def test_another_size_is_refused(bert, change):
    with pytest.raises(SparqleError, match="--arch"):
        load_bert(QFormer(QFormerConfig(**{**vars(SIZE), **change})), bert[1])


def test_what_is_no_bert_is_named(tmp_path):
    GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=16, n_layer=1, n_head=2)).save_pretrained(tmp_path / "gpt")
    for path in (tmp_path / "gpt", tmp_path / "nothing"):
        with pytest.raises(SparqleError, match=str(path)):
            load_bert(QFormer(SIZE), str(path))
