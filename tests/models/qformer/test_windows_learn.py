"""Windows and a strided front end learn to read the language of tones, through the commands of both stages."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import tiny
import torch
from commands import finetune_arguments, generate, lines, pretrain_arguments, train_here

OPTIONS = [
    "--query-window-seconds", 0.16, "--queries-per-window", 3, "--query-start", "monotonic", "--dropout", 0,
    "--speech-downsample", "conv", "--speech-stride", 2, "--batch-size", 16, "--validate-interval", 1000,
]  # fmt: skip


@pytest.mark.long
def test_a_windowed_stage_1_transcribes_and_stage_2_starts_from_it(world, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for seed, (split, count) in enumerate({"train": 96, "valid": 8, "test": 24}.items()):
        tiny.write_split(data, split, count, seed=seed, longest=2, words=5)
    tones = SimpleNamespace(**{**vars(world), "data": data})
    train_here(pretrain_arguments(tones, tmp_path / "stage1", *OPTIONS, updates=300))
    checkpoint = tmp_path / "stage1" / "checkpoint_last.pt"
    done = generate(tones, checkpoint, "sparqle_pretrain", "test", "--scoring", "wer")
    rate = float(done.stdout.rsplit("WER: ", 1)[1].split()[0])
    assert rate < 40, done.stdout[-1500:]  # chance is 80 % and more
    train_here(finetune_arguments(world, tmp_path / "stage2", "--pretrained-adapter", checkpoint, updates=4))
    checkpoint = tmp_path / "stage2" / "checkpoint_last.pt"
    found = [
        lines(generate(world, checkpoint, "sparqle_finetune", "test_fr", "--batch-size", size).stdout, "H")
        for size in (1, 7)
    ]
    assert {row: line.split("\t")[1] for row, line in found[0].items()} == {
        row: line.split("\t")[1] for row, line in found[1].items()
    }
    assert sorted(found[0]) == list(range(16))


@pytest.mark.long
def test_half_precision_trains_with_every_option(world, tmp_path):
    half = ["--fp16", "--fp16-no-flatten-grads", "--fp16-init-scale", 4, "--num-workers", 0]
    masks = ["--time-masks", 2, "--channel-masks", 1, "--channel-mask-width", 4]
    train_here(pretrain_arguments(world, tmp_path / "1", *OPTIONS, *half, *masks, updates=3))
    adapter = ["--pretrained-adapter", tmp_path / "1" / "checkpoint_last.pt", "--llm-dtype", "bf16"]
    train_here(finetune_arguments(world, tmp_path / "2", *half, *masks, *adapter, updates=3))
    for stage in "12":
        state = torch.load(tmp_path / stage / "checkpoint_last.pt", weights_only=True)
        assert state["optimizer_history"][-1]["num_updates"] == 3
        assert all(value.isfinite().all() for value in state["model"].values())
