"""`s3prl:NAME`: s3prl's own features of each utterance alone. Needs the extra of that name."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch
from factories import save_tiny_hugging_face
from waves import close, padded, speech

from sparqle_fairseq.models.encoders import EncoderError, load_speech_encoder

needs_s3prl = pytest.mark.skipif(importlib.util.find_spec("s3prl") is None, reason="pip install '.[s3prl]'")


@needs_s3prl
def test_a_front_end_without_weights():
    encoder = load_speech_encoder("s3prl:fbank")
    assert (encoder.width, encoder.frame_rate) == (240, 100.0)
    assert encoder.identity["kind"] == "s3prl_fbank"
    waves = [speech(length, length) for length in (16000, 9999, 800)]
    values, mask = encoder(*padded(waves, extra=300, fill=float("nan")))
    for row, wave in enumerate(waves):
        close(values[row][~mask[row]], encoder(wave[None]).values[0])


@needs_s3prl
def test_a_checkpoint_gives_the_layers_that_s3prl_gives(tmp_path):
    model = save_tiny_hugging_face(tmp_path / "hf", normalize=False)
    place = f"s3prl:hf_hubert_custom:{tmp_path / 'hf'}"
    wave = speech(16000)
    with torch.no_grad():
        states = model(wave[None], output_hidden_states=True).hidden_states
    for layer in (1, 2, 3):  # the first is what goes into the transformer
        found = load_speech_encoder(place, layer=layer)(wave[None]).values
        close(found[:, :49], states[layer - 1])
    assert load_speech_encoder(place, layer="weighted")(wave[None]).values.shape == (1, 50, 3, 32)
    waves = [speech(length, length) for length in (16000, 9999)]
    encoder = load_speech_encoder(place)
    values, mask = encoder(*padded(waves))
    for row, wave in enumerate(waves):
        close(values[row][~mask[row]], encoder(wave[None]).values[0])


@needs_s3prl
@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("s3prl:nothing", "s3prl has no upstream 'nothing'"),
        ("s3prl:hf_hubert_custom", "hf_hubert_custom cannot be read"),
    ],
)
def test_what_s3prl_does_not_have_is_one_sentence(place, sentence):
    with pytest.raises(EncoderError, match=sentence):
        load_speech_encoder(place)


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3prl", None)
    monkeypatch.setitem(sys.modules, "s3prl.nn", None)
    with pytest.raises(EncoderError, match=r"pip install 'sparqle-fairseq\[s3prl\]'"):
        load_speech_encoder("s3prl:fbank")
