"""Signals, full disks and damaged checkpoints in training: nothing is lost and nothing starts anew in silence."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from commands import finetune_arguments, pretrain_arguments, train_here
from training_process import TrainingProcess, differences, progress_of, run, state_of

from sparqle_fairseq.data.checkpoint_files import whole
from sparqle_fairseq.data.signals import STOPPED
from sparqle_fairseq.errors import sentence_of

UPDATES = 6
OPTIONS = ["--disable-validation", "--no-epoch-checkpoints", "--log-interval", 1, "--dropout", 0.1]


def arguments(world, save_dir, *more, updates=UPDATES):
    return pretrain_arguments(world, save_dir, *OPTIONS, *more, updates=updates)


@pytest.fixture(scope="module")
def undisturbed(world, tmp_path_factory):
    """A whole run, every update of it kept."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert run(arguments(world, folder, "--save-interval-updates", 1), folder / "log") == 0
    return folder


def fork_from(folder, tmp_path, *names):
    """A save-dir that holds some checkpoints of another."""
    save_dir = tmp_path / "run"
    save_dir.mkdir()
    for name in names:
        shutil.copy(folder / name, save_dir)
    return save_dir


def sentence_from(arguments):
    with pytest.raises(Exception) as error:  # noqa: PT011
        train_here(arguments)
    sentence = sentence_of(error.value)
    assert sentence, error.value
    return sentence


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGUSR1, marks=pytest.mark.long)])
def test_a_signal_saves_and_stops_and_the_same_command_ends_the_run(world, undisturbed, tmp_path, number):
    process = TrainingProcess(arguments(world, tmp_path / "run"), tmp_path / "log")
    process.signal_after("num_updates=1", number)
    assert process.wait() == STOPPED == 75
    last = tmp_path / "run" / "checkpoint_last.pt"
    reached = whole(str(last)).updates
    assert 1 <= reached < UPDATES
    assert f"stopped by {number.name} after update {reached}, saved in" in (tmp_path / "log").read_text()
    assert os.listdir(tmp_path / "run") == ["checkpoint_last.pt"]
    assert run(arguments(world, tmp_path / "run"), tmp_path / "log2") == 0
    assert not differences(progress_of(undisturbed / "checkpoint_last.pt"), progress_of(last))


def loaders_of(pid):
    """How many processes a process has started, in whichever of its threads."""
    return sum(len(file.read_text().split()) for file in Path(f"/proc/{pid}/task").glob("*/children"))


@pytest.mark.long
def test_a_signal_is_heeded_with_loader_processes_and_without_last_checkpoints(world, tmp_path):
    """The scheduler sends it to every process of the job: a loader process that ends would take the trainer with it."""
    more = ["--num-workers", 2, "--no-last-checkpoints", "--batch-size", 1, "--required-batch-size-multiple", 1]
    process = TrainingProcess(arguments(world, tmp_path / "run", *more, updates=400), tmp_path / "log", os.setsid)
    process.signal_after("num_updates=5,", 0)
    end = time.monotonic() + 60
    while loaders_of(process.pid) < 2:  # between two epochs there are none
        assert time.monotonic() < end, "no loader process was seen"
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait() == STOPPED, process.log.read_text()[-3000:]
    assert whole(str(tmp_path / "run" / "checkpoint_last.pt")).updates >= 5


# fairseq-train on a machine with two GPUs starts two processes; here it is made to think so, and they train on CPUs.
TWO_GPUS = "import torch; torch.cuda.device_count = lambda: 2; from fairseq_cli.train import cli_main; cli_main()"
SPAWN = ["--distributed-world-size", 2, "--distributed-backend", "gloo", "--ddp-backend", "legacy_ddp"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("starter", "stage"),
    [("launch", pretrain_arguments), ("launch", finetune_arguments), ("fairseq-train", pretrain_arguments)],
)
def test_two_processes_stop_at_the_same_update(world, tmp_path, stage, starter):
    """Whoever started them passes the signal on; then the same command ends the run as if undisturbed."""
    more = list(OPTIONS)
    if stage is finetune_arguments:
        train_here(pretrain_arguments(world, tmp_path / "first", updates=1))
        more += ["--pretrained-adapter", tmp_path / "first" / "checkpoint_last.pt"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

    def launch(name):
        words = stage(world, tmp_path / name, *more, updates=12)
        program = [Path(sys.executable).parent / "sparqle", "launch", "-n", 2, "fairseq-train"]
        if starter == "fairseq-train":
            program, words = [sys.executable, "-c", TWO_GPUS], [*words, *SPAWN]
        return subprocess.Popen(
            [*map(str, program), *map(str, words)],
            cwd=Path(__file__).parents[2], env=environment, stdout=(tmp_path / f"{name}.log").open("a"),
            stderr=subprocess.STDOUT,
        )  # fmt: skip

    assert launch("whole").wait() == 0
    torn = launch("torn")
    log, end = tmp_path / "torn.log", time.monotonic() + 300
    while "num_updates=2" not in log.read_text() and time.monotonic() < end:
        time.sleep(0.01)
    torn.send_signal(signal.SIGUSR1)
    assert torn.wait() == STOPPED, log.read_text()[-3000:]
    assert 2 <= whole(str(tmp_path / "torn" / "checkpoint_last.pt")).updates < 12
    assert launch("torn").wait() == 0
    ends = [progress_of(tmp_path / name / "checkpoint_last.pt") for name in ("whole", "torn")]
    assert not differences(*ends)


def test_a_damaged_last_checkpoint_is_passed_over_with_a_warning(world, undisturbed, tmp_path):
    save_dir = fork_from(undisturbed, tmp_path, "checkpoint_1_3.pt", "checkpoint_1_2.pt", "checkpoint_last.pt")
    last = save_dir / "checkpoint_last.pt"
    last.write_bytes(last.read_bytes()[:-2000])
    (save_dir / "checkpoint_2_4.pt.tmp").write_bytes(b"half")
    assert run(arguments(world, save_dir), tmp_path / "log") == 0
    warned = [line for line in (tmp_path / "log").read_text().splitlines() if line.startswith("WARNING | ")]
    warned = [line for line in warned if "training goes on from" in line]
    assert len(warned) == 1
    assert "checkpoint_last.pt is damaged" in warned[0]
    assert "checkpoint_1_3.pt, update 3" in warned[0]
    assert not differences(progress_of(undisturbed / "checkpoint_last.pt"), progress_of(last))
    assert not list(save_dir.glob("*.tmp"))


def test_without_a_whole_checkpoint_training_ends_in_one_sentence(world, undisturbed, tmp_path):
    save_dir = fork_from(undisturbed, tmp_path, "checkpoint_last.pt")
    (save_dir / "checkpoint_last.pt").write_bytes(b"")
    assert "there is no other one; give a whole checkpoint" in sentence_from(arguments(world, save_dir))
    assert (save_dir / "checkpoint_last.pt").read_bytes() == b""


@pytest.mark.long
def test_a_restore_file_that_is_missing_is_no_new_start(world, tmp_path):
    sentence = sentence_from(arguments(world, tmp_path, "--restore-file", tmp_path / "x.pt"))
    assert "x.pt: there is no such file" in sentence


@pytest.mark.long
def test_a_run_without_optimizer_state_is_not_resumed_in_silence(world, tmp_path):
    train_here(arguments(world, tmp_path, "--no-save-optimizer-state", updates=2))
    assert "has no optimizer state" in sentence_from(arguments(world, tmp_path))
    train_here(arguments(world, tmp_path, "--reset-optimizer", updates=1))


def test_a_full_disk_ends_training_in_one_sentence_and_leaves_older_checkpoints(world, undisturbed, tmp_path):
    """The kernel refuses to let a file grow beyond a limit: what fairseq-train meets is a real failed write."""
    save_dir = fork_from(undisturbed, tmp_path, "checkpoint_last.pt", "checkpoint_1_3.pt")
    shutil.copy(save_dir / "checkpoint_1_3.pt", save_dir / "checkpoint_last.pt")
    size = (save_dir / "checkpoint_last.pt").stat().st_size
    content = {path.name: path.read_bytes() for path in save_dir.iterdir()}

    def prepare():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))

    assert run(arguments(world, save_dir), tmp_path / "log", prepare) == 1
    log = (tmp_path / "log").read_text()
    last = log.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "checkpoint_last.pt could not be written, the disk is full" in last
    assert "Traceback" not in log
    assert {path.name: path.read_bytes() for path in save_dir.iterdir()} == content


@pytest.mark.long
@pytest.mark.parametrize("more", [[], ["--memory-efficient-fp16"]], ids=["flat or not", "memory efficient"])
def test_half_precision_resumes_with_its_weights_and_its_loss_scale(world, tmp_path, more):
    """fairseq alone resumes from weights rounded to fp16, and counts towards the next loss scale from 0."""
    half = ["--fp16", "--fp16-no-flatten-grads", "--fp16-init-scale", 4, "--fp16-scale-window", 4, *more]
    for name, updates in (("whole", 9), ("parts", 3), ("parts", 9)):
        train_here(arguments(world, tmp_path / name, *half, updates=updates))
    ends = [progress_of(tmp_path / name / "checkpoint_last.pt") for name in ("whole", "parts")]
    assert ends[0]["optimizer"]["loss_scale"] > 4
    assert ends[0]["optimizer"]["loss_scaler"]["_iter"] == 9
    assert not differences(*ends)


@pytest.mark.parametrize("stage", [pretrain_arguments, finetune_arguments])
def test_a_checkpoint_is_no_larger_than_what_was_trained(world, tmp_path, stage):
    """The bytes of what was trained and of the optimizer's two moments, and at most 2 % more."""
    # Wider than the other tests' model: what a checkpoint says beside numbers is as long for every size.
    wide = ["--hidden-size", 256, "--ffn-size", 1024, "--layers", 2, "--heads", 4, "--queries", 8]
    encoder = ["--speech-encoder", world.encoder] if stage is finetune_arguments else []
    train_here(stage(world, tmp_path, *OPTIONS, *wide, *encoder, updates=1))
    path = tmp_path / "checkpoint_last.pt"
    state = state_of(path)
    trained = size_of({name: value for name, value in state["model"].items() if name != "frozen_identity"})
    ratio = path.stat().st_size / (trained + size_of(state["last_optimizer_state"]))
    print(f"{stage.__name__}: {trained} bytes were trained, ratio {ratio:.4f}")
    assert ratio <= 1.02
    assert size_of(state["last_optimizer_state"]) == pytest.approx(2 * trained, rel=1e-3)  # Adam's two moments


def size_of(state):
    if isinstance(state, torch.Tensor):
        return state.numel() * state.element_size()
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return sum(size_of(part) for part in parts)
