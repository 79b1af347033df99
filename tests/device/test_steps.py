"""Both stages learn on a device: nothing mixes devices, the losses are the CPU's, and a step waits twice at most.

A step is the trainer's: forward, backward, clipping, Adam and what is logged.
"""

from __future__ import annotations

import pytest
from on_device import steps
from tiny_models import stage1_arguments, stage2_arguments

WAITS = 2
STILL = ["--dropout", "0"]
WINDOWS = ["--query-window-seconds", "0.4", "--queries-per-window", "2"]
MASKS = ["--time-masks", "1", "--time-mask-frames", "5", "--channel-masks", "1", "--channel-mask-width", "4"]
STAGE1 = {
    "sparqle": [],
    "stc": ["--objective", "stc"],
    "stm": ["--objective", "stm"],
    "stg": ["--objective", "stg"],
    "stg-outputs": ["--objective", "stg-outputs"],
    "ctc": ["--objective", "ctc"],
    "llm-ctc": ["--objective", "llm-ctc"],
    "all of a sum": ["--objective", "sparqle+0.5*ctc+llm-ctc"],
    "windows": WINDOWS,
    "masks": MASKS,
    "all layers": ["--encoder-layer", "weighted"],
    "stacked frames": ["--speech-downsample", "stack", "--speech-stride", "2"],
}
STAGE2 = {
    "linear": [],
    "lora": ["--lora-rank", "4"],
    "windows": WINDOWS,
    "masks": MASKS,
    "recomputed": ["--llm-gradient-checkpointing"],
}


def check(here, there):
    assert (there.loss, there.norm) == pytest.approx((here.loss, here.norm), rel=2e-3)  # as the log rounds them
    assert len(there.seen.waits) <= WAITS, there.seen


@pytest.mark.parametrize("name", STAGE1)
def test_stage_1_learns_on_a_device_as_on_the_cpu(world, name):
    more = [*STAGE1[name], *(["--llm", str(world.llm)] if "llm" in " ".join(STAGE1[name]) else [])]
    check(*steps([*stage1_arguments(world), *STILL, *more], "train"))


@pytest.mark.parametrize("name", STAGE2)
def test_stage_2_learns_on_a_device_as_on_the_cpu(world, name):
    if "lora" in name:
        pytest.importorskip("peft", reason="the extra `lora` is not installed")
    check(*steps([*stage2_arguments(world), *STILL, *STAGE2[name]], "train2"))
