"""Each setting of a translation reaches the search, and changes what it should and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from tiny_models import build_stage1

from sparqle_fairseq.data.prompts import PromptError
from sparqle_fairseq.data.segments import Segment
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.generate.search import search
from sparqle_fairseq.tasks.loading import Trained
from sparqle_fairseq.tools.translate.translator import Settings, Target, Translator

FRENCH, ENGLISH = Target("translation", "fr"), Target("transcription", "en")
SEGMENTS = [Segment(16000 * i, tiny.tones(words, seed=i)) for i, words in enumerate(["red fox", "dog sleeps", "cat"])]
QUICK = {"beam": 2, "tokens_per_second": 10.0, "guard": False}


def trained(built) -> Trained:
    return Trained(built.task, built.model, built.cfg, torch.device("cpu"))


def translator(built, **settings) -> Translator:
    return Translator(trained(built), Settings(**{**QUICK, **settings}))


def texts(built, target=FRENCH, segments=SEGMENTS, **settings) -> list[str]:
    return [row[0].text for row in translator(built, **settings)(segments, [target])]


@pytest.mark.parametrize(
    ("ours", "value", "the_searches"),
    [
        ("beam", 3, "beam"),
        ("lenpen", 0.3, "lenpen"),
        ("sampling", True, "sampling"),
        ("temperature", 0.7, "temperature"),
        ("seed", 41, "seed"),
        ("no_repeat_ngram_size", 2, "no_repeat_ngram_size"),
        ("repetition_penalty", 1.5, "repetition_penalty"),
    ],
)
def test_a_setting_is_what_the_search_is_called_with(stage2, monkeypatch, ours, value, the_searches):
    seen = []

    def watching(decoder, net_input, settings, *arguments, **named):
        seen.append(settings)
        return search(decoder, net_input, settings, *arguments, **named)

    monkeypatch.setattr("sparqle_fairseq.generate.generator.search", watching)
    translator(stage2, **{ours: value})(SEGMENTS[:1], [FRENCH])
    assert [getattr(settings, the_searches) for settings in seen] == [value]


@pytest.mark.parametrize(
    ("ours", "value", "the_searches"), [("top_p", 0.6, "sampling_topp"), ("top_k", 7, "sampling_topk")]
)
def test_what_is_drawn_from_reaches_the_search(stage2, ours, value, the_searches):
    made = translator(stage2, sampling=True, **{ours: value}).generator.settings
    assert getattr(made, the_searches) == value


@pytest.mark.parametrize("name", ["top_p", "top_k"])
def test_what_is_drawn_from_is_refused_where_nothing_is_drawn(stage2, name):
    with pytest.raises(SparqleError, match="--sampling"):
        translator(stage2, **{name: 1})


def test_a_seed_gives_its_texts_in_any_batch_and_another_seed_others(stage2):
    drawn = texts(stage2, sampling=True, seed=3)
    alone = [texts(stage2, segments=[segment], sampling=True, seed=3)[0] for segment in SEGMENTS]
    assert drawn == alone
    assert drawn != texts(stage2, sampling=True, seed=4)


def test_the_likeliest_token_is_drawn_where_only_one_may_be(stage2):
    """Sampling from one token is greedy search."""
    assert texts(stage2, sampling=True, top_k=1, beam=1, seed=5) == texts(stage2, beam=1)


def test_rivals_are_the_other_hypotheses_best_first(stage2):
    (row,) = translator(stage2, beam=4, nbest=3)(SEGMENTS[:1], [FRENCH])
    scores = [row[0].score, *(rival.score for rival in row[0].rivals)]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert not translator(stage2)(SEGMENTS[:1], [FRENCH])[0][0].rivals


def test_wordings_are_those_of_the_templates_and_the_first_is_the_usual_one(stage2):
    asked = translator(stage2)
    wordings = asked.wordings("translation", "fr")
    assert len(wordings) == len(set(wordings)) > 1
    found = [texts(stage2, Target("translation", "fr", wording)) for wording in wordings[:3]]
    assert found[0] == texts(stage2)
    assert found[1] != found[0]


def test_an_own_instruction_is_read_and_one_that_cannot_be_is_refused(stage2):
    assert texts(stage2, Target("translation", "fr", "{speech} Say it in {language}!")) != texts(stage2)
    with pytest.raises(PromptError, match="more than once"):
        texts(stage2, Target("translation", "fr", "{speech} {speech}"))


def test_stage1_reads_no_instruction(world):
    built = build_stage1(world)
    assert translator(built).wordings("transcription", "en") == ()
    with pytest.raises(SparqleError, match="reads no instruction"):
        texts(built, Target("transcription", "en", "{speech} Write it down."))
    with pytest.raises(SparqleError, match="no LLM"):
        translator(built).read("red fox", 1.0, ENGLISH)


def test_bits_of_the_speech_are_told_where_they_are_asked_for(stage2):
    (row,) = translator(stage2, flag_unheard=True)(SEGMENTS[:1], [FRENCH])
    assert isinstance(row[0].heard_bits, float)
    assert translator(stage2)(SEGMENTS[:1], [FRENCH])[0][0].heard_bits is None


class Enough(Exception):
    pass


def test_a_search_asks_before_each_token_whether_to_go_on(stage2):
    asked = []

    def watch():
        asked.append(None)
        if len(asked) == 3:
            raise Enough

    with pytest.raises(Enough):
        translator(stage2, beam=1)(SEGMENTS[:1], [FRENCH], watch)
    assert len(asked) == 3


def test_a_transcript_that_is_read_stands_where_the_speech_would(stage2, monkeypatch):
    """The LLM is given the instruction with the text in it, and nothing is encoded."""
    heard = []
    monkeypatch.setattr(type(stage2.model), "encode_speech", lambda *_: heard.append(1))
    prompts = []
    usual = type(stage2.model).prompt_without_speech

    def watching(model, source, padding_mask, prompt, prompt_padding_mask):
        prompts.append(prompt)
        return usual(model, source, padding_mask, prompt, prompt_padding_mask)

    monkeypatch.setattr(type(stage2.model), "prompt_without_speech", watching)
    first = translator(stage2).read("red fox", 1.0, FRENCH)
    assert not heard
    tokens = [token for token in prompts[0][0].tolist() if token >= 0]
    wording = translator(stage2).wordings("translation", "fr")[0]
    said = wording.replace("{speech}", "red fox").replace("{language}", "French")
    assert said in stage2.model.llm.tokenizer.decode(tokens)
    assert first.text != translator(stage2).read("dog sleeps", 1.0, FRENCH).text
    with pytest.raises(SparqleError, match="leave it out"):
        translator(stage2).read("a {speech}", 1.0, FRENCH)
    with pytest.raises(SparqleError, match="shorten the transcript"):
        translator(stage2).read("red " * 900, 1.0, FRENCH)


def test_a_look_shows_the_text_that_the_settings_give(stage2):
    made = translator(stage2, beam=3)
    look = made.look(SEGMENTS[1], FRENCH)
    (row,) = made([SEGMENTS[1]], [FRENCH])
    assert (look.hypothesis, look.ended) == (row[0].text, row[0].ended)
    assert look.name.startswith("1.0 to 1.")
    assert look.queries.shape[0] == 6
    np.testing.assert_allclose(look.queries.sum(axis=1), 1, rtol=1e-3)
