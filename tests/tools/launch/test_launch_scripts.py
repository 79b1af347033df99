"""The scripts of examples/launch, run: one process, two under torchrun, three as machines of a pretended SLURM."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import ROOT, finetune_arguments

SCRIPTS = ROOT / "examples" / "launch"

# What srun does: starts the tasks, hands on a signal that is due before the time limit, returns the highest status.
SRUN = """#!{python}
import os, signal, subprocess, sys, time
assert sys.argv[1] == "--kill-on-bad-exit=1"
tasks = int(os.environ["SLURM_NTASKS"])
running = [
    subprocess.Popen(sys.argv[2:], env=os.environ | {{"SLURM_PROCID": str(rank), "SLURM_LOCALID": "0"}})
    for rank in range(tasks)
]
due = os.environ.get("SIGNAL_WHEN_THERE_IS")
while any(task.poll() is None for task in running):
    if due and os.path.exists(due):
        due = None
        for task in running:
            task.send_signal(signal.SIGUSR1)
    if any(task.poll() not in (None, 0, 75) for task in running):
        for task in running:
            task.kill()
    time.sleep(0.05)
sys.exit(max(task.returncode % 256 for task in running))
"""
SCONTROL = """#!/bin/sh
case "$1" in
    show) echo 127.0.0.1 ;;
    *) echo "$@" >> "$SCONTROL_LOG" ;;
esac
"""


def script(name, words, **environment):
    """Run a script of examples/launch from the root of the repository."""
    environment = {str(key): str(value) for key, value in environment.items()}
    path = os.pathsep.join((environment.pop("PATH", ""), str(Path(sys.executable).parent), os.environ["PATH"]))
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "DEVICE": "cpu"}
    return subprocess.run(
        ["bash", str(SCRIPTS / name), *map(str, words)],
        cwd=ROOT, env={**os.environ, **quiet, **environment, "PATH": path}, capture_output=True, text=True, timeout=900,
    )  # fmt: skip


def hydra(world, folder, updates):
    """Stage 1 by the files of a recipe, with a tiny model and data."""
    small = {"hidden_size": 32, "layers": 2, "heads": 4, "ffn_size": 64, "queries": 6}
    return [
        "fairseq-hydra-train", "--config-dir", "examples/librispeech/config", "--config-name", "stage1",
        f"task.data={world.data}", f"model.speech_encoder={world.encoder}", "model.encoder_dtype=fp32",
        "model.bert=null", f"model.text_tokenizer={world.tokenizer}", *(f"model.{k}={v}" for k, v in small.items()),
        "common.fp16=false", "dataset.train_subset=train", "dataset.valid_subset=valid", "dataset.num_workers=0",
        "dataset.max_tokens=60000", f"optimization.max_update={updates}", "lr_scheduler.warmup_updates=1",
        f"checkpoint.save_dir={folder}",
    ]  # fmt: skip


def updates_of(folder):
    state = torch.load(folder / "checkpoint_last.pt", weights_only=True)
    return state["optimizer_history"][-1]["num_updates"]


def test_one_gpu_sh_trains_by_a_recipe_of_eight_gpus(world, tmp_path):
    done = script("one_gpu.sh", hydra(world, tmp_path, 2))
    assert done.returncode == 0, done.stderr[-3000:]
    assert updates_of(tmp_path) == 2


@pytest.mark.long
def test_one_machine_sh_trains_in_two_processes_of_torchrun(world, tmp_path):
    done = script("one_machine.sh", hydra(world, tmp_path, 3), PROCESSES=2)
    assert done.returncode == 0, done.stderr[-3000:]
    assert updates_of(tmp_path) == 3
    assert "training on 2 devices" in done.stdout + done.stderr


@pytest.mark.long
def test_machines_sbatch_saves_when_it_is_told_to_and_goes_on_when_requeued(world, tmp_path):
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("srun", SRUN.format(python=sys.executable)), ("scontrol", SCONTROL)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    folder, requeued = tmp_path / "run", tmp_path / "requeued"
    sizes = ["--hidden-size", 32, "--layers", 2, "--heads", 4, "--ffn-size", 64, "--queries", 6]
    words = finetune_arguments(
        world, folder, "--speech-encoder", world.encoder, *sizes, "--batch-size", 4, "--save-interval-updates", 2,
        updates=300,
    )  # fmt: skip
    job = {
        "SLURM_JOB_ID": os.getpid(), "SLURM_NTASKS": 3, "SLURM_NTASKS_PER_NODE": 1, "SLURM_JOB_NODELIST": "n[1-3]",
        "PATH": programs, "SCONTROL_LOG": requeued,
    }  # fmt: skip
    first = script(
        "machines.sbatch", ["fairseq-train", *words], **job, SIGNAL_WHEN_THERE_IS=folder / "checkpoint_last.pt"
    )
    assert first.returncode == 75, first.stderr[-3000:]
    assert requeued.read_text() == f"requeue {os.getpid()}\n"
    done = updates_of(folder)
    assert 2 <= done < 300
    words[words.index("--max-update") + 1] = done + 2
    second = script("machines.sbatch", ["fairseq-train", *words], **job)
    assert second.returncode == 0, second.stderr[-3000:]
    assert updates_of(folder) == done + 2
    assert "loaded checkpoint" in (second.stdout + second.stderr).lower()
    assert requeued.read_text().count("requeue") == 1, "training that is done is not requeued"


def test_an_error_is_not_requeued(tmp_path):
    (tmp_path / "srun").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "scontrol").write_text(SCONTROL)
    for name in ("srun", "scontrol"):
        (tmp_path / name).chmod(0o755)
    done = script("machines.sbatch", ["fairseq-train"], PATH=tmp_path, SCONTROL_LOG=tmp_path / "log", SLURM_JOB_ID=1)
    assert done.returncode == 1
    assert not (tmp_path / "log").exists()
