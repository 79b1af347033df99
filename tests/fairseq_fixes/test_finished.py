"""The same command after the end of its run changes nothing, and says so."""

from __future__ import annotations

import logging
import shutil

import pytest
from commands import command, pretrain_arguments, train_here
from training_process import differences, progress_of, state_of

SHORT = ["--save-interval-updates", 1, "--keep-interval-updates", 1]


@pytest.fixture(scope="module")
def ended(world, tmp_path_factory):
    """A run of six updates: an epoch has four."""
    folder = tmp_path_factory.mktemp("ended")
    train_here(pretrain_arguments(world, folder, *SHORT, updates=6))
    return folder


@pytest.fixture
def again(ended, tmp_path):
    """Its save folder, for another command."""
    return shutil.copytree(ended, tmp_path / "run")


def content(folder):
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def updates_of(folder):
    return state_of(folder / "checkpoint_last.pt")["optimizer_history"][-1]["num_updates"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "--max-update is 6: raise it to go on"),
        (["--max-update", 5], "--max-update is 5"),
        (["--max-update", 9, "--stop-time-hours", 1e-9], "--stop-time-hours"),
        (["--max-update", 9, "--stop-min-lr", 1.0], "--stop-min-lr is 1"),
        (["--max-update", 9, "--max-epoch", 1], "--max-epoch is 1"),
    ],
)
def test_a_run_that_is_over_is_left_as_it_is(world, again, caplog, more, said):
    before = content(again)
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            train_here([*pretrain_arguments(world, again, *SHORT, updates=6), *more])
    assert content(again) == before
    sentences = [record.getMessage() for record in caplog.records if "this run is done" in record.getMessage()]
    assert len(sentences) == 2
    assert "it made 6 updates" in sentences[0]
    assert said in sentences[0]


def test_a_higher_limit_goes_on_from_there(world, again, tmp_path):
    """As far as a run that knew of it from the start, bit for bit; also in a process that has just found it over."""
    train_here(pretrain_arguments(world, again, *SHORT, updates=6))
    train_here(pretrain_arguments(world, again, *SHORT, updates=7))
    train_here(pretrain_arguments(world, tmp_path / "whole", *SHORT, updates=7))
    ends = [progress_of(folder / "checkpoint_last.pt") for folder in (again, tmp_path / "whole")]
    assert ends[0]["history"]["num_updates"] == 7
    assert not differences(*ends)


def test_an_epoch_limit_that_was_reached_is_said(world, tmp_path, caplog):
    arguments = [*pretrain_arguments(world, tmp_path, "--max-epoch", 1, updates=0)]
    train_here(arguments)
    before = content(tmp_path)
    with caplog.at_level(logging.INFO):
        train_here(arguments)
    assert content(tmp_path) == before
    assert "it made 4 updates, and --max-epoch is 1: raise it to go on" in caplog.text


def test_patience_that_is_used_up_stays_so_until_it_is_raised(world, tmp_path, caplog):
    more = [*SHORT, "--patience", 2, "--lr", 0, "--objective", "stc+stg"]  # no draws: no validation is better
    train_here(pretrain_arguments(world, tmp_path, *more, updates=9))
    assert updates_of(tmp_path) == 3
    before = content(tmp_path)
    with caplog.at_level(logging.INFO):
        train_here(pretrain_arguments(world, tmp_path, *more, updates=9))
    assert content(tmp_path) == before
    assert "the last 2 validations found nothing better (--patience)" in caplog.text
    train_here(pretrain_arguments(world, tmp_path, *more, "--patience", 4, updates=9))
    assert updates_of(tmp_path) == 5


@pytest.mark.long
def test_two_processes_find_their_run_over(world, tmp_path):
    folder = tmp_path / "run"
    arguments = ["-n", 2, "fairseq-train", *pretrain_arguments(world, folder, *SHORT, updates=3)]
    command("sparqle", "launch", *arguments)
    before = content(folder)
    done = command("sparqle", "launch", *arguments)
    assert "this run is done" in done.stdout + done.stderr
    assert content(folder) == before
