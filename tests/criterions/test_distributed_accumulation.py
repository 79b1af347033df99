"""--update-freq: where gradients of small batches add up to the gradient of the large one, and where they do not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import tiny
import torch
from commands import finetune_arguments, pretrain_arguments, train_here

from sparqle_fairseq.data.manifest import write_manifest

STAGE2 = ["--hidden-size", 32, "--layers", 2, "--heads", 4, "--ffn-size", 64, "--queries", 6]


@pytest.fixture(scope="module")
def twelve(world, tmp_path_factory):
    """Twelve utterances of two words each, so that any half of them has as many tokens as the other."""
    import soundfile

    data = tmp_path_factory.mktemp("twelve")
    rows = []
    for i in range(12):
        sentence = f"{tiny.ENGLISH[i % 8]} {tiny.ENGLISH[(i + 1 + i // 8) % 8]}"
        wave = tiny.tones(sentence, seed=i)
        soundfile.write(data / f"{i}.wav", wave, tiny.RATE)
        rows.append(tiny.row(f"u{i}", data / f"{i}.wav", wave, sentence))
    for split in ("train", "valid", "train2", "dev2"):
        write_manifest(data / f"{split}.tsv", rows, tiny.COLUMNS)
    return SimpleNamespace(**{**vars(world), "data": data})


def trained(world, folder, stage, *more):
    """The adapter after four updates of all twelve, in batches of 12, and of 6 that are accumulated."""
    found = []
    for batch, accumulated in ((12, 1), (6, 2)):
        words = stage(
            world, folder / str(batch), "--dropout", 0, "--batch-size", batch, "--update-freq", accumulated,
            "--required-batch-size-multiple", 1, "--optimizer", "sgd", "--lr", 0.05, "--clip-norm", 0,
            "--disable-validation", *more, updates=4,
        )  # fmt: skip
        train_here(words)
        state = torch.load(folder / str(batch) / "checkpoint_last.pt", weights_only=True)
        assert state["optimizer_history"][-1]["num_updates"] == 4
        found.append({name: value for name, value in state["model"].items() if value.is_floating_point()})
    return found


def largest_difference(states):
    return max(float((states[0][name] - states[1][name]).abs().max()) for name in states[0])


@pytest.fixture(scope="module")
def uneven(world, tmp_path_factory):
    """The first twelve utterances of the world, of different lengths."""
    data = tmp_path_factory.mktemp("uneven")
    for split in ("train", "valid", "train2", "dev2"):
        lines = (world.data / f"{split}.tsv").read_text().splitlines(keepends=True)
        (data / f"{split}.tsv").write_text("".join(lines[:13]))
    return SimpleNamespace(**{**vars(world), "data": data})


def test_stage_2_accumulates_to_the_larger_batch(world, uneven, tmp_path):
    """Whatever the lengths: the sample size counts answer tokens."""
    more = [*STAGE2, "--speech-encoder", uneven.encoder, "--audio-root", world.data]
    assert largest_difference(trained(uneven, tmp_path, finetune_arguments, *more)) < 1e-5


@pytest.mark.parametrize("objective", ["stg", "stg-outputs", "ctc"])
def test_a_stage_1_loss_alone_that_compares_no_utterances_does_so_too(world, uneven, tmp_path, objective):
    """Whatever the lengths: its sample size is its own count, as of tokens."""
    more = ["--objective", objective, "--audio-root", world.data]
    assert largest_difference(trained(uneven, tmp_path, pretrain_arguments, *more)) < 1e-5


def test_a_sum_of_such_losses_does_so_where_batches_have_as_many_tokens(twelve, tmp_path):
    more = ["--objective", "stg+ctc"]
    assert largest_difference(trained(twelve, tmp_path, pretrain_arguments, *more)) < 1e-5


def test_the_contrastive_loss_does_not_since_it_compares_within_a_batch(twelve, tmp_path):
    alone = ["--objective", "stc", "--lr", 1]  # its gradients are small at the start
    assert largest_difference(trained(twelve, tmp_path, pretrain_arguments, *alone)) > 1e-4
