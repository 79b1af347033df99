"""Each control asks the model what it says it asks, row for row, whatever batch a row is in."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from two_systems import content

from sparqle_fairseq.cli import report
from sparqle_fairseq.cli.main import app
from sparqle_fairseq.data.audio import read_audio
from sparqle_fairseq.data.segments import Segment
from sparqle_fairseq.data.torchaudio_import import ensure_torchaudio
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.tasks.loading import Trained
from sparqle_fairseq.tools.report import controls
from sparqle_fairseq.tools.report.controls import Controls, exchanged, run_controls
from sparqle_fairseq.tools.report.expected import Expected, Split, of_manifest
from sparqle_fairseq.tools.report.measure import Rules
from sparqle_fairseq.tools.report.recogniser import HuggingFaceRecogniser
from sparqle_fairseq.tools.report.run import Request, run
from sparqle_fairseq.tools.translate.translator import Settings, Target, Translator

BEAM = 1


@given(st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=24), st.integers(0, 9))
def test_every_row_gets_the_recording_of_another_text(said, seed):
    rows = [Expected(str(i), text, text) for i, text in enumerate(said)]
    if 2 * max(Counter(said).values()) > len(rows):
        with pytest.raises(SparqleError, match="rows say the same"):
            exchanged(rows, seed)
        return
    found = exchanged(rows, seed)
    assert sorted(row.id for row in found) == sorted(row.id for row in rows)
    assert all(own.source != other.source for own, other in zip(rows, found, strict=True))
    assert found == exchanged(rows, seed)


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory):
    """A folder with a tiny wav2vec 2.0 that hears letters at random, as transformers writes it."""
    ensure_torchaudio()
    from transformers import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    folder = tmp_path_factory.mktemp("asr")
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefgh"]
    vocabulary = folder / "vocab.json"
    vocabulary.write_text(json.dumps({letter: i for i, letter in enumerate(letters)}))
    torch.manual_seed(3)
    config = Wav2Vec2Config(
        vocab_size=len(letters), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        conv_dim=(8, 8), conv_stride=(20, 16), conv_kernel=(20, 16), num_feat_extract_layers=2,
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, pad_token_id=0, initializer_range=1.0,
    )  # fmt: skip
    Wav2Vec2ForCTC(config).save_pretrained(folder)
    Wav2Vec2CTCTokenizer(str(vocabulary)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


@pytest.fixture
def asked(world, stage2, recogniser, monkeypatch):
    """Controls over the tiny world's model, which is there already."""
    loaded = Trained(stage2.task, stage2.model, stage2.cfg, torch.device("cpu"))
    monkeypatch.setattr(controls, "open_model", lambda *_, **__: loaded)
    whole = of_manifest(world.data / "test_fr.tsv")
    split = Split(whole.name, whole.rows[:6], named=True)
    ask = Controls("here", asr=str(recogniser), beam=BEAM, batch_seconds=4, cpu=True)
    return SimpleNamespace(split=split, controls=ask, translator=Translator(loaded, Settings(beam=BEAM)))


def test_the_controls_are_what_they_are_called(asked, recogniser):
    found = run_controls(asked.controls, [asked.split], lambda _: None)
    texts = {name: {key: one.text for key, one in own[0].texts} for name, own in found.items()}
    rows, asr = asked.split.rows, HuggingFaceRecogniser(str(recogniser), cpu=True)
    assert list(texts) == list(controls.NAMES)
    others = exchanged(rows, asked.controls.seed)
    told = set()
    for row, other in zip(rows, others, strict=True):
        target = Target(row.task, row.language)
        own, wrong = read_audio(row.audio), read_audio(other.audio)

        def hear(samples, target=target):
            return asked.translator([Segment(0, samples)], [target])[0][0].text

        def read(text, target=target, seconds=row.seconds):
            return asked.translator.read(text, seconds, target).text

        heard = asr(own, row.source_language)
        told.add(heard)
        expected = {
            controls.MODEL: hear(own),
            controls.SHUFFLED: hear(wrong),
            controls.SILENCE: hear(np.zeros_like(own)),
            controls.TEXT_ONLY: read(""),
            controls.TRANSCRIPT: read(row.source),
            controls.CASCADE: read(heard),
        }
        assert {name: own[row.id] for name, own in texts.items()} == expected
    assert len(told - {""}) > 1, "the recogniser hears nothing, or always the same"
    assert len(set(map(str, texts.values()))) == len(texts), "two controls could be exchanged"


def test_one_control_alone_is_run_beside_the_model(asked, monkeypatch):
    def heard(*_):
        raise AssertionError("a recogniser was loaded that nobody asked for")

    monkeypatch.setattr(controls, "open_recogniser", heard)
    ask = replace(asked.controls, asr=None, only=(controls.TRANSCRIPT,))
    found = run_controls(ask, [asked.split], lambda _: None)
    assert list(found) == [controls.MODEL, controls.TRANSCRIPT]


def test_test_sets_of_which_one_has_no_transcripts_have_the_same_controls(asked):
    rows = asked.split.rows[:3]
    silent = Split("silent", tuple(replace(row, source=None) for row in rows), named=True)
    said: list[str] = []
    ask = replace(asked.controls, asr=None, only=(controls.TEXT_ONLY, controls.TRANSCRIPT))
    found = run_controls(ask, [Split("whole", rows, named=True), silent], said.append)
    assert {name: len(own) for name, own in found.items()} == {controls.MODEL: 2, controls.TEXT_ONLY: 2}
    assert said[0] == "silent: rows without src_text, so there is no control 'transcript'"


def test_the_command_names_every_control():
    assert [name.replace("-", " ") for name in report.CONTROLS] == list(controls.NAMES[1:])


@pytest.mark.parametrize(
    ("asr", "only", "message"),
    [
        (None, controls.CASCADE, "wants a recogniser; give its folder with --asr"),
        ("whisper", controls.SILENCE, "--asr is of the control 'cascade', which was not asked for"),
    ],
)
def test_a_recogniser_and_the_cascade_go_together(asked, asr, only, message):
    with pytest.raises(SparqleError, match=message):
        run_controls(replace(asked.controls, asr=asr, only=(only,)), [asked.split], lambda _: None)


@pytest.mark.usefixtures("asked")
def test_controls_are_systems_of_a_report_and_their_texts_are_kept(world, tmp_path):
    lines = (world.data / "test_fr.tsv").read_text(encoding="utf-8").splitlines()[:5]
    manifest = tmp_path / "four.tsv"
    (tmp_path / "audio").symlink_to(world.data / "audio")
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    rules = Rules(draws=40, trials=100)
    ask = Controls("here", beam=1, cpu=True)
    run(Request([], tmp_path / "out", manifests=[manifest], controls=ask, rules=rules))
    kept = sorted((tmp_path / "out" / "outputs").iterdir())
    again = [f"{name}={path}" for name, path in zip("abcde", kept, strict=True)]
    run(Request(again, tmp_path / "again", manifests=[manifest], rules=rules))
    first, second = (content(tmp_path / name)["parts"][0]["scores"] for name in ("out", "again"))
    assert list(first) == list(controls.NAMES[:-1])
    assert sorted(map(str, first.values())) == sorted(map(str, second.values()))


def test_what_is_no_recogniser_is_one_sentence(world):
    with pytest.raises(SparqleError, match="holds no speech recogniser of transformers"):
        HuggingFaceRecogniser(str(world.llm), cpu=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--controls", "-o", "out"], "give its --model"),
        (["--beam", "3", "-o", "out"], "--beam belongs to --controls"),
        (["--control", "silence", "-o", "out"], "--control belongs to --controls"),
    ],
)
def test_options_that_do_not_go_together_are_refused(words, message):
    done = CliRunner().invoke(app, ["report", *words])
    assert done.exit_code == 2
    assert message in done.output


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"controls": Controls("m")}, "no --manifest names some"),
        ({}, "there is nothing to report"),
    ],
)
def test_controls_want_recordings(tmp_path, request_, message):
    with pytest.raises(SparqleError, match=message):
        run(Request([], tmp_path / "out", **request_))
