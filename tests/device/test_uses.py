"""What else runs a model on a device: validation that generates, retrieval, and the translator behind the commands."""

from __future__ import annotations

from contextlib import ExitStack
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from factories import save_tiny_hugging_face
from fairseq.logging import metrics
from hugging_face_models import write_model
from omegaconf import OmegaConf
from on_device import OPTIMIZER, moved, trainer_on
from pretend import device_watch, pretend_device
from test_generation import WAITS_A_TOKEN, WAITS_AT_START, on_device
from test_steps import WINDOWS
from tiny import RATE, tones
from tiny_models import batch, build, build_stage1, build_stage2, stage1_arguments, stage2_arguments, stir

from sparqle_fairseq.data.audio.features import read_features
from sparqle_fairseq.data.manifest import read_manifest
from sparqle_fairseq.data.segments import Segment
from sparqle_fairseq.generate import inspection
from sparqle_fairseq.generate.word_times import word_times
from sparqle_fairseq.huggingface import SparqleForConditionalGeneration, SparqleProcessor
from sparqle_fairseq.tasks.loading import Trained
from sparqle_fairseq.tools.extract import extraction
from sparqle_fairseq.tools.retrieval import similarity_matrix
from sparqle_fairseq.tools.translate.translator import Settings, Target, Translator

SHORT = ["--max-tokens-per-second", "8"]
WAITS_OF_A_LOG = 3


def validated(device, built, sample):
    """What fairseq's trainer logs of a validation step, and what was waited for."""
    with ExitStack() as block:
        trainer = block.enter_context(trainer_on(device, built))
        trainer._dummy_batch = sample
        logged = block.enter_context(metrics.aggregate(new_root=True))
        seen = block.enter_context(device_watch())
        trainer.valid_step(sample)
    return logged.get_smoothed_values(), seen


@pytest.mark.parametrize("stage", [stage1_arguments, stage2_arguments])
def test_validation_that_generates_scores_the_same_and_waits_little(world, stage, monkeypatch):
    built = build([*stage(world), "--eval-generate", *SHORT, *OPTIMIZER])
    stir(built.model)
    lengths = []
    generator = built.task._generator_of_validation(built.model)
    usual = generator.generate

    def noted(*args, **named):
        found = usual(*args, **named)
        lengths.append(max(len(hypothesis["tokens"]) for row in found for hypothesis in row))
        return found

    monkeypatch.setattr(generator, "generate", noted)
    sample = batch(built, "dev2" if stage is stage2_arguments else "valid", range(4))
    here, _ = validated("cpu", built, sample)
    with pretend_device() as device:
        there, seen = validated(device, built, sample)
    assert there == pytest.approx(here, rel=2e-3)
    assert {"loss", "wer"} <= there.keys()
    assert len(seen.waits) <= WAITS_AT_START + WAITS_A_TOKEN * lengths[-1] + WAITS_OF_A_LOG, seen


@pytest.mark.parametrize("shape", [[], pytest.param(WINDOWS, marks=pytest.mark.long)], ids=["whole", "windows"])
def test_retrieval_finds_the_same(world, shape):
    built = build_stage1(world, *shape)
    built.task.load_dataset("test")
    dataset = built.task.dataset("test")
    here, belongs = similarity_matrix(built.model, dataset, 8)
    with on_device(built.model), device_watch() as seen:
        found, its = similarity_matrix(built.model, dataset, 8)
    np.testing.assert_allclose(found, here, atol=1e-5)
    assert (its == belongs).all()
    assert len(seen.waits) <= 2, seen  # two batches: what each found


@pytest.mark.parametrize("build", [build_stage1, pytest.param(build_stage2, marks=pytest.mark.long)])
def test_looking_reads_all_utterances_at_once(world, build, monkeypatch):
    monkeypatch.setattr(inspection, "LONGEST_ANSWER", 6)
    built = build(world)
    built.task.load_dataset("test")
    asked = built.task, built.model, built.task.dataset("test"), range(4)
    here = inspection.look_into(*asked, beam=2)
    with on_device(built.model), device_watch() as seen:
        there = inspection.look_into(*asked, beam=2)
    for mine, theirs in zip(there, here, strict=True):
        assert (mine.hypothesis, mine.tokens) == (theirs.hypothesis, theirs.tokens)
        for name in ("features", "layers", "token_excess"):
            np.testing.assert_allclose(getattr(mine, name), getattr(theirs, name), atol=1e-4)
    assert len(seen.waits) <= WAITS_AT_START + WAITS_A_TOKEN * 7, seen  # a figure of each of the four is 18 more


def test_times_of_words_are_read_once_for_all(world):
    built = build_stage1(world, "--objective", "ctc", "--queries", "40")
    sample = batch(built, "test", range(4))["net_input"]
    texts = [built.task.dataset("test").row(i).src_text for i in range(4)]
    here = word_times(built.model, sample, texts)
    with on_device(built.model) as device:
        there = moved(sample, device)
        with device_watch() as seen:
            found = word_times(built.model, there, texts)
    assert all(here)
    for mine, theirs in zip(found, here, strict=True):
        assert [word.text for word in mine] == [word.text for word in theirs]
        assert [word.seconds for word in mine] == pytest.approx([word.seconds for word in theirs], abs=1e-2)
    assert len(seen.waits) <= 5, seen  # lengths of the audio, then paths, their lengths, tokens and attention


def test_extraction_stores_the_same_and_waits_thrice_a_batch(world, tmp_path, monkeypatch):
    usual, stored = extraction.load_speech_encoder, []
    for place in ("here", "there"):
        with ExitStack() as block:
            device = block.enter_context(pretend_device()) if place == "there" else "cpu"

            encoder = usual(str(world.encoder)).to(device)
            monkeypatch.setattr(encoder, "to", lambda _, own=encoder: own)  # it would ask for CUDA, or the CPU
            monkeypatch.setattr(extraction, "load_speech_encoder", lambda *_, own=encoder, **__: own)
            seen = block.enter_context(device_watch())
            options = extraction.Options(str(world.encoder), tmp_path / place)
            extraction.extract([world.data / "valid.tsv"], options)
        manifest = read_manifest(tmp_path / place / "valid.tsv")
        stored.append([read_features(manifest.audio(i)) for i in range(len(manifest))])
    for mine, theirs in zip(*stored, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)
    assert len(manifest) == 8  # one batch, of which lengths, features and padding are read
    assert 0 < len(seen.waits) <= 3, seen


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.long)])
def test_an_export_for_transformers_runs_on_a_device(world, tmp_path, dtype):
    save_tiny_hugging_face(tmp_path / "encoder", "hubert", normalize=False)
    built = build_stage2(SimpleNamespace(**{**vars(world), "encoder": tmp_path / "encoder"}))
    options = OmegaConf.to_container(built.cfg.model, resolve=True, enum_to_str=True)
    folder = write_model(built.model, options, tmp_path / "export")
    model = SparqleForConditionalGeneration.from_pretrained(folder).to(dtype).eval()
    waves = [tones("red fox", seed=1), tones("cat", seed=2)]
    processor = SparqleProcessor.from_pretrained(folder)
    asked = processor.apply_translation_request(waves, to=["fr"] * 2, sampling_rate=RATE)
    answered = processor.apply_translation_request(waves, to=["fr"] * 2, sampling_rate=RATE, answers=["Rouge", "Chat"])

    def run(device):
        loss = model(**moved(dict(answered), device)).loss
        found = model.generate(**moved(dict(asked), device), max_new_tokens=4, do_sample=False)
        return float(loss.detach()), found.tolist()

    here = run("cpu")
    with on_device(model) as device:
        there = run(device)
    assert there[0] == pytest.approx(here[0], rel=2e-2 if dtype == torch.bfloat16 else 1e-4)
    assert len(there[1]) == len(here[1])
    assert dtype == torch.bfloat16 or there[1] == here[1]


ALL = {"mbr": True, "flag_unheard": True, "nbest": 2}


@pytest.mark.parametrize("options", [{}, pytest.param(ALL, marks=pytest.mark.long)], ids=["plain", "with all"])
def test_the_translator_answers_the_same_and_waits_little(world, options):
    built = build_stage2(world)
    random = np.random.default_rng(0)
    segments = [Segment(i * 20000, random.normal(0, 0.1, 8000 + 3000 * i).astype(np.float32)) for i in range(3)]
    targets = [Target("transcription", "en"), Target("translation", "fr")]
    texts, waits = [], []
    for device in ("cpu", None):
        with ExitStack() as block:
            if device is None:
                device = block.enter_context(on_device(built.model))
            loaded = Trained(built.task, built.model, built.cfg, device)
            translator = Translator(loaded, Settings(beam=2, tokens_per_second=2.0, **options))
            seen = block.enter_context(device_watch())
            texts.append(translator(segments, targets))
            waits.append(seen)
    assert [[text.text for text in row] for row in texts[0]] == [[text.text for text in row] for row in texts[1]]
    tokens = 20 + int(2 * max(len(segment.samples) for segment in segments) / 16000) + 1
    searches = len(targets) * (3 if options else 1)
    assert 0 < len(waits[1].waits) <= searches * (WAITS_AT_START + WAITS_A_TOKEN * tokens), waits[1]
