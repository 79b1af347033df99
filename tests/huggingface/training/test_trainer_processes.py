"""Training with Trainer in processes of their own: without fairseq, and in two by `accelerate launch` on gloo."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from runs import largest_difference, options

HERE = Path(__file__).parent
CLOSE = 1e-5


@pytest.mark.long
def test_both_stages_train_where_fairseq_cannot_be_imported(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", HERE / "no_fairseq.py", tmp_path],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "done", done.stdout


def launched(processes, words):
    # What accelerate calls multi_gpu is its launcher of several processes; on which device they run the script says.
    kind = ["--multi_gpu"] if processes > 1 else ["--cpu"]
    launch = [Path(sys.executable).parent / "accelerate", "launch", *kind, "--num_processes", str(processes)]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    port = 29500 + os.getpid() % 1000
    done = subprocess.run(
        [*launch, "--main_process_port", str(port), HERE / "two_processes.py", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return torch.load(Path(words[words.index("--output_dir") + 1]) / "end.pt", weights_only=True)


def same(one, two):
    difference, name = largest_difference(one["model"], two["model"])
    assert difference < CLOSE, name
    assert len(one["logs"]) == len(two["logs"])
    for ours, theirs in zip(one["logs"], two["logs"], strict=True):
        for name in ours:
            if name.endswith(("loss", "accuracy", "wer", "cer", "bleu")):
                assert ours[name] == pytest.approx(theirs[name], abs=CLOSE, rel=CLOSE), name


@pytest.mark.long
def test_two_processes_take_the_steps_of_one_with_twice_the_batches(hub_world, tmp_path):
    """Seven batches an epoch: in its last update the second process has none, and stands in."""
    named = {
        "max_steps": 8, "per_device_train_batch_size": 5, "eval_strategy": "steps", "eval_steps": 8, "optim": "sgd",
        "learning_rate": 0.01, "dropout": 0, "eval_generate": "true", "eval_max_new_tokens": 4,
    }  # fmt: skip
    one = launched(1, options(hub_world, tmp_path / "one", 2, gradient_accumulation_steps=2, **named))
    two = launched(2, options(hub_world, tmp_path / "two", 2, ddp_backend="gloo", **named))
    same(one, two)


@pytest.mark.long
def test_two_processes_compare_the_utterances_of_both(hub_world, twelve, tmp_path):
    world = type(hub_world)(**{**vars(hub_world), "data": twelve.data})
    named = {"max_steps": 8, "optim": "sgd", "learning_rate": 0.01, "dropout": 0}
    one = launched(1, options(world, tmp_path / "one", 1, per_device_train_batch_size=12, **named))
    two = launched(2, options(world, tmp_path / "two", 1, per_device_train_batch_size=6, ddp_backend="gloo", **named))
    same(one, two)
