"""The processor: saved and loaded, chats, labels, and a sentence for what the model cannot hear."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from transformers import AutoProcessor

from sparqle_fairseq.data.segments import SpeechRule, cut_at_pauses
from sparqle_fairseq.data.voice import VoiceDetector
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.huggingface import SparqleProcessor

RATE = 16000


@pytest.fixture(scope="module")
def processor(tiny_hub):
    return AutoProcessor.from_pretrained(tiny_hub.folder)


def equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def test_it_comes_back_as_it_was_saved(processor, tiny_hub, tmp_path):
    assert isinstance(processor, SparqleProcessor)
    processor.save_pretrained(tmp_path)
    back = AutoProcessor.from_pretrained(tmp_path)
    assert back.templates == processor.templates
    named = {"to": "fr", "sampling_rate": RATE, "answers": ["Chat"] * 3}
    equal(
        back.apply_translation_request(tiny_hub.waves, **named),
        processor.apply_translation_request(tiny_hub.waves, **named),
    )


def test_a_chat_is_the_request_that_training_makes(processor, tiny_hub):
    wave = tiny_hub.waves[0]
    asked = processor.apply_translation_request(wave, to="fr", sampling_rate=RATE, wording=0)
    wording = processor.templates.instruction("translation", "fr").partition("{speech}")
    content = [{"type": "audio", "array": wave, "sampling_rate": RATE}, {"type": "text", "text": wording[2].strip()}]
    assert wording[0] == ""
    made = processor.apply_chat_template([{"role": "user", "content": content}], tokenize=True, return_dict=True)
    equal(made, asked)


@pytest.mark.parametrize("side", ["left", "right"])
def test_labels_stand_on_the_answers_and_nowhere_else(processor, tiny_hub, side):
    answers = ["Chat", "Bleu Chien court", "Rouge"]
    named = {"sampling_rate": RATE, "padding_side": side}
    made = processor.apply_translation_request(tiny_hub.waves, to="fr", answers=answers, **named)
    for row, answer in enumerate(answers):
        learned = made["labels"][row] != -100
        ids = processor.builder.encode_answer(answer)
        assert made["labels"][row][learned].tolist() == ids
        assert made["input_ids"][row][learned].tolist() == ids
        assert processor.decode(ids) == answer
    chats = [
        [
            {"role": "user", "content": [{"type": "audio", "array": wave, "sampling_rate": RATE}]},
            {"role": "assistant", "content": answer},
        ]
        for wave, answer in zip(tiny_hub.waves, answers, strict=True)
    ]
    taught = processor.apply_chat_template(chats, tokenize=True, return_dict=True, output_labels=True)
    assert [row[row != -100].tolist() for row in taught["labels"]] == [
        processor.builder.encode_answer(answer) for answer in answers
    ]


@pytest.mark.parametrize("dtype", [np.int16, np.float64])
def test_samples_of_any_kind_and_a_file_are_heard_alike(processor, tiny_hub, tmp_path, dtype):
    wave = tiny_hub.waves[0]
    samples = np.round(wave * 32768).astype(dtype) if dtype is np.int16 else wave.astype(dtype)
    soundfile.write(tmp_path / "a.wav", wave, RATE, subtype="FLOAT")
    stereo = processor.waveform(np.stack([samples, samples]), RATE)
    assert np.abs(processor.waveform(str(tmp_path / "a.wav")) - stereo).max() < 1e-4


@pytest.mark.parametrize(
    ("audio", "named", "said"),
    [
        (np.zeros(0, np.float32), {"sampling_rate": RATE}, "recording 1 has 0 samples"),
        (np.zeros(80, np.float32), {"sampling_rate": RATE}, r"80 samples \(5 ms\), and the speech encoder needs at"),
        (np.full(16000, np.nan, np.float32), {"sampling_rate": RATE}, "recording 1"),
        (np.zeros(48000, np.float32), {}, "without a rate; give sampling_rate in Hz"),
        ("https://example.org/a.wav", {}, "is an address; download the file"),
        ("nowhere.wav", {}, "nowhere.wav"),
        (np.zeros(31 * RATE, np.float32), {"sampling_rate": RATE}, "takes 30 at a time"),
        (np.zeros((RATE, 2), np.float32), {"sampling_rate": RATE}, r"give \(samples,\) or \(channels, samples\)"),
    ],
)
def test_what_cannot_be_heard_is_refused(processor, audio, named, said):
    with pytest.raises(SparqleError, match=said) as caught:
        processor.apply_translation_request(audio, to="fr", **named)
    assert "\n" not in str(caught.value)


def test_a_language_that_no_code_names_is_refused(processor, tiny_hub):
    for code in ("klingonish", "xx-nowhere"):
        with pytest.raises(SparqleError, match=code):
            processor.apply_translation_request(tiny_hub.waves[0], to=code, sampling_rate=RATE)
    with pytest.raises(SparqleError, match=r"2 language\(s\) came for 1 recording"):
        processor.apply_translation_request(tiny_hub.waves[0], to=["fr", "de"], sampling_rate=RATE)


def test_48_khz_is_resampled(processor):
    tone = np.sin(2 * np.pi * 440 * np.arange(48000) / 48000).astype(np.float32)
    heard = processor.waveform(tone, 48000)
    assert len(heard) == RATE
    spectrum = np.abs(np.fft.rfft(heard))
    assert spectrum.argmax() == 440


def test_a_long_recording_is_cut_as_translate_cuts_it(processor):
    spoken, rate = soundfile.read(Path(__file__).parents[1] / "data" / "speech.flac", dtype="float32")
    assert rate == RATE
    silence = np.zeros(2 * RATE, np.float32)
    long = np.concatenate([spoken, silence, spoken])
    expected = list(cut_at_pauses([long], VoiceDetector(), SpeechRule(longest=processor.max_seconds)))
    found = processor.segments(long, RATE)
    assert len(found) >= 2
    assert [(one.start, len(one.samples)) for one in found] == [(one.start, len(one.samples)) for one in expected]
    assert all(np.array_equal(one.samples, long[one.start : one.start + len(one.samples)]) for one in found)
    made = processor.apply_translation_request([one.samples for one in found], to="fr", sampling_rate=RATE)
    assert len(made["input_ids"]) == len(found)
    fixed = processor.segments(np.tile(spoken, 40)[: 65 * RATE], RATE, cut="fixed")
    assert [one.start_seconds for one in fixed] == [0, 30, 60]
    assert processor.segments(silence, RATE) == []
    with pytest.raises(SparqleError, match="neither vad nor fixed"):
        processor.segments(silence, RATE, cut="none")
