"""Whisper in CTranslate2's format hears what transformers' Whisper hears; what is no such folder is one sentence."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest
from tiny_whisper import WRITTEN, save_whisper

from sparqle_fairseq.data.audio import SAMPLE_RATE
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.tools.report import ctranslate2_whisper
from sparqle_fairseq.tools.report.ctranslate2_whisper import CTranslate2Whisper
from sparqle_fairseq.tools.report.recogniser import open_recogniser

ctranslate2 = pytest.importorskip("ctranslate2")
pytest.importorskip("faster_whisper")
LETTERS = 60  # of a transcript that are compared; the model would never end


def converted(source, folder):
    converter = ctranslate2.converters.TransformersConverter(
        str(source), copy_files=["tokenizer.json", "preprocessor_config.json"]
    )
    converter.convert(str(folder))
    return folder


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    return save_whisper(tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="module")
def folder(whisper, tmp_path_factory):
    return converted(whisper, tmp_path_factory.mktemp("converted") / "ct2")


@pytest.fixture(scope="module")
def model(whisper):
    from transformers import WhisperForConditionalGeneration

    return WhisperForConditionalGeneration.from_pretrained(whisper).eval()


def sound(seconds: float) -> np.ndarray:
    rng = np.random.default_rng(round(10 * seconds))
    samples = rng.standard_normal(round(seconds * SAMPLE_RATE)) * np.sin(np.arange(round(seconds * SAMPLE_RATE)) / 4000)
    return (0.1 * samples).astype(np.float32)


def greedy(whisper, model, samples, language) -> str:
    """Whisper's transcript by transformers, the shortest way."""
    from transformers import WhisperFeatureExtractor, WhisperTokenizerFast

    mels = WhisperFeatureExtractor.from_pretrained(whisper)(samples, sampling_rate=SAMPLE_RATE, return_tensors="pt")
    tokens = model.generate(
        mels.input_features, language=language, task="transcribe", num_beams=1, max_new_tokens=LETTERS
    )
    return WhisperTokenizerFast.from_pretrained(whisper).decode(tokens[0], skip_special_tokens=True)


def test_it_writes_what_transformers_writes(whisper, folder, model):
    recogniser = CTranslate2Whisper(str(folder), cpu=True, beam=1)
    told = set()
    for seconds, language in ((0.5, "en"), (2, "en"), (2, "fr"), (29.9, "en")):
        expected = greedy(whisper, model, sound(seconds), language)
        assert recogniser(sound(seconds), f"{language}-XX")[:LETTERS] == expected
        assert set(expected) <= set(WRITTEN)
        told.add(expected)
    assert len(told) == 4, "it hears neither the sound nor the language"


def test_a_long_recording_is_heard_to_its_end(folder, caplog):
    caplog.set_level("DEBUG")
    recogniser = CTranslate2Whisper(str(folder), cpu=True, beam=1)
    first, second = sound(30), sound(9)
    whole = recogniser(np.concatenate([first, second]), "en")
    assert len(whole.split()) == 2
    assert len(recogniser(first, "en").split()) == 1
    assert "Processing audio" not in caplog.text


def test_a_folder_of_ctranslate2_is_known_by_its_files(whisper, folder):
    assert isinstance(open_recogniser(str(folder), cpu=True), CTranslate2Whisper)
    assert not isinstance(open_recogniser(str(whisper), cpu=True), CTranslate2Whisper)


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("tokenizer.json", lambda path: path.unlink(), "has no tokenizer.json; copy that"),
        ("tokenizer.json", lambda path: path.write_text("{"), "holds no Whisper that CTranslate2 can read"),
        ("model.bin", lambda path: path.write_bytes(path.read_bytes()[:999]), "holds no Whisper that CTranslate2"),
        (
            "model.bin",
            lambda path: path.write_bytes(path.read_bytes().replace(b"WhisperSpec", b"TransfoSpec")),
            "holds no Whisper that CTranslate2 can read",
        ),
        ("vocabulary.json", lambda path: path.unlink(), "holds no Whisper that CTranslate2 can read"),
        ("preprocessor_config.json", lambda path: path.unlink(), "hears 16 mel bands, and 80 would be made"),
        (
            "preprocessor_config.json",
            lambda path: path.write_text(json.dumps({"feature_size": 128})),
            "hears 16 mel bands, and 128 would be made",
        ),
    ],
)
def test_a_folder_that_cannot_be_read_is_one_sentence(folder, tmp_path, name, spoil, message):
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    spoil(broken / name)
    with pytest.raises(SparqleError, match=message) as caught:
        open_recogniser(str(broken), cpu=True)
    assert "\n" not in str(caught.value)


def test_an_english_whisper_is_not_asked_for_another_language(tmp_path):
    english = CTranslate2Whisper(str(converted(save_whisper(tmp_path / "hf", False), tmp_path / "ct2")), cpu=True)
    assert english(sound(1), "en")
    with pytest.raises(SparqleError, match="hears English only, and a recording is in fr"):
        english(sound(1), "fr")


def test_a_language_that_whisper_does_not_know_is_one_sentence(folder):
    with pytest.raises(SparqleError, match=r"could not recognise a recording .*'xx' is not a valid language"):
        open_recogniser(str(folder), cpu=True)(sound(1), "xx")


def test_a_missing_package_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(SparqleError, match=r"faster-whisper reads; install it with pip install 'sparqle-fairseq\[casc"):
        open_recogniser(str(folder))
    assert ctranslate2_whisper.is_ctranslate2(folder)
