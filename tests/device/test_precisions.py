"""Half precision: no operation that a GPU refuses is given two precisions, and losses are summed in fp32.

On the CPU, as what is asked needs no device. The trainer's --fp16 and --bf16 turn the trained weights to half precision
and leave recordings and the frozen parts as they are; features of a store and other trainers may bring half precision.
"""

from __future__ import annotations

import pytest
import torch
from generation import generate
from precisions import MixedPrecisions, OnePrecision
from test_steps import HEARD, WINDOWS, need_peft, with_long
from tiny_models import (
    PLAIN,
    batch,
    build,
    build_stage1,
    build_stage2,
    save_adapter,
    stage1_arguments,
    stage2_arguments,
)

HALF = [torch.float16, torch.bfloat16]
STILL = ["--dropout", "0", "--max-update", "9"]
EVERYTHING = "stc+stm+stg+stg-outputs+ctc+llm-ctc+llm-regression+adversarial"
STAGE1 = {
    "all objectives": ["--objective", EVERYTHING],
    "windows of ctc, sampled": ["--objective", "llm-ctc+frame-ctc", "--llm-ctc-sample", "50", *HEARD],
    "ctc adapter": ["--objective", "llm-ctc", *PLAIN["ctc"]],
}
STAGE1_LONG = {
    "windows": WINDOWS,
    "all layers": ["--encoder-layer", "weighted"],
    "convolved frames": ["--speech-downsample", "conv", "--speech-stride", "2"],
    "stack adapter": ["--objective", "llm-ctc", *PLAIN["stack"]],
    "conv adapter": ["--objective", "llm-ctc", *PLAIN["conv"]],
    "encoder with lora": ["--encoder-lora", "4"],
    "layers of the encoder": ["--unfreeze-encoder-layers", "1"],
    "encoder in bf16": ["--encoder-dtype", "bf16"],
    "llm in fp16": ["--objective", "llm-ctc+llm-regression", "--llm-dtype", "fp16"],
    "recomputed": ["--qformer-gradient-checkpointing"],
}
STAGE2 = {
    "answer and distill, with lora": ["--objective", "answer+distill", "--lora-rank", "4"],
}
STAGE2_LONG = {
    "minimum-risk, llm in bf16": ["--objective", "answer+minimum-risk", "--llm-dtype", "bf16"],
    "answer": [],
    "all in bf16": ["--objective", "answer+distill", "--llm-dtype", "bf16", "--encoder-dtype", "bf16"],
    "lora, llm in fp16": ["--lora-rank", "4", "--llm-dtype", "fp16"],
    "mlp": ["--projector", "mlp"],
    "stack adapter": PLAIN["stack"],
    "layers of the encoder": ["--unfreeze-encoder-layers", "1"],
}


def learns_in_half_precision(built, sample, close=0.05):
    """Each of the two precisions, with recordings in fp32 and in the same."""
    model, criterion = built.model, built.criterion
    model.train()

    def loss_of(sample):
        torch.manual_seed(1)
        loss, size, log = criterion(model, sample)
        return loss / size, log

    with torch.no_grad():
        expected = float(loss_of(sample)[0])
    for dtype in HALF:
        model.to(dtype)
        for source in (sample["net_input"]["source"], sample["net_input"]["source"].to(dtype)):
            with OnePrecision():
                loss, log = loss_of({**sample, "net_input": {**sample["net_input"], "source": source}})
                (64 * loss).backward()  # as the trainer's loss scale does
            assert float(loss) == pytest.approx(expected, rel=close)
            sums = {name: value for name, value in log.items() if name.endswith("_sum")}
            assert {value.dtype for value in sums.values()} == {torch.float32}
            assert all(value.isfinite() for value in sums.values())
            for name, parameter in model.named_parameters():
                assert parameter.grad is None or parameter.grad.isfinite().all(), name
            model.zero_grad()


@pytest.mark.parametrize("name", with_long(STAGE1, STAGE1_LONG))
def test_stage_1_learns_in_half_precision(world, name):
    more = {**STAGE1, **STAGE1_LONG}[name]
    need_peft(more)
    built = build([*stage1_arguments(world), *STILL, *more, *(["--llm", str(world.llm)] if "llm" in str(more) else [])])
    learns_in_half_precision(built, batch(built, "train2", range(4)))


@pytest.mark.parametrize("name", with_long(STAGE2, STAGE2_LONG))
def test_stage_2_learns_in_half_precision(world, name):
    more = {**STAGE2, **STAGE2_LONG}[name]
    need_peft(more)
    built = build([*stage2_arguments(world), *STILL, *more])
    learns_in_half_precision(built, batch(built, "train2", range(4)))


def test_soft_tokens_learn_in_half_precision(world, tmp_path):
    first = build([*stage1_arguments(world), "--objective", "llm-ctc", "--llm", str(world.llm)])
    more = ["--compress-queries", "--soft-tokens", "--pretrained-adapter", save_adapter(first, tmp_path / "first.pt")]
    built = build([*stage2_arguments(world), *STILL, *more])
    # In bf16 a query that is as near to two tokens as these may be read as the other one.
    learns_in_half_precision(built, batch(built, "train2", range(4)), close=0.1)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("stage", [1, 2])
def test_a_search_in_half_precision_scores_as_in_fp32(world, stage, dtype):
    name = str(dtype).replace("torch.float", "fp").replace("torch.bfloat", "bf")
    built = build_stage1(world) if stage == 1 else build_stage2(world, "--llm-dtype", name)
    sample = batch(built, "test" if stage == 1 else "test_fr", range(4))
    expected = [float(row[0]["score"]) for row in generate(built, sample)]
    built.model.to(dtype)
    with OnePrecision():
        found = generate(built, sample)
    scores = [row[0]["score"] for row in found]
    assert {score.dtype for score in scores} == {torch.float32}
    assert list(map(float, scores)) == pytest.approx(expected, rel=0.1)


MIXED = {
    "a product": lambda x, y: x @ y.T,
    "a norm": lambda x, y: torch.nn.functional.layer_norm(x, (4,), y[0], y[0]),
}


@pytest.mark.parametrize("name", MIXED)
def test_two_precisions_are_refused(name):
    x, y = torch.ones(3, 4), torch.ones(3, 4)
    with OnePrecision():
        MIXED[name](x, y)
        with pytest.raises(MixedPrecisions, match=r"bfloat16.*float32"):
            MIXED[name](x.bfloat16(), y)
