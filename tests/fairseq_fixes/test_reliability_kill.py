"""Training that is killed goes on and ends where it would have ended, bit for bit."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest
from commands import finetune_arguments, pretrain_arguments, train_here
from training_process import TrainingProcess, differences, progress_of, run

from sparqle_fairseq.data import checkpoint_files
from sparqle_fairseq.fairseq_fixes.resuming import newest_whole

# What could go another way after a resume: dropout, batches and their order, negatives, wordings, speeds, schedule.
RANDOM = ["--dropout", 0.1, "--lr-scheduler", "inverse_sqrt", "--warmup-updates", 8, "--disable-validation"]
RANDOM += ["--log-interval", 1, "--speed-perturb", "0.9,1.0,1.1", "--batch-size", 6]


def kill_while_writing(nth: int, share: float):
    """Send SIGKILL to the process itself within the nth file that it writes, when so much of it is written."""

    def prepare() -> None:
        usual, count = checkpoint_files.write_whole, 0

        def write_whole(path, write):
            nonlocal count
            count += 1
            if count < nth:
                usual(path, write)
                return
            size = max((file.stat().st_size for file in Path(path).parent.glob("*.pt")), default=1_000_000)
            written, write_bytes = 0, checkpoint_files._Witness.write

            def counted(self, data):
                nonlocal written
                length = memoryview(data).nbytes
                if written + length > share * size:
                    write_bytes(self, memoryview(data).cast("B")[: max(0, int(share * size) - written)])
                    self._file.flush()
                    os.kill(os.getpid(), signal.SIGKILL)
                written += length
                return write_bytes(self, data)

            checkpoint_files._Witness.write = counted
            usual(path, write)
            os.kill(os.getpid(), signal.SIGKILL)  # all is written; `share` was just beyond its end

        checkpoint_files.write_whole = write_whole

    return prepare


def killed_again_and_again(arguments, folder: Path, updates: int, moments, cpu_of_a_run: float) -> list[str]:
    """Run `arguments(save_dir, updates)`, killed at `moments`, against a run that nobody disturbs; what was met."""
    whole, torn = folder / "whole", folder / "torn"
    # Every second update of the undisturbed run is kept to compare with.
    assert run(arguments(whole, updates, "--save-interval-updates", 1), folder / "whole.log") == 0
    met = []
    for n, (kind, place) in enumerate(moments):
        log = folder / f"torn-{n}.log"
        more = ["--save-interval-updates", 2, "--keep-interval-updates", 2]
        if kind == "while writing":
            process = TrainingProcess(arguments(torn, updates, *more), log, kill_while_writing(*place))
            status = process.wait()
        else:
            process = TrainingProcess(arguments(torn, updates, *more), log)
            status = process.kill_after(place * cpu_of_a_run)
        assert status in (-signal.SIGKILL, 0), log.read_text()[-3000:]
        half = sorted(path.name for path in torn.glob(".*.part")) if torn.exists() else []
        found = newest_whole(torn)  # raises where no checkpoint is whole
        reached = 0 if found is None else found.updates
        met.append(f"{kind} {place}: update {reached}, half written {half}")
        if 0 < reached < updates:
            names = list(whole.glob(f"checkpoint*_{reached}.pt"))
            if names:
                assert not differences(progress_of(names[0]), progress_of(Path(found.path))), met[-1]
        if status == 0:
            break
    assert run(arguments(torn, updates), folder / "end.log") == 0
    ends = [progress_of(path / "checkpoint_last.pt") for path in (whole, torn)]
    assert ends[0]["history"]["num_updates"] == updates
    assert not differences(*ends)
    assert not list(torn.glob(".*.part"))
    return met


def test_a_run_killed_twice_ends_where_an_uninterrupted_one_does(world, tmp_path):
    """Once in an update, in mid-epoch, and once in the middle of writing a checkpoint."""

    def arguments(save_dir, updates, *more):
        return pretrain_arguments(world, save_dir, *RANDOM, "--no-epoch-checkpoints", *more, updates=updates)

    moments = [("while writing", (3, 0.5)), ("while writing", (2, 0.9))]
    met = killed_again_and_again(arguments, tmp_path, 5, moments, 0)
    assert all("checkpoint" in line for line in met), met  # half a file was there, under another name


@pytest.mark.long
@pytest.mark.parametrize("stage", [pretrain_arguments, finetune_arguments])
def test_twenty_kills_at_random_moments_change_no_bit(world, tmp_path, stage):
    more = list(RANDOM)
    if stage is finetune_arguments:
        train_here(pretrain_arguments(world, tmp_path / "first", updates=1))
        more += ["--pretrained-adapter", tmp_path / "first" / "checkpoint_last.pt"]

    def arguments(save_dir, updates, *rest):
        return stage(world, save_dir, *more, *rest, updates=updates)

    before = os.times()
    assert run(arguments(tmp_path / "measured", 6, "--save-interval-updates", 2), tmp_path / "measured.log") == 0
    after = os.times()
    a_run = after.children_user + after.children_system - before.children_user - before.children_system
    draw = random.Random(7)
    moments = []
    for n in range(20):
        if n % 2:
            moments.append(("while writing", (draw.randint(1, 4), round(draw.random(), 3))))
        else:
            moments.append(("after CPU time", round(draw.uniform(0.3, 1.1), 3)))
    met = killed_again_and_again(arguments, tmp_path, 60, moments, a_run)
    print("\n".join(met))
    assert len(met) == 20
