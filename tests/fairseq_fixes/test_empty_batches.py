"""`--skip-bad-audio` where nothing of a batch can be read: training goes on, and every number is of the rest."""

from __future__ import annotations

import re
import shutil
from types import SimpleNamespace

import pytest
import torch
from commands import command, finetune_arguments, pretrain_arguments, train_here
from training_process import state_of

from sparqle_fairseq.errors import SparqleError

ONE_BY_ONE = ["--required-batch-size-multiple", 1, "--skip-bad-audio", "--dropout", 0]


@pytest.fixture
def copied(world, tmp_path):
    """The world with data of its own."""
    return SimpleNamespace(**{**vars(world), "data": shutil.copytree(world.data, tmp_path / "data")})


def spoil(world, split, choose, rest="rest"):
    """Spoil the rows that `choose` takes of all, shortest first; manifest `rest` has the others. How many they are."""
    header, *lines = (world.data / f"{split}.tsv").read_text().splitlines()
    columns = header.split("\t")
    audio, frames = columns.index("audio"), columns.index("n_frames")
    rows = sorted((line.split("\t") for line in lines), key=lambda row: int(row[frames]))
    bad = [row.audio for row in choose([SimpleNamespace(audio=row[audio], length=int(row[frames])) for row in rows])]
    for name in set(bad):
        (world.data / name).write_bytes(b"no audio")
    good = [line for line in lines if line.split("\t")[audio] not in bad]
    (world.data / f"{rest}.tsv").write_text("\n".join([header, *good]) + "\n")
    return len(bad)


def alike(rows, place):
    """The shortest or the longest ones: training mixes those of one length."""
    length = rows[0 if place == "first" else -1].length
    return [row for row in rows if row.length == length]


def logged(text, subset, name):
    """The values of a validation subset's metric in a log."""
    return re.findall(rf"valid on '{subset}' subset .*?\b{name} ([\d.]+)", text)


@pytest.mark.parametrize("place", ["first", "last"])
def test_a_validation_batch_without_audio_is_not_counted(copied, tmp_path, caplog, place):
    spoil(copied, "valid", lambda rows: rows[:4] if place == "first" else rows[4:])
    more = [*ONE_BY_ONE, "--batch-size-valid", 4, "--objective", "stc+stg", "--valid-subset", "valid,rest"]
    with caplog.at_level("INFO"):
        train_here(pretrain_arguments(copied, tmp_path / "run", *more, "--eval-generate", updates=1))
    for name in ("loss", "stc_loss", "stg_loss", "wer", "bsz"):
        of_all, of_rest = (logged(caplog.text, subset, name) for subset in ("valid", "rest"))
        assert of_all, name
        assert of_all == of_rest, name
    assert "a batch is passed over, for nothing in it can be read (--skip-bad-audio); so far 1 in valid" in caplog.text


@pytest.mark.parametrize("place", ["first", "last"])
def test_a_training_batch_without_audio_makes_no_update(copied, tmp_path, caplog, place):
    """32 utterances in eight batches, in another order in each epoch."""
    bad = spoil(copied, "train", lambda rows: alike(rows, place))
    assert bad >= 4, "a whole batch"
    more = [*ONE_BY_ONE, "--batch-size", 4, "--max-epoch", 2, "--save-interval-updates", 1, "--patience", 99]
    train_here(pretrain_arguments(copied, tmp_path / "run", *more, updates=0))
    state = state_of(tmp_path / "run" / "checkpoint_last.pt")
    assert state["optimizer_history"][-1]["num_updates"] == 2 * (8 - bad // 4)
    assert f"so far {2 * (bad // 4)} in training" in caplog.text
    assert caplog.text.count("skipped 1 utterance") >= 2 * bad


def one_update(world, folder, split, *more):
    """The weights of stage 2 after one step of plain gradient descent over a whole split."""
    arguments = finetune_arguments(world, folder, *ONE_BY_ONE, "--train-subset", split, "--disable-validation", *more)
    train_here([*arguments, "--optimizer", "sgd", "--lr", 0.1, "--clip-norm", 0, "--max-update", 1])
    return state_of(folder / "checkpoint_last.pt")["model"]


SIZE = ["--hidden-size", "64", "--layers", "2", "--heads", "4", "--ffn-size", "128", "--queries", "8"]


@pytest.fixture
def spoilt(copied, tmp_path):
    """Stage 2's training data with a whole batch spoilt, and the weights that the rest gives in one update."""
    assert spoil(copied, "train2", lambda rows: alike(rows, "first")) >= 8, "a whole batch"
    more = ["--speech-encoder", copied.encoder, *SIZE, "--batch-size", 32]
    expected = one_update(copied, tmp_path / "expected", "rest", *more)
    return SimpleNamespace(world=copied, expected=expected, more=more)


def assert_same_update(found, expected):
    for name, value in expected.items():
        if value.is_floating_point():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_the_batches_of_an_update_count_without_those_that_are_empty(spoilt, tmp_path):
    """--update-freq: wherever the empty batch comes, the step is that of the others."""
    freq = ["--batch-size", 8, "--update-freq", 4]
    for seed in (1, 2, 3):  # the order of the batches
        found = one_update(spoilt.world, tmp_path / str(seed), "train2", *spoilt.more, *freq, "--seed", seed)
        reference = one_update(spoilt.world, tmp_path / f"r{seed}", "rest", *spoilt.more, "--seed", seed)
        assert_same_update(found, reference)


@pytest.mark.long
@pytest.mark.parametrize("shape", [["--batch-size", 4, "--update-freq", 4], ["--batch-size", 16, "--update-freq", 1]])
def test_the_same_in_two_processes(spoilt, tmp_path, shape):
    arguments = finetune_arguments(
        spoilt.world, tmp_path / "two", *ONE_BY_ONE, "--train-subset", "train2", "--disable-validation", *spoilt.more,
        *shape, "--optimizer", "sgd", "--lr", 0.1, "--clip-norm", 0, updates=1,
    )  # fmt: skip
    command("sparqle", "launch", "-n", 2, "fairseq-train", *arguments)
    assert_same_update(state_of(tmp_path / "two" / "checkpoint_last.pt")["model"], spoilt.expected)


@pytest.mark.long
def test_two_processes_validate_and_train_past_batches_without_audio(copied, tmp_path, caplog):
    """Where both have nothing, no update is made and nothing is counted; where one has, the other stands in."""
    spoil(copied, "valid", lambda rows: rows[:6])
    bad = spoil(copied, "train", lambda rows: rows[:24], rest="train_rest")
    assert bad == 24
    more = [
        *ONE_BY_ONE,
        "--batch-size",
        4,
        "--batch-size-valid",
        2,
        "--objective",
        "stc+stg",
        "--max-epoch",
        2,
        "--lr",
        0,
    ]
    arguments = pretrain_arguments(copied, tmp_path / "run", *more, updates=0)
    done = command("sparqle", "launch", "-n", 2, "fairseq-train", *arguments)
    said = done.stdout + done.stderr
    assert "a batch is passed over" in said
    updates = state_of(tmp_path / "run" / "checkpoint_last.pt")["optimizer_history"][-1]["num_updates"]
    assert 2 <= updates < 8
    with caplog.at_level("INFO"):  # one process, whose data is the rest alone; nothing is learned
        train_here(pretrain_arguments(copied, tmp_path / "one", *more, "--valid-subset", "rest", updates=0))
    for name in ("loss", "stc_loss", "stg_loss"):
        assert logged(said, "valid", name)
        assert logged(said, "valid", name) == logged(caplog.text, "rest", name), name


@pytest.mark.parametrize("split", ["train", "valid"])
def test_data_without_any_audio_is_said_before_training(copied, tmp_path, split):
    for audio in (copied.data / "audio").glob(f"{split}_*.wav"):
        audio.write_bytes(b"no audio")
    with pytest.raises(
        SparqleError, match=rf"{split}\.tsv: none of the \d+ utterances can be read.*the first: .*\.wav"
    ):
        train_here(pretrain_arguments(copied, tmp_path / "run", *ONE_BY_ONE, updates=1))
    assert not list((tmp_path / "run").glob("*.pt"))
