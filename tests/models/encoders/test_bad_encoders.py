"""What is no speech encoder, or a damaged one: one sentence that names it and says what to do."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import torch
from commands import pretrain
from factories import save_tiny_hubert, save_tiny_hugging_face, save_tiny_whisper

from sparqle_fairseq.models.encoders import EncoderError, load_speech_encoder, parse_layer


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    save_tiny_hugging_face(folder)
    return folder


def changed(good, folder, **values):
    shutil.copytree(good, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))
    return folder


def cut(good, folder):
    shutil.copytree(good, folder)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-5000])
    return folder


def without_weights(good, folder):
    shutil.copytree(good, folder)
    (folder / "model.safetensors").unlink()
    return folder


def pickled(good, folder):
    without_weights(good, folder)
    torch.save(torch.nn.Linear(2, 2), folder / "pytorch_model.bin")
    return folder


def broken_config(good, folder):
    shutil.copytree(good, folder)
    (folder / "config.json").write_text('{"model_type": "hub')
    return folder


def missing_shard(good, folder):
    without_weights(good, folder)
    index = {"metadata": {}, "weight_map": {"encoder.layer_norm.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def empty(good, folder):  # noqa: ARG001
    folder.mkdir()
    return folder


BAD = {
    "no encoder": (empty, r"is a folder without config\.json: give a fairseq"),
    "other type": (
        lambda good, folder: changed(good, folder, model_type="bert"),
        r"holds a model of type 'bert', which is no speech encoder that is read here: give",
    ),
    "no type": (
        lambda good, folder: changed(good, folder, model_type=None),
        "holds a model of type 'unknown', which is no speech encoder",
    ),
    "damaged safetensors": (cut, r"model\.safetensors cannot be read \(.*\): copy or download it again"),
    "no weights": (without_weights, r"has config\.json but neither model\.safetensors nor pytorch_model\.bin: copy"),
    "pickled code": (pickled, r"pytorch_model\.bin is damaged, or holds more than tensors: copy it again"),
    "broken config": (broken_config, r"config\.json cannot be read \(.*\): copy or download it again"),
    "missing shard": (missing_shard, r"model-00001-of-00002\.safetensors cannot be read \(it is not there\)"),
    "more layers": (
        lambda good, folder: changed(good, folder, num_hidden_layers=3),
        r"tensors do not fit its configuration: encoder\.layers\.2\.\S+ is missing.*; give the folder as it was saved",
    ),
    "fewer layers": (
        lambda good, folder: changed(good, folder, num_hidden_layers=1),
        r"encoder\.layers\.1\.\S+ is not expected",
    ),
    "other width": (
        lambda good, folder: changed(good, folder, intermediate_size=128),
        r"has shape \(64, 32\), not \(128, 32\)",
    ),
    "heads that do not divide": (
        lambda good, folder: changed(good, folder, num_attention_heads=5),
        r"describes a hubert encoder that cannot be built \(.*\): check its config\.json",
    ),
    "Whisper's config over HuBERT's weights": (
        lambda good, folder: changed(good, folder, model_type="whisper", d_model=32),
        "says that it is a Whisper, but its tensors do not fit its configuration",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_folder_is_one_sentence_with_path_and_remedy(tmp_path, good, name):
    make, sentence = BAD[name]
    path = make(good, tmp_path / "encoder")
    with pytest.raises(EncoderError, match=sentence) as caught:
        load_speech_encoder(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert re.search(r"(give|check|copy) ", message)


def test_convolutions_behind_the_encoder_are_refused(tmp_path):
    save_tiny_hugging_face(tmp_path / "hf", "wav2vec2", add_adapter=True)
    with pytest.raises(EncoderError, match=r"\(add_adapter\), which are not read here: give"):
        load_speech_encoder(tmp_path / "hf")


@pytest.mark.parametrize("save", [save_tiny_hugging_face, save_tiny_whisper])
def test_layer_that_is_not_there(tmp_path, save):
    save(tmp_path / "hf")
    for layer in (0, 3, True):
        with pytest.raises(
            EncoderError, match=f"has no layer {layer}: give 'last', 'weighted' or a number from 1 to 2"
        ):
            load_speech_encoder(tmp_path / "hf", layer=layer)
    for text in ("first", "-1", "1.5", ""):
        with pytest.raises(EncoderError, match="neither 'last' nor 'weighted' nor a number from 1"):
            parse_layer(text)


def test_hub_id_while_offline(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(EncoderError, match=r"someone/hubert-base is no file or folder here, and as a hub id") as caught:
        load_speech_encoder("someone/hubert-base")
    assert "hf download someone/hubert-base" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_of_a_hugging_face_model_point_to_their_folder(tmp_path, good):
    folder = pickled(good, tmp_path / "encoder")
    for path in (good / "model.safetensors", folder / "pytorch_model.bin"):
        if path.suffix == ".bin":
            torch.save({"weight": torch.ones(1)}, path)
        with pytest.raises(EncoderError, match=f"give the folder that it is in, {path.parent}"):
            load_speech_encoder(path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("/no/such/folder", "does not exist: check the path"),
        ("no such name", "does not exist: check the path"),
        ("missing/hubert.pt", "does not exist: check the path"),
        ("kaldi:mfcc", "is of no known kind: give a fairseq checkpoint"),
    ],
)
def test_what_is_neither_path_nor_hub_id(text, sentence):
    with pytest.raises(EncoderError, match=sentence):
        load_speech_encoder(text)


def test_the_training_command_prints_the_sentence(world, tmp_path):
    (tmp_path / "folder").mkdir()
    done = pretrain(world, tmp_path / "out", "--speech-encoder", tmp_path / "folder", check=False)
    assert done.returncode
    assert done.stderr.strip().splitlines()[-1].startswith(f"error: Speech encoder {tmp_path / 'folder'} is a folder")


def test_five_milliseconds_are_refused_by_every_kind(tmp_path):
    save_tiny_hubert(tmp_path / "hubert.pt")
    save_tiny_hugging_face(tmp_path / "hf")
    save_tiny_whisper(tmp_path / "whisper")
    for name in ("hubert.pt", "hf", "whisper"):
        with pytest.raises(EncoderError, match=r"has 80 samples, and the speech encoder needs at least \d+"):
            load_speech_encoder(tmp_path / name)(torch.zeros(1, 80))
