"""What else runs a model on a device: validation that generates, retrieval, and the translator behind the commands."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import pytest
from fairseq.logging import metrics
from on_device import OPTIMIZER, trainer_on
from pretend import device_watch, pretend_device
from test_generation import WAITS_A_TOKEN, WAITS_AT_START, on_device
from test_steps import WINDOWS
from tiny_models import batch, build, build_stage1, build_stage2, stage1_arguments, stage2_arguments, stir

from sparqle_fairseq.data.segments import Segment
from sparqle_fairseq.tasks.loading import Trained
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
