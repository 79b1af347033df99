"""From segments to texts."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from tiny_models import build_stage1, build_stage2

from sparqle_fairseq.data.audio import read_audio
from sparqle_fairseq.data.manifest import read_manifest
from sparqle_fairseq.data.segments import Segment
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.generate import generator as module
from sparqle_fairseq.generate.generator import REPETITION
from sparqle_fairseq.generate.guard import is_loop
from sparqle_fairseq.tasks.loading import Trained
from sparqle_fairseq.tools.translate.translator import Settings, Target, Translator

FRENCH, GERMAN, ENGLISH = Target("translation", "fr"), Target("translation", "de"), Target("transcription", "en")


def trained(built) -> Trained:
    return Trained(built.task, built.model, built.cfg, torch.device("cpu"))


def segments_of(*sentences: str) -> list[Segment]:
    return [Segment(16000 * i, tiny.tones(sentence, seed=i)) for i, sentence in enumerate(sentences)]


SEGMENTS = segments_of("red fox", "dog sleeps blue", "cat")
QUICK = Settings(beam=2, tokens_per_second=10, guard=False)


@pytest.fixture(scope="module")
def translator(stage2):
    return Translator(trained(stage2), QUICK)


@pytest.fixture
def encoded(monkeypatch, stage2):
    """Batches that the encoder heard."""
    heard = []
    usual = type(stage2.model.speech_encoder).forward

    def counting(encoder, source, padding_mask=None):
        heard.append(len(source))
        return usual(encoder, source, padding_mask)

    monkeypatch.setattr(type(stage2.model.speech_encoder), "forward", counting)
    return heard


def test_the_encoder_hears_a_batch_once_for_all_languages(translator, encoded):
    texts = translator(SEGMENTS, [FRENCH, GERMAN, ENGLISH])
    assert encoded == [3]
    assert [len(row) for row in texts] == [3, 3, 3]
    # Languages and tasks are asked for in words, so the answers differ.
    assert len({tuple(text.text for text in column) for column in zip(*texts, strict=True)}) == 3


def test_a_loop_is_searched_again_from_the_same_features(stage2, encoded, monkeypatch):
    monkeypatch.setattr(module, "is_loop", lambda _: True)
    Translator(trained(stage2), Settings(beam=2, tokens_per_second=10))(SEGMENTS, [FRENCH])
    assert encoded == [3]


def test_texts_do_not_depend_on_the_batch_or_on_other_languages(translator):
    together = translator(SEGMENTS, [FRENCH, GERMAN])
    for segment, texts in zip(SEGMENTS, together, strict=True):
        (alone,) = translator([segment], [GERMAN])
        assert alone[0].text == texts[1].text
        assert alone[0].score == pytest.approx(texts[1].score, abs=1e-4)


@pytest.mark.parametrize(("stage", "split", "target"), [("stage1", "test", ENGLISH), ("stage2", "test_fr", FRENCH)])
def test_texts_are_those_of_generation_from_a_manifest(request, world, stage, split, target):
    """What fairseq-generate gives for the same recording and language: same prompt, same samples, same search."""
    built = request.getfixturevalue(stage)
    translator = Translator(trained(built), QUICK)
    manifest = read_manifest(world.data / f"{split}.tsv")
    built.task.load_dataset(split)
    dataset = built.task.dataset(split)
    found = translator.generator.generate([built.model], dataset.collater([dataset[i] for i in range(3)]))
    texts = translator([Segment(0, read_audio(manifest.row(i).audio)) for i in range(3)], [target])
    for hypotheses, (text,) in zip(found, texts, strict=True):
        assert text.text == built.task.target_dictionary.text(hypotheses[0]["tokens"])
        assert text.score == pytest.approx(float(hypotheses[0]["score"]), abs=1e-4)


@pytest.fixture(scope="module")
def looping(world):
    """A stage-2 model that goes round in circles, as random ones do, and segments that it loops on."""
    for seed in range(20):
        built = build_stage2(world)
        torch.manual_seed(seed)
        with torch.no_grad():
            built.model.adapter.projector.weight.normal_(std=2.0)
        plain = Translator(trained(built), Settings(beam=1, tokens_per_second=100, guard=False))
        texts = [row[0] for row in plain(SEGMENTS, [FRENCH])]
        if any(is_loop(text.text) for text in texts) and not all(is_loop(text.text) for text in texts):
            # Those that loop come last, so that their features cannot be taken for the first ones.
            order = sorted(range(len(texts)), key=lambda i: is_loop(texts[i].text))
            return built, [SEGMENTS[i] for i in order], [texts[i] for i in order]
    raise AssertionError("no model loops on some segments and not on others")


def test_only_what_loops_is_made_again_and_flagged(looping):
    built, segments, before = looping
    quick = {"beam": 1, "tokens_per_second": 100.0}
    guarded = Translator(trained(built), Settings(**quick))(segments, [FRENCH])
    blocked = Translator(trained(built), Settings(**quick, no_repeat_ngram_size=3, guard=False))(segments, [FRENCH])
    for old, (new,), (without,) in zip(before, guarded, blocked, strict=True):
        if is_loop(old.text):
            assert (new.text, new.flag) == (without.text, REPETITION)
            assert not is_loop(new.text)
        else:
            assert new == old


def test_a_text_says_why_it_ended(looping, monkeypatch):
    built, *_ = looping
    short = Translator(trained(built), Settings(beam=1, tokens_per_second=1, guard=False))
    assert any(text.ended == "length" for (text,) in short(SEGMENTS, [FRENCH]))
    monkeypatch.setattr(built.model, "max_answer_tokens", lambda _: 3)
    assert any(text.ended == "room" for (text,) in short(SEGMENTS, [FRENCH]))


def test_options_reach_the_search(stage2):
    settings = Translator(
        trained(stage2), Settings(beam=3, lenpen=0.5, no_repeat_ngram_size=2, tokens_per_second=25)
    ).generator
    assert (settings.settings.beam, settings.settings.lenpen, settings.settings.no_repeat_ngram_size) == (3, 0.5, 2)
    assert settings.lengths.max_len_a == pytest.approx(25 / stage2.model.speech_encoder.frame_rate)


def test_a_stage1_model_transcribes_and_says_that_it_cannot_translate(world):
    built = build_stage1(world)
    transcriber = Translator(trained(built), QUICK)
    assert not transcriber.can_translate
    assert len(transcriber(SEGMENTS, [ENGLISH])) == 3


def test_out_of_memory_names_the_options_that_help(translator, monkeypatch):
    def burst(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(translator, "_encode", burst)
    with pytest.raises(SparqleError, match="lower --batch-seconds"):
        translator(SEGMENTS, [FRENCH])


def test_waveforms_are_normalised_where_the_encoder_wants_it(translator, stage2, monkeypatch):
    heard = []
    monkeypatch.setattr(stage2.model, "hear", lambda source, mask: heard.append(source) or (source, mask))
    for normalize in (False, True):
        monkeypatch.setattr(stage2.model.speech_encoder, "normalize", normalize)
        translator._encode(SEGMENTS[:1])
    assert np.array_equal(heard[0][0].numpy(), SEGMENTS[0].samples)
    assert float(heard[1].std()) == pytest.approx(1, abs=0.02)
