"""The whole way through fairseq's commands: train, resume, translate, score. Small, and real."""

from __future__ import annotations

import multiprocessing
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import tiny
import torch
from commands import command, finetune, finetune_arguments, generate, lines, pretrain, pretrain_arguments, train_here

from sparqle_fairseq.data.manifest import read_manifest
from sparqle_fairseq.tasks.base import SpeechTask


@pytest.fixture(scope="module")
def learned(world, tmp_path_factory):
    """A stage-1 model that has learned to read the shortest sentences of the language of tones."""
    data, folder = tmp_path_factory.mktemp("tones"), tmp_path_factory.mktemp("stage1")
    for seed, (split, count) in enumerate({"train": 96, "valid": 8, "test": 24}.items()):
        tiny.write_split(data, split, count, seed=seed, longest=2, words=5)
    tones = SimpleNamespace(**{**vars(world), "data": data})
    options = ["--query-start", "monotonic", "--dropout", 0, "--batch-size", 16, "--validate-interval", 1000]
    options += ["--save-interval", 1000]
    done = pretrain(tones, folder, *options, "--eval-generate", updates=240)
    return folder / "checkpoint_last.pt", done, tones


@pytest.fixture(scope="module")
def translated(world, learned, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stage2")
    done = finetune(world, folder, "--pretrained-adapter", learned[0], "--eval-generate", updates=12)
    return folder / "checkpoint_last.pt", done


def test_stage1_logs_every_loss_and_rate(learned):
    last = [line for line in learned[1].stdout.splitlines() + learned[1].stderr.splitlines() if "| valid |" in line][-1]
    for name in (
        "loss", "stc_loss", "stm_loss", "stg_loss", "stm_accuracy", "s2t_recall_at_1", "t2s_recall_at_1",
        "stg_accuracy", "temperature", "wer",
    ):  # fmt: skip
        assert re.search(rf"\| {name} [\d.]+", last), f"{name} is missing in: {last}"


def test_stage1_really_learns_to_transcribe(learned):
    done = generate(learned[2], learned[0], "sparqle_pretrain", "test", "--scoring", "wer", apart=True)
    rate = float(re.search(r"WER: ([\d.]+)", done.stdout)[1])
    assert rate < 40, done.stdout[-1500:]  # chance is 80 % and more
    assert len(lines(done.stdout, "D")) == 24


def test_stage2_logs_wer_and_bleu_of_generated_text(translated):
    last = [line for line in (translated[1].stdout + translated[1].stderr).splitlines() if "| dev2 |" in line][-1]
    assert re.search(r"\| wer [\d.]+", last)
    assert re.search(r"\| bleu [\d.]+", last)


@pytest.mark.parametrize("batch", [1, 7, 16])
def test_every_row_gives_one_result_and_references_are_the_manifests(world, translated, batch):
    more = ["--scoring", "sacrebleu", "--batch-size", batch]
    done = generate(world, translated[0], "sparqle_finetune", "test_fr", *more, apart=batch == 7)
    manifest = read_manifest(world.data / "test_fr.tsv")
    assert lines(done.stdout, "T") == {i: manifest.row(i).tgt_text for i in range(16)}
    for kind in "HDP":
        assert sorted(lines(done.stdout, kind)) == list(range(16))
    assert "BLEU" in done.stdout
    for row, line in lines(done.stdout, "H").items():
        places = [float(value) for value in lines(done.stdout, "P")[row].split()]
        assert float(line.split("\t")[0]) == pytest.approx(sum(places) / len(places), abs=1e-3)


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(world, tmp_path):
    for name, updates in (("whole", 6), ("parts", 3), ("parts", 6)):
        train_here(pretrain_arguments(world, tmp_path / name, "--num-workers", 0, updates=updates))
    whole, parts = (
        torch.load(tmp_path / name / "checkpoint_last.pt", weights_only=True)["model"] for name in ("whole", "parts")
    )
    assert whole.keys() == parts.keys()
    for name in whole:
        assert torch.equal(whole[name], parts[name]), name


@pytest.mark.parametrize("stage", [pretrain_arguments, finetune_arguments])
def test_half_precision_trains(world, learned, tmp_path, stage):
    more = ["--fp16", "--fp16-no-flatten-grads", "--fp16-init-scale", 4, "--num-workers", 0]
    if stage is finetune_arguments:
        more += ["--pretrained-adapter", learned[0], "--llm-dtype", "bf16"]
    train_here(stage(world, tmp_path, *more, updates=3))
    state = torch.load(tmp_path / "checkpoint_last.pt", weights_only=True)
    assert state["optimizer_history"][-1]["num_updates"] == 3
    assert all(value.isfinite().all() for value in state["model"].values())


def test_loader_processes_do_not_pile_up_with_the_epochs(world, tmp_path, monkeypatch):
    """fairseq's persistent ones would: one more set an epoch."""
    alive = []
    usual = SpeechTask.get_batch_iterator

    def counting(task, **options):
        alive.append(len(multiprocessing.active_children()))
        return usual(task, **options)

    monkeypatch.setattr(SpeechTask, "get_batch_iterator", counting)
    train_here(pretrain_arguments(world, tmp_path, "--num-workers", 1, "--batch-size", 32, updates=5))
    assert len(alive) >= 5
    assert max(alive) <= 2


@pytest.mark.parametrize("stage", [pretrain_arguments, pytest.param(finetune_arguments, marks=pytest.mark.long)])
def test_two_processes_train_to_the_end_with_uneven_shards(world, tmp_path, stage):
    """Three batches an epoch for two processes: in every second update one of them stands in with a dummy batch."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pretrain(world, tmp_path / "stage1", updates=1)
    more = ["--pretrained-adapter", tmp_path / "stage1" / "checkpoint_last.pt"] if stage is finetune_arguments else []
    shared = [
        "--distributed-no-spawn", "--distributed-backend", "gloo", "--distributed-world-size", 2,
        "--distributed-init-method", f"tcp://127.0.0.1:{port}", "--ddp-backend", "legacy_ddp", "--batch-size", 12,
    ]  # fmt: skip
    arguments = stage(world, tmp_path / "run", *more, *shared, updates=5)
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda rank: command("fairseq-train", *arguments, "--distributed-rank", rank), (0, 1)))
    assert "num_updates 5" in done[0].stdout + done[0].stderr
    state = torch.load(tmp_path / "run" / "checkpoint_last.pt", weights_only=True)["model"]
    assert all(value.isfinite().all() for value in state.values())
