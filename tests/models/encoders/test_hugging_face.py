"""Hugging Face encoders: transformers' features of each utterance alone, whatever batch it is in."""

from __future__ import annotations

import json
import logging
import shutil

import pytest
import torch
from factories import HUGGING_FACE, save_tiny_hugging_face
from waves import close, padded, speech

from sparqle_fairseq.models.encoders import conv_length, load_speech_encoder

LENGTHS = [16000, 9999, 400, 7919, 12345]
KINDS = [(kind, large) for kind in HUGGING_FACE for large in (False, True) if not (large and kind == "data2vec-audio")]
IDS = [f"{kind}-{'large' if large else 'base'}" for kind, large in KINDS]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """(kind, large) -> folder and transformers' model."""
    root = tmp_path_factory.mktemp("hugging-face")
    return {
        (kind, large): (folder := root / f"{kind}-{large}", save_tiny_hugging_face(folder, kind, large, layers=3))
        for kind, large in KINDS
    }


def theirs(model, wave, layer="last"):
    """(T, W) features of one utterance by transformers; layers count from 1."""
    with torch.no_grad():
        output = model(wave[None], output_hidden_states=True)
    return output.last_hidden_state[0] if layer == "last" else output.hidden_states[layer][0]


@pytest.mark.parametrize(("kind", "large"), KINDS, ids=IDS)
def test_features_of_one_utterance_are_those_of_transformers(models, kind, large):
    folder, model = models[kind, large]
    encoder = load_speech_encoder(folder)
    for length in LENGTHS:
        values, mask = encoder(speech(length)[None])
        assert not mask.any()
        close(values[0], theirs(model, speech(length)))


@pytest.mark.parametrize(("kind", "large"), KINDS, ids=IDS)
def test_padding_does_not_change_features(models, kind, large):
    encoder = load_speech_encoder(models[kind, large][0])
    waves = [speech(length, seed) for seed, length in enumerate(LENGTHS)]
    for fill in (0.0, 50.0, float("nan")):
        values, mask = encoder(*padded(waves, extra=777, fill=fill))
        assert values.shape[1] == conv_length(16000, encoder.frozen.module.conv_spec)
        for row, wave in enumerate(waves):
            close(values[row][~mask[row]], encoder(wave[None]).values[0])
            assert not values[row][mask[row]].any()


def test_transformers_itself_lets_padding_change_features(models):
    """The reason for our own way through its layers; when this fails, its models could be used as they are."""
    _, model = models["hubert", False]
    source, mask = padded([speech(16000), speech(9999, 1)])
    with torch.no_grad():
        together = model(source, attention_mask=(~mask).long()).last_hidden_state[1]
    alone = theirs(model, speech(9999, 1))
    assert (together[: len(alone)] - alone).abs().max() > 1e-2


@pytest.mark.parametrize(("kind", "large"), KINDS, ids=IDS)
def test_layer_is_the_one_that_is_asked_for(models, kind, large):
    folder, model = models[kind, large]
    for layer in (1, 2):
        close(
            load_speech_encoder(folder, layer=layer)(speech(5000)[None]).values[0], theirs(model, speech(5000), layer)
        )
    assert len(load_speech_encoder(folder, layer=2).frozen.module.encoder.layers) == 2, "the rest is freed"


@pytest.mark.parametrize(
    "option", [{"conv_pos_batch_norm": True}, {"feat_proj_layer_norm": False}], ids=lambda o: next(iter(o))
)
def test_variants_of_hubert(tmp_path, option):
    model = save_tiny_hugging_face(tmp_path / "hf", **option)
    close(load_speech_encoder(tmp_path / "hf")(speech(5000)[None]).values[0], theirs(model, speech(5000)))


def test_attention_adapters_in_the_layers_are_run(tmp_path):
    model = save_tiny_hugging_face(tmp_path / "hf", "wav2vec2", large=True, adapter_attn_dim=4)
    close(load_speech_encoder(tmp_path / "hf")(speech(5000)[None]).values[0], theirs(model, speech(5000)))


def test_half_precision_is_its_own(models):
    folder, _ = models["wavlm", True]
    encoder = load_speech_encoder(folder, dtype=torch.bfloat16)
    values = encoder(*padded([speech(4000), speech(1000)])).values
    assert values.dtype == torch.bfloat16
    reference = load_speech_encoder(folder)(*padded([speech(4000), speech(1000)])).values
    assert (values.float() - reference).abs().mean() < 0.03 * reference.abs().mean()


class TestFiles:
    def test_contract(self, models):
        encoder = load_speech_encoder(models["wavlm", False][0])
        assert (encoder.width, encoder.sample_rate, encoder.frame_rate, encoder.min_samples) == (32, 16000, 50.0, 400)
        assert (encoder.identity["kind"], encoder.identity["layer"]) == ("hf_wavlm", "last")
        assert not list(encoder.parameters())
        assert encoder.state_dict() == {}

    @pytest.mark.parametrize("large", [False, True])
    def test_normalisation_comes_from_the_preprocessor_or_is_said_to_be_a_guess(self, tmp_path, models, large, caplog):
        for said in (False, True):
            save_tiny_hugging_face(tmp_path / str(said), large=large, normalize=said)
            assert load_speech_encoder(tmp_path / str(said)).normalize is said
        assert not caplog.records
        with caplog.at_level(logging.INFO):
            assert load_speech_encoder(models["hubert", large][0]).normalize is large
        assert "no preprocessor_config.json: taking waveforms" in caplog.text

    def test_every_way_of_storing_gives_the_same_encoder(self, tmp_path, models):
        from transformers import HubertConfig, HubertForCTC

        folder, model = models["hubert", False]
        expected = load_speech_encoder(folder)
        ctc = HubertForCTC(HubertConfig.from_pretrained(folder))
        ctc.hubert.load_state_dict(model.state_dict())
        ctc.save_pretrained(tmp_path / "ctc")
        model.save_pretrained(tmp_path / "shards", max_shard_size="20kB")
        assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
        for name, weight_norm in (("bin", False), ("old", True)):
            (tmp_path / name).mkdir()
            shutil.copy(folder / "config.json", tmp_path / name)
            state = {f"hubert.{key}": value for key, value in model.state_dict().items()}
            if weight_norm:  # names before torch had parametrisations
                state = {
                    key.replace("parametrizations.weight.original0", "weight_g").replace(
                        "parametrizations.weight.original1", "weight_v"
                    ): value
                    for key, value in state.items()
                }
                assert any(key.endswith("conv.weight_g") for key in state)
            torch.save(state, tmp_path / name / "pytorch_model.bin")
        for name in ("ctc", "shards", "bin", "old"):
            found = load_speech_encoder(tmp_path / name)
            assert found.identity["fingerprint"] == expected.identity["fingerprint"], name
            assert torch.equal(found(speech(2000)[None]).values, expected(speech(2000)[None]).values)

    def test_another_model_has_another_fingerprint(self, tmp_path, models):
        save_tiny_hugging_face(tmp_path / "other", layers=3, seed=7)
        one, other = load_speech_encoder(tmp_path / "other"), load_speech_encoder(models["hubert", False][0])
        assert one.identity["fingerprint"] != other.identity["fingerprint"]

    def test_reading_does_not_disturb_the_random_numbers(self, models):
        torch.manual_seed(3)
        expected = torch.rand(2)
        torch.manual_seed(3)
        load_speech_encoder(models["hubert", False][0])
        assert torch.equal(torch.rand(2), expected)

    def test_hub_id_is_found_in_the_cache(self, tmp_path, models, monkeypatch):
        """As a download leaves it: a snapshot of one revision. No network is asked."""
        cache = tmp_path / "models--someone--hubert"
        (cache / "refs").mkdir(parents=True)
        (cache / "refs" / "main").write_text("0" * 40)
        shutil.copytree(models["hubert", False][0], cache / "snapshots" / ("0" * 40))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        found = load_speech_encoder("someone/hubert")
        assert found.identity["path"] == "someone/hubert"
        close(found(speech(2000)[None]).values[0], theirs(models["hubert", False][1], speech(2000)))


def test_config_is_not_trusted_to_run_code(tmp_path, models):
    """`auto_map` names code in the folder; nobody looks at it."""
    shutil.copytree(models["hubert", False][0], tmp_path / "hf")
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"}
    (tmp_path / "hf" / "config.json").write_text(json.dumps(config))
    (tmp_path / "hf" / "evil.py").write_text("raise SystemExit('ran')")
    load_speech_encoder(tmp_path / "hf")
