"""`sparqle convert-hubert`: the same waveform gives the same features in fairseq and in Hugging Face."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import fairseq
import pytest
import torch
import yaml
from factories import save_tiny_ctc, save_tiny_hubert, save_tiny_hugging_face, save_tiny_wav2vec2
from waves import padded, speech

from sparqle_fairseq.cli.main import main
from sparqle_fairseq.models.encoders import EncoderError, load_speech_encoder
from sparqle_fairseq.tools.exchange.hubert import (
    convert_hubert,
    hugging_face_config,
    name_pairs,
    shape_of_fairseq,
    shape_of_hugging_face,
)

LARGE = {"extractor_mode": "layer_norm", "layer_norm_first": True, "conv_bias": True, "normalize": True}
SHAPES = {
    "base": {},
    "large": LARGE,
    "no projection": {"width": 16},
    "batch norm": {"conv_pos_batch_norm": True},
    "relu": {"activation_fn": "relu"},
    "large, post-norm": {**LARGE, "layer_norm_first": False},
}
LENGTHS = [16000, 9999, 400, 7919]


def close(a, b):
    torch.testing.assert_close(a, b, atol=1e-4, rtol=0)


def agree(one, other):
    """Our encoders of both sides, on utterances alone and in a padded batch."""
    first, second = load_speech_encoder(one), load_speech_encoder(other)
    assert (first.width, first.normalize, first.sample_rate) == (second.width, second.normalize, second.sample_rate)
    waves = [speech(length, seed) for seed, length in enumerate(LENGTHS)]
    source, mask = padded(waves)
    close(first(source, mask).values, second(source, mask).values)
    for wave in waves:
        close(first(wave[None]).values, second(wave[None]).values)


def fairseqs_own(path):
    """fairseq's model of a checkpoint, read by fairseq, strictly."""
    from fairseq import checkpoint_utils

    models, cfg, task = checkpoint_utils.load_model_ensemble_and_task([str(path)])
    return models[0].eval(), cfg, task


@pytest.mark.parametrize("shape", SHAPES)
def test_fairseq_to_hugging_face(tmp_path, shape):
    model = save_tiny_hubert(tmp_path / "hubert.pt", **SHAPES[shape])
    assert convert_hubert(tmp_path / "hubert.pt", tmp_path / "hf") == "Hugging Face folder"
    agree(tmp_path / "hubert.pt", tmp_path / "hf")
    from transformers import HubertModel

    theirs = HubertModel.from_pretrained(tmp_path / "hf").eval()
    with torch.no_grad():
        expected = model.extract_features(speech(9000)[None], padding_mask=None)[0]
        close(theirs(speech(9000)[None]).last_hidden_state, expected)


@pytest.mark.parametrize("large", [False, True], ids=["base", "large"])
def test_hugging_face_to_fairseq(tmp_path, large):
    theirs = save_tiny_hugging_face(tmp_path / "hf", large=large, normalize=large, layers=3)
    assert convert_hubert(tmp_path / "hf", tmp_path / "hubert.pt") == "fairseq checkpoint"
    agree(tmp_path / "hf", tmp_path / "hubert.pt")
    model, cfg, task = fairseqs_own(tmp_path / "hubert.pt")
    assert cfg.task.normalize is large
    assert task.cfg.sample_rate == 16000
    with torch.no_grad():
        found = model.extract_features(speech(9000)[None], padding_mask=None)[0]
        close(found, theirs(speech(9000)[None]).last_hidden_state)


@pytest.mark.parametrize("shape", SHAPES)
def test_there_and_back_is_the_same_bit_for_bit(tmp_path, shape):
    save_tiny_hubert(tmp_path / "one.pt", **SHAPES[shape])
    convert_hubert(tmp_path / "one.pt", tmp_path / "hf")
    convert_hubert(tmp_path / "hf", tmp_path / "two.pt")
    one, two = (torch.load(tmp_path / name, weights_only=True) for name in ("one.pt", "two.pt"))
    heads = ("final_proj", "label_embs_concat")
    names = {name for name in one["model"] if not name.startswith(heads)}
    assert names == {name for name in two["model"] if not name.startswith(heads)}
    assert all(torch.equal(one["model"][name], two["model"][name]) for name in names)
    assert shape_of_fairseq(one["cfg"]["model"]) == shape_of_fairseq(two["cfg"]["model"])
    first, second = load_speech_encoder(tmp_path / "one.pt"), load_speech_encoder(tmp_path / "two.pt")
    assert {**first.identity, "path": ""} == {**second.identity, "path": ""}


def test_the_encoder_in_a_fine_tuned_checkpoint_is_converted(tmp_path):
    save_tiny_hubert(tmp_path / "hubert.pt")
    save_tiny_ctc(tmp_path / "ctc.pt", tmp_path / "hubert.pt")
    convert_hubert(tmp_path / "ctc.pt", tmp_path / "hf")
    agree(tmp_path / "hubert.pt", tmp_path / "hf")


def test_stored_precision_is_kept(tmp_path):
    save_tiny_hubert(tmp_path / "hubert.pt")
    state = torch.load(tmp_path / "hubert.pt", weights_only=True)
    state["model"] = {name: tensor.half() for name, tensor in state["model"].items()}
    torch.save(state, tmp_path / "half.pt")
    convert_hubert(tmp_path / "half.pt", tmp_path / "hf")
    agree(tmp_path / "half.pt", tmp_path / "hf")


# ---- fairseq's own configurations

CONFIGS = Path(fairseq.__file__).parent / "examples" / "hubert" / "config" / "pretrain"
REAL = {"base": "hubert_base_librispeech", "large": "hubert_large_librivox", "xlarge": "hubert_xlarge_librivox"}


def options_of(size):
    """Model and task options of a file that fairseq ships."""
    read = yaml.safe_load((CONFIGS / f"{REAL[size]}.yaml").read_text())
    model = {name: value for name, value in read["model"].items() if name not in ("_name", "label_rate")}
    return model, bool(read["task"].get("normalize", False))


@pytest.mark.parametrize("size", ["base", "large"])
def test_fairseqs_own_configurations_with_few_layers(tmp_path, size):
    model, normalize = options_of(size)
    named = {"width": model.pop("encoder_embed_dim", 768), "layers": 2}
    for name in ("encoder_layers", "conv_pos"):
        model.pop(name, None)
    defaults = {"encoder_ffn_embed_dim": 3072, "encoder_attention_heads": 12, "conv_pos": 128, "conv_pos_groups": 16}
    conv = {"conv_feature_layers": "[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2"}
    save_tiny_hubert(tmp_path / "hubert.pt", normalize=normalize, **{**defaults, **conv, **model, **named})
    convert_hubert(tmp_path / "hubert.pt", tmp_path / "hf")
    agree(tmp_path / "hubert.pt", tmp_path / "hf")


@pytest.mark.parametrize(
    ("size", "parameters"), [("base", 94_371_712), ("large", 315_435_136), ("xlarge", 962_493_824)]
)
def test_real_sizes_have_these_names_and_shapes(size, parameters):
    """Built without memory: every tensor of one side has its place, of the same shape, on the other."""
    from fairseq.data import Dictionary
    from fairseq.models.hubert.hubert import HubertConfig, HubertModel
    from fairseq.tasks.hubert_pretraining import HubertPretrainingConfig
    from transformers import HubertModel as Theirs

    options, _ = options_of(size)
    shape = shape_of_fairseq(options)
    # fairseq draws its first weights on the CPU, which a tensor without memory has no way to.
    with torch.device("meta"), mock.patch("fairseq.models.wav2vec.wav2vec2.init_bert_params"):
        ours = HubertModel(HubertConfig(label_rate=50, **options), HubertPretrainingConfig(), [Dictionary()])
        theirs = Theirs(hugging_face_config(shape))
    ours, theirs = ours.state_dict(), theirs.state_dict()
    pairs = name_pairs(shape)
    assert set(pairs) == {name for name in ours if not name.startswith(("final_proj", "label_embs_concat"))}
    assert set(pairs.values()) == set(theirs)
    assert {name: ours[name].shape for name in pairs} == {name: theirs[other].shape for name, other in pairs.items()}
    assert sum(tensor.numel() for tensor in theirs.values()) == parameters
    assert shape_of_hugging_face(hugging_face_config(shape)) == shape


# ---- the command, and bad input


def test_the_command(tmp_path, capsys):
    save_tiny_hubert(tmp_path / "hubert.pt")
    assert main(["convert-hubert", str(tmp_path / "hubert.pt"), str(tmp_path / "hf")]) == 0
    assert f"wrote {tmp_path / 'hf'}, a Hugging Face folder" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hf", "hubert.pt"]
    names = sorted(path.name for path in (tmp_path / "hf").iterdir())
    assert names == ["config.json", "model.safetensors", "preprocessor_config.json"]
    with pytest.raises(EncoderError, match="hf exists already: give another name, or remove it first"):
        convert_hubert(tmp_path / "hubert.pt", tmp_path / "hf")


def refusals(folder):
    """Name -> (source, what its sentence says)."""
    save_tiny_wav2vec2(folder / "wav2vec2.pt")
    save_tiny_hubert(folder / "hubert.pt")
    state = torch.load(folder / "hubert.pt", weights_only=True)
    del state["model"]["encoder.layers.1.fc1.weight"]
    torch.save(state, folder / "lacking.pt")
    save_tiny_hugging_face(folder / "wavlm", "wavlm")
    save_tiny_hugging_face(folder / "plain", feat_proj_layer_norm=False)
    save_tiny_hugging_face(folder / "square", conv_dim=[32] * 7)
    (folder / "empty").mkdir()
    return {
        "wav2vec2.pt": "holds a wav2vec2, not a HuBERT",
        "lacking.pt": r"encoder\.layers\.1\.fc1\.weight is missing",
        "nowhere.pt": "does not exist",
        "wavlm": "holds a wavlm, not a HuBERT",
        "empty": r"is a folder without config\.json",
        "plain": "its feat_proj_layer_norm is False, and fairseq's HuBERT has True",
        "square": "it projects 32 channels to as many",
    }


def test_what_cannot_be_converted_is_one_sentence_and_leaves_nothing(tmp_path):
    for name, sentence in refusals(tmp_path).items():
        with pytest.raises(EncoderError, match=sentence) as caught:
            convert_hubert(tmp_path / name, tmp_path / "target")
        assert "\n" not in str(caught.value)
        assert not list(tmp_path.glob("target*")), name
