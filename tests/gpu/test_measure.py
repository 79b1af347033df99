"""What `make test-gpu` measures with, run on the CPU at small sizes: nothing of it waits for a GPU to be tried."""

from __future__ import annotations

import pytest
import torch
from measure import measure

from sparqle_fairseq.tools.plan.parts import LLMSize
from sparqle_fairseq.tools.plan.plan import Run


@pytest.mark.long
@pytest.mark.parametrize("stage", [0, 1])
def test_figures_of_a_step(stage):
    run = Run(
        "base", LLMSize(3e5, 64, 2, 1000), arch="tiny", mean_seconds=1.0, max_tokens=(48000,) * 2, batch_multiple=1,
        precision="fp32", llm_dtype="fp32", text_vocabulary=1000,
    )  # fmt: skip
    found = measure(run, stage, torch.device("cpu"), steps=1)
    assert (found.utterances, found.device, found.memory) == (3, "CPU", None)
    assert found.seconds > 0
    assert found.hours_of_audio_an_hour == pytest.approx(3 / found.seconds)
    assert found.planned > 0
