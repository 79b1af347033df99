"""The Q-Former and the stage-1 losses agree with the reference vectors (float32, tolerances of their README).

`SPARQLE_GOLDEN` names another folder of the same layout; every size comes from its files.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sparqle_fairseq.models.qformer.published_names import from_published
from sparqle_fairseq.models.qformer.qformer import QFormer, QFormerConfig
from sparqle_fairseq.models.stage1.adapter import Stage1Adapter
from sparqle_fairseq.models.stage1.batch import Stage1Text
from sparqle_fairseq.models.stage1.losses import contrastive_loss, contrastive_targets, similarity

GOLDEN = Path(os.environ.get("SPARQLE_GOLDEN", Path(__file__).parents[2] / "data" / "golden"))
VALUES = {"atol": 1e-5, "rtol": 1e-5}
GRADIENTS = {"atol": 5e-5, "rtol": 1e-5}
GRADIENT_PLACES = {
    "query_tokens": "qformer.query_tokens",
    "cross_key": "qformer.layers.0.cross_attention.key.weight",
    "intermediate_query": "qformer.layers.0.query_ffn.expand.weight",
    "intermediate": "qformer.layers.0.text_ffn.expand.weight",
    "temp": "temperature",
}
MASKS = ("full", "masked")


@pytest.fixture(scope="module")
def io():
    arrays = np.load(GOLDEN / "io.npz")
    return {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays.files}


@pytest.fixture(scope="module")
def config(io):
    size = {name.removeprefix("cfg_"): int(value) for name, value in io.items() if name.startswith("cfg_")}
    return QFormerConfig(
        vocab_size=size["vocab_size"],
        speech_width=size["encoder_width"],
        hidden_size=size["hidden_size"],
        layers=size["num_layers"],
        heads=size["num_heads"],
        ffn_size=size["intermediate_size"],
        cross_attention_freq=size["cross_attention_freq"],
        queries=size["num_queries"],
        max_text_positions=size["max_positions"],
    )


@pytest.fixture(scope="module")
def adapter(io, config):
    model = Stage1Adapter(
        config,
        decode_token=int(io["in_bos_id"]),
        pad_token=int(io["cfg_pad_id"]),
        options=SimpleNamespace(contrastive_width=int(io["cfg_embed_dim"])),
    )
    model.load_state_dict(from_published(torch.load(GOLDEN / "weights.pt", weights_only=True)["model"]))
    return model.eval()


def speech(io, mask, case=""):
    hidden = io[f"in_{case}speech_hidden"]
    padding = io[f"in_{case}speech_mask"] == 0
    return hidden, torch.zeros_like(padding) if mask == "full" else padding


def text(io, case=""):
    ids = io[f"in_{case}speech_ids"]
    return Stage1Text(io[f"in_{case}text_ids"], io[f"in_{case}text_mask"] == 0, ids, ids)


def agree(found, expected, tolerance=VALUES):
    torch.testing.assert_close(found, expected.to(found.dtype), **tolerance)


def read(adapter, io, mask, case=""):
    return adapter.batch(*speech(io, mask, case), text(io, case), update=0)


def losses(adapter, io, mask):
    sums = adapter(*speech(io, mask), text(io), update=0)
    return {name: own["sum"] / own["count"] for name, own in sums.items()}


def test_speech_norm(adapter, io):
    agree(adapter.qformer.speech_norm(io["in_speech_hidden"]), io["speech_embeds_ln"])


@pytest.mark.parametrize("mask", MASKS)
def test_query_outputs_and_speech_features(adapter, io, mask):
    hidden = adapter.qformer.query(adapter.qformer.read_speech(*speech(io, mask))).hidden
    agree(hidden, io[f"query_output_{mask}"])
    agree(adapter.speech_features(hidden), io[f"speech_feats_{mask}"])


def test_text_features(adapter, io):
    batch = text(io)
    agree(adapter.qformer.encode_text(batch.tokens, batch.padding_mask), io["text_hidden"])
    agree(adapter.text_features(batch.tokens, batch.padding_mask), io["text_feat"])


@pytest.mark.parametrize("mask", MASKS)
def test_similarities_and_contrastive_loss(adapter, io, mask):
    contrast = read(adapter, io, mask).contrast
    agree(contrast.speech_to_text, io[f"sim_s2t_{mask}"])
    agree(contrast.text_to_speech, io[f"sim_t2s_{mask}"])
    targets = contrastive_targets(contrast.rows, contrast.columns)
    agree(targets, io["stc_targets"])
    agree(contrastive_loss(contrast.speech_to_text, targets).mean(), io[f"loss_s2t_{mask}"])
    agree(contrastive_loss(contrast.text_to_speech, targets).mean(), io[f"loss_t2s_{mask}"])
    agree(losses(adapter, io, mask)["stc"], io[f"loss_stc_{mask}"])


@pytest.mark.parametrize(("mask", "name"), [("full", "upstream"), ("masked", "masked")])
def test_matching(adapter, io, mask, name):
    matching = adapter.objectives["stm"].matching(adapter, read(adapter, io, mask))
    agree(matching.logits, io[f"stm_logits_{name}"])
    assert matching.labels.tolist() == io["stm_labels"].tolist()
    agree(losses(adapter, io, mask)["stm"], io[f"loss_stm_{name}"])


@pytest.mark.parametrize("mask", MASKS)
def test_generation_logits_and_loss(adapter, io, mask):
    batch = text(io)
    queries = adapter.qformer.query(adapter.qformer.read_speech(*speech(io, mask)))
    hidden = adapter.qformer.decode_text(io["decoder_input_ids"], batch.padding_mask, queries.cache).hidden
    agree(adapter.qformer.predict(hidden), io[f"lm_logits_{mask}"])
    labels = io["lm_labels"][:, 1:]
    assert read(adapter, io, mask).targets.tolist() == labels[labels != -100].tolist()
    agree(losses(adapter, io, mask)["stg"], io[f"loss_lm_{mask}"])


@pytest.mark.parametrize("mask", MASKS)
def test_total_loss_and_gradients(adapter, io, mask):
    adapter.zero_grad()
    total = sum(losses(adapter, io, mask).values())
    agree(total, io[f"loss_total_{mask}"])
    total.backward()
    for name, place in GRADIENT_PLACES.items():
        gradient = adapter.get_parameter(place).grad
        agree(gradient, io[f"grad_{name}_{mask}"], GRADIENTS)
        if f"gradnorm_{name}_{mask}" in io:
            agree(gradient.norm(), io[f"gradnorm_{name}_{mask}"], GRADIENTS)


def test_a_repeated_identity_shares_the_soft_target(adapter, io):
    contrast = read(adapter, io, "masked", "x4_").contrast
    batch = text(io, "x4_")
    agree(adapter.text_features(batch.tokens, batch.padding_mask), io["x4_text_feat"])
    agree(contrast.speech_to_text, io["x4_sim_s2t"])
    agree(contrast.text_to_speech, io["x4_sim_t2s"])
    targets = contrastive_targets(contrast.rows, contrast.columns)
    agree(targets, io["x4_stc_targets"])
    s2t, t2s = (contrastive_loss(sim, targets).mean() for sim in contrast[:2])
    agree(s2t, io["x4_loss_s2t"])
    agree(t2s, io["x4_loss_t2s"])
    agree((s2t + t2s) / 2, io["x4_loss_stc"])
    agree(similarity(io["x4_speech_feats"], io["x4_text_feat"], adapter.temperature), io["x4_sim_s2t"])


@pytest.mark.parametrize("mask", MASKS)
def test_stage2_projection(io, config, mask):
    tensors = from_published(torch.load(GOLDEN / "weights_stage2.pt", weights_only=True)["model"])
    projection = {name.removeprefix("projector."): tensors.pop(name) for name in list(tensors) if "projector" in name}
    qformer = QFormer(config, with_text=False).eval()
    qformer.load_state_dict({name.removeprefix("qformer."): tensor for name, tensor in tensors.items()})
    hidden = qformer.query(qformer.read_speech(*speech(io, mask))).hidden
    agree(hidden, io[f"s2_query_output_{mask}"])
    agree(F.linear(hidden, projection["weight"], projection["bias"]), io[f"s2_projected_{mask}"])
