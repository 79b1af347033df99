"""Both stages learn on a device: nothing mixes devices, the losses are the CPU's, and a step waits twice at most.

A step is the trainer's: forward, backward, clipping, Adam and what is logged. An objective that searches for answers
waits for their tokens besides, as generation does.
"""

from __future__ import annotations

import pytest
from on_device import OPTIMIZER, step_here, step_there, steps
from pretend import pretend_device
from test_generation import WAITS_A_TOKEN, WAITS_AT_START
from tiny_models import PLAIN, batch, build, save_adapter, stage1_arguments, stage2_arguments

WAITS = 2
STILL = ["--dropout", "0"]
WINDOWS = ["--query-window-seconds", "0.4", "--queries-per-window", "2"]
HEARD = [*WINDOWS, "--query-windows", "ctc"]
MASKS = ["--time-masks", "1", "--time-mask-frames", "5", "--channel-masks", "1", "--channel-mask-width", "4"]
STAGE1 = {
    "sparqle": [],
    "stg-outputs": ["--objective", "stg-outputs"],
    "llm-ctc, sampled": ["--objective", "llm-ctc", "--llm-ctc-sample", "50"],
    "llm-regression": ["--objective", "llm-ctc+0.5*llm-regression"],
    "adversarial": ["--objective", "sparqle+0.4*adversarial"],
    "all of a sum": ["--objective", "sparqle+0.5*ctc+llm-ctc"],
    "windows": WINDOWS,
    "windows of ctc": ["--objective", "llm-ctc+frame-ctc", *HEARD],
    "masks": MASKS,
    "all layers": ["--encoder-layer", "weighted"],
    "stacked frames": ["--speech-downsample", "stack", "--speech-stride", "2"],
    "encoder with lora": ["--encoder-lora", "4"],
    "ctc adapter": ["--objective", "llm-ctc", *PLAIN["ctc"]],
}
STAGE1_LONG = {  # of the sums above, each by itself, and what changes little of them
    "stc": ["--objective", "stc"],
    "stm": ["--objective", "stm"],
    "stg": ["--objective", "stg"],
    "ctc": ["--objective", "ctc"],
    "llm-ctc": ["--objective", "llm-ctc"],
    "adversarial, hidden": ["--objective", "sparqle+0.4*adversarial", "--adversarial-input", "hidden"],
    "llm-regression, windows": ["--objective", "llm-ctc+0.5*llm-regression", *WINDOWS],
    "layers of the encoder": ["--unfreeze-encoder-layers", "1"],
    "stack adapter": ["--objective", "llm-ctc", *PLAIN["stack"]],
    "conv adapter": ["--objective", "ctc", *PLAIN["conv"]],
    "recomputed": ["--qformer-gradient-checkpointing"],
}
STAGE2 = {
    "linear": [],
    "lora": ["--lora-rank", "4"],
    "windows": WINDOWS,
    "masks": MASKS,
    "recomputed": ["--llm-gradient-checkpointing"],
    "distill": ["--objective", "distill"],
    "minimum-risk": ["--objective", "answer+minimum-risk"],
    "mixed answers": ["--answer-mix", "0.5"],
}
STAGE2_LONG = {
    "distill and answer, with lora": ["--objective", "distill+0.5*answer", "--lora-rank", "4"],
    "minimum-risk, sampled": ["--objective", "minimum-risk", "--candidate-search", "sampling"],
    "layers of the encoder": ["--unfreeze-encoder-layers", "1"],
    "encoder with lora": ["--encoder-lora", "4"],
    "stack adapter": PLAIN["stack"],
    "conv adapter": PLAIN["conv"],
}
# From a checkpoint of stage 1: options of both, then those of stage 2.
FROM_STAGE1 = {"soft tokens": ([], ["--compress-queries", "--soft-tokens"])}
FROM_STAGE1_LONG = {
    "compressed": ([], ["--compress-queries"]),
    "ctc adapter": (PLAIN["ctc"], []),
    "windows of ctc": (HEARD, []),
    "windows of ctc, compressed": (HEARD, ["--compress-queries"]),
}
# How many windows there are is the device's to say, and then how many runs of queries they have.
TWO_SIZES = {"windows of ctc, compressed"}


def with_long(quick, long):
    return [*quick, *(pytest.param(name, marks=pytest.mark.long) for name in long)]


def check(here, there, waits=WAITS):
    assert (there.loss, there.norm) == pytest.approx((here.loss, here.norm), rel=2e-3)  # as the log rounds them
    search = WAITS_AT_START + WAITS_A_TOKEN * there.searched if there.searched else 0
    assert len(there.seen.waits) <= waits + search, there.seen


def need_peft(arguments):
    if "lora" in " ".join(arguments):
        pytest.importorskip("peft", reason="the extra `lora` is not installed")


@pytest.mark.parametrize("name", with_long(STAGE1, STAGE1_LONG))
def test_stage_1_learns_on_a_device_as_on_the_cpu(world, name):
    more = {**STAGE1, **STAGE1_LONG}[name]
    need_peft(more)
    more = [*more, *(["--llm", str(world.llm)] if "llm" in " ".join(more) else [])]
    # The language adversary compares transcripts with translations, which the second of these has.
    check(*steps([*stage1_arguments(world), *STILL, *more], "train2" if "adversarial" in name else "train"))


@pytest.mark.parametrize("name", with_long(STAGE2, STAGE2_LONG))
def test_stage_2_learns_on_a_device_as_on_the_cpu(world, name):
    more = {**STAGE2, **STAGE2_LONG}[name]
    need_peft(more)
    check(*steps([*stage2_arguments(world), *STILL, *more], "train2"))


@pytest.mark.parametrize("name", with_long(FROM_STAGE1, FROM_STAGE1_LONG))
def test_stage_2_goes_on_from_stage_1_on_a_device_as_on_the_cpu(world, tmp_path, name):
    both, more = {**FROM_STAGE1, **FROM_STAGE1_LONG}[name]
    objective = ["--objective", "llm-ctc+frame-ctc" if both == HEARD else "llm-ctc", "--llm", str(world.llm)]
    first = save_adapter(build([*stage1_arguments(world), *objective, *both]), tmp_path / "first.pt")
    arguments = [*stage2_arguments(world), *STILL, *both, *more, "--pretrained-adapter", first]
    check(*steps(arguments, "train2"), waits=WAITS + (name in TWO_SIZES))


@pytest.mark.long
def test_preference_learns_on_a_device_as_on_the_cpu(world, tmp_path):
    first = save_adapter(build(stage2_arguments(world)), tmp_path / "first.pt")
    more = ["--objective", "answer+preference", "--preference-margin", "0.01", "--pretrained-adapter", first]
    here, there = steps([*stage2_arguments(world), *STILL, *more], "train2")
    assert there.searched
    check(here, there)


@pytest.mark.parametrize("stage", [stage1_arguments, stage2_arguments])
def test_dropout_does_not_wait(world, stage):
    """Its numbers are the device's own, so that the loss is another one than the CPU's."""
    built = build([*stage(world), "--dropout", "0.1", *OPTIMIZER])
    sample = batch(built, "train2", range(4))
    with pretend_device() as device:
        there = step_there(device, built, sample)
    assert 0 < there.loss < 100
    assert 0 < there.norm < 1000
    assert len(there.seen.waits) <= WAITS, there.seen


@pytest.mark.parametrize(
    "more",
    [
        ["--bf16"],
        pytest.param(["--memory-efficient-fp16"], marks=pytest.mark.long),
        pytest.param(["--store-ema"], marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize("stage", [stage1_arguments, stage2_arguments])
def test_half_precision_and_the_moving_average_do_not_wait(world, stage, more):
    built = build([*stage(world), *STILL, *OPTIMIZER])
    sample = batch(built, "train2", range(4))
    expected = step_here(built, sample).loss
    built = build([*stage(world), *STILL, *more, *OPTIMIZER])
    with pretend_device() as device:
        there = step_there(device, built, sample)
    assert there.loss == pytest.approx(expected, rel=0.02)
    assert len(there.seen.waits) <= WAITS, there.seen
