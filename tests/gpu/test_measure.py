"""What `make test-gpu` measures with, run on the CPU at small sizes: nothing of it waits for a GPU to be tried."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import torch
from commands import pretrain_arguments, train_here
from measure import gemm_peak, measure, share_of_peak
from training import stage2_arguments

from sparqle_fairseq.tools.plan.parts import LLMSize
from sparqle_fairseq.tools.plan.plan import Run


@pytest.mark.long
@pytest.mark.parametrize("stage", [0, 1])
def test_figures_of_a_step(stage):
    run = Run(
        "base", LLMSize(3e5, 64, 2, 1000), arch="tiny", mean_seconds=1.0, max_tokens=(48000,) * 2, batch_multiple=1,
        precision="fp32", llm_dtype="fp32", text_vocabulary=1000,
    )  # fmt: skip
    found = measure(run, stage, torch.device("cpu"), steps=1, gemm_size=256)
    assert (found.utterances, found.device, found.memory) == (3, "CPU", None)
    assert found.seconds > 0
    assert found.hours_of_audio_an_hour == pytest.approx(3 / found.seconds)
    assert found.planned > 0
    assert set(found.operations) == set(found.peak) == {"float32"}
    time_at_peak = found.operations["float32"] / found.peak["float32"]
    assert found.share_of_the_gemm_peak == pytest.approx(time_at_peak / found.seconds)
    # The encoder's transformer alone, of 85 M weights over 49 frames of each of 3 utterances, and nowhere near its 100.
    assert 2 * 85e6 * 49 * 3 < found.operations["float32"] < 200 * 85e6 * 49 * 3
    assert json.loads(json.dumps(asdict(found)))["peak"] == found.peak


def test_the_share_of_the_peak_weighs_each_precision_by_its_own():
    """100 operations at 100 a second and 200 at 400 take 1.5 seconds of 3."""
    of = {torch.float32: 100.0, torch.bfloat16: 200.0}
    assert share_of_peak(of, {torch.float32: 100.0, torch.bfloat16: 400.0}, 3.0) == 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_peak_is_measured_in_the_precision_that_is_asked_for(dtype):
    assert 1e7 < gemm_peak(torch.device("cpu"), 128, dtype, tries=1) < 1e14


@pytest.mark.parametrize("stage", [pretrain_arguments, stage2_arguments])
def test_what_the_tests_on_cuda_train_is_a_training(world, tmp_path, stage):
    train_here(stage(world, tmp_path, "--bf16", "--disable-validation", updates=1))
    assert (tmp_path / "checkpoint_last.pt").is_file()
