"""Several processes and something goes wrong in one: nothing hangs, and the sentence is that process's own."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from commands import command, finetune_arguments, pretrain_arguments

from sparqle_fairseq.tools.launch import _culprit

STOP_SECONDS = 60
STAGES = {"1": pretrain_arguments, "2": finetune_arguments}


def arguments_of(stage, world, save_dir, *more, updates=6):
    words = STAGES[stage](world, save_dir, *more, "--batch-size", 4, updates=updates)
    if stage == "2":
        words += ["--speech-encoder", world.encoder, "--hidden-size", 32, "--layers", 2, "--heads", 4]
        words += ["--ffn-size", 64, "--queries", 6]
    words[words.index("--user-dir") + 1] = Path(__file__).parents[1] / "faulty"
    return words


@pytest.fixture
def fault(monkeypatch, tmp_path):
    """Order a fault; what is returned says how many seconds ago it happened."""
    happened = tmp_path / "fault"

    def set_fault(text, rank, update, place="before"):
        values = {"": text, "_RANK": rank, "_UPDATE": update, "_PLACE": place, "_TIME": happened}
        for name, value in values.items():
            monkeypatch.setenv(f"FAULT{name}", str(value))
        return lambda: time.time() - happened.stat().st_mtime

    return set_fault


def launch(processes, arguments):
    return command("sparqle", "launch", "-n", processes, "fairseq-train", *arguments, check=False)


def torchrun(processes, arguments):
    return command(
        "torchrun", "--standalone", "--nproc-per-node", processes, "-m", "sparqle_fairseq.cli.main", "launch",
        "fairseq-train", *arguments, check=False,
    )  # fmt: skip


def test_an_error_in_one_process_ends_all_with_its_words(world, tmp_path, fault):
    """Rank 0 waits for rank 1 and loses its connection; what it says of that is not the reason."""
    since = fault("the fan fell off", rank=1, update=2)
    done = launch(2, arguments_of("1", world, tmp_path / "run"))
    assert since() < STOP_SECONDS
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: process 1 of 2 failed: RuntimeError: the fan fell off"


@pytest.mark.long
@pytest.mark.parametrize(("stage", "rank", "place"), [("1", 0, "after"), ("2", 1, "before")])
def test_torchrun_ends_all_processes_when_one_fails(world, tmp_path, fault, stage, rank, place):
    since = fault("the fan fell off", rank=rank, update=3, place=place)
    done = torchrun(2, arguments_of(stage, world, tmp_path / "run"))
    assert since() < STOP_SECONDS
    assert done.returncode == 1
    assert "RuntimeError: the fan fell off" in done.stderr


@pytest.mark.long
def test_stage_1_out_of_memory_in_one_process_stops_all_with_a_remedy(world, tmp_path, fault):
    since = fault("CUDA out of memory. Tried to allocate 2 GiB", rank=1, update=3, place="before")
    done = launch(2, arguments_of("1", world, tmp_path / "run"))
    assert since() < STOP_SECONDS
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: process 1 of 2 failed: process 1 of 2 ran out of memory in update 3")
    assert "lower --max-tokens" in last


@pytest.mark.long
@pytest.mark.parametrize(
    ("place", "more"), [("before", []), ("after", ["--fp16", "--fp16-no-flatten-grads", "--update-freq", 2])], ids=str
)
def test_stage_2_out_of_memory_in_one_process_leaves_its_batch_out(world, tmp_path, fault, place, more):
    fault("CUDA out of memory. Tried to allocate 2 GiB", rank=1, update=3, place=place)
    done = launch(2, arguments_of("2", world, tmp_path / "run", *more, updates=5))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "update 3: out of memory" in done.stdout + done.stderr
    state = torch.load(tmp_path / "run" / "checkpoint_last.pt", weights_only=True)
    assert state["optimizer_history"][-1]["num_updates"] == 5
    assert all(value.isfinite().all() for value in state["model"].values() if value.is_floating_point())


def test_the_step_without_the_lost_batch_is_the_step_of_the_others():
    """Gradient zero, size zero, and a log of zeros with the names of any other."""
    from types import SimpleNamespace
    from unittest import mock

    from fairseq.distributed import LegacyDistributedDataParallel

    from sparqle_fairseq.errors import SparqleError
    from sparqle_fairseq.fairseq_fixes import out_of_memory

    weight = torch.nn.Parameter(torch.ones(2))
    model = mock.Mock(spec=LegacyDistributedDataParallel, parameters=lambda: [weight])
    optimizer = SimpleNamespace(zero_grad=lambda: setattr(weight, "grad", None), backward=lambda loss: loss.backward())
    guard = out_of_memory.OutOfMemoryGuard()

    def fine():
        weight.sum().backward()
        return torch.tensor(2.0), 7, {"loss": torch.tensor(2.0), "ntokens": 7}

    def full():
        raise RuntimeError("CUDA out of memory")

    with mock.patch.object(out_of_memory, "world_size", return_value=1), pytest.raises(RuntimeError, match="CUDA"):
        guard.step(full, model, optimizer, 0, alone=True)  # fairseq's own way
    with mock.patch.object(out_of_memory, "world_size", return_value=2), mock.patch("torch.distributed.get_rank"):
        with pytest.raises(SparqleError, match="lower --max-tokens"):
            guard.step(full, model, optimizer, 0, alone=True)  # the first: nobody knows yet what a log looks like
        guard.step(fine, model, optimizer, 1, alone=True)
        _, size, log = guard.step(full, model, optimizer, 1, alone=True)
        assert size == -7, "the first half of the update is lost too"
        assert log == {"loss": 0, "ntokens": 0}
        assert weight.grad.equal(torch.zeros(2))
        _, size, _ = guard.step(full, model, optimizer, 2, alone=True)
        assert size == 0
        with pytest.raises(SparqleError, match="in update 4"):
            guard.step(full, model, optimizer, 3, alone=False)


def test_the_failure_behind_a_lost_connection_is_the_one_that_is_told():
    class Ended:
        def poll(self):
            return 1

    words = ["RuntimeError: [gloo/transport/tcp/pair.cc:538] Connection closed by peer", "ValueError: x"]
    assert _culprit([Ended(), Ended()], words, 0) == 1
    assert _culprit([Ended(), Ended()], ["ValueError: y", "ValueError: x"], 0) == 0
    assert _culprit([Ended(), Ended()], words, None) is None


@pytest.mark.long
@pytest.mark.parametrize("stage", STAGES)
def test_fewer_batches_than_processes_and_uneven_shares_end_well(world, tmp_path, stage):
    """Five utterances, one a batch, for three processes; and two in the validation: somebody is always idle."""
    data = tmp_path / "data"
    data.mkdir()
    for split, rows in (("train", 5), ("valid", 2), ("train2", 5), ("dev2", 2)):
        text = (world.data / f"{split}.tsv").read_text().splitlines(keepends=True)
        (data / f"{split}.tsv").write_text("".join(text[: 1 + rows]))
    words = arguments_of(stage, world, tmp_path / "run", "--audio-root", world.data, updates=4)
    words[0] = data
    words[len(words) - 1 - words[::-1].index("--batch-size") + 1] = 1
    done = launch(3, [*words, "--required-batch-size-multiple", 1])
    assert done.returncode == 0, done.stderr[-3000:]
    assert "num_updates 4" in done.stdout + done.stderr
