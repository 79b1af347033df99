"""Whisper's encoder on the real length: transformers' features of what is there, and no padding to 30 seconds."""

from __future__ import annotations

import json

import pytest
import torch
from factories import save_tiny_whisper
from waves import close, padded, speech

from sparqle_fairseq.models.encoders import EncoderError, load_speech_encoder

# Odd and even numbers of spectrogram frames, fewest samples, rests of a hop.
LENGTHS = [16000, 9999, 201, 7919, 12345]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("whisper")
    save_tiny_whisper(path)
    return path


@pytest.fixture(scope="module")
def encoder(folder):
    return load_speech_encoder(folder)


def spectrogram(wave):
    """(1, mels, F) by transformers, without padding."""
    from transformers import WhisperFeatureExtractor

    front_end = WhisperFeatureExtractor(feature_size=16)
    return front_end(wave.numpy(), sampling_rate=16000, padding=False, return_tensors="pt").input_features


def theirs(folder, mel, layer="last"):
    """(T, W) by transformers, told that a window is as long as this utterance."""
    from transformers.models.whisper.modeling_whisper import WhisperConfig, WhisperEncoder

    if mel.size(2) % 2:  # transformers wants whole frames; the convolution itself pads with zero
        mel = torch.nn.functional.pad(mel, (0, 1))
    whole = WhisperEncoder.from_pretrained(folder)
    config = WhisperConfig.from_pretrained(folder)
    config.max_source_positions = mel.size(2) // 2
    model = WhisperEncoder(config).eval()
    state = whole.state_dict()
    state["embed_positions.weight"] = state["embed_positions.weight"][: config.max_source_positions]
    model.load_state_dict(state)
    with torch.no_grad():
        output = model(mel, output_hidden_states=True)
    return output.last_hidden_state[0] if layer == "last" else output.hidden_states[layer][0]


def test_spectrogram_is_that_of_transformers(encoder):
    network = encoder.frozen.module
    from sparqle_fairseq.models.encoders.whisper import _Window

    for length in LENGTHS:
        found = network._log_mel(speech(length)[None], [_Window(0, 0, length)])
        close(found, spectrogram(speech(length)))


@pytest.mark.parametrize("length", [16000, 12480, 320])
@pytest.mark.parametrize("layer", ["last", 1])
def test_features_of_one_utterance_are_those_of_transformers(folder, length, layer):
    wave = speech(length)
    close(load_speech_encoder(folder, layer=layer)(wave[None]).values[0], theirs(folder, spectrogram(wave), layer))


def test_number_of_frames_is_half_the_spectrograms_rounded_up(encoder):
    for length, frames in ((201, 1), (319, 1), (320, 1), (479, 1), (480, 2), (16000, 50), (16160, 51)):
        assert encoder(speech(length)[None]).values.shape[1] == frames


def test_padding_does_not_change_features(encoder):
    waves = [speech(length, seed) * (1 + seed) for seed, length in enumerate(LENGTHS)]
    for fill in (0.0, 50.0, float("nan")):
        values, mask = encoder(*padded(waves, extra=777, fill=fill))
        assert values.shape[1] == 50
        for row, wave in enumerate(waves):
            close(values[row][~mask[row]], encoder(wave[None]).values[0])
            assert not values[row][mask[row]].any()


def test_the_loudest_point_is_one_of_the_utterance_itself(encoder):
    """A click at the very end is louder still in the frame behind it, which is not the utterance's."""
    click = torch.zeros(8000)
    click[7990] = 1.0
    values, mask = encoder(*padded([speech(16000), click]))
    close(values[1][~mask[1]], encoder(click[None]).values[0])


class TestLongAudio:
    """A window of 20 frames stands for the 1500 of 30 seconds."""

    @pytest.fixture(scope="class")
    def short_window(self, tmp_path_factory):
        path = tmp_path_factory.mktemp("short")
        save_tiny_whisper(path, positions=20)
        return load_speech_encoder(path)

    def test_each_window_is_heard_by_itself(self, short_window):
        wave = speech(2 * 6400 + 1000)
        whole = short_window(wave[None]).values[0]
        parts = [short_window(part[None]).values[0] for part in wave.split(6400)]
        assert [len(part) for part in parts] == [20, 20, 3]
        close(whole, torch.cat(parts))

    def test_a_rest_that_is_too_short_to_hear_gives_no_frame(self, short_window):
        wave = speech(6400 + 200)
        close(short_window(wave[None]).values, short_window(wave[None, :6400]).values)

    def test_padding_does_not_change_features(self, short_window):
        waves = [speech(length, length) for length in (15000, 6400, 1000, 6401)]
        values, mask = short_window(*padded(waves, extra=500))
        for row, wave in enumerate(waves):
            close(values[row][~mask[row]], short_window(wave[None]).values[0])

    def test_the_published_window_is_30_seconds(self, encoder):
        assert encoder.frozen.module.window == 30 * 16000
        assert encoder(torch.zeros(1, 31 * 16000)).values.shape[1] == 31 * 50


def test_contract(encoder):
    assert (encoder.width, encoder.sample_rate, encoder.frame_rate, encoder.min_samples) == (32, 16000, 50.0, 201)
    assert encoder.normalize is False
    assert encoder.identity["kind"] == "hf_whisper"
    assert encoder(torch.zeros(1, 4000)).values.isfinite().all()
    with pytest.raises(EncoderError, match=r"has 200 samples.* at least 201"):
        encoder(speech(200)[None])


def test_a_whole_whisper_and_its_encoder_alone_are_the_same(tmp_path, encoder):
    save_tiny_whisper(tmp_path / "whole", whole=True)
    whole = load_speech_encoder(tmp_path / "whole")
    assert whole.identity["fingerprint"] == encoder.identity["fingerprint"]
    (tmp_path / "whole" / "preprocessor_config.json").unlink()
    close(load_speech_encoder(tmp_path / "whole")(speech(4000)[None]).values, encoder(speech(4000)[None]).values)


def test_half_precision_does_not_round_the_front_end(folder, encoder):
    half = load_speech_encoder(folder, dtype=torch.bfloat16)
    assert all(filters.dtype == torch.float32 for filters in half.frozen.module._filters.values())
    found, expected = half(speech(8000)[None].bfloat16().float()).values, encoder(speech(8000)[None]).values
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).abs().mean() < 0.1 * expected.abs().mean()


def test_mel_bands_that_do_not_fit_are_one_sentence(tmp_path):
    save_tiny_whisper(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "feature_size": 80}))
    with pytest.raises(EncoderError, match=r"16 mel bands in config\.json and 80 .*give files that belong together"):
        load_speech_encoder(tmp_path)
