"""Several processes started by one command: they train together, generate in shares, and stop together."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner
from commands import command, finetune_arguments, generate, lines, pretrain_arguments, train_here, train_together

from sparqle_fairseq.cli.main import app
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.scoring.outputs import read_results
from sparqle_fairseq.tools.launch import ProcessPlace, arguments_for, place_of

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "8", "MASTER_ADDR": "node1", "MASTER_PORT": "29500", "LOCAL_RANK": "1"}
SLURM = {
    "SLURM_NTASKS": "16", "SLURM_PROCID": "9", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "4711", "MASTER_ADDR": "node1",
}  # fmt: skip


def test_a_place_comes_from_torchrun_or_slurm_or_is_none():
    assert place_of(TORCHRUN) == ProcessPlace(3, 8, 1, "env://")
    assert place_of(SLURM) == ProcessPlace(9, 16, 1, "tcp://node1:24711")
    assert place_of({}) is None
    assert place_of({"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}) is None


def test_slurm_without_scontrol_says_what_to_set(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SparqleError, match="set MASTER_ADDR"):
        place_of({name: value for name, value in SLURM.items() if name != "MASTER_ADDR"})


def test_gpus_get_nccl_and_a_device_and_cpus_gloo():
    place = place_of(TORCHRUN)
    on_gpu = arguments_for(place, "fairseq-train", ["DATA"], gpus=4)
    assert on_gpu[on_gpu.index("--distributed-backend") + 1] == "nccl"
    assert on_gpu[on_gpu.index("--device-id") + 1] == "1"
    on_cpu = arguments_for(place, "fairseq-train", ["DATA", "--cpu"], gpus=0)
    assert on_cpu[on_cpu.index("--distributed-backend") + 1] == "gloo"
    assert "--device-id" not in on_cpu
    hydra = arguments_for(place, "fairseq-hydra-train", ["common.cpu=true"], gpus=0)
    assert "distributed_training.distributed_rank=3" in hydra
    assert "distributed_training.ddp_backend=legacy_ddp" in hydra


def test_another_command_is_refused():
    result = CliRunner().invoke(app, ["launch", "rm", "-rf"])
    assert isinstance(result.exception, SparqleError)
    assert "rm cannot be launched" in str(result.exception)


def test_parts_are_merged_in_order_and_a_row_counts_once(tmp_path):
    for part, rows in enumerate(([3, 0], [2, 1])):
        folder = tmp_path / f"part-{part}"
        folder.mkdir()
        text = "".join(f"T-{row}\tt{row}\nH-{row}\t-1\th{row}\nD-{row}\t-1\td{row}\nP-{row}\t-1\n" for row in rows)
        (folder / "generate-test.txt").write_text(f"2026 | INFO | a log line\n{text}Generate test: BLEU = 3\n")
    merged = tmp_path / "all.txt"
    done = CliRunner().invoke(
        app, ["merge-results", str(tmp_path), "-o", str(merged), "--json"], catch_exceptions=False
    )
    assert '"rows": 4' in done.output
    assert [line.split("\t")[0] for line in merged.read_text().splitlines()] == [
        f"{kind}-{row}" for row in range(4) for kind in "THDP"
    ]
    with pytest.raises(SparqleError, match="row 0 is in"):
        read_results([tmp_path / "part-0" / "generate-test.txt", merged])


@pytest.mark.long
@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize(
    ("stage", "more"),
    [
        (pretrain_arguments, []),
        (pretrain_arguments, ["--objective", "stg"]),
        (finetune_arguments, []),
        (finetune_arguments, ["--objective", "distill"]),
        (finetune_arguments, ["--objective", "answer+minimum-risk", "--candidates", "2"]),
    ],
    ids=["stage 1", "stage 1, STG alone", "stage 2", "stage 2, distillation", "stage 2, tokens and utterances"],
)
def test_any_number_of_processes_ends_with_the_same_parameters(twelve, tmp_path, stage, more, processes):
    if stage is finetune_arguments:
        train_here(pretrain_arguments(twelve, tmp_path / "first", updates=1))
        more = [*more, "--pretrained-adapter", tmp_path / "first" / "checkpoint_last.pt"]
    for count in (1, processes):
        train_together(twelve, tmp_path, stage, count, 20, *more)
    states = [
        torch.load(tmp_path / f"{stage.__name__}-{count}" / "checkpoint_last.pt", weights_only=True)["model"]
        for count in (1, processes)
    ]
    for name, alone in states[0].items():
        torch.testing.assert_close(states[1][name], alone, atol=1e-5, rtol=1e-5, msg=name)


@pytest.mark.long
def test_an_error_in_one_process_ends_all_with_its_sentence(twelve, tmp_path):
    """The bad recording is in one process's share of the batch."""
    import shutil

    data = tmp_path / "data"
    shutil.copytree(twelve.data, data)
    manifest = data / "train.tsv"
    lines_ = manifest.read_text().splitlines()
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    cells = lines_[5].split("\t")
    cells[lines_[0].split("\t").index("audio")] = str(tmp_path / "bad.wav")
    lines_[5] = "\t".join(cells)
    manifest.write_text("\n".join(lines_) + "\n")
    spoilt = SimpleNamespace(**{**vars(twelve), "data": data})
    started = time.monotonic()
    done = train_together(spoilt, tmp_path, pretrain_arguments, 2, 5, check=False)
    assert done.returncode != 0
    assert "bad.wav" in done.stderr
    assert time.monotonic() - started < 100  # of these a start takes some ten


@pytest.mark.long
def test_shares_of_generation_together_are_the_whole(world, tmp_path):
    train_here(pretrain_arguments(world, tmp_path / "run", updates=2))
    checkpoint = tmp_path / "run" / "checkpoint_last.pt"
    whole = generate(world, checkpoint, "sparqle_pretrain", "test")
    command(
        "sparqle", "launch", "-n", 2, "fairseq-generate", world.data, "--user-dir", "sparqle_fairseq", "--cpu",
        "--task", "sparqle_pretrain", "--path", checkpoint, "--gen-subset", "test", "--batch-size", 5,
        "--max-len-b", 12, "--results-path", tmp_path / "parts",
    )  # fmt: skip
    merged = tmp_path / "merged.txt"
    command("sparqle", "merge-results", tmp_path / "parts", "-o", merged, "--manifest", world.data / "test.tsv")
    for kind in "THDP":
        assert lines(merged.read_text(), kind) == lines(whole.stdout, kind)
